/* SPDX-License-Identifier: MIT */
/** What a parsing child gives up before it looks at a file nobody vouches for. */
#ifndef SILT_SYMBOLS_SANDBOX_H
#define SILT_SYMBOLS_SANDBOX_H

#include <stdint.h>

/**
 * Drops what parsing does not need: descriptors other than keep_fd, core dumps, being traced, new privileges, file
 * writes, most system calls; caps memory (bytes beyond what is in use now) and processor time. Measures the kernel
 * refuses are left out: none of them is needed for right answers. Call in a child only, once.
 */
void silt_sandbox_enter(int keep_fd, uint64_t max_memory, unsigned cpu_seconds);
/** In a child: every signal does what it does by default, and none is held back. */
void silt_child_reset_signals(void);
/** In a child: at most so many bytes of memory beyond what is in use now. */
void silt_child_limit_memory(uint64_t max_memory);

#endif
