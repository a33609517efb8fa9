/* SPDX-License-Identifier: MIT */
/** Forks by a signal handler that interrupted the agent. */
#ifndef SILT_CAPTURE_AGENT_FORKS_H
#define SILT_CAPTURE_AGENT_FORKS_H

#include "capture/agent/agent.h"

/** Calls fork_real for the hook whose frame is fp, and sees to it that the child can go on with what a handler interrupted. */
int fork_with(int (*fork_real)(void), const uint64_t *fp);
/** AGENT_FORKED is set, and the hook whose frame is fp records: takes a database for this process when nothing of the agent is on
 *  the stack outward of it any more. False: this process is not tracked. */
bool fork_settle(const uint64_t *fp);
/** Before a function of libc's that forks by itself. */
void fork_hidden_before(const uint64_t *fp);

#endif
