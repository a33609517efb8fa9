/* SPDX-License-Identifier: MIT */
/*
 * Chunks that are free although their neighbours call them in use: those in threads' caches (tcache) and fast bins.
 *
 * A thread's cache hangs on a thread-local variable of libc. Its offset from the thread pointer is the same in all
 * threads, and found by what it points to: a chunk of the cache's size that holds a cache.
 */
#include <stdlib.h>

#include "capture/heap/glibc.h"
#include "capture/heap/glibc_links.h"

/* struct tcache_perthread_struct of 2.42 on, 2.30 to 2.41, 2.26 to 2.29. */
static const struct silt_glibc_tcache_layout layouts[] = {
	{ 0x300, 2, 76, 152, true },
	{ 0x290, 2, 64, 128, false },
	{ 0x250, 1, 64, 64, false },
};

#define TLS_REACH 65536u     /* static thread-local storage looked through, downwards from the thread pointer */
#define TLS_NEIGHBOUR 64     /* thread_arena is defined beside tcache */
#define CHUNK_SLACK 0x30u    /* a chunk may be larger than asked for: rests too small for a chunk stay with it, and what
			      * alignment leaves; below the distance of the sizes below */
#define STEPS_MAX 50000u     /* links read one by one: a read of a page takes one to two microseconds */
#define TLS_AT_ONCE 128u
#define PROBE_THREADS 64u    /* looked at to find the offset */
#define PROBE_ENOUGH 8u      /* when there is a candidate as good as they get, so many are enough */
#define SCORE_GOOD 4u        /* with the address of an arena beside it */

/* ---- links ---- */

static bool read_link(struct silt_heap *h, const struct silt_glibc *g, silt_addr at, silt_addr *ret)
{
	if (!silt_heap_memory_u64(&h->mem, at, ret))
		return false;
	if (g->protect)
		*ret ^= at >> 12;
	return true;
}

/* A block in a thread's cache or a fast bin: in a chain of chunks, or (2.42, with larger caches) one with a mapping of its
 * own. */
static bool holds(struct silt_heap *h, const struct silt_glibc *g, silt_addr mem)
{
	const struct silt_heap_single *s;

	if (silt_glibc_owns(h, g, mem))
		return true;
	s = silt_heap_single_at(h, mem);
	return s && s->heap == g->mapped_info;
}

static void add_free(struct silt_heap *h, silt_addr mem, unsigned why)
{
	if (!silt_vec_push(&h->free, mem | why))
		h->no_memory = true;
}

/* What gathering takes along. */
struct gather {
	struct silt_heap *h;
	struct silt_glibc *g;
	struct silt_glibc_links *links; /* NULL while lists are followed link by link */
	uint64_t steps;                 /* links that may still be read one by one */
	unsigned broken;                /* lists */
};

/* Cycles are told by Brent's algorithm: a marker that is moved up ever more rarely meets the walker again. */
static bool follow_links(struct gather *a, silt_addr first, unsigned bias, uint64_t size, unsigned why)
{
	silt_addr mem = first ? first + bias : 0, marker = 0, next;
	uint64_t steps = 0, power = 1, word;

	while (mem && a->steps) {
		if (mem == marker || !holds(a->h, a->g, mem) || !silt_heap_memory_u64(&a->h->mem, mem - 8, &word) ||
		    (size && (word & ~15ull) != size))
			return false;
		if (++steps == power) {
			marker = mem;
			power *= 2;
		}
		a->steps--;
		add_free(a->h, mem, why);
		if (a->h->no_memory || !read_link(a->h, a->g, mem, &next))
			return false;
		mem = next ? next + bias : 0;
	}
	return true;
}

/* Adds a list of memory addresses (bias 0: a thread's cache) or chunks (bias 16: a fast bin), whose link is the first word
 * of the memory. size: of every chunk in it, 0: any. */
static void follow(struct gather *a, silt_addr first, unsigned bias, uint64_t size, unsigned why)
{
	if (!first || a->h->no_memory)
		return;
	if (a->links)
		a->h->no_memory |= !silt_glibc_links_add(a->links, first, bias, size, why);
	else
		a->broken += !follow_links(a, first, bias, size, why);
}

/* ---- the thread caches ---- */

