/* SPDX-License-Identifier: MIT */
/*
 * Walking glibc's chunks from one end of a stretch to the other.
 *
 * A chunk's header says how long it is; whether it is in use says the header of the next (PREV_INUSE). Where a header makes
 * no sense, the walk looks for the next place from which a chain of chunks holds, and says what it left out.
 */
#include "capture/heap/glibc_links.h"

#define RESYNC_CHUNKS 24u         /* a chain this long is no accident */

struct walk {
	struct silt_heap *h;
	const struct silt_heap_extent *e;
	struct silt_heap_window *w;
	struct silt_heap_emitter *out;
	struct silt_heap_info *info;
	silt_addr chunk; /* the one before, of which is not yet known whether it is in use; 0: none */
	uint64_t size, word;
	unsigned problems;
};

static int settle(struct walk *k, bool in_use)
{
	unsigned why;

	if (!k->chunk)
		return 0;
	if (!in_use) {
		k->info->free_bytes += k->size;
		k->info->free_count++;
	} else if (!silt_heap_is_free(k->out, k->chunk + 16, &why)) {
		if (k->h->links && silt_glibc_links_take(k->h->links, k->chunk + 16, k->size, k->word))
			return 0;
		k->info->used_bytes += k->size;
		k->info->used_count++;
		return silt_heap_emit(k->out, k->chunk + 16, k->size - 8, k->word, k->e->heap);
	} else if (why == SILT_HEAP_FREE_CACHE) {
		k->info->cached_bytes += k->size;
		k->info->cached_count++;
	} else if (why == SILT_HEAP_FREE_OWN) {
		k->info->own_bytes += k->size;
	} else {
		k->info->free_bytes += k->size;
		k->info->free_count++;
	}
	return 0;
}

static bool plausible(const struct walk *k, silt_addr p, uint64_t word)
{
	uint64_t size = word & ~15ull;

	return !(word & (8 | SILT_GLIBC_IS_MMAPPED)) && !(k->e->main && word & SILT_GLIBC_NON_MAIN) &&
	       size >= SILT_GLIBC_CHUNK_MIN && size <= k->e->end - p;
}

/* The next place behind p where chunks begin again; the end when there is none. */
static silt_addr resync(struct walk *k, silt_addr p)
{
	silt_addr end = k->e->end;

	for (p += 16; p < end && end - p >= 16; p += 16) {
		const uint8_t *head = silt_heap_window_at(k->w, p, 16, end);

		if (!head) {
			/* A page that cannot be read; go on behind it. */
			p = (p | (SILT_HEAP_PAGE - 1)) + 1 - 16;
			if (!k->h->resync_budget--)
				break;
			continue;
		}
		if (p == k->e->top)
			return p;
		if (!plausible(k, p, silt_heap_u64(head + 8)))
			continue;
		if (!k->h->resync_budget)
			break;
		k->h->resync_budget--;
		if (silt_glibc_chain(k->h, p, end, k->e->top, k->e->main, RESYNC_CHUNKS))
			return p;
	}
	return end;
}

/* Behind fence posts of the main arena lies what others got from brk, and then perhaps the arena's next piece. */
static silt_addr skip_foreign(struct walk *k, silt_addr p)
{
	silt_addr next = p + 32 < k->e->end ? resync(k, p + 16) : k->e->end;

	k->info->own_bytes += next - p;
	return next;
}

static silt_addr skip_damage(struct walk *k, silt_addr p)
{
	silt_addr next = resync(k, p);

	k->info->unknown_bytes += next - p;
	if (k->problems++ < 4)
		silt_heap_problem_add(k->h, "the heap is damaged at 0x%llx (no chunk header): %llu bytes behind it were left out",
				      (unsigned long long)p, (unsigned long long)(next - p));
	return next;
}

/* One header. Sets *p to the next one, to the end when done. */
static int step(struct walk *k, silt_addr *p)
{
	silt_addr end = k->e->end, at = *p;
	const uint8_t *head = silt_heap_window_at(k->w, at, end - at < 24 ? (size_t)(end - at) : 24, end);
	uint64_t word = head && end - at >= 16 ? silt_heap_u64(head + 8) : 0, size = word & ~15ull;
	bool last = !k->e->main && size == 0 && (word & ~1ull) == 0 && head && end - at < 48;
	int rc;

	if (at == k->e->top && k->e->top) {
		rc = settle(k, word & SILT_GLIBC_PREV_INUSE);
		k->chunk = 0;
		size = size < end - at ? size : end - at;
		k->info->free_bytes += size;
		k->info->free_count++;
		k->info->own_bytes += end - at - size;
		*p = end;
		return rc;
	}
	if (last || end - at < 16) {
		/* What stands before the mark that ends a heap is a fence post, whatever its size. */
		k->info->own_bytes += end - at + (k->chunk ? k->size : 0);
		k->chunk = 0;
		*p = end;
		return 0;
	}
	if (size == 16 && !(word & 0xe)) {
		rc = settle(k, word & SILT_GLIBC_PREV_INUSE);
		k->chunk = 0;
		if (k->e->main) {
			*p = skip_foreign(k, at);
		} else {
			k->info->own_bytes += end - at;
			*p = end;
		}
		return rc;
	}
	if (!head || !plausible(k, at, word)) {
		rc = settle(k, true);
		k->chunk = 0;
		*p = skip_damage(k, at);
		return rc;
	}
	rc = settle(k, word & SILT_GLIBC_PREV_INUSE);
	k->chunk = at;
	k->size = size;
	k->word = silt_heap_u64(head + 16);
	*p = at + size;
	return rc;
}

int silt_glibc_walk(struct silt_heap *h, const struct silt_heap_extent *e, struct silt_heap_window *w,
		    struct silt_heap_emitter *out)
{
	struct walk k = { .h = h, .e = e, .w = w, .out = out, .info = &h->infos.items[e->heap] };
	silt_addr p = e->start;
	int rc = 0;

	while (p < e->end && !rc)
		rc = step(&k, &p);
	if (!rc)
		rc = settle(&k, true);
	if (k.problems > 4)
		silt_heap_problem_add(h, "%u more places of that heap are damaged", k.problems - 4);
	return rc;
}
