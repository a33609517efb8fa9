/* SPDX-License-Identifier: MIT */
/*
 * What glibc keeps no list of: blocks with a mapping of their own, and the pieces of a main arena that could not grow by brk.
 *
 * Both begin at a page's start with a chunk header that says so; malloc_par counts them, so it is known when all are found.
 */
#include <stdlib.h>
#include <time.h>

#include "capture/heap/glibc.h"
#include "capture/heap/pages.h"

#define VAST (1ull << 30)
#define CHEAP_NS 2000000ull /* of a search of everything */

/* ---- blocks with a mapping of their own ---- */

struct mapped_search {
	struct silt_heap *h;
	struct silt_glibc *g;
	struct silt_heap_pages pages;
	uint64_t header;      /* bytes that are not part of the size field: 0, since 2.43 16 */
	uint64_t want, bytes; /* what malloc_par says; UINT64_MAX: not known */
	uint64_t found, found_bytes;
	silt_addr part_start, part_end;
	enum { PARTS_SMALL, PARTS_VAST_ENDS, PARTS_VAST_MIDDLES } parts; /* which are looked through now */
	size_t first, known, seen; /* singles: ours, [first, known) found at starts; into mapped_seen */
};

/* sysmalloc_mmap: the chunk at the mapping's start with size = length | IS_MMAPPED. memalign moves the chunk into the
 * mapping and notes in prev_size how far. Since 2.43 the size leaves the header out. */
static bool is_mapped(const struct mapped_search *s, silt_addr chunk, uint64_t prev_size, uint64_t word, silt_addr part_start,
		      silt_addr part_end, silt_addr *ret_end)
{
	uint64_t size = word & ~15ull, total;

	if ((word & 15) != SILT_GLIBC_IS_MMAPPED || size < SILT_GLIBC_CHUNK_MIN || prev_size % 16 ||
	    __builtin_add_overflow(prev_size, size, &total) || __builtin_add_overflow(total, s->header, &total) ||
	    total % SILT_HEAP_PAGE || prev_size > chunk || (chunk - prev_size) % SILT_HEAP_PAGE ||
	    chunk - prev_size < part_start || total > part_end - (chunk - prev_size) || total > s->bytes)
		return false;
	*ret_end = chunk - prev_size + total;
	return true;
}

/* memalign leaves the old header where it was, at the mapping's start: the block is where a header says that it has moved from there. The
 * old one's size may be out of date, for mremap changes the other. */
static silt_addr moved_chunk(struct mapped_search *s, silt_addr start, uint64_t *prev_size, uint64_t *word, silt_addr *ret_end)
{
	uint64_t was = *word & ~15ull; /* memalign had asked for more than the alignment */

	for (uint64_t align = 32; align < was; align *= 2) {
		silt_addr chunk = ((start + 16 + align - 1) & ~(align - 1)) - 16;

		/* Some releases leave no less than a chunk in front of it, others do. */
		for (unsigned i = 0; i < 2; i++, chunk += align) {
			uint64_t head[2];

			if (chunk == start || (i && chunk - align - start >= SILT_GLIBC_CHUNK_MIN))
				continue;
			if (chunk - start >= was || !silt_heap_memory_read(&s->h->mem, chunk, head, sizeof(head)))
				return start;
			if (head[0] == chunk - start &&
			    is_mapped(s, chunk, head[0], head[1], s->part_start, s->part_end, ret_end)) {
				*prev_size = head[0];
				*word = head[1];
				return chunk;
			}
		}
	}
	return start;
}

static bool complete(const struct mapped_search *s)
{
	return s->found >= s->want;
}

static void add_mapped(struct mapped_search *s, silt_addr chunk, uint64_t prev_size, uint64_t word)
{
	/* musable: the last chunk has no neighbour to lend it eight bytes; since 2.43 the size field has that built in. */
	struct silt_heap_single b = { .addr = chunk + 16,
				      .size = (word & ~15ull) - (s->header ? 8 : 16),
				      .heap = s->g->mapped_info };
	uint64_t total = prev_size + (word & ~15ull) + s->header;

	if (!silt_vec_push(&s->h->singles, b))
		s->h->no_memory = true;
	s->h->infos.items[s->g->mapped_info].size += total;
	s->h->infos.items[s->g->mapped_info].own_bytes += total - b.size;
	s->found++;
	s->found_bytes += total;
}

