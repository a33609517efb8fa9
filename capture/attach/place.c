/* SPDX-License-Identifier: MIT */
/* Gaps between mappings, nearest first. */
#include "capture/attach/place.h"

#include <stdbool.h>
#include <string.h>

#define REACH ((2ull << 30) - (64ull << 20)) /* of a 32-bit jump, less what functions and mappings are large */
#define LOWEST 0x10000ull		     /* vm.mmap_min_addr */
#define HIGHEST 0x7ffffffff000ull
#define STACK_ROOM (256ull << 20) /* below a stack that grows */
#define HEAP_ROOM (1ull << 30)	  /* above the program break */

static bool is_named(const struct silt_region *r, const char *name)
{
	return r->name && !strcmp(r->name, name);
}

struct gap {
	silt_addr lo, hi;
};

/* The usable part of the gap behind region i (i == count: the one before the first). */
static struct gap gap_at(const struct silt_maps *maps, uint32_t i)
{
	const struct silt_region *below = i < maps->count ? &maps->regions[i] : NULL;
	const struct silt_region *above = i == maps->count ? &maps->regions[0] : i + 1 < maps->count ? &maps->regions[i + 1] : NULL;
	struct gap g = { below ? below->end : LOWEST, above ? above->start : HIGHEST };

	if (below && is_named(below, "[heap]"))
		g.lo += HEAP_ROOM;
	if (above && is_named(above, "[stack]"))
		g.hi = g.hi > STACK_ROOM ? g.hi - STACK_ROOM : 0;
	if (g.hi > HIGHEST)
		g.hi = HIGHEST;
	return g;
}

static uint64_t distance(silt_addr a, silt_addr b)
{
	return a > b ? a - b : b - a;
}

silt_addr silt_place_near(const struct silt_maps *maps, silt_addr near, uint64_t size, unsigned skip)
{
	silt_addr low = near > REACH ? near - REACH : LOWEST, high = near + REACH;
	uint64_t passed = 0; /* nothing nearer than this any more */

	for (unsigned n = 0;; n++) {
		silt_addr best = 0;

		for (uint32_t i = 0; maps->count && i <= maps->count; i++) {
			struct gap g = gap_at(maps, i);
			silt_addr at;

			if (g.lo < low)
				g.lo = (low + 4095) & ~4095ull;
			if (g.hi > high)
				g.hi = high & ~4095ull;
			if (g.hi <= g.lo || g.hi - g.lo < size)
				continue;
			at = g.lo > near ? g.lo : g.hi - size; /* the end towards us */
			if (distance(at, near) > passed && (!best || distance(at, near) < distance(best, near)))
				best = at;
		}
		if (!best || n == skip)
			return best;
		passed = distance(best, near);
	}
}
