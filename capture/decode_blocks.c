/* SPDX-License-Identifier: MIT */
/* Walking the live table of a trace database in the order of addresses. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "capture/decode_internal.h"

#define PAGE_SLOTS 512u /* addresses a page's entries can name: 4096 / 8 */

struct extra { /* a block from outside the page directory */
	silt_addr addr;
	uint64_t size;
	uint32_t context;
	bool heap;
};

struct walk {
	struct silt_decode *d;
	struct extra *extras; /* sorted */
	uint32_t extra_count, extra_next;
	uint64_t slots[PAGE_SLOTS]; /* entries of the page at hand by their offset; valid where `present` says so */
	uint64_t present[PAGE_SLOTS / 64];
	uint64_t count, capacity;
	silt_addr *addr;
	uint64_t *size;
	uint32_t *context;
};

static int compare_extras(const void *a, const void *b)
{
	const struct extra *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return (int)y->heap - (int)x->heap; /* heap first: it may hold the size of an entry */
}

static bool context_is_heap(struct silt_decode *d, uint32_t context)
{
	const struct silt_db_context *c;

	if (!context || context >= d->context_count)
		return true;
	c = silt_decode_at(d, d->db->context_segs[context / SILT_DB_CONTEXT_SEG],
			   SILT_DB_CONTEXT_SEG * sizeof(struct silt_db_context));
	return !c || SILT_DB_CONTEXT_KIND(c[context % SILT_DB_CONTEXT_SEG].flags) == SILT_KIND_HEAP;
}

static void add_extra(struct walk *w, silt_addr addr, uint64_t size, uint32_t context)
{
	w->extras[w->extra_count++] = (struct extra){ addr, size, context, context_is_heap(w->d, context) };
}

/* The side table, and blocks that a realloc in flight has set aside. */
static int collect_extras(struct walk *w, struct silt_error *err)
{
	struct silt_decode *d = w->d;
	const struct silt_db_side *side = NULL;
	const struct silt_db_thread *threads = NULL;

	if (d->db->side_ref)
		side = silt_decode_at(d, d->db->side_ref, SILT_DB_SIDE_ENTRIES * sizeof(*side));
	if (d->db->thread_ref && d->thread_count)
		threads = silt_decode_at(d, d->db->thread_ref, d->thread_count * sizeof(*threads));
	w->extras = calloc(SILT_DB_SIDE_ENTRIES + d->thread_count + 1, sizeof(*w->extras));
	if (!w->extras)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the side table");
	for (uint32_t i = 0; side && i < SILT_DB_SIDE_ENTRIES; i++)
		if (side[i].key > 1 && !(side[i].key & SILT_DB_SIDE_BUSY))
			add_extra(w, side[i].key, side[i].size, side[i].context);
	for (uint32_t i = 0; threads && i < d->thread_count; i++)
		if (threads[i].aside_context && threads[i].aside_addr > 1)
			add_extra(w, threads[i].aside_addr, threads[i].aside_size, threads[i].aside_context);
	qsort(w->extras, w->extra_count, sizeof(*w->extras), compare_extras);
	return 0;
}

static void emit(struct walk *w, silt_addr addr, uint64_t size, uint32_t context)
{
	struct silt_decode *d = w->d;

	if (context >= d->context_count || !context) {
		d->bad_contexts++;
		context = d->context_count;
	}
	d->sums[context].live_count++;
	d->sums[context].live_bytes += size;
	if (d->estimates) {
		/* A block of this size was sampled with probability 1 - exp(-size/T): it stands for the reciprocal. */
		double weight = -1.0 / expm1(-(double)(size ? size : 1) / (double)d->options.sample_bytes);

		d->estimates[context].count += weight;
		d->estimates[context].bytes += weight * (double)size;
	}
	if (w->addr && w->count < w->capacity) {
		w->addr[w->count] = addr;
		w->size[w->count] = size;
		w->context[w->count] = context;
	}
	w->count++;
}

static void emit_extras_below(struct walk *w, silt_addr addr)
{
	while (w->extra_next < w->extra_count && w->extras[w->extra_next].addr < addr) {
		const struct extra *x = &w->extras[w->extra_next++];

		emit(w, x->addr, x->size, x->context);
	}
}

/* The rare case: something outside the directory has the same address as an entry. A heap record there is the entry's own
 * (its size when huge, or a realloc just finishing); a mapping or a pool block is a block of its own. */
static uint64_t meet_extra(struct walk *w, silt_addr addr, uint64_t size, bool huge)
{
	const struct extra *x = &w->extras[w->extra_next];

	while (w->extra_next < w->extra_count && x->addr == addr && x->heap) {
		if (huge)
			size = x->size;
		else
			w->d->duplicates++;
		huge = false;
		w->extra_next++;
		x++;
	}
	if (huge)
		w->d->unknown_sizes++;
	return size;
}

static inline void emit_entry(struct walk *w, silt_addr page, uint64_t entry)
{
	silt_addr addr = page + SILT_DB_ENTRY_OFFSET(entry);
	uint64_t size = SILT_DB_ENTRY_SIZE(entry);
	bool huge = size == SILT_DB_SIZE_HUGE;

	if (w->extra_next < w->extra_count && w->extras[w->extra_next].addr <= addr) {
		emit_extras_below(w, addr);
		size = meet_extra(w, addr, size, huge);
	} else if (huge) {
		w->d->unknown_sizes++;
	}
	emit(w, addr, size, SILT_DB_ENTRY_CONTEXT(entry));
}

