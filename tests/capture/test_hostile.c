/* SPDX-License-Identifier: MIT */
/* Damaged databases: decode ends with a sound snapshot or an error, whatever the bytes say. Run under the sanitizers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "capture/capture.h"
#include "tests/capture/db_builder.h"

#define ROUNDS 300
#define SECONDS_MAX 5.0

static struct model model;
static struct built_db built;
static uint8_t *original; /* what the slot held */
static uint64_t original_size;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What every reader of a snapshot relies on. */
static void check_sound(const struct silt_snapshot *s)
{
	for (uint32_t i = 0; i < s->frame_count; i++)
		assert_true(s->frames[i].module == SILT_NONE || s->frames[i].module < s->module_count);
	for (uint32_t i = 0; i < s->stack_frame_count; i++)
		assert_true(s->stack_frames[i] < s->frame_count);
	for (uint32_t i = 0; i < s->stack_count; i++)
		assert_true((uint64_t)s->stacks[i].frame_first + s->stacks[i].frame_count <= s->stack_frame_count);
	for (uint32_t i = 0; i < s->context_count; i++) {
		assert_true(s->contexts[i].stack < s->stack_count);
		assert_true(s->contexts[i].thread == SILT_NONE || s->contexts[i].thread < s->thread_count);
		assert_true(s->contexts[i].kind <= SILT_KIND_POOL);
	}
	for (uint32_t i = 0; i < s->module_count; i++) {
		assert_non_null(s->modules[i].path);
		assert_true((uint64_t)s->modules[i].range_first + s->modules[i].range_count <= s->range_count);
		assert_true(s->modules[i].build_id_len <= 64);
	}
	for (uint64_t i = 0; i < s->blocks.count; i++) {
		assert_true(s->blocks.context[i] < s->context_count);
		assert_true(!i || s->blocks.addr[i] >= s->blocks.addr[i - 1]);
	}
}

/* Returns whether a snapshot came out. */
static bool decode_damaged(const struct silt_db_run *run)
{
	struct silt_copy *copy = NULL;
	struct silt_snapshot *s = NULL;
	struct silt_error err = { 0 };
	double start = now();
	int rc = silt_copy_create(built.fd, built.slot, &copy, &err);

	if (!rc)
		rc = silt_copy_decode(copy, run, true, &s, &err);
	if (!rc)
		check_sound(s);
	else
		assert_true(err.msg[0] != '\0');
	silt_snapshot_destroy(s);
	silt_copy_destroy(copy);
	assert_true(now() - start < SECONDS_MAX);
	return !rc;
}

static void restore(void)
{
	for (uint64_t i = 0; i < original_size; i += 4096)
		if (memcmp(built.bytes + i, original + i, 4096))
			memcpy(built.bytes + i, original + i, 4096);
}

static uint64_t ref_offset(uint32_t ref)
{
	return ref * SILT_DB_UNIT;
}

/* A place worth damaging: the head and the beginnings of tables far more often than anywhere. */
static uint64_t choose_place(void)
{
	const struct silt_db *db = (const struct silt_db *)original;
	const uint64_t starts[] = {
		0,
		offsetof(struct silt_db, used),
		offsetof(struct silt_db, node_count),
		offsetof(struct silt_db, node_segs),
		offsetof(struct silt_db, context_segs),
		ref_offset(db->node_segs[0]),
		ref_offset(db->context_segs[0]),
		ref_offset(db->module_ref),
		ref_offset(db->thread_ref),
		ref_offset(db->side_ref),
		ref_offset(db->root_ref) + (0x555555560000ull >> 30) * 4,
		ref_offset(db->root_ref) + (0x7f1234560000ull >> 30) * 4,
		ref_offset(db->root_ref),
	};
	uint64_t at = starts[model_random(&model) % SILT_ARRAY_LEN(starts)] + model_random(&model) % 200;

	if (!(model_random(&model) % 4))
		at = model_random(&model) % db->used;
	return at < original_size - 8 ? at : 0;
}

