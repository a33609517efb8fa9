/* SPDX-License-Identifier: MIT */
/** Looking through anonymous memory that no heap claims. Internal to capture/heap/. */
#ifndef SILT_CAPTURE_HEAP_PAGES_H
#define SILT_CAPTURE_HEAP_PAGES_H

#include "capture/heap/heap_internal.h"

#define SILT_HEAP_PAGES_MAX (64ull << 20) /* pages asked for in one search: 256 GiB of address space */

/** Gets a stretch of whole pages. False ends the search. */
typedef bool (*silt_heap_part)(void *data, silt_addr start, silt_addr end);
/** Calls fn for the parts of private anonymous memory outside of h->extents, which must be sorted. False: fn ended it. */
bool silt_heap_each_unclaimed(const struct silt_heap *h, silt_heap_part fn, void *data);

struct silt_heap_pages {
	struct silt_heap *h;
	uint8_t *bytes;
	int fd; /* /proc/PID/pagemap, or -1 */
	uint64_t budget;
	bool exhausted; /* the budget did not do */
};

void silt_heap_pages_init(struct silt_heap_pages *p, struct silt_heap *h);
void silt_heap_pages_deinit(struct silt_heap_pages *p);
/** Gets a page that exists. *ret_skip: go on from there (0: at the next page). False ends the search. */
typedef bool (*silt_heap_page)(void *data, silt_addr addr, const uint8_t *bytes, silt_addr *ret_skip);
/** Calls fn for each page of [start, end) that exists. False: fn ended it, or the budget did. */
bool silt_heap_pages_look(struct silt_heap_pages *p, silt_addr start, silt_addr end, silt_heap_page fn, void *data);

#endif
