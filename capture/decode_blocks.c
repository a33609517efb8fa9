/* SPDX-License-Identifier: MIT */
/* Walking the live table of a trace database in the order of addresses. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "capture/decode_internal.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define PAGE_SLOTS SILT_DECODE_PAGE_SLOTS
#define PARALLEL_MIN 262144u /* entries from which on a second thread takes a half of them */

struct extra { /* a block from outside the page directory */
	silt_addr addr;
	uint64_t size;
	uint32_t context;
	bool heap;
};

struct walk {
	struct silt_decode *d;
	const struct silt_decode_part *parts;
	size_t part_count;
	SILT_VEC(struct extra) extras; /* sorted */
	size_t extra_next;
	const struct silt_db_side *side; /* NULL: none */
	bool only_pools;                 /* first of two walks: pool blocks are gathered as extras */
	bool no_memory;
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

static uint32_t context_kind(const struct silt_decode *d, uint32_t context)
{
	return context < d->context_count ? d->kinds[context] : SILT_KIND_HEAP;
}

static bool add_extra(struct walk *w, silt_addr addr, uint64_t size, uint32_t context)
{
	struct extra x = { addr, size, context, context_kind(w->d, context) == SILT_KIND_HEAP };

	return silt_vec_push(&w->extras, x);
}

/* A pool block in the live table stands under another address than its own. When it is huge, the side table holds its size
 * under that address too. */
static void add_pool(struct walk *w, silt_addr addr, uint64_t size, uint32_t context)
{
	bool huge = size == SILT_DB_SIZE_HUGE;

	for (uint32_t i = 0; huge && w->side && (i = silt_decode_side_next(w->d, i)) < SILT_DB_SIDE_ENTRIES; i++) {
		if (w->side[i].key != addr)
			continue;
		size = w->side[i].size;
		huge = false;
	}
	if (huge)
		w->d->unknown_sizes++;
	w->no_memory |= !add_extra(w, addr ^ SILT_DB_POOL_BIT, size, context);
}

/* True for the side table's record of a huge pool block, which add_pool has used. */
static bool is_pool_size(const struct silt_decode *d, const struct silt_db_side *s)
{
	return !s->mapping && !(s->key & 7) && s->size >= SILT_DB_SIZE_HUGE &&
	       context_kind(d, s->context) == SILT_KIND_POOL;
}

/* The side table, and blocks that a realloc in flight has set aside. */
static bool collect_side(struct walk *w)
{
	struct silt_decode *d = w->d;
	const struct silt_db_thread *threads = NULL;
	bool ok = true;

	if (d->db->side_ref)
		w->side = silt_decode_at(d, d->db->side_ref, SILT_DB_SIDE_ENTRIES * sizeof(*w->side));
	if (d->db->thread_ref && d->thread_count)
		threads = silt_decode_at(d, d->db->thread_ref, d->thread_count * sizeof(*threads));
	for (uint32_t i = 0; w->side && ok && (i = silt_decode_side_next(d, i)) < SILT_DB_SIDE_ENTRIES; i++) {
		const struct silt_db_side *s = &w->side[i];

		if (s->key > 1 && !(s->key & SILT_DB_SIDE_BUSY) && !is_pool_size(d, s))
			ok = add_extra(w, s->key, s->size, s->context);
	}
	for (uint32_t i = 0; threads && ok && i < d->thread_count; i++)
		if (threads[i].aside_context && threads[i].aside_addr > 1)
			ok = add_extra(w, threads[i].aside_addr, threads[i].aside_size, threads[i].aside_context);
	return ok;
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
		/* A block of this size was sampled with probability 1 - exp(-size/T): it stands for the reciprocal. Mappings are
		 * all there. */
		bool sampled = context_kind(d, context) != SILT_KIND_MMAP;
		double weight = !sampled ? 1 : -1.0 / expm1(-(double)(size ? size : 1) / (double)d->options.sample_bytes);

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
	while (w->extra_next < w->extras.count && w->extras.items[w->extra_next].addr < addr) {
		const struct extra *x = &w->extras.items[w->extra_next++];

		emit(w, x->addr, x->size, x->context);
	}
}

/* The rare case: something outside the directory has the same address as an entry. A heap record there is the entry's own
 * (its size when huge, or a realloc just finishing); a mapping or a pool block is a block of its own. */
static uint64_t meet_extra(struct walk *w, silt_addr addr, uint64_t size, bool huge)
{
	const struct extra *x = &w->extras.items[w->extra_next];

	while (w->extra_next < w->extras.count && x->addr == addr && x->heap) {
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

	if (UNLIKELY(w->d->has_pools)) {
		bool pool = context_kind(w->d, SILT_DB_ENTRY_CONTEXT(entry)) == SILT_KIND_POOL;

		if (pool && w->only_pools)
			add_pool(w, addr, size, SILT_DB_ENTRY_CONTEXT(entry));
		if (pool || w->only_pools)
			return;
	}
	if (w->extra_next < w->extras.count && w->extras.items[w->extra_next].addr <= addr) {
		emit_extras_below(w, addr);
		size = meet_extra(w, addr, size, huge);
	} else if (huge) {
		w->d->unknown_sizes++;
	}
	emit(w, addr, size, SILT_DB_ENTRY_CONTEXT(entry));
}

/* Notes an entry in its place: sorting inside a page by counting. */
static inline void note_entry(struct walk *w, uint64_t word)
{
	uint64_t e = word & ~SILT_DB_ENTRY_FROZEN;
	uint32_t slot = e & (PAGE_SLOTS - 1);
	uint64_t bit = 1ull << (slot & 63);

	if (e <= SILT_DB_ENTRY_TOMB)
		return;
	if (w->present[slot >> 6] & bit)
		w->d->duplicates++;
	w->present[slot >> 6] |= bit;
	w->slots[slot] = e;
}

/* None of eight entries is in use: of a program that ends most are not. */
static inline bool all_free(const uint64_t *e)
{
	return !((e[0] | e[1] | e[2] | e[3] | e[4] | e[5] | e[6] | e[7]) & ~(SILT_DB_ENTRY_FROZEN | SILT_DB_ENTRY_TOMB));
}

static void walk_chunk(struct walk *w, silt_addr page, const uint64_t *chunk, uint32_t capacity)
{
	bool any = false;

	for (uint32_t i = 0; i < capacity; i += 8) {
		uint32_t end = capacity - i < 8 ? capacity : i + 8;

		if (end == i + 8 && all_free(&chunk[i]))
			continue;
		any = true;
		for (uint32_t k = i; k < end; k++)
			note_entry(w, chunk[k]);
	}
	if (!any)
		return;
	for (uint32_t i = 0; i < PAGE_SLOTS / 64; i++) {
		for (uint64_t bits = w->present[i]; bits; bits &= bits - 1)
			emit_entry(w, page, w->slots[i * 64 + (uint32_t)__builtin_ctzll(bits)]);
		w->present[i] = 0;
	}
}

int silt_decode_spend(struct silt_decode *d, uint64_t bytes, struct silt_error *err)
{
	if (bytes > d->budget)
		return silt_error_set(err, SILT_E_BAD_DATA,
				      "the trace database is damaged: its live table refers to the same memory again and again");
	d->budget -= bytes;
	return 0;
}

static int walk_part(struct walk *w, const struct silt_decode_part *part, struct silt_error *err)
{
	struct silt_decode *d = w->d;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < SILT_DECODE_PART_PAGES; i++) {
		uint64_t word = part->words[i];
		silt_addr page = part->base + (silt_addr)i * 4096;
		uint32_t capacity = SILT_DB_PAGE_CAPACITY(word);
		const uint64_t *chunk;

		if (!word)
			continue;
		if (!(word & SILT_DB_PAGE_CHUNK)) {
			if (word > SILT_DB_ENTRY_TOMB)
				emit_entry(w, page, word);
			continue;
		}
		rc = silt_decode_spend(d, capacity * sizeof(*chunk), err);
		chunk = silt_decode_at(d, SILT_DB_PAGE_REF(word), capacity * sizeof(*chunk));
		if (!rc && chunk)
			walk_chunk(w, page, chunk, capacity);
	}
	return rc;
}

static int walk_parts(struct walk *w, struct silt_error *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < w->part_count; i++)
		rc = walk_part(w, &w->parts[i], err);
	return rc;
}

