/* SPDX-License-Identifier: MIT */
/* Anonymous memory that no heap claims yet, and which of its pages exist at all. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "capture/heap/pages.h"

#define PAGES_AT_ONCE 256u              /* read and looked at together: 1 MiB */
#define PAGEMAP_PRESENT (3ull << 62)    /* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped */

bool silt_heap_is_data(const struct silt_region *r)
{
	bool named = r->name && strcmp(r->name, "[heap]") != 0 && strncmp(r->name, "[anon", 5) != 0;

	return (r->prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE) && !r->shared && !r->inode && !named;
}

silt_addr silt_heap_data_end(const struct silt_heap *h, const struct silt_region *r)
{
	const struct silt_region *last = h->target.maps->regions + h->target.maps->count - 1;

	while (r < last && r[1].start == r->end && silt_heap_is_data(&r[1]))
		r++;
	return r->end;
}

/* Cuts what is claimed out of [start, end) from the front: false when nothing is left. */
static bool next_free_part(const struct silt_heap *h, size_t *at, silt_addr *start, silt_addr end, silt_addr *ret_end)
{
	const struct silt_heap_extent *e;

	while (*at < h->extents.count && h->extents.items[*at].end <= *start)
		++*at;
	for (; *at < h->extents.count; ++*at) {
		e = &h->extents.items[*at];
		if (e->start >= end)
			break;
		/* The header in front of a heap's chunks lies in the same page. */
		if ((e->start & ~(uint64_t)(SILT_HEAP_PAGE - 1)) > *start) {
			*ret_end = e->start & ~(uint64_t)(SILT_HEAP_PAGE - 1);
			return true;
		}
		*start = (e->end + SILT_HEAP_PAGE - 1) & ~(uint64_t)(SILT_HEAP_PAGE - 1);
		if (*start >= end)
			return false;
	}
	*ret_end = end;
	return *start < end;
}

bool silt_heap_each_unclaimed(const struct silt_heap *h, silt_heap_part fn, void *data)
{
	const struct silt_maps *maps = h->target.maps;
	size_t at = 0;

	for (uint32_t i = 0; i < maps->count; i++) {
		silt_addr start = maps->regions[i].start, end, part_end;

		if (!silt_heap_is_data(&maps->regions[i]))
			continue;
		end = silt_heap_data_end(h, &maps->regions[i]);
		while (i + 1 < maps->count && maps->regions[i + 1].end <= end)
			i++;
		while (next_free_part(h, &at, &start, end, &part_end)) {
			if (!fn(data, start, part_end))
				return false;
			start = part_end;
		}
	}
	return true;
}

/* One bit of knowledge a page; all of them when it cannot be asked. */
static void read_presence(int fd, silt_addr addr, size_t pages, bool present[PAGES_AT_ONCE])
{
	uint64_t entries[PAGES_AT_ONCE];
	bool known = fd >= 0 && silt_pread_full(fd, entries, pages * 8, addr / SILT_HEAP_PAGE * 8) == (ssize_t)(pages * 8);

	for (size_t i = 0; i < pages; i++)
		present[i] = !known || entries[i] & PAGEMAP_PRESENT;
}

void silt_heap_pages_init(struct silt_heap_pages *p, struct silt_heap *h)
{
	char path[64];

	*p = (struct silt_heap_pages){ .h = h, .fd = -1, .budget = SILT_HEAP_PAGES_MAX };
	p->bytes = malloc(PAGES_AT_ONCE * SILT_HEAP_PAGE);
	if (!p->bytes) {
		h->no_memory = true;
		p->budget = 0;
	}
	if (h->target.pid <= 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", h->target.pid);
	p->fd = open(path, O_RDONLY | O_CLOEXEC);
}

void silt_heap_pages_deinit(struct silt_heap_pages *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	free(p->bytes);
	p->bytes = NULL;
}

/* Pages [from, to) of the group, all present. */
static bool look_at_run(struct silt_heap_pages *p, silt_addr start, size_t pages, silt_heap_page fn, void *data,
			silt_addr *ret_skip)
{
	const struct silt_heap_reader *r = &p->h->mem.reader;
	size_t got = r->read(r->data, start, p->bytes, pages * SILT_HEAP_PAGE) / SILT_HEAP_PAGE;

	for (size_t i = 0; i < got; i++) {
		silt_addr addr = start + i * SILT_HEAP_PAGE, skip = 0;

		if (addr < *ret_skip)
			continue;
		if (!fn(data, addr, p->bytes + i * SILT_HEAP_PAGE, &skip))
			return false;
		if (skip > *ret_skip)
			*ret_skip = skip;
	}
	return true;
}

bool silt_heap_pages_look(struct silt_heap_pages *p, silt_addr start, silt_addr end, silt_heap_page fn, void *data)
{
	bool present[PAGES_AT_ONCE];
	silt_addr skip = 0;

	for (silt_addr at = start; at < end;) {
		size_t pages = (size_t)((end - at) / SILT_HEAP_PAGE < PAGES_AT_ONCE ? (end - at) / SILT_HEAP_PAGE : PAGES_AT_ONCE);
		size_t from = 0;

		if (!pages || p->budget < pages) {
			p->exhausted = pages != 0;
			return !p->exhausted;
		}
		p->budget -= pages;
		read_presence(p->fd, at, pages, present);
		while (from < pages) {
			size_t to = from;

			while (to < pages && present[to] && at + to * SILT_HEAP_PAGE >= skip)
				to++;
			if (to > from && !look_at_run(p, at + from * SILT_HEAP_PAGE, to - from, fn, data, &skip))
				return false;
			from = to > from ? to : from + 1;
		}
		at += pages * SILT_HEAP_PAGE;
		if (skip > at)
			at = skip & ~(uint64_t)(SILT_HEAP_PAGE - 1);
	}
	return true;
}
