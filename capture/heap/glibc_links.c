/* SPDX-License-Identifier: MIT */
/* A table of the links of all small chunks: see glibc_links.h. */
#include "capture/heap/glibc_links.h"

#include <stdlib.h>

#define NONE UINT32_MAX     /* a link that leads nowhere */
#define END (UINT32_MAX - 1) /* the link of a list's last chunk */
#define CHUNK_MAX 0x410u /* the largest chunk of a thread's cache and of the fast bins, unless tunables say otherwise */

enum { NOT_FREE = 0xff }; /* in state; else why it is free */

struct entry {
	uint64_t mem;
	uint64_t link;
};

struct page_index { /* of one extent */
	silt_addr start, end;
	size_t first; /* into pages: where the entries of its first page begin, of its second … and one more */
};

struct silt_glibc_links {
	struct silt_heap *h;
	const struct silt_glibc *g;
	silt_addr low, high; /* of all extents */
	SILT_VEC(struct entry) entries; /* sorted */
	SILT_VEC(uint8_t) classes;      /* of each entry: chunk size / 16 */
	SILT_VEC(struct page_index) extents;
	uint32_t *pages;
	uint32_t *next; /* of each entry: the one that its link leads to, taken for a fast bin's */
	uint8_t *state; /* of each entry; no chunk is in two lists */
};

/* Gets the blocks of a walk that knows of no free list: keeps those whose first word could be a link. */
static int gather(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct silt_glibc_links *l = data;

	for (size_t i = 0; i < count; i++) {
		uint64_t chunk = blocks[i].size + 8, link = blocks[i].first_word;

		if (chunk > CHUNK_MAX)
			continue;
		if (l->g->protect)
			link ^= blocks[i].addr >> 12;
		if (link && (link % 16 || link < l->low || link >= l->high))
			continue;
		if (!silt_vec_push(&l->entries, ((struct entry){ blocks[i].addr, link })) ||
		    !silt_vec_push(&l->classes, (uint8_t)(chunk / 16)))
			return SILT_E_NOMEM;
	}
	return l->entries.count < END ? 0 : SILT_E_NOMEM;
}

/* Where the entries of each page begin. */
static bool index_pages(struct silt_glibc_links *l)
{
	size_t pages = 0, at = 0, entry = 0;

	for (size_t i = 0; i < l->h->extents.count; i++) {
		const struct silt_heap_extent *e = &l->h->extents.items[i];
		struct page_index x = { e->start & ~(uint64_t)(SILT_HEAP_PAGE - 1), e->end, pages };

		if (!silt_vec_push(&l->extents, x))
			return false;
		pages += (x.end - x.start) / SILT_HEAP_PAGE + 2;
	}
	l->pages = malloc((pages + 1) * sizeof(*l->pages));
	for (size_t i = 0; l->pages && i < l->extents.count; i++) {
		const struct page_index *x = &l->extents.items[i];

		for (silt_addr page = x->start; at < (i + 1 < l->extents.count ? x[1].first : pages); page += SILT_HEAP_PAGE) {
			while (entry < l->entries.count && l->entries.items[entry].mem < page)
				entry++;
			l->pages[at++] = (uint32_t)entry;
		}
	}
	return l->pages;
}

static uint32_t find(const struct silt_glibc_links *l, silt_addr mem)
{
	size_t low = 0, high = l->extents.count;
	const struct page_index *x;
	const uint32_t *page;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (l->extents.items[middle].end <= mem)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == l->extents.count || l->extents.items[low].start > mem)
		return NONE;
	x = &l->extents.items[low];
	page = &l->pages[x->first + (mem - x->start) / SILT_HEAP_PAGE];
	low = page[0];
	high = page[1];
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (l->entries.items[middle].mem < mem)
			low = middle + 1;
		else
			high = middle;
	}
	return low < l->entries.count && l->entries.items[low].mem == mem ? (uint32_t)low : NONE;
}

/* All at once, in no order that depends on the result of the one before: many misses of the cache overlap. */
static bool resolve_links(struct silt_glibc_links *l)
{
	l->next = malloc((l->entries.count + 1) * sizeof(*l->next));
	l->state = malloc(l->entries.count + 1);
	if (!l->next || !l->state)
		return false;
	memset(l->state, NOT_FREE, l->entries.count);
	for (size_t i = 0; i < l->entries.count; i++) {
		uint64_t link = l->entries.items[i].link;

		l->next[i] = link ? find(l, link + 16) : END;
	}
	return true;
}

struct silt_glibc_links *silt_glibc_links_create(struct silt_heap *h, struct silt_glibc *g)
{
	struct silt_glibc_links *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->h = h;
	l->g = g;
	if (h->extents.count) {
		l->low = h->extents.items[0].start;
		l->high = h->extents.items[h->extents.count - 1].end;
	}
	if (silt_heap_survey(h, gather, l) || !index_pages(l) || !resolve_links(l)) {
		silt_glibc_links_destroy(l);
		return NULL;
	}
	return l;
}

void silt_glibc_links_destroy(struct silt_glibc_links *l)
{
	if (!l)
		return;
	silt_vec_free(&l->entries);
	silt_vec_free(&l->classes);
	silt_vec_free(&l->extents);
	free(l->pages);
	free(l->next);
	free(l->state);
	free(l);
}

bool silt_glibc_links_follow(struct silt_glibc_links *l, silt_addr first, unsigned bias, uint64_t size, unsigned why)
{
	uint32_t at = find(l, first + bias);

	while (at != END) {
		if (at == NONE || l->state[at] != NOT_FREE || (size && l->classes.items[at] != size / 16))
			return false;
		l->state[at] = (uint8_t)why;
		if (bias)
			at = l->next[at];
		else
			at = l->entries.items[at].link ? find(l, l->entries.items[at].link) : END;
	}
	return true;
}

bool silt_glibc_links_list(const struct silt_glibc_links *l, struct silt_heap *h)
{
	for (size_t i = 0; i < l->entries.count; i++)
		if (l->state[i] != NOT_FREE && !silt_vec_push(&h->free, l->entries.items[i].mem | l->state[i]))
			return false;
	return true;
}
