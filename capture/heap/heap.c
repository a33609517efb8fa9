/* SPDX-License-Identifier: MIT */
/* Opening a target's heaps, planning a walk, and handing the blocks out in order. */
#include "capture/heap/heap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "capture/heap/glibc_links.h"
#include "capture/heap/heap_internal.h"

#define PROBLEMS_MAX 64u
#define AHEAD_FROM (2ull << 20)   /* bytes of heap: for less a second thread is not worth its start */
#define GUESS_CHUNKS 20000u	  /* chunks looked at, some milliseconds of reading at most */
#define RESYNC_TRIES (4ull << 20) /* chains tried in one walk, whatever the memory holds */

/* ---- what the walkers share ---- */

void silt_heap_problem_add(struct silt_heap *h, const char *fmt, ...)
{
	char text[400], *copy;
	va_list ap;

	if (h->problems.count >= PROBLEMS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	copy = strdup(text);
	if (!copy || !silt_vec_push(&h->problems, copy)) {
		free(copy);
		h->no_memory = true;
	}
}

uint32_t silt_heap_info_add(struct silt_heap *h, enum silt_heap_kind kind, silt_addr addr)
{
	struct silt_heap_info info = { .kind = kind, .addr = addr };

	if (!silt_vec_push(&h->infos, info)) {
		h->no_memory = true;
		return SILT_NONE;
	}
	return (uint32_t)h->infos.count - 1;
}

const struct silt_region *silt_heap_region(const struct silt_heap *h, silt_addr addr)
{
	const struct silt_maps *maps = h->target.maps;
	uint32_t low = 0, high = maps->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (maps->regions[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < maps->count && maps->regions[low].start <= addr ? &maps->regions[low] : NULL;
}

static int compare_extents(const void *a, const void *b)
{
	const struct silt_heap_extent *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

void silt_heap_extents_sort(struct silt_heap *h)
{
	silt_addr reach = 0;
	size_t kept = 0;

	if (!h->extents.count)
		return;
	qsort(h->extents.items, h->extents.count, sizeof(*h->extents.items), compare_extents);
	for (size_t i = 0; i < h->extents.count; i++) {
		struct silt_heap_extent e = h->extents.items[i];

		if (e.start < reach) {
			silt_heap_problem_add(h, "two heaps claim the memory at 0x%llx: the second was left out",
					      (unsigned long long)e.start);
			continue;
		}
		reach = e.end;
		h->extents.items[kept++] = e;
	}
	h->extents.count = kept;
}

const struct silt_heap_extent *silt_heap_extent_at(const struct silt_heap *h, silt_addr addr)
{
	size_t low = 0, high = h->extents.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (h->extents.items[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < h->extents.count && h->extents.items[low].start <= addr ? &h->extents.items[low] : NULL;
}

const struct silt_heap_single *silt_heap_single_at(const struct silt_heap *h, silt_addr addr)
{
	size_t low = 0, high = h->singles.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (h->singles.items[middle].addr < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < h->singles.count && h->singles.items[low].addr == addr ? &h->singles.items[low] : NULL;
}

/* ---- opening ---- */

int silt_heap_open(const struct silt_heap_target *target, struct silt_heap **ret, struct silt_error *err)
{
	struct silt_heap *h = calloc(1, sizeof(*h));

	if (!h || !silt_heap_memory_init(&h->mem, &target->reader)) {
		free(h);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for walking the heap");
	}
	h->target = *target;
	silt_glibc_find(h);
	silt_musl_find(h);
	silt_heap_find_others(h);
	h->problems_found = (uint32_t)h->problems.count;
	if (h->no_memory) {
		silt_heap_destroy(h);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for walking the heap");
	}
	*ret = h;
	return 0;
}

void silt_heap_problems_drop(struct silt_heap *h, size_t keep)
{
	while (h->problems.count > keep)
		free(h->problems.items[--h->problems.count]);
}

void silt_heap_destroy(struct silt_heap *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->glibcs.count; i++)
		silt_glibc_destroy(h->glibcs.items[i]);
	for (size_t i = 0; i < h->musls.count; i++)
		silt_musl_destroy(h->musls.items[i]);
	silt_heap_problems_drop(h, 0);
	silt_vec_free(&h->problems);
	silt_vec_free(&h->glibcs);
	silt_vec_free(&h->musls);
	silt_vec_free(&h->code);
	silt_vec_free(&h->infos);
	silt_vec_free(&h->extents);
	silt_vec_free(&h->singles);
	silt_vec_free(&h->free);
	silt_vec_free(&h->stretches);
	silt_vec_free(&h->others);
	silt_heap_memory_deinit(&h->mem);
	free(h);
}

bool silt_heap_busy(struct silt_heap *h, const struct silt_heap_thread *threads, uint32_t thread_count)
{
	bool busy = false;

	silt_heap_memory_forget(&h->mem);
	for (size_t i = 0; i < h->glibcs.count && !busy; i++)
		busy = silt_glibc_busy(h, h->glibcs.items[i]);
	/* A process with one thread takes no locks. */
	for (uint32_t i = 0; threads && i < thread_count && !busy; i++)
		busy = silt_heap_in_allocator(h, threads[i].pc);
	silt_heap_problems_drop(h, h->problems_found);
	return busy;
}

/* ---- walking ---- */

static int compare_singles(const void *a, const void *b)
{
	const struct silt_heap_single *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Damage may have two structures claim one block. */
static void sort_singles(struct silt_heap *h)
{
	size_t kept = 0;

	if (h->singles.count)
		qsort(h->singles.items, h->singles.count, sizeof(*h->singles.items), compare_singles);
	for (size_t i = 0; i < h->singles.count; i++)
		if (!kept || h->singles.items[i].addr != h->singles.items[kept - 1].addr)
			h->singles.items[kept++] = h->singles.items[i];
	h->singles.count = kept;
}

static int compare_words(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The list's end is often in order already, and long. */
static bool sort_free(struct silt_heap *h)
{
	uint64_t *list = h->free.items, *head;
	size_t n = h->free.count, k = n, i = 0, at = 0;

	while (k > 1 && list[k - 2] <= list[k - 1])
		k--;
	if (k < 2)
		return true;
	k--; /* [k, n) is in order */
	head = malloc(k * sizeof(*head));
	if (!head)
		return false;
	memcpy(head, list, k * sizeof(*head));
	qsort(head, k, sizeof(*head), compare_words);
	for (size_t tail = k; i < k; at++)
		list[at] = tail < n && list[tail] < head[i] ? list[tail++] : head[i++];
	free(head);
	return true;
}

static void make_plan(struct silt_heap *h)
{
	for (size_t i = 0; i < h->glibcs.count; i++)
		silt_glibc_plan(h, h->glibcs.items[i]);
	silt_heap_extents_sort(h);
	for (size_t i = 0; i < h->glibcs.count; i++)
		silt_glibc_plan_mapped(h, h->glibcs.items[i]);
	for (size_t i = 0; i < h->musls.count; i++)
		silt_musl_plan(h, h->musls.items[i]);
	sort_singles(h);
	for (size_t i = 0; i < h->glibcs.count; i++)
		silt_glibc_plan_free(h, h->glibcs.items[i]);
	if (!sort_free(h))
		h->no_memory = true;
	h->block_bound = h->singles.count;
	for (size_t i = 0; i < h->extents.count; i++)
		h->block_bound += (h->extents.items[i].end - h->extents.items[i].start) / SILT_GLIBC_CHUNK_MIN;
}

/* The reader ahead is there for the whole of a walk. */
static struct silt_heap_ahead *reader_ahead(struct silt_heap *h)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < h->extents.count; i++)
		bytes += h->extents.items[i].end - h->extents.items[i].start;
	if (!h->ahead && h->mem.reader.any_thread && bytes >= AHEAD_FROM)
		h->ahead = silt_heap_ahead_create(&h->mem.reader);
	return h->ahead;
}

int silt_heap_flush(struct silt_heap_emitter *e)
{
	size_t count = e->count;

	e->count = 0;
	return count ? e->sink(e->data, e->batch, count) : 0;
}

int silt_heap_survey(struct silt_heap *h, silt_heap_sink sink, void *data)
{
	struct silt_heap_emitter out = { .sink = sink, .data = data };
	struct silt_heap_info *kept = malloc((h->infos.count + 1) * sizeof(*kept));
	struct silt_heap_window w = { 0 };
	size_t problems = h->problems.count;
	uint64_t budget = h->resync_budget;
	struct silt_glibc_links *links = h->links;
	int rc = 0;

	h->links = NULL;
	out.batch = malloc(SILT_HEAP_BATCH * sizeof(*out.batch));
	if (!out.batch || !kept || !silt_heap_window_init(&w, &h->mem, reader_ahead(h))) {
		rc = SILT_E_NOMEM;
	} else {
		memcpy(kept, h->infos.items, h->infos.count * sizeof(*kept));
		for (size_t i = 0; i < h->extents.count && !rc; i++)
			rc = silt_glibc_walk(h, &h->extents.items[i], &w, &out);
		if (!rc)
			rc = silt_heap_flush(&out);
		memcpy(h->infos.items, kept, h->infos.count * sizeof(*kept));
		silt_heap_problems_drop(h, problems);
		h->resync_budget = budget;
	}
	h->links = links;
	silt_heap_window_deinit(&w);
	free(out.batch);
	free(kept);
	return rc;
}

static int emit_single(struct silt_heap *h, const struct silt_heap_single *s, struct silt_heap_emitter *out)
{
	struct silt_heap_info *info = &h->infos.items[s->heap];
	uint64_t word = 0;
	unsigned why;

	if (silt_heap_is_free(out, s->addr, &why)) {
		info->cached_bytes += s->size;
		info->cached_count++;
		return 0;
	}
	if (s->size >= 8 && !silt_heap_memory_u64(&h->mem, s->addr, &word))
		word = 0;
	info->used_bytes += s->size;
	info->used_count++;
	return silt_heap_emit(out, s->addr, s->size, word, s->heap);
}

static int emit_all(struct silt_heap *h, struct silt_heap_window *w, struct silt_heap_emitter *out)
{
	size_t single = 0;
	int rc = 0;

	for (size_t i = 0; i < h->extents.count && !rc; i++) {
		const struct silt_heap_extent *e = &h->extents.items[i];

		while (!rc && single < h->singles.count && h->singles.items[single].addr < e->start)
			rc = emit_single(h, &h->singles.items[single++], out);
		if (!rc)
			rc = silt_glibc_walk(h, e, w, out);
	}
	while (!rc && single < h->singles.count)
		rc = emit_single(h, &h->singles.items[single++], out);
	return rc ? rc : silt_heap_flush(out);
}

static void begin(struct silt_heap *h, const struct silt_maps *maps, const struct silt_heap_thread *threads, uint32_t thread_count)
{
	silt_heap_memory_forget(&h->mem);
	silt_heap_problems_drop(h, h->problems_found);
	h->infos.count = h->extents.count = h->singles.count = h->free.count = 0;
	h->target.maps = maps;
	h->threads = threads;
	h->thread_count = threads ? thread_count : 0;
	h->resync_budget = RESYNC_TRIES;
}

/* What only one walk or plan needs. */
static int end(struct silt_heap *h, int rc, struct silt_error *err)
{
	silt_glibc_links_destroy(h->links);
	h->links = NULL;
	silt_heap_ahead_destroy(h->ahead);
	h->ahead = NULL;
	if (!h->no_memory)
		return rc;
	h->no_memory = false;
	return silt_error_set(err, SILT_E_NOMEM, "out of memory for walking the heap");
}

int silt_heap_walk(struct silt_heap *h, const struct silt_maps *maps, const struct silt_heap_thread *threads,
		   uint32_t thread_count, silt_heap_sink sink, void *data, struct silt_error *err)
{
	struct silt_heap_emitter out = { .sink = sink, .data = data };
	struct silt_heap_window w = { 0 };
	int rc = 0;

	begin(h, maps, threads, thread_count);
	out.batch = malloc(SILT_HEAP_BATCH * sizeof(*out.batch));
	if (!out.batch)
		h->no_memory = true;
	if (!h->no_memory)
		make_plan(h);
	if (!silt_heap_window_init(&w, &h->mem, reader_ahead(h)))
		h->no_memory = true;
	out.free = h->free.items;
	out.free_end = h->free.count ? h->free.items + h->free.count : h->free.items;
	if (!h->no_memory)
		rc = emit_all(h, &w, &out);
	if (!rc && !h->no_memory && h->links)
		rc = silt_glibc_finish(h, &out);
	silt_heap_window_deinit(&w);
	free(out.batch);
	return end(h, rc, err);
}

static int take_other(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct silt_heap *h = data;

	for (size_t i = 0; i < count; i++)
		if (!silt_vec_push(&h->others, blocks[i]))
			return SILT_E_NOMEM;
	return 0;
}

/* All mappings under it are the program's own and can be read by it, from its first to its last byte. */
static bool is_readable(const struct silt_heap *h, const struct silt_heap_extent *e)
{
	silt_addr at = e->start;

	while (at < e->end) {
		const struct silt_region *r = silt_heap_region(h, at);

		if (!r || !silt_heap_is_data(r))
			return false;
		at = r->end;
	}
	return true;
}

static bool list_plan(struct silt_heap *h)
{
	struct silt_heap_emitter out = { .sink = take_other, .data = h };
	bool fine = true;

	h->stretches.count = h->others.count = 0;
	for (size_t i = 0; i < h->extents.count && fine; i++) {
		const struct silt_heap_extent *e = &h->extents.items[i];

		fine = is_readable(h, e);
		if (fine && !silt_vec_push(&h->stretches, ((struct silt_heap_stretch){ e->start, e->end, e->top, e->main })))
			h->no_memory = true;
	}
	out.batch = malloc(SILT_HEAP_BATCH * sizeof(*out.batch));
	out.free = h->free.items;
	out.free_end = h->free.count ? h->free.items + h->free.count : h->free.items;
	for (size_t i = 0; i < h->singles.count && out.batch && !h->no_memory; i++)
		h->no_memory |= emit_single(h, &h->singles.items[i], &out) != 0;
	h->no_memory |= !out.batch || silt_heap_flush(&out);
	free(out.batch);
	return fine;
}

uint64_t silt_heap_block_guess(struct silt_heap *h, const struct silt_maps *maps)
{
	uint64_t left = GUESS_CHUNKS, blocks;

	begin(h, maps, NULL, 0);
	for (size_t i = 0; i < h->glibcs.count; i++)
		silt_glibc_plan(h, h->glibcs.items[i]);
	silt_heap_extents_sort(h);
	for (size_t i = 0; i < h->glibcs.count; i++) {
		silt_glibc_plan_mapped(h, h->glibcs.items[i]);
		if (h->glibcs.items[i]->mapped_missing) /* to be sure of it */
			silt_glibc_plan_mapped(h, h->glibcs.items[i]);
	}
	blocks = h->singles.count;
	for (size_t i = 0; i < h->extents.count && left; i++) {
		const struct silt_heap_extent *e = &h->extents.items[i];
		silt_addr end = e->top ? e->top : e->end, p = e->start;
		uint64_t share = left / (h->extents.count - i), n = 0, word;

		while (n < share && p < end && silt_heap_memory_u64(&h->mem, p + 8, &word)) {
			uint64_t size = word & ~15ull;

			if (size < SILT_GLIBC_CHUNK_MIN || size > end - p)
				break;
			p += size;
			n++;
		}
		left -= n;
		if (p > e->start)
			blocks += (uint64_t)((double)(end - e->start) / (double)(p - e->start) * (double)n);
	}
	silt_heap_problems_drop(h, h->problems_found);
	return end(h, 0, NULL) ? 0 : blocks;
}

int silt_heap_plan(struct silt_heap *h, const struct silt_maps *maps, const struct silt_heap_thread *threads, uint32_t thread_count,
		   struct silt_heap_plan *ret, struct silt_error *err)
{
	int rc = 0;

	begin(h, maps, threads, thread_count);
	make_plan(h);
	if (!h->no_memory && (h->links || !list_plan(h)))
		rc = silt_error_set(err, SILT_E_UNSUPPORTED, "this heap must be walked from outside");
	*ret = (struct silt_heap_plan){ h->stretches.items, h->stretches.count, h->free.items,
					h->free.count,	     h->others.items,	  h->others.count };
	return end(h, rc, err);
}

/* ---- answers ---- */

uint32_t silt_heap_count(const struct silt_heap *h)
{
	return (uint32_t)h->infos.count;
}

const struct silt_heap_info *silt_heap_info(const struct silt_heap *h, uint32_t i)
{
	return i < h->infos.count ? &h->infos.items[i] : NULL;
}

bool silt_heap_walkable(const struct silt_heap *h)
{
	return h->glibcs.count || h->musls.count;
}

const char *silt_heap_allocator(const struct silt_heap *h)
{
	return h->allocator;
}

const char *silt_heap_libc(const struct silt_heap *h)
{
	return h->libc[0] ? h->libc : NULL;
}

uint64_t silt_heap_block_bound(const struct silt_heap *h)
{
	return h->block_bound;
}

uint32_t silt_heap_problem_count(const struct silt_heap *h)
{
	return (uint32_t)h->problems.count;
}

const char *silt_heap_problem(const struct silt_heap *h, uint32_t i)
{
	return i < h->problems.count ? h->problems.items[i] : NULL;
}
