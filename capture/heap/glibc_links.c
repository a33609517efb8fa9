/* SPDX-License-Identifier: MIT */
/* A table of the links of all small chunks: see glibc_links.h. */
#include "capture/heap/glibc_links.h"

#include <stdlib.h>

#define CHUNK_MAX 0x410u     /* the largest chunk of a thread's cache and of the fast bins, unless tunables say otherwise */
#define GRANULES 256u        /* of 16 bytes: places for a chunk in a page */
#define END UINT32_MAX       /* the page of a link that ends its list */
#define ENTRIES_MAX (UINT32_MAX - 1)
#define AT_ONCE 32u          /* lists followed alternately, so that their misses of the cache overlap */

/* In classes: the chunk's size / 16 - 2, whether it is free, and where. */
enum { CLASS = 0x3f, IN_CACHE = 0x40, MARKED = 0x80 };
_Static_assert(CHUNK_MAX / 16 - SILT_GLIBC_CHUNK_MIN / 16 == CLASS, "sizes do not fit their bits");

/* A block's memory, or what a link holds: pages are counted through all extents. */
struct place {
	uint32_t page;
	uint8_t granule;
};

struct page_index { /* of one extent */
	silt_addr start, end; /* start: of its first page */
	uint32_t first;	      /* that page's number */
};

struct list {
	struct place first;
	uint8_t class; /* of all of its chunks */
	bool any;      /* or they are of all sizes */
	uint8_t bias;  /* granules from what a link holds to the block's memory */
	uint8_t mark;
};

/* Entries stand in the order of their addresses, those of page p at pages[p] to pages[p + 1]. Seven bytes for each, since there may
 * be many millions. */
struct silt_glibc_links {
	struct silt_heap *h;
	const struct silt_glibc *g;
	SILT_VEC(uint8_t) granules;	 /* of the block's memory */
	SILT_VEC(uint8_t) classes;
	SILT_VEC(uint8_t) link_granules; /* of its link */
	SILT_VEC(uint32_t) link_pages;
	SILT_VEC(struct page_index) extents;
	SILT_VEC(struct list) lists;
	uint32_t *pages;
	uint32_t page_count, filled; /* pages whose first entry is known */
	size_t near;		     /* the extent looked at last */
};

/* ---- places ---- */

static bool index_extents(struct silt_glibc_links *l)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < l->h->extents.count; i++) {
		const struct silt_heap_extent *e = &l->h->extents.items[i];
		struct page_index x = { e->start & ~(uint64_t)(SILT_HEAP_PAGE - 1), e->end, (uint32_t)pages };

		if (!silt_vec_push(&l->extents, x))
			return false;
		pages += (x.end - x.start) / SILT_HEAP_PAGE + 1;
		if (pages >= END)
			return false;
	}
	l->page_count = (uint32_t)pages;
	l->pages = malloc((pages + 1) * sizeof(*l->pages));
	return l->pages;
}

static bool place_of(struct silt_glibc_links *l, silt_addr addr, struct place *ret)
{
	const struct page_index *x = l->extents.items;
	size_t low = 0, high = l->extents.count;

	if (!high)
		return false;
	if (addr < x[l->near].start || addr >= x[l->near].end) {
		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (x[middle].end <= addr)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == l->extents.count || x[low].start > addr)
			return false;
		l->near = low;
	}
	x += l->near;
	ret->page = x->first + (uint32_t)((addr - x->start) / SILT_HEAP_PAGE);
	ret->granule = (uint8_t)(addr % SILT_HEAP_PAGE / 16);
	return true;
}

/* ---- gathering ---- */

struct silt_glibc_links *silt_glibc_links_create(struct silt_heap *h, struct silt_glibc *g)
{
	struct silt_glibc_links *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->h = h;
	l->g = g;
	if (index_extents(l))
		return l;
	silt_glibc_links_destroy(l);
	return NULL;
}

