/* SPDX-License-Identifier: MIT */
/* Finding malloc_par (mp_) of glibc: the structure in libc's data whose fields make sense, with most of them at the values
 * they have in every process, and the start of the heap among them. */
#include "capture/heap/glibc.h"

/* malloc_par of 2.26 to 2.34, 2.35 to 2.42 (thp_pagesize and hp_pagesize came), 2.43 (thp_mode came). */
static const struct silt_glibc_par_layout layouts[] = {
	{ 0x28, 0x2c, 0x30, 0x34, 0x38, 0x40, 0x48, 0x50, true },
	{ 0x3c, 0x40, 0x44, 0x48, 0x50, 0x58, 0x60, 0x68, true },
	{ 0x44, 0x48, 0x4c, 0x50, 0x58, 0x60, 0x68, 0x70, false },
};

#define PAR_SCORE_MIN 6 /* of 14: mallopt may have changed some fields */

struct search {
	struct silt_glibc *g;
	silt_addr main_start;
	unsigned best;
};

/* How many fields have the value they have in most processes; 0: it cannot be. */
static unsigned score(const uint8_t *p, const struct silt_glibc_par_layout *l, silt_addr main_start)
{
	uint64_t trim = silt_heap_u64(p), top_pad = silt_heap_u64(p + 8), threshold = silt_heap_u64(p + 0x10);
	uint64_t arena_test = silt_heap_u64(p + 0x18), arena_max = silt_heap_u64(p + 0x20);
	uint64_t mapped = silt_heap_u64(p + l->mmapped_mem), max_mapped = silt_heap_u64(p + l->max_mmapped_mem);
	uint64_t sbrk_base = silt_heap_u64(p + l->sbrk_base), tcache_bins = silt_heap_u64(p + l->tcache_bins);
	uint64_t tcache_max = silt_heap_u64(p + l->tcache_bins + 8), tcache_count = silt_heap_u64(p + l->tcache_bins + 16);
	uint32_t n = silt_heap_u32(p + l->n_mmaps), n_max = silt_heap_u32(p + l->n_mmaps_max);
	uint32_t max_n = silt_heap_u32(p + l->max_n_mmaps), fixed = silt_heap_u32(p + l->no_dyn_threshold);

	if (fixed > 1 || n > max_n || mapped > max_mapped || (l->exact && (mapped % SILT_HEAP_PAGE || !n != !mapped)) ||
	    tcache_bins > 4096 || max_n > 1u << 30 || arena_max > 1u << 24)
		return 0;
	return (unsigned)(trim == 0x20000 || trim == 2 * threshold) + (top_pad == 0x20000) + (threshold == 0x20000) +
	       (arena_test == 8) + (n_max == 65536) + 2 * (tcache_bins == 64) + (tcache_max == 0x408) +
	       (tcache_count == 7 || tcache_count == 16) + 4 * (main_start && sbrk_base && main_start - sbrk_base < 16);
}

static void look(void *data, const uint8_t *bytes, size_t size, silt_addr start)
{
	struct search *s = data;

	for (size_t at = 0; at + 0x90 <= size; at += 8)
		for (size_t i = 0; i < SILT_ARRAY_LEN(layouts); i++) {
			unsigned n = score(bytes + at, &layouts[i], s->main_start);

			if (n <= s->best)
				continue;
			s->best = n;
			s->g->par = start + at;
			s->g->par_layout = &layouts[i];
		}
}

void silt_glibc_find_par(struct silt_heap *h, struct silt_glibc *g, silt_addr main_start)
{
	struct search s = { .g = g, .main_start = main_start, .best = PAR_SCORE_MIN - 1 };

	g->par = 0;
	for (size_t i = 0; i < g->data.count; i++)
		silt_glibc_each_piece(h, g->data.items[i].start, g->data.items[i].end, UINT64_MAX, look, &s);
}
