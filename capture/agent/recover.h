/* SPDX-License-Identifier: MIT */
/** A thread that left the agent by a jump: a signal handler interrupted it there and ended in siglongjmp or pthread_exit. */
#ifndef SILT_CAPTURE_AGENT_RECOVER_H
#define SILT_CAPTURE_AGENT_RECOVER_H

#include "capture/agent/agent.h"

/** t is marked as inside the agent, and asks from the hook whose frame is fp: when nothing of the agent is on the stack outward of
 *  it, t is made fit for use again, and no longer marked. True: so it was. */
bool thread_recover(struct agent_thread *t, const uint64_t *fp);

enum walk_agent {
	WALK_AGENT_GONE,    /* the stack was walked to its end, and no frame is the agent's */
	WALK_AGENT_THERE,
	WALK_AGENT_UNKNOWN, /* it could not be walked to its end */
};
/** Looks for frames of the agent's outward of the hook whose frame is fp (walk_slow.c). */
enum walk_agent walk_finds_agent(const uint64_t *fp);

/** Gives the lock of the module table back if t's thread holds it (modules.c). */
void module_lock_abandon(void);

#endif
