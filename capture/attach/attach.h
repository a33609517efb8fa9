/* SPDX-License-Identifier: MIT */
/**
 * Into a running process, and out of it again.
 *
 * In: one thread is stopped and lets us make system calls in its name (inject.h); they map the agent object and the trace
 * database. The agent sets itself up on that thread. Then all threads are stopped for a moment, and jumps are written over
 * the first instructions of the allocator's functions. No code of the target's is run.
 *
 * Out: the functions get their instructions back; when no thread is inside the agent any more, everything that was
 * mapped is unmapped. What was changed stands in the target itself (head.h), so whoever comes later can do it, also when the
 * attacher was killed: a thread that it held goes on by itself.
 *
 * All calls for one attachment come from one thread (ptrace's rule); when it ends, the kernel lets go of all it held.
 */
#ifndef SILT_CAPTURE_ATTACH_ATTACH_H
#define SILT_CAPTURE_ATTACH_ATTACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "capture/target/stop.h"

struct silt_attach;

struct silt_attach_report {
	uint64_t stop_ns;    /* longest stop of a thread so far */
	uint32_t threads;    /* stopped for the change */
	uint32_t functions;  /* hooked */
	uint64_t before;     /* blocks entered that were there before */
	bool before_known;   /* the allocator could be walked */
	bool walk_faulted;   /* the agent met memory it could not read; the process goes on, not attached to */
	bool before_busy;    /* but threads were inside it at that moment: a few of those blocks may be gone already */
	char before_note[200]; /* why not, or what of it could not be, or "" */
	char note[400];	     /* what else a user should know, or "" */
};

/** Looks at pid and finds its allocator. Refuses what cannot be attached to, before anything is touched. */
int silt_attach_open(pid_t pid, struct silt_attach **ret, struct silt_error *err);
/** True when its loader has not come to the C library yet: trying again in a moment helps. */
bool silt_attach_starting(const struct silt_attach *a);
/** Which agent object fits: "", "jemalloc", "tcmalloc", "mimalloc". */
const char *silt_attach_variant(const struct silt_attach *a);
/** Chooses the functions to be hooked and plans the change; touches nothing. agent: path of the object. */
int silt_attach_prepare(struct silt_attach *a, const char *agent, struct silt_error *err);
/** Maps the agent, and makes the database's memfd: *ret_db_fd (the caller's) leads to it. One thread stands until start. */
int silt_attach_map(struct silt_attach *a, int *ret_db_fd, struct silt_error *err);
/** Lets the agent set itself up in the database, which the caller has sized and filled by now. */
int silt_attach_start(struct silt_attach *a, struct silt_error *err);
/** Has the agent take so many bytes of the database's memory ahead, and touch them, a part at a time: one thread stands for some moments.
 *  Where no thread can be directed at the moment, it is left: silt_attach_hook is slower then. */
int silt_attach_ready(struct silt_attach *a, uint64_t bytes, struct silt_error *err);
/** What stands in the database's file at an offset: see struct silt_agent_attach. */
struct silt_attach_blocks {
	uint64_t offset, block_count, stretch_count, free_count;
	uint64_t expected; /* bytes that they will take in the agent's table: a guess */
};
/** How the caller walks the heap while all threads stand still. */
struct silt_attach_walk {
	void *data;
	/** Is the heap being changed right now? Then the threads run on for a moment first. insist: lets those that change it
	 *  run while the others stand, which takes longer but comes to an end. */
	bool (*busy)(void *data, struct silt_stop *stop, bool insist);
	/** Puts into the database's file what the agent needs to enter every live block: the blocks, or, unless all is wanted so, what
	 *  is to be walked. UNSUPPORTED: neither is possible. */
	int (*walk)(void *data, const struct silt_stop *stop, bool all, struct silt_attach_blocks *ret, struct silt_error *err);
};
/** Writes the jumps: from here on every allocation is recorded. Enters the blocks that are there already. */
int silt_attach_hook(struct silt_attach *a, const struct silt_attach_walk *walk, struct silt_attach_report *report,
		     struct silt_error *err);
/** Lets go of everything held. What was mapped stays when the process is hooked, else silt_detach removes it. */
void silt_attach_close(struct silt_attach *a);

enum silt_attach_state {
	SILT_ATTACH_NONE,    /* nothing of silt's is in it */
	SILT_ATTACH_WHOLE,   /* hooked */
	SILT_ATTACH_REMAINS, /* somebody was killed while attaching or detaching */
};
/** What is in pid now, seen from outside. */
int silt_attach_look(pid_t pid, enum silt_attach_state *ret, struct silt_error *err);

/** Takes everything of silt's out of pid. LIMIT when threads stay inside the agent: the hooks are out then, and trying again
 *  later goes on. *ret_stop_ns: longest stop of a thread. */
int silt_detach(pid_t pid, uint64_t *ret_stop_ns, struct silt_error *err);

#endif
