/* SPDX-License-Identifier: MIT */
/** What the walkers of capture/heap share: cached reads of target memory, the plan of a walk, problems. */
#ifndef SILT_CAPTURE_HEAP_HEAP_INTERNAL_H
#define SILT_CAPTURE_HEAP_HEAP_INTERNAL_H

#include <string.h>

#include "base/vec.h"
#include "capture/heap/heap.h"

#define SILT_HEAP_PAGE 4096u

/* ---- memory.c ---- */

/** Small reads go through a cache of pages: list heads, links and headers lie close together. */
struct silt_heap_memory {
	struct silt_heap_reader reader;
	uint64_t *tags; /* page number + 1, 0: empty */
	uint8_t *pages;
};

bool silt_heap_memory_init(struct silt_heap_memory *m, const struct silt_heap_reader *reader);
void silt_heap_memory_deinit(struct silt_heap_memory *m);
/** The target ran: nothing cached is true any more. */
void silt_heap_memory_forget(struct silt_heap_memory *m);
/** All of it or false. For small sizes. */
bool silt_heap_memory_read(struct silt_heap_memory *m, silt_addr addr, void *buffer, size_t size);
/** A word, and false when it cannot be read. */
bool silt_heap_memory_u64(struct silt_heap_memory *m, silt_addr addr, uint64_t *ret);
bool silt_heap_memory_u32(struct silt_heap_memory *m, silt_addr addr, uint32_t *ret);
/** Many words, each anywhere, which are not wanted again: 0 for those that cannot be read. */
void silt_heap_memory_words(struct silt_heap_memory *m, const silt_addr *at, uint64_t *ret, size_t count);

/* ---- ahead.c ---- */

/** Another thread that reads what will be wanted next. */
struct silt_heap_ahead;
/** NULL: there is no second processor, or no memory; then everything is read by who wants it. The reader must bear calls from another
 *  thread. */
struct silt_heap_ahead *silt_heap_ahead_create(const struct silt_heap_reader *reader);
void silt_heap_ahead_destroy(struct silt_heap_ahead *a);
/** A piece that holds `need` bytes at addr, and from then on those behind it, up to limit. The bytes are valid until the next
 *  call. False: they cannot be read. */
bool silt_heap_ahead_take(struct silt_heap_ahead *a, silt_addr addr, size_t need, silt_addr limit, const uint8_t **ret_bytes,
			  silt_addr *ret_start, size_t *ret_size);

/** A piece of target memory that moves forward; its size follows how much of it is used. */
struct silt_heap_window {
	struct silt_heap_memory *m;
	struct silt_heap_ahead *ahead; /* NULL: none */
	uint8_t *own;
	const uint8_t *bytes; /* own, or a piece that was read ahead */
	silt_addr start;
	size_t size, goal;
};

/** ahead: may be NULL. */
bool silt_heap_window_init(struct silt_heap_window *w, struct silt_heap_memory *m, struct silt_heap_ahead *ahead);
void silt_heap_window_deinit(struct silt_heap_window *w);
/** Behind silt_heap_window_at: reads anew from addr on, at most to limit. */
const uint8_t *silt_heap_window_refill(struct silt_heap_window *w, silt_addr addr, size_t need, silt_addr limit);

/** `need` bytes at addr (limit: end of what may be read), or NULL. Valid until the next call. */
static inline const uint8_t *silt_heap_window_at(struct silt_heap_window *w, silt_addr addr, size_t need,
						 silt_addr limit)
{
	uint64_t offset = addr - w->start;

	if (addr >= w->start && offset < w->size && w->size - offset >= need)
		return w->bytes + offset;
	return silt_heap_window_refill(w, addr, need, limit);
}

static inline uint64_t silt_heap_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t silt_heap_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* ---- elf.c: modules in the target's memory ---- */

/** Run-time address and size of an exported symbol, by the module's own hash table. False when it has none. */
bool silt_heap_symbol(struct silt_heap *h, const struct silt_target_module *m, const char *name, silt_addr *ret_addr,
		      uint64_t *ret_size);

/* ---- code.c ---- */

/** Notes the code of the allocator in module m, at most about size_max bytes of it, and of the functions it calls for memory.
 *  ends_known: its first and last functions are exported. */
void silt_heap_code_find(struct silt_heap *h, const struct silt_target_module *m, uint64_t size_max, bool ends_known);

/* ---- the walk ---- */

/** One known block outside of chunk chains. */
struct silt_heap_single {
	silt_addr addr; /* as malloc returned it */
	uint64_t size;
	uint32_t heap;
};

/** A stretch of glibc chunks that follow each other. */
struct silt_heap_extent {
	silt_addr start, end; /* start: the first chunk */
	silt_addr top;        /* the arena's top chunk; in one extent only, else 0 */
	uint32_t heap;
	bool main; /* brk heap: fence posts may be followed by foreign memory and more chunks */
};

/* Blocks of a chain that are not live although nothing in their neighbours says so: addresses with a reason in the low
 * bits, which malloc leaves zero. */
enum { SILT_HEAP_FREE_BIN = 0, SILT_HEAP_FREE_CACHE = 1, SILT_HEAP_FREE_OWN = 2, SILT_HEAP_FREE_MASK = 15 };

/* Code of an allocator, or of what it calls for memory. */
struct silt_heap_code {
	silt_addr start, end;
	bool calls;
};

struct silt_glibc;
struct silt_musl;

