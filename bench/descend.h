/* SPDX-License-Identifier: MIT */
/**
 * Call stacks for the benchmarks: descend through `depth` distinct functions along a path and call a leaf there.
 */
#ifndef SILT_BENCH_DESCEND_H
#define SILT_BENCH_DESCEND_H

#include <stdint.h>

enum {
	BENCH_DEPTH_MAX = 30,
	BENCH_PATH_BITS = 10, /* 1024 distinct stacks */
};

struct descent {
	uint32_t depth; /* 1..BENCH_DEPTH_MAX functions between descend() and leaf() */
	uint32_t path;  /* bit (level % BENCH_PATH_BITS) picks one of two functions at each level */
	uint64_t sum;   /* keeps the levels from being optimised away */
	void (*leaf)(void *arg);
	void *arg;
};

void descend(struct descent *d);

/** xorshift64*: cheap, and the same sequence in every contestant. */
static inline uint64_t bench_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

#endif
