/* SPDX-License-Identifier: MIT */
/**
 * The links of all small chunks that could be free, gathered in one pass over the heap. Internal to capture/heap/.
 *
 * A program that frees millions of small blocks leaves fast bins with millions of chunks, in no order: following them one
 * read at a time takes microseconds for each. A table of them takes one pass over memory and some bytes for each. Where links
 * are mangled, little else looks like one: then the walk itself holds those few chunks back until the lists are known, and no
 * pass of its own is needed.
 */
#ifndef SILT_CAPTURE_HEAP_GLIBC_LINKS_H
#define SILT_CAPTURE_HEAP_GLIBC_LINKS_H

#include "capture/heap/glibc.h"

struct silt_glibc_links;

/** An empty table. NULL when out of memory. */
struct silt_glibc_links *silt_glibc_links_create(struct silt_heap *h, struct silt_glibc *g);
void silt_glibc_links_destroy(struct silt_glibc_links *l);
/** Takes in a chunk that its neighbour calls in use, when its first word may be a link. Addresses must go up. A block in no heap's
 *  extent is not taken. False: not taken, or out of memory (h->no_memory). */
bool silt_glibc_links_take(struct silt_glibc_links *l, silt_addr mem, uint64_t chunk, uint64_t word);
/** Takes all chunks in, in a walk of its own. False: out of memory. */
bool silt_glibc_links_gather(struct silt_glibc_links *l);

/** Adds a list: first, not 0, is a memory address (bias 0) or a chunk (bias 16), as are its links. size: of each chunk, 0: any.
 *  False: out of memory. */
bool silt_glibc_links_add(struct silt_glibc_links *l, silt_addr first, unsigned bias, uint64_t size, unsigned why);
/** No chunk is to come: marks those of all lists as free. Returns how many lists are damaged: of those, what came before the
 *  damage counts. */
unsigned silt_glibc_links_run(struct silt_glibc_links *l);
/** Adds all that were marked to h->free, in order. False: out of memory. */
bool silt_glibc_links_list(const struct silt_glibc_links *l, struct silt_heap *h);
/** Settles all chunks: hands out those that are not free. Returns what the sink returned. */
int silt_glibc_links_settle(const struct silt_glibc_links *l, struct silt_heap *h, struct silt_heap_emitter *out);

#endif
