/* SPDX-License-Identifier: MIT */
/*
 * Finding main_arena of glibc without symbols.
 *
 * main_arena lies in libc's (or a static program's) initialised data. It is told by its bins: 127 list headers in a row of
 * which the last is never used and so always points to itself, followed by a ring of arenas that leads back.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "capture/heap/glibc.h"

/* Offsets computed from malloc_state of the release tags: 2.23 attached_threads came, 2.27 have_fastchunks came, 2.43
 * (development since 2.42.9000) fast bins went. */
static const struct silt_glibc_layout layouts[] = {
	{ "2.27 to 2.42", 0x898, 0x10, 0x60, 0x70, 0x870, 0x880, 0x888, 0x890 },
	{ "2.43", 0x840, 0, 0x08, 0x18, 0x818, 0x828, 0x830, 0x838 },
	{ "2.23 to 2.26", 0x890, 0x08, 0x58, 0x68, 0x868, 0x878, 0x880, 0x888 },
};

#define DATA_PIECE (1u << 20)     /* initialised data is looked through in pieces of this size … */
#define DATA_OVERLAP 0x1000u      /* … that share as much as the largest structure takes */
#define DATA_MAX (256ull << 20)   /* of one module */
#define RODATA_MAX (64ull << 20)  /* looked through for the version banner */
#define CODE_MAX 0x7800u          /* bytes of code of malloc.o, at most */

/* ---- a module's memory ---- */

void silt_glibc_each_piece(struct silt_heap *h, silt_addr start, silt_addr end, uint64_t most, silt_glibc_look fn, void *data)
{
	uint8_t *bytes = malloc(DATA_PIECE);

	if (!bytes)
		h->no_memory = true;
	for (silt_addr at = start; bytes && at < end && most; at += DATA_PIECE - DATA_OVERLAP) {
		size_t size = end - at < DATA_PIECE ? (size_t)(end - at) : DATA_PIECE;

		size = h->mem.reader.read(h->mem.reader.data, at, bytes, size);
		fn(data, bytes, size, at);
		most -= size < most ? size : most;
		if (size < DATA_PIECE)
			break;
	}
	free(bytes);
}

/* The module's own regions with these rights. */
static void each_region(struct silt_heap *h, const struct silt_target_module *m, uint32_t prot, uint64_t most,
			silt_glibc_look fn, void *data)
{
	const struct silt_maps *maps = h->target.maps;

	for (uint32_t i = m->region_first; i < m->region_first + m->region_count && i < maps->count; i++) {
		const struct silt_region *r = &maps->regions[i];

		if ((r->prot & (PROT_READ | PROT_WRITE)) == prot &&
		    silt_modules_same_file(r, &maps->regions[m->region_first]))
			silt_glibc_each_piece(h, r->start, r->end, most, fn, data);
	}
}

/* The maps are others when the heap is walked: what will be needed of them is noted. */
static void note_data(struct silt_heap *h, struct silt_glibc *g, const struct silt_target_module *m)
{
	const struct silt_maps *maps = h->target.maps;

	for (uint32_t i = m->region_first; i < m->region_first + m->region_count && i < maps->count; i++) {
		const struct silt_region *r = &maps->regions[i];
		struct silt_glibc_data d = { r->start, r->end - r->start > DATA_MAX ? r->start + DATA_MAX : r->end };

		if ((r->prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE) &&
		    silt_modules_same_file(r, &maps->regions[m->region_first]) && !silt_vec_push(&g->data, d))
			h->no_memory = true;
	}
}

/* ---- version ---- */

/* "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36." in the module's constants. */
static uint32_t banner_version(const uint8_t *bytes, size_t size)
{
	static const char head[] = "GNU C Library (", tail[] = " release version 2.";
	const uint8_t *p = memmem(bytes, size, head, sizeof(head) - 1);
	const uint8_t *v;
	uint32_t minor = 0;

	if (!p)
		return 0;
	size -= (size_t)(p - bytes);
	v = memmem(p, size < 200 ? size : 200, tail, sizeof(tail) - 1);
	if (!v)
		return 0;
	for (v += sizeof(tail) - 1; v < p + size && *v >= '0' && *v <= '9' && minor < 1000; v++)
		minor = minor * 10 + *v - '0';
	return minor;
}

static void look_for_banner(void *data, const uint8_t *bytes, size_t size, silt_addr start)
{
	uint32_t *version = data;

	(void)start;
	if (!*version)
		*version = banner_version(bytes, size);
}

/* ---- one candidate ---- */

/* Do the first and the last chunk of the bin whose links are bin[0..1] lead back to its head? */
static bool bin_closes(struct silt_heap *h, silt_addr head, const uint64_t *bin)
{
	uint64_t back = 0, forth = 0;

	return silt_heap_memory_u64(&h->mem, bin[0] + 24, &back) && silt_heap_memory_u64(&h->mem, bin[1] + 16, &forth) && back == head &&
	       forth == head;
}

static bool bins_hold(struct silt_heap *h, silt_addr arena, const struct silt_glibc_layout *l)
{
	uint64_t bins[2 * SILT_GLIBC_BINS];
	unsigned bad = 0;

	if (!silt_heap_memory_read(&h->mem, arena + l->bins, bins, sizeof(bins)))
		return false;
	for (unsigned i = 0; i < SILT_GLIBC_BINS; i++) {
		silt_addr head = arena + l->bins + 16ull * i - 16;
		uint64_t *bin = &bins[2 * i];

		if (bin[0] == head && bin[1] == head)
			continue;
		if ((bin[0] % 16 && bin[0] != head) || (bin[1] % 16 && bin[1] != head))
			return false;
		if (bin_closes(h, head, bin))
			continue;
		/* The process runs while this is read: what was read before is old. */
		silt_heap_memory_forget(&h->mem);
		if (!silt_heap_memory_read(&h->mem, head + 16, bin, 16) || !bin_closes(h, head, bin))
			bad++;
	}
	return bad <= SILT_GLIBC_BINS / 2;
}