/* Everything that is a block but not where its address would put it. */
static int collect_extras(struct walk *w, struct silt_error *err)
{
	struct silt_decode *d = w->d;
	uint64_t budget = d->budget, duplicates = d->duplicates, bad_refs = d->bad_refs;
	bool ok = collect_side(w);
	int rc = 0;

	if (ok && d->has_pools) {
		w->only_pools = true;
		rc = walk_parts(w, err);
		w->only_pools = false;
		d->budget = budget;
		d->duplicates = duplicates;
		d->bad_refs = bad_refs;
	}
	if (!ok || w->no_memory)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the side table");
	if (w->extras.count)
		qsort(w->extras.items, w->extras.count, sizeof(*w->extras.items), compare_extras);
	return rc;
}

/* The half of a walk that another thread makes, with counters of its own. */
struct half {
	struct walk walk;
	struct silt_decode d;
	struct silt_error err;
	int rc;
};

static void half_free(struct half *h)
{
	free(h->d.sums);
	free(h->d.estimates);
	free(h);
}

/* Takes w's parts from number `first` on away from it, with the extras that lie there and the columns behind `room` blocks. NULL: no
 * memory, w is as before. */
static struct half *half_take(struct walk *w, size_t first, uint64_t room)
{
	struct half *h = calloc(1, sizeof(*h));
	struct silt_decode *d = w->d;
	size_t contexts = (size_t)d->context_count + 1;

