/* SPDX-License-Identifier: MIT */
/** The clock that durations are measured with. */
#ifndef SILT_BASE_CLOCK_H
#define SILT_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/** CLOCK_MONOTONIC in nanoseconds: since some moment in the past, never backwards. Any thread, signal handlers too. */
static inline uint64_t silt_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

#endif
