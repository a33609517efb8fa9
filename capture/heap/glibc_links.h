/* SPDX-License-Identifier: MIT */
/**
 * The links of all small chunks that could be free, gathered in one pass over the heap. Internal to capture/heap/.
 *
 * A program that frees millions of small blocks leaves fast bins with millions of chunks, in no order: following them one
 * read at a time takes microseconds for each. A table of them takes one pass over memory and some bytes for each.
 */
#ifndef SILT_CAPTURE_HEAP_GLIBC_LINKS_H
#define SILT_CAPTURE_HEAP_GLIBC_LINKS_H

#include "capture/heap/glibc.h"

struct silt_glibc_links;

/** Gathers them from the chunks of g. NULL when out of memory. */
struct silt_glibc_links *silt_glibc_links_create(struct silt_heap *h, struct silt_glibc *g);
void silt_glibc_links_destroy(struct silt_glibc_links *l);
/**
 * Marks a list's chunks as free: first, not 0, is a memory address (bias 0) or a chunk (bias 16), as are its links. size: of
 * each chunk, 0: any. False: the list is damaged; what came before counts.
 */
bool silt_glibc_links_follow(struct silt_glibc_links *l, silt_addr first, unsigned bias, uint64_t size, unsigned why);
/** Adds all that were marked to h->free, in order. False: out of memory. */
bool silt_glibc_links_list(const struct silt_glibc_links *l, struct silt_heap *h);

#endif
