/* SPDX-License-Identifier: MIT */
/** Starting a program that cannot be tracked by what is loaded into it, so that it can be attached to before it does anything. */
#ifndef SILT_CAPTURE_START_H
#define SILT_CAPTURE_START_H

#include <sys/types.h>

#include "base/error.h"

/**
 * Starts path with argv, as execvp, and leaves it stopped by SIGSTOP where its allocator can be hooked and has not been called yet:
 * behind ld.so's work, before the libraries' constructors. It must be dynamically linked, with glibc.
 * It is the caller's child, to be continued with SIGCONT. When the calling thread ends meanwhile, however it ends, it is continued
 * too. On failure nothing of it is left, and nothing but its loader has run.
 */
int silt_start_stopped(const char *path, char *const argv[], pid_t *ret, struct silt_error *err);

#endif
