/* SPDX-License-Identifier: MIT */
/* Images of processes in all layouts of glibc's malloc: see image.h. Offsets are from malloc.c and arena.c of the releases,
 * written down here a second time on purpose. */
#include "tests/heap/image.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define LIBC 0x7f5500000000ull
#define HEAP 0x555555560000ull
#define ARENA 0x7f5400000000ull
#define MAPPED 0x7f5480000000ull
#define TLS 0x7f54c0000000ull
#define MAIN_ARENA (LIBC + IMAGE_CODE + 0xc60)
#define PAR (LIBC + IMAGE_CODE + 0x340)

struct variant {
	unsigned minor, state, fast, top, bins, next, attached, system_mem, heap_info;
	unsigned tcache_chunk, tcache_count, tcache_bins, tcache_entries; /* bytes of the chunk and of a count; number; offset */
	bool protect, remaining;
	unsigned mmaps, mapped_mem, sbrk_base, par_bins; /* in malloc_par */
};

static const struct variant variants[IMAGE_VARIANTS] = {
	{ 26, 0x890, 0x08, 0x58, 0x68, 0x868, 0x878, 0x880, 32, 0x250, 1, 64, 64, false, false, 0x28, 0x38, 0x48, 0x50 },
	{ 28, 0x898, 0x10, 0x60, 0x70, 0x870, 0x880, 0x888, 32, 0x250, 1, 64, 64, false, false, 0x28, 0x38, 0x48, 0x50 },
	{ 31, 0x898, 0x10, 0x60, 0x70, 0x870, 0x880, 0x888, 32, 0x290, 2, 64, 128, false, false, 0x28, 0x38, 0x48, 0x50 },
	{ 36, 0x898, 0x10, 0x60, 0x70, 0x870, 0x880, 0x888, 48, 0x290, 2, 64, 128, true, false, 0x3c, 0x50, 0x60, 0x68 },
	{ 43, 0x840, 0, 0x08, 0x18, 0x818, 0x828, 0x830, 48, 0x300, 2, 76, 152, true, true, 0x44, 0x58, 0x68, 0x70 },
};

static uint8_t *at(struct image *m, silt_addr addr, size_t size)
{
	size_t offset = 0;

	for (unsigned i = 0; i < IMAGE_REGIONS; i++) {
		const struct silt_region *r = &m->regions[i];

		if (addr >= r->start && addr < r->end && r->end - addr >= size)
			return m->bytes + offset + (addr - r->start);
		offset += r->end - r->start;
	}
	return NULL;
}

static void put(struct image *m, silt_addr addr, uint64_t value, size_t size)
{
	memcpy(at(m, addr, size), &value, size);
}

static void word(struct image *m, silt_addr addr, uint64_t value)
{
	put(m, addr, value, 8);
}

static size_t read_image(void *data, silt_addr addr, void *buffer, size_t size)
{
	struct image *m = data;
	size_t done = 0;

	/* Regions that follow each other are read through, as the kernel does. */
	while (done < size) {
		size_t part = 4096 - (addr + done) % 4096;
		const uint8_t *p;

		if (part > size - done)
			part = size - done;
		p = at(m, addr + done, part);
		if (!p)
			break;
		memcpy((uint8_t *)buffer + done, p, part);
		done += part;
	}
	return done;
}

struct silt_heap_reader image_reader(struct image *m)
{
	return (struct silt_heap_reader){ .read = read_image, .data = m };
}

void image_init(struct image *m)
{
	enum { RW = PROT_READ | PROT_WRITE };
	const struct silt_region regions[IMAGE_REGIONS] = {
		{ .start = HEAP, .end = HEAP + IMAGE_HEAP, .prot = RW, .name = "[heap]" },
		{ .start = ARENA, .end = ARENA + IMAGE_ARENA, .prot = RW },
		{ .start = MAPPED, .end = MAPPED + IMAGE_MAPPED, .prot = RW },
		{ .start = TLS, .end = TLS + IMAGE_TLS, .prot = RW },
		{ .start = LIBC, .end = LIBC + IMAGE_CODE, .prot = PROT_READ, .inode = 7, .name = "/lib/libc.so.6" },
		{ .start = LIBC + IMAGE_CODE, .end = LIBC + IMAGE_CODE + IMAGE_DATA, .prot = RW, .inode = 7,
		  .file_offset = IMAGE_CODE, .name = "/lib/libc.so.6" },
	};

	memset(m, 0, sizeof(*m));
	memcpy(m->regions, regions, sizeof(regions));
	m->maps = (struct silt_maps){ .regions = m->regions, .count = IMAGE_REGIONS };
	m->module = (struct silt_target_module){ .path = (char *)"/lib/libc.so.6",
						 .region_first = 4,
						 .region_count = 2,
						 .start = LIBC,
						 .end = LIBC + IMAGE_CODE + IMAGE_DATA,
						 .bias = LIBC };
	m->modules = (struct silt_target_modules){ .list = &m->module, .count = 1 };
	m->thread = (struct silt_heap_thread){ .pointer = TLS + 0x800 };
}

const char *image_libc(unsigned variant)
{
	static const char *const names[IMAGE_VARIANTS] = { "glibc 2.26", "glibc 2.28", "glibc 2.31", "glibc 2.36",
							   "glibc 2.43" };

	return names[variant];
}

static void used(struct image *m, silt_addr mem, uint64_t size)
{
	m->used[m->used_count] = mem;
	m->sizes[m->used_count++] = size;
}

