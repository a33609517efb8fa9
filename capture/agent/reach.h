/* SPDX-License-Identifier: MIT */
/** The way from a process to its run: the environment that names it, the memfd behind it, and the number by which the launcher knows
 *  the process. */
#ifndef SILT_CAPTURE_AGENT_REACH_H
#define SILT_CAPTURE_AGENT_REACH_H

#include "capture/agent/agent.h"

/** Reads SILT_AGENT= and the agent's own path out of the environment the kernel handed over. False: this process is not to be
 *  tracked. */
bool reach_environment(void);
/** Takes silt's entries out of the environment that the program is to see, envp. environ_place: `environ`, which points to it;
 *  NULL: not yet. */
void reach_hide_environment(char **envp, char ***environ_place);
/** Opens the memfd and maps the run page (agent_run). The descriptor is the caller's to close. */
bool reach_open(int *ret_fd);
/** Maps the run page of the memfd behind fd (agent_run). */
bool reach_map(int fd);
/** This process as the launcher numbers it, which in a pid namespace is not how it numbers itself; 0: not to be found out.
 *  reached: reach_open has just succeeded. */
uint32_t reach_own_number(bool reached);
/** For a process that was attached to: its children compare themselves with it. */
void reach_know_home(void);
/** The same of its parent; 0: unknown. */
uint32_t reach_parent_number(void);

#endif