bool silt_glibc_links_take(struct silt_glibc_links *l, silt_addr mem, uint64_t chunk, uint64_t word)
{
	uint64_t link = l->g->protect ? word ^ mem >> 12 : word;
	struct place own, to = { END, 0 };

	if (chunk > CHUNK_MAX || link % 16 || (link && !place_of(l, link, &to)) || !place_of(l, mem, &own))
		return false;
	while (l->filled <= own.page)
		l->pages[l->filled++] = (uint32_t)l->granules.count;
	if (l->granules.count < ENTRIES_MAX && silt_vec_push(&l->granules, own.granule) &&
	    silt_vec_push(&l->classes, (uint8_t)(chunk / 16 - 2)) && silt_vec_push(&l->link_granules, to.granule) &&
	    silt_vec_push(&l->link_pages, to.page))
		return true;
	l->h->no_memory = true;
	return false;
}

static int gather(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct silt_glibc_links *l = data;

	for (size_t i = 0; i < count; i++)
		silt_glibc_links_take(l, blocks[i].addr, blocks[i].size + 8, blocks[i].first_word);
	return l->h->no_memory ? SILT_E_NOMEM : 0;
}

bool silt_glibc_links_gather(struct silt_glibc_links *l)
{
	return !silt_heap_survey(l->h, gather, l);
}

void silt_glibc_links_destroy(struct silt_glibc_links *l)
{
	if (!l)
		return;
	silt_vec_free(&l->granules);
	silt_vec_free(&l->classes);
	silt_vec_free(&l->link_granules);
	silt_vec_free(&l->link_pages);
	silt_vec_free(&l->extents);
	silt_vec_free(&l->lists);
	free(l->pages);
	free(l);
}

/* ---- following ---- */

bool silt_glibc_links_add(struct silt_glibc_links *l, silt_addr first, unsigned bias, uint64_t size, unsigned why)
{
	struct list list = { .class = size ? (uint8_t)(size / 16 - 2) : 0, .any = !size, .bias = (uint8_t)(bias / 16) };

	list.mark = why == SILT_HEAP_FREE_CACHE ? MARKED | IN_CACHE : MARKED;
	if (first % 16 || !place_of(l, first, &list.first))
		list.first.page = l->page_count; /* damaged: no page has this number */
	return silt_vec_push(&l->lists, list);
}

struct cursor {
	struct list list;
	struct place at;
	uint32_t entry, end;
	enum { AT_PLACE, AT_PAGE, AT_ENTRY, DONE, BROKEN } state;
};

/* From what a link holds to the block's memory. */
static void lead_to(const struct silt_glibc_links *l, struct cursor *c, struct place link)
{
	unsigned granule = link.granule + c->list.bias;

	c->at.page = link.page + granule / GRANULES;
	c->at.granule = (uint8_t)(granule % GRANULES);
	c->state = link.page < l->page_count && c->at.page < l->page_count ? AT_PLACE : BROKEN;
	if (c->state == AT_PLACE)
		__builtin_prefetch(&l->pages[c->at.page]);
}

static void find_entry(const struct silt_glibc_links *l, struct cursor *c)
{
	const uint8_t *granules = l->granules.items + c->entry;
	const uint8_t *found = c->end > c->entry ? memchr(granules, c->at.granule, c->end - c->entry) : NULL;

	c->state = found ? AT_ENTRY : BROKEN;
	if (!found)
		return;
	c->entry += (uint32_t)(found - granules);
	__builtin_prefetch(&l->classes.items[c->entry]);
	__builtin_prefetch(&l->link_pages.items[c->entry]);
	__builtin_prefetch(&l->link_granules.items[c->entry]);
}

/* One load that may miss the cache, and the next one is asked for. No chunk is in two lists, nor twice in one. */
static void step(const struct silt_glibc_links *l, struct cursor *c)
{
	uint8_t *class;

	switch (c->state) {
	case AT_PLACE:
		c->entry = l->pages[c->at.page];
		c->end = l->pages[c->at.page + 1];
		c->state = AT_PAGE;
		__builtin_prefetch(l->granules.items + c->entry);
		break;
	case AT_PAGE:
		find_entry(l, c);
		break;
	case AT_ENTRY:
		class = &l->classes.items[c->entry];
		if (*class & MARKED || (!c->list.any && *class != c->list.class)) {
			c->state = BROKEN;
			break;
		}
		*class |= c->list.mark;
		if (l->link_pages.items[c->entry] == END)
			c->state = DONE;
		else
			lead_to(l, c, (struct place){ l->link_pages.items[c->entry], l->link_granules.items[c->entry] });
		break;
	default:
		break;
	}
}