/* Where in a page a chunk may begin: at its start, or 16 bytes before a multiple of an alignment. */
static const uint16_t places[] = { 0, 0x10, 0x30, 0x70, 0xf0, 0x1f0, 0x3f0, 0x7f0, 0xff0 };

static bool look_at_page(void *data, silt_addr addr, const uint8_t *bytes, silt_addr *ret_skip)
{
	struct mapped_search *s = data;

	for (size_t i = 0; i < SILT_ARRAY_LEN(places); i++) {
		uint64_t prev_size = silt_heap_u64(bytes + places[i]), word = silt_heap_u64(bytes + places[i] + 8);

		if (is_mapped(s, addr + places[i], prev_size, word, s->part_start, s->part_end, ret_skip)) {
			silt_addr chunk = addr + places[i];

			if (!prev_size)
				chunk = moved_chunk(s, chunk, &prev_size, &word, ret_skip);
			add_mapped(s, chunk, prev_size, word);
			break;
		}
	}
	return !complete(s);
}

/* Most have a mapping to themselves, or stand one behind the other in one: that is cheap to see. */
static bool look_at_start(void *data, silt_addr start, silt_addr end)
{
	struct mapped_search *s = data;
	uint8_t head[SILT_HEAP_PAGE];
	silt_addr next = 0;

	s->part_start = start;
	s->part_end = end;
	while (start < end && silt_heap_memory_read(&s->h->mem, start, head, sizeof(head))) {
		next = 0;
		if (!look_at_page(s, start, head, &next) || next <= start)
			break;
		start = next;
	}
	return !complete(s);
}

static bool look_at_part(void *data, silt_addr start, silt_addr end)
{
	struct mapped_search *s = data;

	/* Address space that was only reserved may be endless: what is likelier comes first. Blocks are joined to it at either end. */
	if ((end - start >= 2 * VAST) != (s->parts != PARTS_SMALL))
		return true;
	s->part_start = start;
	s->part_end = end;
	if (s->parts == PARTS_VAST_MIDDLES)
		return silt_heap_pages_look(&s->pages, start + VAST, end - VAST, look_at_page, s);
	if (s->parts == PARTS_SMALL)
		return silt_heap_pages_look(&s->pages, start, end, look_at_page, s);
	return silt_heap_pages_look(&s->pages, start, start + VAST, look_at_page, s) &&
	       silt_heap_pages_look(&s->pages, end - VAST, end, look_at_page, s);
}

/* Lies chunk in one of the blocks found at starts? */
static bool is_known(const struct mapped_search *s, silt_addr chunk)
{
	const struct silt_heap_single *list = s->h->singles.items;
	size_t low = s->first, high = s->known;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list[middle].addr <= chunk + 16)
			low = middle + 1;
		else
			high = middle;
	}
	return low > s->first && chunk < list[low - 1].addr + list[low - 1].size;
}

/* Where blocks were when all was searched, while nobody waited: a heap of some other kind, as of a Java machine, takes long to search. */
static bool look_where_seen(void *data, silt_addr start, silt_addr end)
{
	struct mapped_search *s = data;
	silt_addr next = start;

	s->part_start = start;
	s->part_end = end;
	for (; s->seen < s->g->mapped_seen.count && s->g->mapped_seen.items[s->seen] < end; s->seen++) {
		silt_addr chunk = s->g->mapped_seen.items[s->seen];
		uint64_t head[2];

		if (chunk < next || end - chunk < 16 || is_known(s, chunk) ||
		    !silt_heap_memory_read(&s->h->mem, chunk, head, sizeof(head)) ||
		    !is_mapped(s, chunk, head[0], head[1], start, end, &next))
			continue;
		add_mapped(s, chunk, head[0], head[1]);
	}
	return !complete(s);
}

