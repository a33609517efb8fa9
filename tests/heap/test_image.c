/* SPDX-License-Identifier: MIT */
/* The walker on images of all layouts: exact on sound ones, harmless on damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/heap/image.h"

#define DAMAGED_ROUNDS 12000

struct got {
	const struct image *m;
	silt_addr addr[4096];
	uint64_t size[4096];
	unsigned count;
	silt_addr last;
	unsigned runs; /* of ascending addresses, but the first */
};

static uint64_t links_max; /* 1: free lists are followed as where they are long */

static int take(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct got *g = data;

	for (size_t i = 0; i < count; i++) {
		g->runs += blocks[i].addr < g->last;
		assert_true(blocks[i].addr != g->last && g->runs <= links_max);
		assert_int_equal(blocks[i].addr % 16, 0);
		g->last = blocks[i].addr;
		if (g->count < 4096) {
			g->addr[g->count] = blocks[i].addr;
			g->size[g->count++] = blocks[i].size;
		}
	}
	return 0;
}

static struct silt_heap *walk(struct image *m, bool with_thread, struct got *g)
{
	struct silt_heap_target target = { .reader = image_reader(m), .maps = &m->maps, .modules = &m->modules,
					   .links_max = links_max };
	struct silt_heap *h;
	struct silt_error err;

	memset(g, 0, sizeof(*g));
	g->m = m;
	assert_int_equal(silt_heap_open(&target, &h, &err), 0);
	assert_int_equal(silt_heap_walk(h, &m->maps, with_thread ? &m->thread : NULL, with_thread, take, g, &err), 0);
	return h;
}

static bool is_used(const struct image *m, silt_addr addr, uint64_t size)
{
	for (unsigned i = 0; i < m->used_count; i++)
		if (m->used[i] == addr)
			return m->sizes[i] == size;
	return false;
}

/* The cache of the main heap belongs to no thread: its two blocks, and itself, count as live. */
enum { ORPHANS = 3 };

static void check_variant(unsigned variant)
{
	static struct image m;
	static struct got g;
	struct silt_heap *h;
	unsigned right = 0;

	image_fill(&m, variant);
	h = walk(&m, true, &g);
	for (uint32_t i = 0; i < silt_heap_problem_count(h); i++)
		fail_msg("%s: %s", image_libc(variant), silt_heap_problem(h, i));
	assert_string_equal(silt_heap_libc(h), image_libc(variant));
	assert_int_equal(silt_heap_count(h), 3);
	for (uint32_t i = 0; i < silt_heap_count(h); i++) {
		const struct silt_heap_info *info = silt_heap_info(h, i);

		assert_int_equal(info->unknown_bytes, 0);
		assert_int_equal(info->used_bytes + info->cached_bytes + info->free_bytes + info->own_bytes, info->size);
		assert_int_equal(info->cached_count, i == 1 ? 2 : 0);
	}
	for (unsigned i = 0; i < g.count; i++)
		right += is_used(&m, g.addr[i], g.size[i]);
	if (right != m.used_count || g.count != m.used_count + ORPHANS)
		fail_msg("%s: %u blocks found, %u of %u right", image_libc(variant), g.count, right, m.used_count);
	assert_false(silt_heap_busy(h, &m.thread, 1));
	silt_heap_destroy(h);
}

static void test_layouts(void **state)
{
	(void)state;
	for (links_max = 0; links_max < 2; links_max++)
		for (unsigned i = 0; i < IMAGE_VARIANTS; i++)
			check_variant(i);
	links_max = 0;
}

/* A lock that is held is seen. */
static void test_busy(void **state)
{
	static struct image m;
	static struct got g;
	struct silt_heap *h;

	(void)state;
	image_fill(&m, 3);
	h = walk(&m, true, &g);
	m.bytes[IMAGE_HEAP + 48] = 1; /* the second arena's mutex, behind its heap_info of 48 bytes */
	assert_true(silt_heap_busy(h, &m.thread, 1));
	m.bytes[IMAGE_HEAP + 48] = 0;
	assert_false(silt_heap_busy(h, &m.thread, 1));
	silt_heap_destroy(h);
}

/* A header is overwritten: what lies before and behind it is found all the same, and a line says where. */
static void test_header_lost(void **state)
{
	static struct image m;
	static struct got g;
	struct silt_heap *h;
	unsigned right = 0;

	(void)state;
	image_fill(&m, 3);
	/* The third chunk of the main heap: cache 0x290, 0x20, then 0x410. */
	memset(m.bytes + 0x290 + 0x20, 0xee, 24);
	h = walk(&m, true, &g);
	for (unsigned i = 0; i < g.count; i++)
		right += is_used(&m, g.addr[i], g.size[i]);
	assert_int_equal(right, m.used_count - 1);
	assert_true(silt_heap_problem_count(h) > 0);
	assert_non_null(strstr(silt_heap_problem(h, 0), "0x5555555602b0"));
	assert_int_equal(silt_heap_info(h, 0)->unknown_bytes, 0x410);
	silt_heap_destroy(h);
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Numbers that hurt: sizes at the edges, flags, pointers into the image. */
static uint64_t hurtful(const struct image *m, uint64_t *x)
{
	static const uint64_t words[] = { 0, 1, 0x11, 0x10, 0x21, 0x31, 2, 0xfffffffffffffff1ull, 0x7ffffffffffffff0ull, 0x1000002 };
	const struct silt_region *r = &m->regions[next(x) % IMAGE_REGIONS];

	switch (next(x) % 3) {
	case 0:
		return words[next(x) % SILT_ARRAY_LEN(words)];
	case 1:
		return r->start + next(x) % (r->end - r->start);
	default:
		return (r->start + next(x) % (r->end - r->start)) & ~15ull;
	}
}

static void test_damage(void **state)
{
	static struct image m;
	static struct got g;
	uint64_t x = 88172645463325252ull;

	(void)state;
	for (unsigned round = 0; round < DAMAGED_ROUNDS; round++) {
		unsigned places = 1 + (unsigned)(next(&x) % 40);

		image_fill(&m, round % IMAGE_VARIANTS);
		for (unsigned i = 0; i < places; i++) {
			size_t offset = next(&x) % (IMAGE_SIZE - 8);
			uint64_t word = hurtful(&m, &x);

			if (next(&x) % 2)
				memcpy(m.bytes + (offset & ~7ull), &word, 8);
			else
				m.bytes[offset] ^= (uint8_t)(1 << next(&x) % 8);
		}
		silt_heap_destroy(walk(&m, round % 3, &g));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_header_lost),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