/* Other arenas stand behind their heaps' headers, which point to them; the last leads back. */
static bool ring_holds(struct silt_heap *h, silt_addr arena, const struct silt_glibc_layout *l)
{
	uint64_t next = arena, seen;
	uint32_t attached;

	if (!silt_heap_memory_u32(&h->mem, arena + l->attached, &attached) || attached > 1u << 24)
		return false;
	for (unsigned n = 0; n < SILT_GLIBC_ARENAS_MAX; n++) {
		bool found = false;

		if (!silt_heap_memory_u64(&h->mem, next + l->next, &next))
			return false;
		if (next == arena)
			return true;
		for (unsigned header = 0x20; header <= 0x30 && !found; header += 0x10)
			found = silt_heap_memory_u64(&h->mem, next - header, &seen) && seen == next;
		if (!found)
			return false;
	}
	return false;
}

static bool sums_hold(struct silt_heap *h, silt_addr arena, const struct silt_glibc_layout *l)
{
	uint64_t system_mem, max_system_mem, top;
	uint32_t flags;

	return silt_heap_memory_u64(&h->mem, arena + l->system_mem, &system_mem) &&
	       silt_heap_memory_u64(&h->mem, arena + l->max_system_mem, &max_system_mem) &&
	       silt_heap_memory_u64(&h->mem, arena + l->top, &top) && silt_heap_memory_u32(&h->mem, arena + 4, &flags) &&
	       system_mem <= max_system_mem && flags < 16 && (!(top % 16) || top == arena + l->bins - 16);
}

static void add_glibc(struct silt_heap *h, const struct silt_target_module *m, silt_addr arena,
		      const struct silt_glibc_layout *l)
{
	struct silt_glibc *g;

	for (size_t i = 0; i < h->glibcs.count; i++)
		if (h->glibcs.items[i]->main_arena == arena)
			return;
	g = calloc(1, sizeof(*g));
	if (!g || !silt_vec_push(&h->glibcs, g)) {
		free(g);
		h->no_memory = true;
		return;
	}
	g->main_arena = arena;
	g->layout = l;
	note_data(h, g, m);
	each_region(h, m, PROT_READ, RODATA_MAX, look_for_banner, &g->version);
	silt_heap_code_find(h, m, CODE_MAX, false);
}

/* ---- the search through a module's data ---- */

struct search {
	struct silt_heap *h;
	const struct silt_target_module *m;
};

/* By the last bin's header. */
static void look_at(void *data, const uint8_t *bytes, size_t size, silt_addr start)
{
	const struct search *s = data;
	struct silt_heap *h = s->h;

	for (size_t at = 0; at + 16 <= size; at += 8) {
		uint64_t word = silt_heap_u64(bytes + at), addr = start + at;

		if (word != addr - 16 || silt_heap_u64(bytes + at + 8) != addr - 16)
			continue;
		for (size_t i = 0; i < SILT_ARRAY_LEN(layouts); i++) {
			silt_addr arena = addr - layouts[i].bins - 16 * (SILT_GLIBC_BINS - 1);

			if (arena % 16 == 0 && ring_holds(h, arena, &layouts[i]) && sums_hold(h, arena, &layouts[i]) &&
			    bins_hold(h, arena, &layouts[i]))
				add_glibc(h, s->m, arena, &layouts[i]);
		}
	}
}

static bool all_zero(const uint8_t *p, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (p[i])
			return false;
	return true;
}

/* malloc was never called: main_arena as the compiler wrote it, { .next = &main_arena, .attached_threads = 1 }. */
static void look_at_unused(void *data, const uint8_t *bytes, size_t size, silt_addr start)
{
	const struct search *s = data;

	for (size_t at = 0; at + 8 <= size; at += 8) {
		uint64_t word = silt_heap_u64(bytes + at);

		for (size_t i = 0; i < SILT_ARRAY_LEN(layouts); i++) {
			const struct silt_glibc_layout *l = &layouts[i];
			const uint8_t *p;

			if (word != start + at - l->next || at < l->next || size - at < l->size - l->next)
				continue;
			p = bytes + (at - l->next);
			if (all_zero(p, l->next) && silt_heap_u64(p + l->attached) == 1 &&
			    all_zero(p + l->system_mem, 16))
				add_glibc(s->h, s->m, word, l);
		}
	}
}

static bool looks_like_libc(const struct silt_target_module *m)
{
	const char *name = strrchr(m->path, '/');

	name = name ? name + 1 : m->path;
	return !strncmp(name, "libc.so", 7) || !strncmp(name, "libc-2.", 7);
}

void silt_glibc_find(struct silt_heap *h)
{
	const struct silt_target_modules *modules = h->target.modules;

	for (uint32_t i = 0; i < modules->count; i++)
		each_region(h, &modules->list[i], PROT_READ | PROT_WRITE, DATA_MAX, look_at,
			    &(struct search){ h, &modules->list[i] });
	for (uint32_t i = 0; i < modules->count && !h->glibcs.count; i++)
		if (looks_like_libc(&modules->list[i]))
			each_region(h, &modules->list[i], PROT_READ | PROT_WRITE, DATA_MAX, look_at_unused,
				    &(struct search){ h, &modules->list[i] });
}

void silt_glibc_destroy(struct silt_glibc *g)
{
	silt_vec_free(&g->arenas);
	silt_vec_free(&g->data);
	silt_vec_free(&g->mapped_seen);
	free(g);
}