/* Chunks one behind the other. */
struct builder {
	struct image *m;
	const struct variant *v;
	silt_addr p;
	uint64_t flag;     /* NON_MAIN_ARENA, or 0 */
	bool after_free;
};

/* Returns the chunk's memory. The header says whether the chunk before is in use. */
static silt_addr chunk(struct builder *b, uint64_t size, bool in_use, bool live)
{
	silt_addr mem = b->p + 16;

	word(b->m, b->p + 8, size | (b->after_free ? 0 : 1) | b->flag);
	if (!in_use)
		word(b->m, b->p + size, size);
	b->after_free = !in_use;
	b->p += size;
	if (live)
		used(b->m, mem, size - 8);
	return mem;
}

static void link_to(struct builder *b, silt_addr at_mem, uint64_t target)
{
	word(b->m, at_mem, b->v->protect ? target ^ at_mem >> 12 : target);
}

static void tcache_bin(struct builder *b, silt_addr cache, unsigned bin, silt_addr first, unsigned count)
{
	put(b->m, cache + bin * b->v->tcache_count, b->v->remaining ? 7u - count : count, b->v->tcache_count);
	word(b->m, cache + b->v->tcache_entries + bin * 8ull, first);
}

/* An arena's chunks: a cache, live blocks of some sizes, one free in a bin, two in the cache, one in a fast bin. */
static void fill_chunks(struct builder *b, silt_addr arena, silt_addr end, silt_addr *ret_cache)
{
	const struct variant *v = b->v;
	silt_addr cache = chunk(b, v->tcache_chunk, true, false), binned, cached[2], fast, header = arena + v->bins - 16;

	for (unsigned i = 0; v->remaining && i < v->tcache_bins; i++)
		put(b->m, cache + i * 2ull, 7, 2);
	chunk(b, 0x20, true, true);
	chunk(b, 0x410, true, true);
	binned = chunk(b, 0x90, false, false);
	chunk(b, 0x70, true, true);
	cached[0] = chunk(b, 0x40, true, false);
	chunk(b, 0x30, true, true);
	cached[1] = chunk(b, 0x40, true, false);
	fast = chunk(b, 0x30, true, !v->fast);
	chunk(b, 0x50, true, true);
	word(b->m, binned, header); /* the unsorted list: header <-> chunk */
	word(b->m, binned + 8, header);
	word(b->m, header + 16, binned - 16);
	word(b->m, header + 24, binned - 16);
	link_to(b, cached[0], cached[1]);
	link_to(b, cached[1], 0);
	tcache_bin(b, cache, 2, cached[0], 2);
	if (v->fast) {
		word(b->m, arena + v->fast + 8, fast - 16);
		link_to(b, fast, 0);
	}
	word(b->m, arena + v->top, b->p);
	word(b->m, b->p + 8, (end - b->p) | 1);
	*ret_cache = cache;
}

static void fill_state(struct image *m, const struct variant *v, silt_addr arena, silt_addr next, uint64_t system_mem)
{
	for (unsigned i = 0; i < 127; i++) {
		silt_addr header = arena + v->bins + 16ull * i - 16;

		word(m, header + 16, header);
		word(m, header + 24, header);
	}
	word(m, arena + v->next, next);
	word(m, arena + v->attached, 1);
	word(m, arena + v->system_mem, system_mem);
	word(m, arena + v->system_mem + 8, system_mem);
}

void image_fill(struct image *m, unsigned variant)
{
	const struct variant *v = &variants[variant];
	silt_addr arena = ARENA + v->heap_info, cache, main_cache;
	struct builder b = { .m = m, .v = v, .p = HEAP };
	uint64_t header = v->minor >= 43 ? 16 : 0;

	image_init(m);
	snprintf((char *)at(m, LIBC + 0x200, 200), 200, "GNU C Library (Test) stable release version 2.%u.\n", v->minor);
	fill_state(m, v, MAIN_ARENA, arena, IMAGE_HEAP);
	fill_chunks(&b, MAIN_ARENA, HEAP + IMAGE_HEAP, &main_cache);
	word(m, ARENA, arena); /* struct heap_info: ar_ptr, prev, size */
	word(m, ARENA + 16, IMAGE_ARENA);
	fill_state(m, v, arena, MAIN_ARENA, IMAGE_ARENA);
	b = (struct builder){ .m = m, .v = v, .p = (arena + v->state + 15) & ~15ull, .flag = 4 };
	fill_chunks(&b, arena, ARENA + IMAGE_ARENA, &cache);
	word(m, MAPPED + 8, (IMAGE_MAPPED - header) | 2);
	used(m, MAPPED + 16, IMAGE_MAPPED - header - (header ? 8 : 16));
	word(m, PAR, 0x20000);
	word(m, PAR + 8, 0x20000);
	word(m, PAR + 0x10, 0x20000);
	word(m, PAR + 0x18, 8);
	put(m, PAR + v->mmaps, 1, 4);
	put(m, PAR + v->mmaps + 4, 65536, 4);
	put(m, PAR + v->mmaps + 8, 1, 4);
	word(m, PAR + v->mapped_mem, IMAGE_MAPPED);
	word(m, PAR + v->mapped_mem + 8, IMAGE_MAPPED);
	word(m, PAR + v->sbrk_base, HEAP);
	word(m, PAR + v->par_bins, 64);
	word(m, PAR + v->par_bins + 8, 0x408);
	word(m, PAR + v->par_bins + 16, 7);
	/* The one thread runs on the other arena; the main one's cache is that of a thread that ended badly. */
	word(m, TLS + 0x800 - 0x50, arena);
	word(m, TLS + 0x800 - 0x48, cache);
	(void)main_cache;
}
