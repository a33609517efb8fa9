/* SPDX-License-Identifier: MIT */
/** A snapshot out of a process, or out of the trace database it left behind. Never symbolizes. */
#ifndef SILT_CAPTURE_CAPTURE_H
#define SILT_CAPTURE_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "capture/agent/trace_db.h"
#include "formats/snapshot.h"

/* ---- the launcher's side: make the database, start the target ---- */

struct silt_run; /* the memfd, its run page, and what the launcher knows of each slot */

/** Makes the memfd and fills the run page. Destroy closes; targets keep their own mappings. */
int silt_run_create(const struct silt_db_options *options, struct silt_run **ret, struct silt_error *err);
/** The same in an empty memfd that another process made. Takes fd over. */
int silt_run_adopt(int fd, const struct silt_db_options *options, struct silt_run **ret, struct silt_error *err);
void silt_run_destroy(struct silt_run *run);
/** What ASAN_OPTIONS=… must be in a target's environment, where it is `old` now (NULL: not set): see SILT_DB_ASAN. False: too long. */
bool silt_run_asan_environment(const char *old, char *ret, size_t size);
/** The environment entries a target needs ("SILT_AGENT=…", and LD_PRELOAD with the agent put in front of `preload`, may be
 *  NULL). agent is the path of the agent object. Buffers are the caller's. */
int silt_run_environment(const struct silt_run *run, const char *agent, const char *preload, char *ret_agent_env,
			 size_t agent_size, char *ret_preload_env, size_t preload_size, struct silt_error *err);
struct silt_db_run *silt_run_page(struct silt_run *run);
int silt_run_fd(const struct silt_run *run);
/** Notes that the process attached to had allocated nothing before. */
void silt_run_from_start(struct silt_run *run);
/** Bytes allocated in a slot's process since it is tracked: what a snapshot's contexts would add up to. */
int silt_run_allocated(const struct silt_run *run, uint32_t slot, uint64_t *ret_bytes);
/** Gives a slot's memory back and marks it free, now or (where forked children may still want to read it) in some seconds' calls of
 *  silt_run_settle. Its process must have ended or left it. */
int silt_run_recycle(struct silt_run *run, uint32_t slot, struct silt_error *err);
/** To be called now and then. */
void silt_run_settle(struct silt_run *run);

/* ---- a raw copy of one slot, and what must be read while the target stands still ---- */

struct silt_copy; /* private memory holding a slot's bytes; independent of the target afterwards */

struct silt_stop_report {
	uint64_t pause_ns; /* longest stop of any thread */
	uint32_t threads;
	bool stopped; /* false: copied without stopping (noted in the snapshot) */
};

/** Copies slot `slot` of the database behind db_fd without stopping anything: for a target that has ended, or as a
 *  pre-copy. */
int silt_copy_create(int db_fd, uint32_t slot, struct silt_copy **ret, struct silt_error *err);
/** Stops every thread of pid with ptrace, copies, bumps the epoch, reads threads and memory map, resumes. The target is
 *  never left stopped, whatever happens to the caller. When ptrace is refused, copies without stopping and says so. */
int silt_copy_live(int db_fd, uint32_t slot, pid_t pid, struct silt_copy **ret, struct silt_stop_report *ret_report,
		   struct silt_error *err);
void silt_copy_destroy(struct silt_copy *c);
/** How the process ended ("exited with status 0"). Default: it is still running. */
void silt_copy_set_ending(struct silt_copy *c, const char *ending);
/** When the process ended, in ns of CLOCK_REALTIME: the moment the copy shows. Default: when it was copied. */
void silt_copy_set_time(struct silt_copy *c, int64_t time_ns);
/** A sentence that every report of it repeats. */
void silt_copy_set_note(struct silt_copy *c, const char *note);
/** How the capture was made; a literal. */
void silt_copy_set_method(struct silt_copy *c, const char *method);
/** Decodes a copy into a snapshot. Believes nothing in it. with_blocks: fill the blocks' columns. */
int silt_copy_decode(const struct silt_copy *c, const struct silt_db_run *run, bool with_blocks,
		     struct silt_snapshot **ret, struct silt_error *err);

/** Finds the database a running process is tracked with: an open descriptor of the memfd and the slot. NOT_FOUND when the
 *  process is not tracked (the message says what to do). */
int silt_target_find_db(pid_t pid, int *ret_fd, uint32_t *ret_slot, struct silt_error *err);

/** The whole of `silt capture PID`. */
int silt_capture_process(pid_t pid, struct silt_snapshot **ret, struct silt_stop_report *ret_report,
			 struct silt_error *err);

#endif
