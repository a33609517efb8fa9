/* SPDX-License-Identifier: MIT */
/**
 * Two functions per level, each with its own call sites, so that every path is a stack of its own. Built twice: with
 * frames of one size (BENCH_VARIED_FRAMES 0), where a stale frame of the last descent is easily met again at the same stack
 * pointer, and with frames of many sizes (1), where paths that differ outside differ in every stack pointer further in.
 */
#include "descend.h"

#if BENCH_VARIED_FRAMES
#define FRAME_BYTES(level, variant) (16 + 16 * (((level)*7 + (variant)*5) % 11))
#else
#define FRAME_BYTES(level, variant) 16
#endif

/* noipa: neither inlined, cloned nor folded with its equal neighbours. The work after the call keeps it a call. */
#define FUNCTION(level, name, variant, zero, one)                     \
	__attribute__((noipa)) static void name(struct descent *d)    \
	{                                                             \
		volatile char local[FRAME_BYTES(level, variant)];     \
                                                                      \
		local[0] = (char)(level);                             \
		if (d->depth == (level))                              \
			d->leaf(d->arg);                              \
		else if (d->path >> ((level) % BENCH_PATH_BITS) & 1)  \
			one(d);                                       \
		else                                                  \
			zero(d);                                      \
		d->sum += (uint64_t)local[0] + (level)*2 + (variant); \
	}

#define LEVEL(n, next)                                                            \
	FUNCTION(n, level_##n##_zero, 0, level_##next##_zero, level_##next##_one) \
	FUNCTION(n, level_##n##_one, 1, level_##next##_zero, level_##next##_one)

/* Never called with depth in 1..BENCH_DEPTH_MAX; ends the chain of definitions. */
static void level_31_zero(struct descent *d)
{
	d->leaf(d->arg);
}
#define level_31_one level_31_zero

LEVEL(30, 31)
LEVEL(29, 30)
LEVEL(28, 29)
LEVEL(27, 28)
LEVEL(26, 27)
LEVEL(25, 26)
LEVEL(24, 25)
LEVEL(23, 24)
LEVEL(22, 23)
LEVEL(21, 22)
LEVEL(20, 21)
LEVEL(19, 20)
LEVEL(18, 19)
LEVEL(17, 18)
LEVEL(16, 17)
LEVEL(15, 16)
LEVEL(14, 15)
LEVEL(13, 14)
LEVEL(12, 13)
LEVEL(11, 12)
LEVEL(10, 11)
LEVEL(9, 10)
LEVEL(8, 9)
LEVEL(7, 8)
LEVEL(6, 7)
LEVEL(5, 6)
LEVEL(4, 5)
LEVEL(3, 4)
LEVEL(2, 3)
LEVEL(1, 2)

__attribute__((noipa)) void descend(struct descent *d)
{
	if (d->path & 1)
		level_1_one(d);
	else
		level_1_zero(d);
	d->sum++;
}
