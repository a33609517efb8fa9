/* SPDX-License-Identifier: MIT */
/** What a raw copy of a trace database consists of. Internal to capture/. */
#ifndef SILT_CAPTURE_COPY_INTERNAL_H
#define SILT_CAPTURE_COPY_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "capture/capture.h"
#include "capture/target/maps.h"
#include "capture/target/modules.h"
#include "capture/target/process.h"

struct silt_walked;

struct silt_extent {
	uint64_t start, end; /* offsets in the slot that hold data */
};

struct silt_extents {
	struct silt_extent *list;
	uint64_t count, capacity;
	uint64_t bytes;
};

struct silt_copy {
	uint8_t *bytes;        /* private memory, zero where the slot has holes; NULL: no database (untracked process) */
	uint64_t size;         /* bytes that may be looked at */
	uint64_t reserved;     /* bytes of address space behind them */
	struct silt_extents extents; /* of the last pass */
	const uint8_t *source;       /* the slot mapped for reading, NULL: pread */
	uint64_t source_size;
	bool ended; /* nobody writes the slot any more: large parts are mapped, not copied */
	uint32_t slot;

	struct silt_walked *walked;  /* or NULL: blocks of a process that is not tracked */

	/* The process, where it was still there to be asked. */
	pid_t pid;
	struct silt_target_status status;
	struct silt_maps maps;
	struct silt_target_modules modules;
	struct silt_target_thread *threads;
	uint32_t thread_count;
	bool threads_known;
	char exe[4096];
	char *argv;
	int64_t start_ns;

	/* How it was made. */
	const char *method;
	char ending[128]; /* "" while running */
	char note[512];   /* "" or what a report must say */
	int64_t capture_ns;
	uint64_t pause_ns;
};

/** An empty copy for pid (0: none), not yet holding a database. NULL when out of memory. */
struct silt_copy *silt_copy_new(pid_t pid);
/** Reads what /proc tells about the process outside of the stop. Best effort: what cannot be read stays unknown. */
void silt_copy_read_process(struct silt_copy *c);
/** Reserves room for `bytes` of a slot. */
int silt_copy_reserve(struct silt_copy *c, uint64_t bytes, struct silt_error *err);
/** Bytes the slot uses by its header; checks that it is a database of ours. */
int silt_slot_used(int db_fd, uint32_t slot, uint64_t *ret, struct silt_error *err);
/** Maps the slot's data, so that a pass is a plain copy of memory. Best effort; call once, before the first pass. */
void silt_copy_map_source(struct silt_copy *c, int db_fd);
/** One pass over the slot's data. Two threads when it is worth it. Sets c->size. */
int silt_copy_pass(struct silt_copy *c, int db_fd, uint64_t used, struct silt_error *err);
/** A copy of a process without a database: its heap is walked (untracked.h). */
int silt_copy_untracked(pid_t pid, struct silt_copy **ret, struct silt_stop_report *ret_report, struct silt_error *err);
/** silt_copy_live, but fails with SILT_E_OS (errnum EPERM …) where must_stop is set and the kernel refuses to stop it. */
int silt_copy_live_mode(int db_fd, uint32_t slot, pid_t pid, bool must_stop, struct silt_copy **ret,
			struct silt_stop_report *ret_report, struct silt_error *err);

#endif