unsigned silt_glibc_links_run(struct silt_glibc_links *l)
{
	struct cursor cursors[AT_ONCE];
	unsigned active = 0, broken = 0;
	size_t next = 0;

	while (l->filled <= l->page_count)
		l->pages[l->filled++] = (uint32_t)l->granules.count;
	while (active || next < l->lists.count) {
		while (active < AT_ONCE && next < l->lists.count) {
			cursors[active].list = l->lists.items[next++];
			lead_to(l, &cursors[active], cursors[active].list.first);
			active++;
		}
		for (unsigned i = 0; i < active;) {
			step(l, &cursors[i]);
			if (cursors[i].state != DONE && cursors[i].state != BROKEN) {
				i++;
				continue;
			}
			broken += cursors[i].state == BROKEN;
			cursors[i] = cursors[--active];
		}
	}
	l->lists.count = 0;
	return broken;
}

/* ---- what comes of it ---- */

struct entries { /* a way through all of them */
	size_t extent;
	uint32_t page, entry;
};

static bool next_entry(const struct silt_glibc_links *l, struct entries *e, silt_addr *ret_mem)
{
	const struct page_index *x = l->extents.items;

	if (e->entry >= l->granules.count)
		return false;
	while (l->pages[e->page + 1] <= e->entry)
		e->page++;
	while (e->extent + 1 < l->extents.count && x[e->extent + 1].first <= e->page)
		e->extent++;
	x += e->extent;
	*ret_mem = x->start + (uint64_t)(e->page - x->first) * SILT_HEAP_PAGE + l->granules.items[e->entry] * 16u;
	e->entry++;
	return true;
}

bool silt_glibc_links_list(const struct silt_glibc_links *l, struct silt_heap *h)
{
	struct entries e = { 0 };
	silt_addr mem;

	while (next_entry(l, &e, &mem)) {
		uint8_t class = l->classes.items[e.entry - 1];

		if (class & MARKED && !silt_vec_push(&h->free, mem | (class & IN_CACHE ? SILT_HEAP_FREE_CACHE : SILT_HEAP_FREE_BIN)))
			return false;
	}
	return true;
}

/* The first word is what the link was made from. */
static uint64_t word_of(const struct silt_glibc_links *l, uint32_t entry, silt_addr mem)
{
	uint32_t page = l->link_pages.items[entry];
	const struct page_index *x = l->extents.items;
	size_t low = 0, high = l->extents.count;
	uint64_t link = 0;

	while (page != END && high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (x[middle].first <= page)
			low = middle;
		else
			high = middle;
	}
	if (page != END)
		link = x[low].start + (uint64_t)(page - x[low].first) * SILT_HEAP_PAGE + l->link_granules.items[entry] * 16u;
	return l->g->protect ? link ^ mem >> 12 : link;
}

int silt_glibc_links_settle(const struct silt_glibc_links *l, struct silt_heap *h, struct silt_heap_emitter *out)
{
	struct entries e = { 0 };
	silt_addr mem;
	int rc = 0;

	while (!rc && next_entry(l, &e, &mem)) {
		struct silt_heap_info *info = &h->infos.items[h->extents.items[e.extent].heap];
		uint8_t class = l->classes.items[e.entry - 1];
		uint64_t size = (class & CLASS) * 16u + SILT_GLIBC_CHUNK_MIN;

		if (class & IN_CACHE) {
			info->cached_bytes += size;
			info->cached_count++;
		} else if (class & MARKED) {
			info->free_bytes += size;
			info->free_count++;
		} else {
			info->used_bytes += size;
			info->used_count++;
			rc = silt_heap_emit(out, mem, size - 8, word_of(l, e.entry - 1, mem), h->extents.items[e.extent].heap);
		}
	}
	return rc ? rc : silt_heap_flush(out);
}
