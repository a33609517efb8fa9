/* SPDX-License-Identifier: MIT */
/**
 * glibc's malloc as it lies in memory. Internal to capture/heap/.
 *
 * Layouts are those of malloc/malloc.c and malloc/arena.c of the release tags, LP64; which one holds is found by trying,
 * not by version: distributions backport.
 */
#ifndef SILT_CAPTURE_HEAP_GLIBC_H
#define SILT_CAPTURE_HEAP_GLIBC_H

#include "capture/heap/heap_internal.h"

/** Offsets in struct malloc_state. */
struct silt_glibc_layout {
	const char *versions;
	uint32_t size;
	uint32_t fastbins; /* 0: none */
	uint32_t top, bins, next, attached, system_mem, max_system_mem;
};

/** Offsets in struct malloc_par. */
struct silt_glibc_par_layout {
	uint32_t n_mmaps, n_mmaps_max, max_n_mmaps, no_dyn_threshold, mmapped_mem, max_mmapped_mem, sbrk_base, tcache_bins;
	bool exact; /* mmapped_mem is the mappings' length; 2.43 counts some headers in and some out */
};

/** struct tcache_perthread_struct. */
struct silt_glibc_tcache_layout {
	uint32_t chunk;      /* size of the chunk that holds it */
	uint32_t count_size; /* bytes of one count */
	uint32_t bins;
	uint32_t entries;    /* offset of the list heads */
	bool remaining;      /* counts say how many more fit, not how many there are */
};

enum {
	SILT_GLIBC_ARENAS_MAX = 65536, /* glibc makes eight for each processor unless told otherwise */
	SILT_GLIBC_BINS = 127,       /* bin headers, numbered 1 … 127; the last is never used */
	SILT_GLIBC_FASTBINS = 10,    /* chunk sizes 0x20, 0x30 … */
	SILT_GLIBC_SMALL_TCACHE = 64, /* bins of one chunk size each; those behind hold ranges of sizes */
	SILT_GLIBC_CHUNK_MIN = 0x20,
	SILT_GLIBC_PREV_INUSE = 1,
	SILT_GLIBC_IS_MMAPPED = 2,
	SILT_GLIBC_NON_MAIN = 4,
	SILT_GLIBC_NONCONTIGUOUS = 2, /* in malloc_state.flags */
};

struct silt_glibc_arena {
	silt_addr addr, top;
	uint64_t system_mem;
	uint32_t mutex, flags;
	uint32_t info;
	uint32_t heap_header; /* sizeof(struct heap_info); 0 in the main arena */
	uint32_t extent_count;
};

struct silt_glibc_data { /* a stretch of initialised data of its module */
	silt_addr start, end;
};

struct silt_glibc {
	silt_addr main_arena;
	const struct silt_glibc_layout *layout;
	SILT_VEC(struct silt_glibc_data) data;
	uint32_t version; /* minor: 36 for 2.36; 0 unknown */

	/* Of the last search through all memory for blocks with a mapping of their own. */
	SILT_VEC(silt_addr) mapped_seen; /* their chunks, ascending */
	uint64_t mapped_missing;	 /* how many it did not find */
	uint64_t mapped_ns;		 /* processor time the search took */
	bool mapped_searched;
	bool mapped_sure; /* two searches did not find as many */

	/* Of the walk under way. */
	silt_addr par; /* malloc_par, 0: not found */
	const struct silt_glibc_par_layout *par_layout;
	uint32_t mapped_info;
	bool protect; /* links of free lists are mangled (2.32: PROTECT_PTR) */
	SILT_VEC(struct silt_glibc_arena) arenas;
};

/** Gets a piece of data that lies at start. */
typedef void (*silt_glibc_look)(void *data, const uint8_t *bytes, size_t size, silt_addr start);
/** Hands out [start, end), not more than `most` bytes of it. Pieces overlap by more than any structure takes. */
void silt_glibc_each_piece(struct silt_heap *h, silt_addr start, silt_addr end, uint64_t most, silt_glibc_look fn, void *data);
/** Reads the arenas' heads along their ring. False: the main arena has become unreadable or senseless. */
bool silt_glibc_read_arenas(struct silt_heap *h, struct silt_glibc *g);
/** Finds malloc_par in the module's data. Needs the arenas' and, for certainty, the main heap's start (0: unknown). */
void silt_glibc_find_par(struct silt_heap *h, struct silt_glibc *g, silt_addr main_start);
/** Finds the pieces of a main arena that is not one stretch of brk; base: where brk began (0: unknown). */
void silt_glibc_plan_scattered(struct silt_heap *h, struct silt_glibc *g, struct silt_glibc_arena *a, silt_addr base);
/** Makes [start, end) a piece of it. */
void silt_glibc_add_scattered(struct silt_heap *h, struct silt_glibc_arena *a, silt_addr start, silt_addr end);
/** True when chunks from p on look like a chain: `want` of them, or fewer that end at `top` or a fence post. */
bool silt_glibc_chain(struct silt_heap *h, silt_addr p, silt_addr end, silt_addr top, bool main, unsigned want);
/** True when memory address mem lies in a chunk chain of g and could be a block. */
bool silt_glibc_owns(struct silt_heap *h, const struct silt_glibc *g, silt_addr mem);

#endif
