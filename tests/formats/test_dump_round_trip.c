/* SPDX-License-Identifier: MIT */
/* What is written is what is read: over made-up snapshots of many shapes. */
#include "samples.h"

#include <stdlib.h>
#include <string.h>

static struct silt_snapshot *read_back(const struct sample_file *f, unsigned flags)
{
	struct silt_read_options o = {flags, 0};
	struct silt_snapshot *s = NULL;
	struct silt_error e = {0};

	if (silt_dump_read(f->path, &o, &s, &e))
		fail_msg("%s", e.msg);
	return s;
}

/* Written, read in every way, written again: always the same. */
static void check(uint64_t seed, const struct sample_shape *shape, int level, unsigned threads)
{
	struct silt_snapshot *s = sample_snapshot(seed, shape), *r;
	struct sample_file f;
	uint8_t *first, *second;
	size_t first_size, second_size;

	sample_file_open(&f);
	sample_file_dump(&f, s, level, threads);
	r = read_back(&f, 0);
	sample_assert_equal(s, r, false);
	assert_true(r->blocks.count == 0);
	silt_snapshot_destroy(r);
	r = read_back(&f, SILT_READ_SALVAGE | SILT_READ_BLOCKS); /* nothing to salvage: no notes */
	sample_assert_equal(s, r, true);
	silt_snapshot_destroy(r);
	r = read_back(&f, SILT_READ_BLOCKS);
	sample_assert_equal(s, r, true);
	first = sample_file_get(&f, &first_size);
	sample_file_dump(&f, r, level, 1);
	second = sample_file_get(&f, &second_size);
	assert_int_equal(first_size, second_size);
	assert_memory_equal(first, second, first_size);
	free(first);
	free(second);
	silt_snapshot_destroy(r);
	silt_snapshot_destroy(s);
	sample_file_close(&f);
}

static void small_ones(void **state)
{
	uint64_t seed;

	(void)state;
	for (seed = 1; seed <= 150; seed++) {
		uint64_t x = seed * 77 + 5;
		struct sample_shape shape = {
			(uint32_t)(sample_random(&x) % 6),	 (uint32_t)(sample_random(&x) % 50),
			(uint32_t)(1 + sample_random(&x) % 30),	 (uint32_t)(sample_random(&x) % 20),
			(uint32_t)(sample_random(&x) % 40),	 (uint32_t)(sample_random(&x) % 5),
			(uint32_t)(sample_random(&x) % 20),	 (uint32_t)(sample_random(&x) % 20),
			sample_random(&x) % 3 * (sample_random(&x) % 300), (int)(sample_random(&x) % HEAP_KINDS),
		};

		check(seed, &shape, (int)(seed % 10), (unsigned)(1 + seed % 3));
	}
}

static void nothing_but_a_process(void **state)
{
	static const struct sample_shape none = {0, 0, 1, 0, 0, 0, 0, 0, 0, 0};

	(void)state;
	check(3, &none, 1, 1);
}

static void many_chunks(void **state)
{
	int heap;

	(void)state;
	for (heap = 0; heap < HEAP_KINDS; heap++) {
		struct sample_shape shape = {300, 70000, 70000, 40, 70000, 1000, 3000, 300, 200000, heap};

		check((uint64_t)heap + 1, &shape, 1, 3);
	}
}

static void counts_around_chunk_size(void **state)
{
	static const uint64_t counts[] = {1, 2, 7, 8, 65535, 65536, 65537, 131072};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct sample_shape shape = {1, 5, 5, 5, 5000, 1, 1, 1, counts[i], (int)(i % HEAP_KINDS)};

		check(i + 1, &shape, 1, 2);
	}
}

/* One deep stack after the other, sharing all but their ends: cheap on disk, and split before a chunk says too much. */
static void deep_stacks(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create(), *r;
	enum { STACKS = 300, DEPTH = 10000 };
	struct sample_file f;
	uint8_t *data;
	size_t size;
	uint32_t i, k;

	(void)state;
	s->frames = silt_snapshot_array(s, DEPTH + STACKS, sizeof(*s->frames));
	s->frame_count = DEPTH + STACKS;
	s->stacks = silt_snapshot_array(s, STACKS, sizeof(*s->stacks));
	s->stack_frames = silt_snapshot_array(s, STACKS * DEPTH, sizeof(*s->stack_frames));
	s->stack_count = STACKS;
	s->stack_frame_count = STACKS * DEPTH;
	for (i = 0; i < DEPTH + STACKS; i++)
		s->frames[i] = (struct silt_frame){SILT_NONE, 0, i};
	for (i = 0; i < STACKS; i++) {
		s->stacks[i] = (struct silt_stack){i * DEPTH, DEPTH, 0};
		for (k = 0; k < DEPTH; k++)
			s->stack_frames[i * DEPTH + k] = k ? k : DEPTH + i;
	}
	sample_file_open(&f);
	sample_file_dump(&f, s, 1, 2);
	data = sample_file_get(&f, &size);
	assert_true(size < 200000);
	free(data);
	r = read_back(&f, 0);
	sample_assert_equal(s, r, false);
	silt_snapshot_destroy(r);
	silt_snapshot_destroy(s);
	sample_file_close(&f);
}

