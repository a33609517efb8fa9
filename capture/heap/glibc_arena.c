/* SPDX-License-Identifier: MIT */
/* glibc's arenas and the stretches of memory that hold their chunks (malloc/arena.c). */
#include "capture/heap/glibc.h"

#define ARENA_HEAPS_MAX 1048576u

/* HEAP_MAX_SIZE: 64 MiB, or with the tunable glibc.malloc.hugetlb in 2.35 to 2.41 four times the page size. */
static const unsigned heap_shifts[] = { 26, 23, 32, 25, 24, 27, 28, 22, 21, 20, 29, 30, 31 };

/* ---- the ring ---- */

static bool read_arena(struct silt_heap *h, const struct silt_glibc *g, silt_addr addr, struct silt_glibc_arena *ret,
		       silt_addr *ret_next)
{
	const struct silt_glibc_layout *l = g->layout;
	uint64_t back;

	memset(ret, 0, sizeof(*ret));
	ret->addr = addr;
	if (addr % 16 || !silt_heap_memory_u32(&h->mem, addr, &ret->mutex) ||
	    !silt_heap_memory_u32(&h->mem, addr + 4, &ret->flags) || !silt_heap_memory_u64(&h->mem, addr + l->top, &ret->top) ||
	    !silt_heap_memory_u64(&h->mem, addr + l->next, ret_next) ||
	    !silt_heap_memory_u64(&h->mem, addr + l->system_mem, &ret->system_mem))
		return false;
	if (addr == g->main_arena)
		return true;
	/* struct heap_info stands in front: 32 bytes, 48 since 2.35; its first word leads back. */
	for (unsigned header = 0x20; header <= 0x30; header += 0x10)
		if (silt_heap_memory_u64(&h->mem, addr - header, &back) && back == addr) {
			ret->heap_header = header;
			return true;
		}
	return false;
}

bool silt_glibc_read_arenas(struct silt_heap *h, struct silt_glibc *g)
{
	silt_addr addr = g->main_arena, next = 0;

	g->arenas.count = 0;
	do {
		struct silt_glibc_arena a;

		if (g->arenas.count == SILT_GLIBC_ARENAS_MAX || !read_arena(h, g, addr, &a, &next)) {
			silt_heap_problem_add(h, "the list of malloc's arenas is broken at 0x%llx: arenas behind it are missing",
					      (unsigned long long)addr);
			return g->arenas.count > 0;
		}
		if (!silt_vec_push(&g->arenas, a)) {
			h->no_memory = true;
			return false;
		}
		addr = next;
	} while (addr != g->main_arena);
	return true;
}

bool silt_glibc_busy(struct silt_heap *h, struct silt_glibc *g)
{
	if (!silt_glibc_read_arenas(h, g))
		return true;
	for (size_t i = 0; i < g->arenas.count; i++)
		if (g->arenas.items[i].mutex)
			return true;
	return false;
}

/* ---- extents ---- */

static void add_extent(struct silt_heap *h, struct silt_glibc_arena *a, silt_addr start, silt_addr end, bool main)
{
	const struct silt_region *r = silt_heap_region(h, start);
	struct silt_heap_extent e = { .start = start, .end = end, .heap = a->info, .main = main };

	if (!r || end <= start) {
		silt_heap_problem_add(h, "a heap of the arena at 0x%llx is not in mapped memory: 0x%llx",
				      (unsigned long long)a->addr, (unsigned long long)start);
		return;
	}
	/* A heap may span mappings of the same kind (an mprotect or madvise splits them) but no gap. */
	for (const struct silt_region *last = h->target.maps->regions + h->target.maps->count; r < last; r++) {
		if (r->end >= end)
			break;
		if (r + 1 == last || r[1].start != r->end) {
			e.end = r->end & ~15ull;
			break;
		}
	}
	if (a->top >= e.start && a->top < e.end)
		e.top = a->top;
	h->infos.items[a->info].size += e.end - e.start;
	if (!silt_vec_push(&h->extents, e))
		h->no_memory = true;
	else
		a->extent_count++;
}

/* The newest heap holds top; each heap names the one before. */
static void plan_arena(struct silt_heap *h, const struct silt_glibc *g, struct silt_glibc_arena *a)
{
	silt_addr first = a->addr - a->heap_header, heap = 0, mask = 0;
	uint64_t info[3], sum = 0; /* ar_ptr, prev, size */

	for (size_t i = 0; i < SILT_ARRAY_LEN(heap_shifts) && !mask; i++) {
		silt_addr m = (1ull << heap_shifts[i]) - 1;

		heap = a->top & ~m;
		if (!(first & m) && silt_heap_memory_read(&h->mem, heap, info, sizeof(info)) && info[0] == a->addr)
			mask = m;
	}
	if (!mask)
		silt_heap_problem_add(h, "the arena at 0x%llx has no heap: its blocks are missing", (unsigned long long)a->addr);
	for (unsigned n = 0; mask && heap; n++) {
		silt_addr start = heap + a->heap_header;

		if (n == ARENA_HEAPS_MAX || heap & mask || !silt_heap_memory_read(&h->mem, heap, info, sizeof(info)) ||
		    info[0] != a->addr || info[2] > mask + 1 || info[2] < SILT_HEAP_PAGE || sum > a->system_mem) {
			silt_heap_problem_add(h, "the heaps of the arena at 0x%llx are broken at 0x%llx: others are missing",
					      (unsigned long long)a->addr, (unsigned long long)heap);
			break;
		}
		if (heap == first)
			start = (a->addr + g->layout->size + 15) & ~15ull;
		add_extent(h, a, start, heap + info[2], false);
		h->infos.items[a->info].size += start - heap;
		h->infos.items[a->info].own_bytes += start - heap;
		sum += info[2];
		heap = info[1];
	}
}

