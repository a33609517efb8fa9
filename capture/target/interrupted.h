/* SPDX-License-Identifier: MIT */
/** System calls that a stop would end: see interrupted.c. */
#ifndef SILT_CAPTURE_TARGET_INTERRUPTED_H
#define SILT_CAPTURE_TARGET_INTERRUPTED_H

#include <sys/types.h>

/** For a thread that has just stopped: when a system call of its ended for no other reason, it will begin again. */
void silt_interrupted_restart(pid_t tid);

#endif