/* Sorting inside a page by counting: an entry's offset is its place. */
static void walk_chunk(struct walk *w, silt_addr page, const uint64_t *chunk, uint32_t capacity)
{
	for (uint32_t i = 0; i < capacity; i++) {
		uint64_t e = chunk[i] & ~SILT_DB_ENTRY_FROZEN;
		uint32_t slot = e & (PAGE_SLOTS - 1);
		uint64_t bit = 1ull << (slot & 63);

		if (e <= SILT_DB_ENTRY_TOMB)
			continue;
		if (w->present[slot >> 6] & bit)
			w->d->duplicates++;
		w->present[slot >> 6] |= bit;
		w->slots[slot] = e;
	}
	for (uint32_t i = 0; i < PAGE_SLOTS / 64; i++) {
		for (uint64_t bits = w->present[i]; bits; bits &= bits - 1)
			emit_entry(w, page, w->slots[i * 64 + (uint32_t)__builtin_ctzll(bits)]);
		w->present[i] = 0;
	}
}

static int spend(struct silt_decode *d, uint64_t bytes, struct silt_error *err)
{
	if (bytes > d->budget)
		return silt_error_set(err, SILT_E_BAD_DATA,
				      "the trace database is damaged: its live table refers to the same memory again and again");
	d->budget -= bytes;
	return 0;
}

static int walk_leaf(struct walk *w, silt_addr base, const uint64_t *leaf, struct silt_error *err)
{
	struct silt_decode *d = w->d;
	int rc = spend(d, SILT_DB_LEAF_PAGES * sizeof(*leaf), err);

	for (uint32_t i = 0; !rc && i < SILT_DB_LEAF_PAGES; i++) {
		uint64_t word = leaf[i];
		silt_addr page = base + (silt_addr)i * 4096;
		uint32_t capacity = SILT_DB_PAGE_CAPACITY(word);
		const uint64_t *chunk;

		if (!word)
			continue;
		if (!(word & SILT_DB_PAGE_CHUNK)) {
			if (word > SILT_DB_ENTRY_TOMB)
				emit_entry(w, page, word);
			continue;
		}
		rc = spend(d, capacity * sizeof(*chunk), err);
		chunk = silt_decode_at(d, SILT_DB_PAGE_REF(word), capacity * sizeof(*chunk));
		if (!rc && chunk)
			walk_chunk(w, page, chunk, capacity);
	}
	return rc;
}

static int walk_root(struct walk *w, struct silt_error *err)
{
	struct silt_decode *d = w->d;
	const uint32_t *root = NULL;
	int rc = 0;

	if (d->db->root_ref)
		root = silt_decode_at(d, d->db->root_ref, SILT_DB_ROOT_ENTRIES * sizeof(*root));
	for (uint32_t i = 0; root && !rc && i < SILT_DB_ROOT_ENTRIES; i++) {
		const uint64_t *leaf;

		if (!root[i])
			continue;
		leaf = silt_decode_at(d, root[i], SILT_DB_LEAF_PAGES * sizeof(*leaf));
		if (leaf)
			rc = walk_leaf(w, (silt_addr)i << 30, leaf, err);
	}
	if (!rc)
		emit_extras_below(w, UINT64_MAX);
	return rc;
}

/* How many entries there can be at most: the columns are taken at this size. */
static uint64_t count_entries(struct silt_decode *d)
{
	const uint32_t *root = NULL;
	uint64_t count = 0, budget = d->budget;

	if (d->db->root_ref)
		root = silt_decode_at(d, d->db->root_ref, SILT_DB_ROOT_ENTRIES * sizeof(*root));
	for (uint32_t i = 0; root && i < SILT_DB_ROOT_ENTRIES; i++) {
		const uint64_t *leaf = root[i] ? silt_decode_at(d, root[i], SILT_DB_LEAF_PAGES * sizeof(*leaf)) : NULL;

		if (!leaf || budget < SILT_DB_LEAF_PAGES * sizeof(*leaf))
			continue;
		budget -= SILT_DB_LEAF_PAGES * sizeof(*leaf);
		for (uint32_t j = 0; j < SILT_DB_LEAF_PAGES; j++) {
			uint32_t capacity = SILT_DB_PAGE_CAPACITY(leaf[j]);

			if (!leaf[j])
				continue;
			/* A page names no more than PAGE_SLOTS addresses, whatever its chunk's capacity. */
			count += !(leaf[j] & SILT_DB_PAGE_CHUNK) ? 1 : capacity < PAGE_SLOTS ? capacity : PAGE_SLOTS;
		}
	}
	return count;
}

int silt_decode_blocks(struct silt_decode *d, bool with_blocks, struct silt_error *err)
{
	struct walk *w = calloc(1, sizeof(*w));
	int rc;

	if (!w)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	w->d = d;
	rc = collect_extras(w, err);
	if (!rc && with_blocks) {
		w->capacity = count_entries(d) + w->extra_count;
		w->addr = silt_snapshot_array(d->s, w->capacity, sizeof(*w->addr));
		w->size = silt_snapshot_array(d->s, w->capacity, sizeof(*w->size));
		w->context = silt_snapshot_array(d->s, w->capacity, sizeof(*w->context));
		if (!w->addr || !w->size || !w->context)
			rc = silt_error_set(err, SILT_E_NOMEM, "out of memory for %llu blocks",
					    (unsigned long long)w->capacity);
	}
	if (!rc)
		rc = walk_root(w, err);
	if (!rc && with_blocks) {
		d->s->blocks.count = w->count < w->capacity ? w->count : w->capacity;
		d->s->blocks.addr = w->addr;
		d->s->blocks.size = w->size;
		d->s->blocks.context = w->context;
	}
	d->s->has_blocks = with_blocks;
	free(w->extras);
	free(w);
	return rc;
}
