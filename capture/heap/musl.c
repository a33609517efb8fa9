/* SPDX-License-Identifier: MIT */
/*
 * musl's mallocng (musl 1.2.1 and later; src/malloc/mallocng/{meta,glue}.h, malloc.c): groups of slots of one size, and
 * metadata outside of them, in pages that begin with a secret word which the context in libc's data begins with too.
 *
 * Bytes in front of a block lead to its slot, and behind it tell how much of the slot was not asked for: the requested size
 * is known exactly.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "capture/heap/heap_internal.h"

#define UNIT 16u
#define IB 4u /* bytes in front of a block */
#define DATA_MAX (64ull << 20)
#define AREAS_MAX (1ull << 24)
#define META_SIZE 40u
#define AREA_HEAD 24u
#define CLASSES 48u
#define CODE_MAX 0x4000u /* bytes of code of the allocator, at most */

/* glue.h: size classes in units; class 63 is a mapping of its own. */
static const uint16_t size_classes[CLASSES] = {
	1,   2,   3,   4,   5,	 6,   7,   8,	9,   10,  12,  15,   18,   20,	 25,   31,   36,   42,   50,   63,   72,   84,   102,  127,
	146, 170, 204, 255, 292, 340, 409, 511, 584, 682, 818, 1023, 1169, 1364, 1637, 2047, 2340, 2730, 3276, 4095, 4680, 5460, 6552, 8191,
};

struct silt_musl {
	silt_addr context;
	uint64_t secret;
	uint32_t area_head; /* offset of meta_area_head: where the page size is no constant there is a field more */
	uint32_t info;
};

/* ---- finding the context ---- */

/* struct malloc_context: secret, [pagesize], init_done, mmap_counter, free_meta_head, avail_meta, avail_meta_count,
 * avail_meta_area_count, meta_alloc_shift, meta_area_head, meta_area_tail … */
static bool is_context(struct silt_heap *h, const uint8_t *p, uint32_t shift, struct silt_musl *ret)
{
	uint64_t head = silt_heap_u64(p + shift + 56), tail = silt_heap_u64(p + shift + 64), check, check_tail;

	if (silt_heap_u32(p + shift + 8) != 1 || !head || head % SILT_HEAP_PAGE || !tail || tail % SILT_HEAP_PAGE)
		return false;
	ret->secret = silt_heap_u64(p);
	ret->area_head = shift + 56;
	return ret->secret && silt_heap_memory_u64(&h->mem, head, &check) && check == ret->secret &&
	       silt_heap_memory_u64(&h->mem, tail, &check_tail) && check_tail == ret->secret;
}

static bool look_through(struct silt_heap *h, const struct silt_target_module *module, silt_addr start, const uint8_t *bytes,
			 size_t size)
{
	for (size_t at = 0; at + 80 <= size; at += 8)
		for (uint32_t shift = 0; shift <= 8; shift += 8) {
			struct silt_musl found = { .context = start + at }, *m;

			if (!is_context(h, bytes + at, shift, &found))
				continue;
			m = malloc(sizeof(*m));
			if (!m || !silt_vec_push(&h->musls, m)) {
				free(m);
				h->no_memory = true;
				return true;
			}
			*m = found;
			if (h->target.exact)
				silt_heap_code_find(h, module, CODE_MAX, true);
			return true;
		}
	return false;
}

/* The context is zero at first, so it lies behind the file's data, in the same mapping or the one that follows. */
static void look_at_module(struct silt_heap *h, const struct silt_target_module *m)
{
	const struct silt_maps *maps = h->target.maps;
	silt_addr end = 0;
	bool found = false;

	for (uint32_t i = m->region_first; i < maps->count && !found; i++) {
		const struct silt_region *r = &maps->regions[i];
		bool own = i < m->region_first + m->region_count &&
			   silt_modules_same_file(r, &maps->regions[m->region_first]);
		uint64_t size = r->end - r->start < DATA_MAX ? r->end - r->start : DATA_MAX;
		uint8_t *bytes;

		if (!own && r->start != end)
			break;
		if (own)
			end = r->end;
		if ((r->prot & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE) || (!own && !silt_heap_is_data(r)))
			continue;
		bytes = malloc(size);
		if (!bytes) {
			h->no_memory = true;
			return;
		}
		found = look_through(h, m, r->start, bytes, h->mem.reader.read(h->mem.reader.data, r->start, bytes, size));
		free(bytes);
	}
}

void silt_musl_find(struct silt_heap *h)
{
	const struct silt_target_modules *modules = h->target.modules;

	for (uint32_t i = 0; i < modules->count; i++)
		if (!h->glibcs.count || strstr(modules->list[i].path, "musl"))
			look_at_module(h, &modules->list[i]);
}

void silt_musl_destroy(struct silt_musl *g)
{
	free(g);
}

/* ---- groups ---- */

struct group {
	silt_addr meta, mem;
	uint32_t avail, freed;
	unsigned last, sizeclass;
	uint64_t maplen, stride;
};

