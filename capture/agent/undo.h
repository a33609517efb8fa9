/* SPDX-License-Identifier: MIT */
/**
 * What a forked child needs to know its parent's blocks exactly: the parent's tables go on changing after the fork, in shared memory,
 * while the child copies them. So from before the fork on each change of them is noted in the parent's database, before it is made,
 * with a number counted in private memory. The child's private memory is the parent's as it was at the fork: the number there tells
 * which of the changes had begun by then. It copies the tables as they are (inherit.h) and takes the later ones back.
 */
#ifndef SILT_CAPTURE_AGENT_UNDO_H
#define SILT_CAPTURE_AGENT_UNDO_H

#include "capture/agent/agent.h"

struct agent_undo { /* private memory, not wiped by a fork */
	uint64_t next; /* changes begun so far, while that was noted */
	uint64_t last; /* next at the latest fork */
	uint32_t open; /* 1: changes are noted */
	uint32_t lock;
	uint32_t refused; /* enum silt_db_inherit: why the latest fork's child is not to have them; 0: it may */
	uint32_t unsure;  /* several threads, or an attach: a block given back at just that moment may seem to be there */
	uint32_t slot;    /* the database of this process, in a child that has none yet its parent's */
	uint64_t serial;
};
extern struct agent_undo agent_undo;

void undo_note_slow(uint32_t change, uint64_t addr, uint64_t size, uint32_t context);
/** A change (enum silt_db_change) is about to be made. */
static ALWAYS_INLINE void undo_note(uint32_t change, uint64_t addr, uint64_t size, uint32_t context)
{
	if (UNLIKELY(agent_hot.attention & AGENT_NOTED))
		undo_note_slow(change, addr, size, context);
}

/** Before a fork: begins to note changes, if the child is to know this process's blocks. */
void undo_before_fork(void);
/** No more system calls may be made soon: children that have not copied by now must do without. */
void undo_end(void);
/** In the parent: there is no child after all. */
void undo_fork_failed(void);
/** In a forked child: it will not need them (it becomes another program), or does after all (it could not). */
void undo_leave(void);
void undo_stay(void);
/** This process has a database of its own, or none any more: forgets its parent's. */
void undo_reset(void);

#endif