struct silt_heap {
	struct silt_heap_target target;
	struct silt_heap_memory mem;
	SILT_VEC(struct silt_glibc *) glibcs;
	SILT_VEC(struct silt_musl *) musls;
	SILT_VEC(struct silt_heap_code) code;
	SILT_VEC(struct silt_heap_info) infos;
	SILT_VEC(char *) problems;
	uint32_t problems_found; /* at open: those stay for every walk */
	char allocator[300];
	char libc[32];

	/* The walk under way. */
	struct silt_heap_ahead *ahead; /* NULL: none */
	const struct silt_heap_thread *threads;
	uint32_t thread_count;
	SILT_VEC(struct silt_heap_extent) extents; /* sorted */
	SILT_VEC(struct silt_heap_single) singles; /* sorted */
	SILT_VEC(uint64_t) free;                   /* sorted */
	struct silt_glibc_links *links; /* free lists too long to be known before the walk; NULL: none */
	struct silt_glibc *links_of;
	SILT_VEC(struct silt_heap_stretch) stretches; /* for silt_heap_plan */
	SILT_VEC(struct silt_heap_block) others;
	uint64_t block_bound;
	uint64_t resync_budget; /* chains that may still be tried where headers are damaged */
	bool no_memory;
};

/** Adds a line; cut to a bounded number of lines. */
void silt_heap_problem_add(struct silt_heap *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** Forgets all lines but the first `keep`. */
void silt_heap_problems_drop(struct silt_heap *h, size_t keep);
/** Number of a new, empty info. */
uint32_t silt_heap_info_add(struct silt_heap *h, enum silt_heap_kind kind, silt_addr addr);
/** The region that holds addr, or NULL. */
const struct silt_region *silt_heap_region(const struct silt_heap *h, silt_addr addr);
/** True for private anonymous memory that can be read and written. */
bool silt_heap_is_data(const struct silt_region *r);
/** The end of such memory that begins with r: advice and protection split mappings that are one to the allocator. */
silt_addr silt_heap_data_end(const struct silt_heap *h, const struct silt_region *r);
/** Brings the extents in order; of overlapping ones (damage) the later is cut. */
void silt_heap_extents_sort(struct silt_heap *h);
/** The extent that holds addr, or NULL; extents must be sorted. */
const struct silt_heap_extent *silt_heap_extent_at(const struct silt_heap *h, silt_addr addr);

/** Walks all extents as if there were no free lists, for what must be known before: problems and sums are forgotten.
 *  Returns what the sink returned, or SILT_E_NOMEM. */
int silt_heap_survey(struct silt_heap *h, silt_heap_sink sink, void *data);

/** The single block at addr, or NULL; singles must be sorted. */
const struct silt_heap_single *silt_heap_single_at(const struct silt_heap *h, silt_addr addr);

/* ---- glibc*.c ---- */
void silt_glibc_find(struct silt_heap *h);
void silt_glibc_destroy(struct silt_glibc *g);
/** A lock of it is held. */
bool silt_glibc_busy(struct silt_heap *h, struct silt_glibc *g);
/** Fills extents (unsorted). */
void silt_glibc_plan(struct silt_heap *h, struct silt_glibc *g);
/** Fills singles, once the extents of all are sorted. */
void silt_glibc_plan_mapped(struct silt_heap *h, struct silt_glibc *g);
/** Fills free, once the singles are sorted, too; or links, when the lists are long. */
void silt_glibc_plan_free(struct silt_heap *h, struct silt_glibc *g);

struct silt_heap_emitter;
/** Behind the walk: follows the lists in h->links, and hands out what was held back and is not free. Returns what the sink
 *  returned. */
int silt_glibc_finish(struct silt_heap *h, struct silt_heap_emitter *out);
/** Walks one extent's chunks. Returns what the sink returned. */
int silt_glibc_walk(struct silt_heap *h, const struct silt_heap_extent *e, struct silt_heap_window *w,
		    struct silt_heap_emitter *out);

/* ---- musl.c ---- */
void silt_musl_find(struct silt_heap *h);
void silt_musl_destroy(struct silt_musl *g);
/** Fills singles. */
void silt_musl_plan(struct silt_heap *h, struct silt_musl *g);

/* ---- others.c ---- */
/** Names allocators that cannot be walked: problems, and h->allocator. */
void silt_heap_find_others(struct silt_heap *h);

/* ---- walk.c: blocks on their way to the sink ---- */

#define SILT_HEAP_BATCH 4096u
struct silt_heap_emitter {
	silt_heap_sink sink;
	void *data;
	struct silt_heap_block *batch;
	size_t count;
	const uint64_t *free, *free_end; /* what is left of h->free */
	int rc;
};

int silt_heap_flush(struct silt_heap_emitter *e);

static inline int silt_heap_emit(struct silt_heap_emitter *e, silt_addr addr, uint64_t size, uint64_t word, uint32_t heap)
{
	e->batch[e->count++] =
		(struct silt_heap_block){ .addr = addr, .size = size, .first_word = word, .heap = heap };
	return e->count < SILT_HEAP_BATCH ? 0 : silt_heap_flush(e);
}

/** True when the block at addr is in the free list, with the reason. Addresses must not go down between calls. */
static inline bool silt_heap_is_free(struct silt_heap_emitter *e, silt_addr addr, unsigned *ret_why)
{
	while (e->free < e->free_end && (*e->free & ~(uint64_t)SILT_HEAP_FREE_MASK) < addr)
		e->free++;
	if (e->free == e->free_end || (*e->free & ~(uint64_t)SILT_HEAP_FREE_MASK) != addr)
		return false;
	*ret_why = (unsigned)(*e->free & SILT_HEAP_FREE_MASK);
	return true;
}

#endif