static void damage(void)
{
	uint64_t at = choose_place(), word;

	switch (model_random(&model) % 5) {
	case 0:
		built.bytes[at] ^= (uint8_t)(1u << model_random(&model) % 8);
		return;
	case 1:
		built.bytes[at] = (uint8_t)model_random(&model);
		return;
	case 2:
		word = model_random(&model) % 2 ? UINT64_MAX : model_random(&model);
		break;
	case 3:
		word = SILT_DB_PAGE_CHUNK | model_random(&model); /* a chunk somewhere */
		break;
	default:
		memcpy(&word, original + choose_place(), sizeof(word)); /* sense in the wrong place */
	}
	memcpy(built.bytes + (at & ~7ull), &word, sizeof(word));
}

static void test_random_damage(void **state)
{
	struct silt_db_run *run = calloc(1, sizeof(*run));
	unsigned sound = 0;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		run->options.sample_bytes = i % 3 ? 0 : 512;
		for (uint64_t n = 1 + model_random(&model) % 6; n; n--)
			damage();
		sound += decode_damaged(run);
		restore();
	}
	/* Most damage is local and must cost only what it hits. */
	assert_in_range(sound, ROUNDS / 2, ROUNDS);
	free(run);
}

static void test_cycle_of_parents(void **state)
{
	struct silt_db_node *nodes = (struct silt_db_node *)(built.bytes + ref_offset(built.db->node_segs[0]));

	(void)state;
	for (uint32_t i = 1; i < built.db->node_count && i < SILT_DB_NODE_SEG; i++)
		nodes[i].parent = i == 1 ? 2 : i - 1;
	nodes[1].parent = 1;
	assert_true(decode_damaged(NULL));
	restore();
}

/* One leaf in all root entries: a naive walk would go over 34 thousand million words. */
static void test_root_of_one_leaf(void **state)
{
	uint32_t *root = (uint32_t *)(built.bytes + ref_offset(built.db->root_ref));
	uint32_t leaf = 0;

	(void)state;
	for (uint32_t i = 0; i < SILT_DB_ROOT_ENTRIES; i++)
		if (root[i])
			leaf = root[i];
	for (uint32_t i = 0; i < SILT_DB_ROOT_ENTRIES; i++)
		root[i] = leaf;
	memset(built.db->root_parts, 0xff, sizeof(built.db->root_parts));
	assert_false(decode_damaged(NULL));
	restore();
}

static void test_leaf_of_one_chunk(void **state)
{
	uint32_t *root = (uint32_t *)(built.bytes + ref_offset(built.db->root_ref));
	uint64_t *leaf = NULL;

	(void)state;
	for (uint32_t i = 0; i < SILT_DB_ROOT_ENTRIES && !leaf; i++)
		if (root[i])
			leaf = (uint64_t *)(built.bytes + ref_offset(root[i]));
	assert_non_null(leaf);
	for (uint32_t i = 0; i < SILT_DB_LEAF_PAGES; i++)
		leaf[i] = SILT_DB_PAGE_CHUNK | (uint64_t)built.db->root_ref << 16 | 0xffff;
	memset(leaf + SILT_DB_LEAF_PAGES, 0xff, SILT_DB_LEAF_PARTS / 8);
	assert_false(decode_damaged(NULL));
	memcpy(leaf, original + ((uint8_t *)leaf - built.bytes), SILT_DB_LEAF_BYTES);
	restore();
}

static void test_absurd_counts(void **state)
{
	(void)state;
	built.db->node_count = UINT32_MAX;
	built.db->context_count = UINT32_MAX;
	built.db->thread_count = UINT32_MAX;
	built.db->module_count = UINT32_MAX;
	assert_true(decode_damaged(NULL));
	restore();
	/* `used` may claim the whole slot: the holes cost nothing. */
	built.db->used = UINT64_MAX;
	decode_damaged(NULL);
	restore();
	built.db->used = 0;
	decode_damaged(NULL);
	restore();
}

static int set_up(void **state)
{
	(void)state;
	model_create(&model, 42, 3000);
	db_build(&model, 1, &built);
	original_size = (built.db->used + 4095) & ~4095ull;
	original = malloc(original_size);
	if (!original)
		return -1;
	memcpy(original, built.bytes, original_size);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(original);
	db_destroy(&built);
	model_destroy(&model);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_damage),	  cmocka_unit_test(test_cycle_of_parents),
		cmocka_unit_test(test_root_of_one_leaf), cmocka_unit_test(test_leaf_of_one_chunk),
		cmocka_unit_test(test_absurd_counts),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