/* struct meta: prev, next, mem, avail_mask, freed_mask, last_idx:5 freeable:1 sizeclass:6 maplen:52. */
static bool read_group(struct silt_heap *h, silt_addr meta, struct group *ret)
{
	uint8_t b[META_SIZE];
	uint64_t bits, back;

	if (!silt_heap_memory_read(&h->mem, meta, b, sizeof(b)))
		return false;
	bits = silt_heap_u64(b + 32);
	*ret = (struct group){ .meta = meta,
			       .mem = silt_heap_u64(b + 16),
			       .avail = silt_heap_u32(b + 24),
			       .freed = silt_heap_u32(b + 28),
			       .last = bits & 31,
			       .sizeclass = bits >> 6 & 63,
			       .maplen = bits >> 12 };
	if (!ret->mem)
		return false; /* not in use */
	if (!ret->last && ret->maplen)
		ret->stride = ret->maplen * SILT_HEAP_PAGE - UNIT;
	else if (ret->sizeclass < CLASSES)
		ret->stride = (uint64_t)UNIT * size_classes[ret->sizeclass];
	return ret->stride && ret->mem % UNIT == 0 && silt_heap_memory_u64(&h->mem, ret->mem, &back) && back == meta;
}

/* malloc.c, meta.h (enframe, set_size, get_nominal_size), aligned_alloc.c: a block may begin later in its slot, which the
 * slot's head then tells; with alignments above a megabyte it tells only the lower bits of the distance. */
static bool find_block(struct silt_heap *h, const struct group *g, unsigned index, silt_addr *ret, uint64_t *ret_size)
{
	silt_addr start = g->mem + UNIT + g->stride * index, p = start, end = start + g->stride - IB;
	uint8_t head[8];
	uint32_t reserved, far;

	if (!silt_heap_memory_read(&h->mem, p - 4, head, 4))
		return false;
	if (head[1] >> 5 == 6)
		return false; /* the slot holds a group of smaller slots */
	if (head[1] == 7 << 5) {
		for (p += (uint64_t)UNIT * (head[2] | head[3] << 8);; p += 65536ull * UNIT) {
			if (p >= end || !silt_heap_memory_read(&h->mem, p - 8, head, 8))
				return false;
			far = silt_heap_u32(head);
			if (!head[4] ? (uint64_t)UNIT * (head[6] | head[7] << 8) == p - g->mem - UNIT :
				       (uint64_t)UNIT * far == p - g->mem - UNIT)
				break;
		}
		memcpy(head, head + 4, 4);
	}
	if ((head[1] & 31u) != index)
		return false;
	reserved = head[1] >> 5;
	if (reserved >= 5 && !silt_heap_memory_u32(&h->mem, end - 4, &reserved))
		return false;
	if (reserved > end - p)
		return false;
	*ret = p;
	*ret_size = end - p - reserved;
	return true;
}

static void plan_group(struct silt_heap *h, const struct silt_musl *m, const struct group *g, unsigned *ret_bad)
{
	struct silt_heap_info *info = &h->infos.items[m->info];
	const struct silt_region *r = silt_heap_region(h, g->mem);
	uint32_t used = ~(g->avail | g->freed);

	/* All of it must be mapped; regions may split it. */
	if (!r || !silt_heap_region(h, g->mem + UNIT + g->stride * (g->last + 1) - 1)) {
		++*ret_bad;
		return;
	}
	info->own_bytes += UNIT;
	info->size += UNIT;
	for (unsigned i = 0; i <= g->last; i++) {
		struct silt_heap_single b = { .heap = m->info };
		uint8_t kind = 0;

		if (used >> i & 1 && silt_heap_memory_read(&h->mem, g->mem + UNIT + g->stride * i - 3, &kind, 1) &&
		    kind >> 5 == 6)
			continue; /* counted slot by slot, in the group it holds */
		info->size += g->stride;
		if (!(used >> i & 1)) {
			info->free_bytes += g->stride;
			info->free_count++;
		} else if (!find_block(h, g, i, &b.addr, &b.size)) {
			info->unknown_bytes += g->stride;
			++*ret_bad;
		} else if (!silt_vec_push(&h->singles, b)) {
			h->no_memory = true;
		} else {
			info->own_bytes += g->stride - b.size;
		}
	}
}

void silt_musl_plan(struct silt_heap *h, struct silt_musl *m)
{
	silt_addr area = 0;
	unsigned bad = 0;
	uint64_t areas = 0;

	m->info = silt_heap_info_add(h, SILT_HEAP_MUSL, m->context);
	if (m->info == SILT_NONE)
		return;
	silt_heap_memory_u64(&h->mem, m->context + m->area_head, &area);
	while (area && !h->no_memory) {
		uint64_t head[3]; /* check, next, nslots */
		struct group g;

		if (area % SILT_HEAP_PAGE || areas++ == AREAS_MAX || !silt_heap_memory_read(&h->mem, area, head, sizeof(head)) ||
		    head[0] != m->secret) {
			silt_heap_problem_add(h, "musl's list of groups is damaged at 0x%llx: blocks behind it are missing",
					      (unsigned long long)area);
			break;
		}
		for (unsigned i = 0; i < (SILT_HEAP_PAGE - AREA_HEAD) / META_SIZE && i < (uint32_t)head[2]; i++)
			if (read_group(h, area + AREA_HEAD + i * META_SIZE, &g))
				plan_group(h, m, &g, &bad);
		area = head[1];
	}
	/* A slot that a thread is about to hand out is taken already, but not yet marked. */
	if (bad > h->thread_count)
		silt_heap_problem_add(h, "%u slots of musl's heap make no sense and were left out", bad);
}
