/* SPDX-License-Identifier: MIT */
/** Blocks that were there before silt was attached: the heap is walked from outside, and the agent is handed what was found. */
#ifndef SILT_CAPTURE_BEFORE_H
#define SILT_CAPTURE_BEFORE_H

#include "capture/attach/attach.h"
#include "capture/heap/heap.h"

struct silt_before {
	pid_t pid;
	int db_fd; /* borrowed */
	bool was_stopped; /* by job control */
	bool outside;	  /* set by the caller: nothing is left for the agent to walk */
	struct silt_heap_thread *threads; /* of the stop under way, when busy was asked; with a thousand it takes milliseconds */
	struct silt_maps maps, at_stop;
	struct silt_target_modules modules;
	struct silt_heap_process process;
	struct silt_heap *heap; /* NULL: nothing was found */
	struct silt_agent_block *blocks; /* a window on the database's file */
	uint64_t count, room;
	uint64_t expected; /* bytes of the agent's table for them: a guess */
};

/** Finds the allocators; the process may run. Failure only means that nothing will be walked. */
void silt_before_open(struct silt_before *b, pid_t pid);
/** Names the database (borrowed), and makes memory ready, so that the stop is shorter. */
void silt_before_ready(struct silt_before *b, int db_fd);
void silt_before_close(struct silt_before *b);
/** For silt_attach_hook; b must stay. */
struct silt_attach_walk silt_before_walk(struct silt_before *b);
/** What a user should know of the walk, or "". */
void silt_before_note(const struct silt_before *b, char *buf, size_t size);

#endif
