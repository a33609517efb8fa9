/* SPDX-License-Identifier: MIT */
/** Would a process's seccomp filters let pass what silt needs? */
#ifndef SILT_CAPTURE_ATTACH_SECCOMP_H
#define SILT_CAPTURE_ATTACH_SECCOMP_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"

/**
 * Runs the filters of a stopped thread on every call that attaching (or detaching only) makes at address `at`. UNSUPPORTED, naming the
 * call, when one is not let through, or when the filters cannot be read.
 */
int silt_seccomp_check(pid_t pid, pid_t tid, silt_addr at, bool detaching, struct silt_error *err);

#endif