static bool top_is_sane(struct silt_heap *h, const struct silt_glibc_arena *a, silt_addr *ret_end)
{
	uint64_t size;

	if (!silt_heap_memory_u64(&h->mem, a->top + 8, &size))
		return false;
	size &= ~15ull;
	*ret_end = a->top + size;
	return size >= 16 && *ret_end > a->top && silt_heap_region(h, a->top);
}

/* The heap that grows by brk. Memory that others get from brk in between counts as the arena's. */
static void plan_main(struct silt_heap *h, struct silt_glibc *g, struct silt_glibc_arena *a)
{
	silt_addr end = 0, start = 0, base = 0;
	bool contiguous = !(a->flags & SILT_GLIBC_NONCONTIGUOUS);

	if (!a->system_mem || a->top == a->addr + g->layout->bins - 16) {
		silt_glibc_find_par(h, g, 0);
		return;
	}
	if (!top_is_sane(h, a, &end)) {
		silt_heap_problem_add(h, "the top of the main arena is damaged (0x%llx): it was walked without",
				      (unsigned long long)a->top);
		contiguous = false;
	} else if (contiguous && a->system_mem <= end) {
		start = end - a->system_mem;
	}
	silt_glibc_find_par(h, g, start);
	if (g->par && silt_heap_memory_u64(&h->mem, g->par + g->par_layout->sbrk_base, &base) && base && base < end)
		base = (base + 15) & ~15ull;
	else
		base = 0;
	start = (start + 15) & ~15ull;
	/* Two witnesses for the start, or a heap that looks like one there: its first chunks may be damaged. */
	if (contiguous && start && (start == base || silt_glibc_chain(h, start, end, a->top, true, 4))) {
		add_extent(h, a, start, end, true);
		return;
	}
	if (contiguous && base && silt_glibc_chain(h, base, end, a->top, true, 4)) {
		add_extent(h, a, base, end, true);
		return;
	}
	silt_glibc_plan_scattered(h, g, a, base);
}

void silt_glibc_add_scattered(struct silt_heap *h, struct silt_glibc_arena *a, silt_addr start, silt_addr end)
{
	add_extent(h, a, start, end, true);
}

void silt_glibc_plan(struct silt_heap *h, struct silt_glibc *g)
{
	if (!silt_glibc_read_arenas(h, g))
		return;
	for (size_t i = 0; i < g->arenas.count; i++) {
		struct silt_glibc_arena *a = &g->arenas.items[i];

		a->info = silt_heap_info_add(h, i ? SILT_HEAP_ARENA : SILT_HEAP_MAIN, a->addr);
		if (a->info == SILT_NONE)
			return;
		h->infos.items[a->info].locked = a->mutex != 0;
		if (i)
			plan_arena(h, g, a);
	}
	/* Last: where its memory lies scattered, that of the others is known by now. */
	if (g->arenas.count)
		plan_main(h, g, &g->arenas.items[0]);
}

bool silt_glibc_chain(struct silt_heap *h, silt_addr p, silt_addr end, silt_addr top, bool main, unsigned want)
{
	for (unsigned n = 0; n < want; n++) {
		uint64_t word, size, next;

		if (p == top && top)
			return true;
		if (p >= end || end - p < SILT_GLIBC_CHUNK_MIN || !silt_heap_memory_u64(&h->mem, p + 8, &word))
			return false;
		size = word & ~15ull;
		if (word & (8 | SILT_GLIBC_IS_MMAPPED) || (main && word & SILT_GLIBC_NON_MAIN))
			return false;
		if (size == 16)
			return n && silt_heap_memory_u64(&h->mem, p + 24, &next) && (next & ~1ull) == (main ? 16 : 0);
		if (size < SILT_GLIBC_CHUNK_MIN || size > end - p)
			return false;
		p += size;
	}
	return true;
}

bool silt_glibc_owns(struct silt_heap *h, const struct silt_glibc *g, silt_addr mem)
{
	const struct silt_heap_extent *e = mem % 16 ? NULL : silt_heap_extent_at(h, mem - 16);

	/* The arenas' infos follow each other. */
	return e && g->arenas.count && e->heap - g->arenas.items[0].info < g->arenas.count;
}