	if (!h)
		return NULL;
	h->walk = *w;
	h->d = *d;
	h->walk.d = &h->d;
	h->d.sums = calloc(contexts, sizeof(*h->d.sums));
	h->d.estimates = d->estimates ? calloc(contexts, sizeof(*h->d.estimates)) : NULL;
	h->d.bad_refs = h->d.bad_contexts = h->d.duplicates = h->d.unknown_sizes = 0;
	if (!h->d.sums || (d->estimates && !h->d.estimates)) {
		half_free(h);
		return NULL;
	}
	h->walk.parts += first;
	h->walk.part_count -= first;
	w->part_count = first;
	while (h->walk.extra_next < w->extras.count && w->extras.items[h->walk.extra_next].addr < h->walk.parts->base)
		h->walk.extra_next++;
	w->extras.count = h->walk.extra_next;
	room += w->extras.count;
	if (w->addr) {
		h->walk.addr += room;
		h->walk.size += room;
		h->walk.context += room;
		h->walk.capacity -= room;
		w->capacity = room;
	}
	return h;
}

static void *half_walk(void *arg)
{
	struct half *h = arg;

	h->rc = walk_parts(&h->walk, &h->err);
	if (!h->rc)
		emit_extras_below(&h->walk, UINT64_MAX);
	return NULL;
}

/* What a walk has put into its columns: in a damaged database it may have met more. */
static uint64_t in_columns(const struct walk *w)
{
	return w->count < w->capacity ? w->count : w->capacity;
}

static void half_add(struct walk *w, const struct half *h)
{
	struct silt_decode *d = w->d;
	uint64_t n = in_columns(&h->walk);

	for (size_t i = 0; i <= d->context_count; i++) {
		d->sums[i].live_count += h->d.sums[i].live_count;
		d->sums[i].live_bytes += h->d.sums[i].live_bytes;
		if (d->estimates) {
			d->estimates[i].count += h->d.estimates[i].count;
			d->estimates[i].bytes += h->d.estimates[i].bytes;
		}
	}
	d->bad_refs += h->d.bad_refs;
	d->bad_contexts += h->d.bad_contexts;
	d->duplicates += h->d.duplicates;
	d->unknown_sizes += h->d.unknown_sizes;
	w->count = in_columns(w);
	if (w->addr) {
		memmove(w->addr + w->count, h->walk.addr, n * sizeof(*w->addr));
		memmove(w->size + w->count, h->walk.size, n * sizeof(*w->size));
		memmove(w->context + w->count, h->walk.context, n * sizeof(*w->context));
	}
	w->count += n;
	w->capacity += h->walk.capacity;
}

/* Walks all parts and extras; entries: of all parts. */
static int walk_all(struct walk *w, uint64_t entries, struct silt_error *err)
{
	struct half *h = NULL;
	pthread_t thread;
	bool beside;
	int rc;

	if (entries >= PARALLEL_MIN && w->part_count > 1) {
		uint64_t room = 0;
		size_t first = 0;

		while (first < w->part_count - 1 && (room < entries / 2 || !first))
			room += w->parts[first++].entries;
		h = half_take(w, first, room);
	}
	beside = h && !pthread_create(&thread, NULL, half_walk, h);
	rc = walk_parts(w, err);
	if (!rc)
		emit_extras_below(w, UINT64_MAX);
	if (!h)
		return rc;
	if (beside)
		pthread_join(thread, NULL);
	else
		half_walk(h);
	if (!rc && h->rc) {
		*err = h->err;
		rc = h->rc;
	}
	if (!rc)
		half_add(w, h);
	half_free(h);
	return rc;
}

static int take_columns(struct walk *w, uint64_t entries, struct silt_error *err)
{
	struct silt_snapshot *s = w->d->s;

	w->capacity = entries + w->extras.count;
	w->addr = silt_snapshot_array(s, w->capacity, sizeof(*w->addr));
	w->size = silt_snapshot_array(s, w->capacity, sizeof(*w->size));
	w->context = silt_snapshot_array(s, w->capacity, sizeof(*w->context));
	if (w->addr && w->size && w->context)
		return 0;
	return silt_error_set(err, SILT_E_NOMEM, "out of memory for %llu blocks", (unsigned long long)w->capacity);
}

int silt_decode_blocks(struct silt_decode *d, bool with_blocks, struct silt_error *err)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct silt_decode_parts parts = { .list = { 0 } };
	uint64_t entries = 0;
	int rc;

	if (!w)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	w->d = d;
	rc = silt_decode_list_parts(d, &parts, err);
	for (size_t i = 0; i < parts.list.count; i++)
		entries += parts.list.items[i].entries;
	w->parts = parts.list.items;
	w->part_count = parts.list.count;
	if (!rc)
		rc = collect_extras(w, err);
	if (!rc && with_blocks)
		rc = take_columns(w, entries, err);
	if (!rc)
		rc = walk_all(w, entries, err);
	if (!rc && with_blocks) {
		d->s->blocks.count = in_columns(w);
		d->s->blocks.addr = w->addr;
		d->s->blocks.size = w->size;
		d->s->blocks.context = w->context;
	}
	d->s->has_blocks = with_blocks;
	silt_vec_free(&w->extras);
	silt_vec_free(&parts.list);
	free(w);
	return rc;
}