struct tcache {
	silt_addr mem;
	const struct silt_glibc_tcache_layout *layout;
	uint16_t counts[76];
	uint64_t entries[76];
	uint16_t fill; /* with remaining counts: what an empty bin says */
};

static bool read_counts(struct silt_heap *h, struct tcache *t)
{
	const struct silt_glibc_tcache_layout *l = t->layout;
	uint8_t bytes[76 * 2];

	if (!silt_heap_memory_read(&h->mem, t->mem, bytes, l->bins * l->count_size) ||
	    !silt_heap_memory_read(&h->mem, t->mem + l->entries, t->entries, l->bins * 8))
		return false;
	for (unsigned i = 0; i < l->bins; i++)
		t->counts[i] = l->count_size == 1 ? bytes[i] : (uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
	return true;
}

/* Whether the memory at mem is a cache: each bin has a list where its count says so. One bin may be in flux. */
static bool read_tcache(struct silt_heap *h, const struct silt_glibc *g, silt_addr mem, struct tcache *ret)
{
	unsigned bad = 0;
	uint64_t word;

	if (!silt_glibc_owns(h, g, mem) || !silt_heap_memory_u64(&h->mem, mem - 8, &word))
		return false;
	ret->mem = mem;
	ret->layout = NULL;
	for (size_t i = 0; i < SILT_ARRAY_LEN(layouts); i++)
		if ((word & ~15ull) - layouts[i].chunk <= CHUNK_SLACK)
			ret->layout = &layouts[i];
	if (!ret->layout || !read_counts(h, ret))
		return false;
	ret->fill = 0;
	for (unsigned i = 0; ret->layout->remaining && i < ret->layout->bins; i++)
		if (!ret->entries[i])
			ret->fill = ret->counts[i] > ret->fill ? ret->counts[i] : ret->fill;
	for (unsigned i = 0; i < ret->layout->bins; i++) {
		bool filled = ret->layout->remaining ? ret->counts[i] < ret->fill : ret->counts[i] != 0;

		if (ret->entries[i] && !holds(h, g, ret->entries[i]))
			return false;
		/* All bins in use: nothing tells how many fit. */
		bad += ret->layout->remaining && !ret->fill ? false : filled != (ret->entries[i] != 0);
	}
	return bad <= 1;
}

static void take_tcache(struct gather *a, const struct tcache *t)
{
	add_free(a->h, t->mem, SILT_HEAP_FREE_OWN);
	for (unsigned i = 0; i < t->layout->bins; i++)
		follow(a, t->entries[i], 0, i < SILT_GLIBC_SMALL_TCACHE ? 16ull * i + 32 : 0, SILT_HEAP_FREE_CACHE);
}

/* ---- where the thread-local variable lies ---- */

/* Whether the variable at `at` of a thread has an arena's address beside it, as tcache has thread_arena. */
static bool has_arena_beside(const struct silt_glibc *g, const uint8_t *bytes, size_t size, size_t at)
{
	size_t from = at > TLS_NEIGHBOUR ? at - TLS_NEIGHBOUR : 0;

	for (size_t i = from; i + 8 <= size && i <= at + TLS_NEIGHBOUR; i += 8)
		for (size_t k = 0; k < g->arenas.count && k < 64; k++)
			if (silt_heap_u64(bytes + i) == g->arenas.items[k].addr)
				return true;
	return false;
}

struct tls_vote {
	uint64_t offset; /* below the thread pointer */
	unsigned score;
};

struct tls_votes {
	struct tls_vote list[32];
	unsigned count;
};

static void vote(struct tls_votes *v, uint64_t offset, unsigned score)
{
	for (unsigned i = 0; i < v->count; i++)
		if (v->list[i].offset == offset) {
			v->list[i].score += score;
			return;
		}
	if (v->count < SILT_ARRAY_LEN(v->list))
		v->list[v->count++] = (struct tls_vote){ offset, score };
}

/* Static thread-local storage lies below the thread pointer (x86-64's variant II). */
static void look_through_tls(struct silt_heap *h, const struct silt_glibc *g, silt_addr pointer, uint8_t *bytes,
			     struct tls_votes *votes)
{
	const struct silt_region *r = silt_heap_region(h, pointer - 8);
	size_t reach = TLS_REACH, size;
	struct tcache t;

	if (!r || pointer % 8)
		return;
	if (pointer - r->start < reach)
		reach = (size_t)(pointer - r->start);
	size = h->mem.reader.read(h->mem.reader.data, pointer - reach, bytes, reach);
	for (size_t at = 0; at + 8 <= size; at += 8) {
		uint64_t word = silt_heap_u64(bytes + at);

		if (word && word % 16 == 0 && silt_glibc_owns(h, g, word) && read_tcache(h, g, word, &t))
			vote(votes, reach - at, has_arena_beside(g, bytes, size, at) ? SCORE_GOOD : 1);
	}
}

static const struct tls_vote *most_voted(const struct tls_votes *votes)
{
	const struct tls_vote *best = NULL;

	for (unsigned i = 0; i < votes->count; i++)
		if (!best || votes->list[i].score > best->score)
			best = &votes->list[i];
	return best;
}

static uint64_t find_tls_offset(struct silt_heap *h, const struct silt_glibc *g)
{
	uint8_t *bytes = malloc(TLS_REACH);
	struct tls_votes votes = { .count = 0 };
	const struct tls_vote *best = NULL;
	/* Spread over all threads: those started first may have little in common with the rest. */
	uint32_t step = h->thread_count / PROBE_THREADS + 1, looked = 0;

	for (uint32_t i = 0; bytes && i < h->thread_count; i += step) {
		if (looked >= PROBE_ENOUGH && best && best->score >= SCORE_GOOD)
			break;
		if (!h->threads[i].pointer)
			continue;
		look_through_tls(h, g, h->threads[i].pointer, bytes, &votes);
		best = most_voted(&votes);
		looked++;
	}
	free(bytes);
	return best ? best->offset : 0;
}

/* Without thread pointers: the first chunk of an arena is most often its first thread's cache. */
static void guess_tcaches(struct gather *a)
{
	unsigned found = 0;

	for (size_t i = 0; i < a->h->extents.count; i++) {
		struct tcache t;
		silt_addr mem = a->h->extents.items[i].start + 16;

		if (silt_glibc_owns(a->h, a->g, mem) && read_tcache(a->h, a->g, mem, &t)) {
			take_tcache(a, &t);
			found++;
		}
	}
	silt_heap_problem_add(a->h,
			      "the threads' registers are not known: of their caches of free blocks %u were found by their "
			      "place; blocks in the others count as live",
			      found);
}

/* The threads' variables, all at once. Returns the caches that they point to and make no sense. */
static unsigned take_tcaches(struct gather *a, uint64_t offset)
{
	silt_addr at[TLS_AT_ONCE];
	uint64_t mem[TLS_AT_ONCE];
	unsigned damaged = 0;

	for (uint32_t i = 0, n; i < a->h->thread_count; i += n) {
		for (n = 0; n < TLS_AT_ONCE && i + n < a->h->thread_count; n++)
			at[n] = a->h->threads[i + n].pointer > offset ? a->h->threads[i + n].pointer - offset : 0;
		silt_heap_memory_words(&a->h->mem, at, mem, n);
		for (uint32_t k = 0; k < n; k++) {
			struct tcache t;

			if (!silt_glibc_owns(a->h, a->g, mem[k]))
				continue; /* a thread that has none yet, or no more */
			if (read_tcache(a->h, a->g, mem[k], &t))
				take_tcache(a, &t);
			else
				damaged++;
		}
	}
	return damaged;
}

static void find_tcaches(struct gather *a)
{
	struct silt_heap *h = a->h;
	bool known = false;
	unsigned damaged = 0;
	uint64_t offset;

	for (uint32_t i = 0; i < h->thread_count && !known; i++)
		known = h->threads[i].pointer != 0;
	if (!known) {
		guess_tcaches(a);
		return;
	}
	offset = find_tls_offset(h, a->g);
	if (offset)
		damaged = take_tcaches(a, offset);
	if (damaged)
		silt_heap_problem_add(h, "the caches of free blocks of %u threads make no sense: free blocks in them count as live",
				      damaged);
}

/* ---- fast bins ---- */

static void take_fastbins(struct gather *a, const struct silt_glibc_arena *arena)
{
	uint64_t heads[SILT_GLIBC_FASTBINS];

	if (!a->g->layout->fastbins ||
	    !silt_heap_memory_read(&a->h->mem, arena->addr + a->g->layout->fastbins, heads, sizeof(heads)))
		return;
	for (unsigned i = 0; i < SILT_GLIBC_FASTBINS; i++)
		follow(a, heads[i], 16, 16ull * i + 32, SILT_HEAP_FREE_BIN);
}

/* ---- whether links are mangled ---- */

/* A link makes sense: it ends the list or leads into a heap. */
static bool sensible(struct silt_heap *h, const struct silt_glibc *g, silt_addr link)
{
	return !link || (link % 16 == 0 && silt_glibc_owns(h, g, link));
}

/* Looks at the first links of all fast bins; where they say nothing, the version does (2.32 began to mangle). */
static void find_protection(struct silt_heap *h, struct silt_glibc *g)
{
	unsigned plain = 0, mangled = 0;

	for (size_t i = 0; i < g->arenas.count && g->layout->fastbins && plain + mangled < 16; i++) {
		uint64_t heads[SILT_GLIBC_FASTBINS], word;

		if (!silt_heap_memory_read(&h->mem, g->arenas.items[i].addr + g->layout->fastbins, heads, sizeof(heads)))
			continue;
		for (unsigned k = 0; k < SILT_GLIBC_FASTBINS; k++) {
			bool is_plain, is_mangled;

			if (!heads[k] || !silt_glibc_owns(h, g, heads[k] + 16) ||
			    !silt_heap_memory_u64(&h->mem, heads[k] + 16, &word))
				continue;
			is_plain = sensible(h, g, word);
			is_mangled = sensible(h, g, word ^ (heads[k] + 16) >> 12);
			plain += is_plain && !is_mangled;
			mangled += is_mangled && !is_plain;
		}
	}
	g->protect = plain != mangled ? mangled > plain : !g->version || g->version >= 32;
}

static void gather_all(struct gather *a)
{
	find_tcaches(a);
	for (size_t i = 0; i < a->g->arenas.count; i++)
		take_fastbins(a, &a->g->arenas.items[i]);
}

static void note_broken(struct silt_heap *h, unsigned broken)
{
	if (broken)
		silt_heap_problem_add(h, "%u lists of free blocks are damaged: free blocks behind the damage count as live", broken);
}

/* Forgets what was found on the lists; the threads' caches themselves are known. */
static void keep_own(struct silt_heap *h, size_t before)
{
	size_t kept = before;

	for (size_t i = before; i < h->free.count; i++)
		if ((h->free.items[i] & SILT_HEAP_FREE_MASK) == SILT_HEAP_FREE_OWN)
			h->free.items[kept++] = h->free.items[i];
	h->free.count = kept;
}

/* Where lists are long, they are followed in a table of all links: the walk fills it, or, where anything may look like a link, a walk
 * of its own before. */
static void plan_links(struct gather *a)
{
	struct silt_heap *h = a->h;
	struct silt_glibc_links *l = silt_glibc_links_create(h, a->g);

	if (l && a->g->protect && !h->links) {
		h->links = l;
		h->links_of = a->g;
		return;
	}
	if (!l || !silt_glibc_links_gather(l)) {
		h->no_memory = true;
	} else {
		a->links = l;
		gather_all(a);
		note_broken(h, silt_glibc_links_run(l));
		h->no_memory |= !silt_glibc_links_list(l, h);
	}
	silt_glibc_links_destroy(l);
}

void silt_glibc_plan_free(struct silt_heap *h, struct silt_glibc *g)
{
	struct gather a = { .h = h, .g = g, .steps = h->target.links_max ? h->target.links_max : STEPS_MAX };
	size_t before = h->free.count, problems = h->problems.count;

	if (!g->arenas.count)
		return;
	find_protection(h, g);
	gather_all(&a);
	if (a.steps) {
		note_broken(h, a.broken);
	} else if (!h->no_memory) {
		keep_own(h, before);
		silt_heap_problems_drop(h, problems);
		plan_links(&a);
	}
}

int silt_glibc_finish(struct silt_heap *h, struct silt_heap_emitter *out)
{
	struct gather a = { .h = h, .g = h->links_of, .links = h->links };

	gather_all(&a);
	note_broken(h, silt_glibc_links_run(h->links));
	return h->no_memory ? SILT_E_NOMEM : silt_glibc_links_settle(h->links, h, out);
}