/* The targets of the project: at most 3 bytes a block where sizes and contexts are noise; next to nothing where they
 * follow a rule. */
static void bytes_per_block(void **state)
{
	static const struct {
		int heap;
		double most;
	} goals[] = {{HEAP_UNIFORM, 2.6}, {HEAP_GLIBC, 3.0}, {HEAP_CLASSES, 2.0}, {HEAP_SAME, 0.02}};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(goals) / sizeof(goals[0]); i++) {
		struct sample_shape shape = {1, 1, 1, 1, 1027, 0, 0, 0, 500000, goals[i].heap};
		struct silt_snapshot *s = sample_snapshot(9, &shape);
		struct sample_file f;
		uint8_t *data;
		size_t size;

		s->context_count = 1027;
		sample_file_open(&f);
		sample_file_dump(&f, s, 1, 2);
		data = sample_file_get(&f, &size);
		print_message("heap kind %d: %.3f bytes a block\n", goals[i].heap, (double)size / 500000);
		assert_true((double)size / 500000 < goals[i].most + 0.1); /* 0.1: the other sections of this dump */
		free(data);
		sample_file_close(&f);
		silt_snapshot_destroy(s);
	}
}

static void has_blocks_is_kept(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create(), *r;
	struct sample_file f;
	int i;

	(void)state;
	sample_file_open(&f);
	for (i = 0; i < 2; i++) {
		s->has_blocks = i;
		sample_file_dump(&f, s, 1, 1);
		r = read_back(&f, SILT_READ_BLOCKS);
		assert_int_equal(r->has_blocks, i);
		assert_true(r->blocks.count == 0);
		silt_snapshot_destroy(r);
	}
	silt_snapshot_destroy(s);
	sample_file_close(&f);
}

static void bad_snapshots_are_not_written(void **state)
{
	struct silt_snapshot *s;
	struct silt_error e;
	struct sample_file f;

	(void)state;
	sample_file_open(&f);
	s = sample_snapshot(1, &sample_small);
	s->contexts[2].stack = s->stack_count;
	assert_int_equal(silt_dump_write_fd(f.fd, "f", s, NULL, &e), SILT_E_BAD_DATA);
	assert_string_equal(e.msg, "f: the stack of context 2 is not possible");
	s->contexts[2].stack = 0;
	s->blocks.context[7] = s->context_count;
	assert_int_equal(silt_dump_write_fd(f.fd, "f", s, NULL, &e), SILT_E_BAD_DATA);
	s->blocks.context[7] = 0;
	s->blocks.addr[7] = 0;
	assert_int_equal(silt_dump_write_fd(f.fd, "f", s, NULL, &e), SILT_E_BAD_DATA);
	assert_string_equal(e.msg, "f: block 7 is out of order");
	silt_snapshot_destroy(s);
	sample_file_close(&f);
}

static void long_texts_are_cut(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create(), *r;
	size_t size = 3 << 20;
	char *text = malloc(size + 1);
	struct sample_file f;

	(void)state;
	memset(text, 'a', size);
	text[size] = '\0';
	s->process.argv = silt_snapshot_string(s, text);
	free(text);
	sample_file_open(&f);
	sample_file_dump(&f, s, 1, 1);
	r = read_back(&f, 0);
	assert_int_equal(strlen(r->process.argv), 1 << 20);
	silt_snapshot_destroy(r);
	silt_snapshot_destroy(s);
	sample_file_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_ones),
		cmocka_unit_test(nothing_but_a_process),
		cmocka_unit_test(many_chunks),
		cmocka_unit_test(counts_around_chunk_size),
		cmocka_unit_test(deep_stacks),
		cmocka_unit_test(bytes_per_block),
		cmocka_unit_test(has_blocks_is_kept),
		cmocka_unit_test(bad_snapshots_are_not_written),
		cmocka_unit_test(long_texts_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