static int compare_addrs(const void *a, const void *b)
{
	const silt_addr *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t own_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void note_seen(struct mapped_search *s, uint64_t start_ns)
{
	struct silt_glibc *g = s->g;
	uint64_t missing = s->found < s->want ? s->want - s->found : 0;

	g->mapped_seen.count = 0;
	for (size_t i = s->first; i < s->h->singles.count; i++)
		if (!silt_vec_push(&g->mapped_seen, s->h->singles.items[i].addr - 16))
			s->h->no_memory = true;
	if (g->mapped_seen.count)
		qsort(g->mapped_seen.items, g->mapped_seen.count, sizeof(silt_addr), compare_addrs);
	g->mapped_sure = g->mapped_searched && missing == g->mapped_missing;
	g->mapped_missing = missing;
	g->mapped_ns = own_ns() - start_ns;
	g->mapped_searched = true;
}

static void forget_found(struct mapped_search *s, size_t singles)
{
	struct silt_heap_info *info = &s->h->infos.items[s->g->mapped_info];

	s->h->singles.count = singles;
	info->size = info->own_bytes = 0;
	s->found = s->found_bytes = 0;
}

/* What searches of everything did not find while the process ran, another would not find now. One alone may have met blocks on their way
 * from one place to another; and what takes no time is done again. */
static bool is_hopeless(const struct mapped_search *s)
{
	const struct silt_glibc *g = s->g;

	return g->mapped_sure && g->mapped_ns > CHEAP_NS && s->want != UINT64_MAX && s->want - s->found == g->mapped_missing;
}

static void search_mapped(struct mapped_search *s)
{
	uint64_t start_ns;

	s->first = s->h->singles.count;
	silt_heap_each_unclaimed(s->h, look_at_start, s);
	if (complete(s))
		return;
	s->known = s->h->singles.count;
	if (s->g->mapped_searched)
		silt_heap_each_unclaimed(s->h, look_where_seen, s);
	if (complete(s) || is_hopeless(s))
		return;
	forget_found(s, s->first);
	start_ns = own_ns();
	silt_heap_pages_init(&s->pages, s->h);
	for (s->parts = PARTS_SMALL; s->parts <= PARTS_VAST_MIDDLES; s->parts++)
		if (!silt_heap_each_unclaimed(s->h, look_at_part, s))
			break;
	silt_heap_pages_deinit(&s->pages);
	note_seen(s, start_ns);
}

void silt_glibc_plan_mapped(struct silt_heap *h, struct silt_glibc *g)
{
	struct mapped_search s = { .h = h, .g = g, .want = UINT64_MAX, .bytes = UINT64_MAX };
	uint32_t n = 0;

	g->mapped_info = SILT_NONE;
	s.header = g->version ? (g->version >= 43 ? 16 : 0) : g->layout->fastbins ? 0 : 16;
	if (g->par) {
		if (!silt_heap_memory_u32(&h->mem, g->par + g->par_layout->n_mmaps, &n) || !n)
			return;
		s.want = n;
		if (g->par_layout->exact)
			silt_heap_memory_u64(&h->mem, g->par + g->par_layout->mmapped_mem, &s.bytes);
	}
	g->mapped_info = silt_heap_info_add(h, SILT_HEAP_MAPPED, 0);
	if (g->mapped_info == SILT_NONE)
		return;
	search_mapped(&s);
	if (!g->par)
		silt_heap_problem_add(h,
				      "malloc's counters were not found: blocks with a mapping of their own were looked for, "
				      "but nothing tells whether all were found (%llu were)",
				      (unsigned long long)s.found);
	else if (s.found != s.want || (g->par_layout->exact && s.found_bytes != s.bytes))
		silt_heap_problem_add(h, "of malloc's %llu blocks with a mapping of their own, %llu (%llu bytes) were found",
				      (unsigned long long)s.want, (unsigned long long)s.found,
				      (unsigned long long)s.found_bytes);
}

/* ---- pieces of the main arena ---- */

struct piece_search {
	struct silt_heap *h;
	struct silt_glibc_arena *arena;
	struct silt_heap_pages pages;
	struct silt_heap_window window;
	silt_addr part_end;
	uint64_t want; /* bytes still missing */
};

/* Where the chain that begins at p ends, at a pair of fence posts or behind the top chunk. 0: it does not hold. */
static silt_addr chain_end(struct piece_search *s, silt_addr p, silt_addr end)
{
	silt_addr top = s->arena->top;

	while (p < end && end - p >= 16) {
		const uint8_t *head = silt_heap_window_at(&s->window, p, 16, end);
		uint64_t word = head ? silt_heap_u64(head + 8) : 0, size = word & ~15ull;

		if (!head || word & (8 | SILT_GLIBC_IS_MMAPPED | SILT_GLIBC_NON_MAIN) || size > end - p)
			return 0;
		if (p == top)
			return p + size;
		if (size == 16) {
			head = silt_heap_window_at(&s->window, p + 16, 16, end);
			return head && (silt_heap_u64(head + 8) & ~1ull) == 16 ? p + 32 : 0;
		}
		if (size < SILT_GLIBC_CHUNK_MIN)
			return 0;
		p += size;
	}
	return 0;
}

static bool take_piece(struct piece_search *s, silt_addr start, silt_addr *ret_end)
{
	silt_addr end;

	if (!silt_glibc_chain(s->h, start, s->part_end, s->arena->top, true, 8))
		return false;
	end = chain_end(s, start, s->part_end);
	if (!end)
		return false;
	silt_glibc_add_scattered(s->h, s->arena, start, end);
	s->want -= end - start < s->want ? end - start : s->want;
	*ret_end = end;
	return true;
}

static bool look_for_piece(void *data, silt_addr addr, const uint8_t *bytes, silt_addr *ret_skip)
{
	struct piece_search *s = data;

	if ((silt_heap_u64(bytes + 8) & 15) == SILT_GLIBC_PREV_INUSE && take_piece(s, addr, ret_skip))
		*ret_skip = (*ret_skip + SILT_HEAP_PAGE - 1) & ~(uint64_t)(SILT_HEAP_PAGE - 1);
	return s->want > 0;
}

struct part {
	silt_addr start, end;
};

struct part_list {
	SILT_VEC(struct part) parts;
};

static bool note_part(void *data, silt_addr start, silt_addr end)
{
	struct part_list *l = data;

	return silt_vec_push(&l->parts, ((struct part){ start, end }));
}

void silt_glibc_plan_scattered(struct silt_heap *h, struct silt_glibc *g, struct silt_glibc_arena *a, silt_addr base)
{
	struct piece_search s = { .h = h, .arena = a, .want = a->system_mem };
	const struct silt_region *r = base ? silt_heap_region(h, base) : NULL;
	struct part_list list = { 0 };
	silt_addr end = 0;

	(void)g;
	if (!silt_heap_window_init(&s.window, &h->mem, NULL)) {
		h->no_memory = true;
		return;
	}
	silt_heap_extents_sort(h);
	if (!silt_heap_each_unclaimed(h, note_part, &list))
		h->no_memory = true;
	if (r) {
		s.part_end = silt_heap_data_end(h, r);
		take_piece(&s, base, &end);
	}
	silt_heap_pages_init(&s.pages, h);
	for (size_t i = 0; i < list.parts.count && s.want; i++) {
		struct part *p = &list.parts.items[i];

		/* The piece at base does not begin at a page's start, and is known already. */
		if (r && a->extent_count && base >= p->start && base < p->end)
			p->start = (end + SILT_HEAP_PAGE - 1) & ~(uint64_t)(SILT_HEAP_PAGE - 1);
		s.part_end = p->end;
		silt_heap_pages_look(&s.pages, p->start, p->end, look_for_piece, &s);
	}
	silt_heap_pages_deinit(&s.pages);
	silt_heap_window_deinit(&s.window);
	silt_vec_free(&list.parts);
	/* Alignment at the pieces' ends is nobody's. */
	if (s.want >= SILT_HEAP_PAGE)
		silt_heap_problem_add(h, "%llu bytes of the main arena lie scattered and were not found",
				      (unsigned long long)s.want);
}
