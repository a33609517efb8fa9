/* SPDX-License-Identifier: MIT */
/** System calls that a stop would end: see interrupted.c. */
#ifndef SILT_CAPTURE_TARGET_INTERRUPTED_H
#define SILT_CAPTURE_TARGET_INTERRUPTED_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/user.h>

/** For a thread that has just stopped: when a system call of its ended for no other reason, it will begin again. Fills ret with
 *  its registers as they then are. False: they cannot be read, or it does not run 64-bit code. */
bool silt_interrupted_restart(pid_t tid, struct user_regs_struct *ret);

#endif
