/* SPDX-License-Identifier: MIT */
/* A database written by the tests' own writer comes out of copy and decode block for block, count for count, frame for frame. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "capture/capture.h"
#include "tests/capture/db_builder.h"

static struct model model;

static struct silt_snapshot *decode(const struct built_db *b, const struct silt_db_run *run, bool with_blocks)
{
	struct silt_copy *copy = NULL;
	struct silt_snapshot *s = NULL;
	struct silt_error err = { 0 };

	if (silt_copy_create(b->fd, b->slot, &copy, &err))
		fail_msg("%s", err.msg);
	silt_copy_set_ending(copy, "exited with status 0");
	if (silt_copy_decode(copy, run, with_blocks, &s, &err))
		fail_msg("%s", err.msg);
	silt_copy_destroy(copy);
	return s;
}

static void check_frame(const struct silt_snapshot *s, uint32_t index, const struct model_frame *want)
{
	const struct silt_frame *f;

	assert_in_range(index, 0, s->frame_count - 1);
	f = &s->frames[index];
	assert_int_equal(f->flags, want->interrupted ? SILT_FRAME_INTERRUPTED : 0);
	if (want->module < 0) {
		assert_int_equal(f->module, SILT_NONE);
		assert_int_equal(f->offset, want->pc);
		return;
	}
	assert_in_range(f->module, 0, s->module_count - 1);
	assert_string_equal(s->modules[f->module].path,
			    want->module ? model.modules[want->module].path : "/bin/program-file");
	assert_int_equal(s->modules[f->module].generation, want->generation);
	assert_int_equal(f->offset, want->pc - model.modules[want->module].bias);
}

static void check_context(const struct silt_snapshot *s, uint32_t index, const struct model_context *want)
{
	const struct model_stack *ms = &model.stacks[want->stack];
	const struct silt_context *c;
	const struct silt_stack *st;

	assert_in_range(index, 0, s->context_count - 1);
	c = &s->contexts[index];
	assert_int_equal(c->epoch, want->epoch);
	assert_int_equal(c->kind, want->kind);
	if (want->thread)
		assert_int_equal(s->threads[c->thread].tid, model.tids[want->thread - 1]);
	else
		assert_int_equal(c->thread, SILT_NONE);
	assert_int_equal(c->live_count, want->live_count);
	assert_int_equal(c->live_bytes, want->live_bytes);
	assert_int_equal(c->alloc_count, want->alloc_count);
	assert_int_equal(c->alloc_bytes, want->alloc_bytes);
	st = &s->stacks[c->stack];
	assert_int_equal(st->flags, ms->flags);
	assert_int_equal(st->frame_count, ms->depth);
	for (uint32_t i = 0; i < ms->depth; i++)
		check_frame(s, s->stack_frames[st->frame_first + i], &ms->frames[i]);
}

/* The blocks at one address may come in any order: find the model's one, which is at or near place i of them. */
static const struct model_block *find_block(uint32_t i, uint64_t addr, uint64_t size, uint32_t kind)
{
	while (i && model.blocks[i - 1].addr == addr)
		i--;
	for (; i < model.block_count && model.blocks[i].addr == addr; i++) {
		const struct model_block *k = &model.blocks[i];

		if (k->size == size && model.contexts[k->context].kind == kind)
			return k;
	}
	return NULL;
}

static void round_trip(uint64_t seed, uint32_t blocks)
{
	struct built_db b;
	struct silt_snapshot *s;
	struct silt_db_run *run = calloc(1, sizeof(*run));

	model_create(&model, seed, blocks);
	db_build(&model, (uint32_t)seed, &b);
	run->options.flags = SILT_DB_THREADS;
	s = decode(&b, run, true);
	assert_int_equal(s->blocks.count, model.block_count);
	assert_int_equal(s->context_count, MODEL_CONTEXTS);
	assert_int_equal(s->process.epoch, 7);
	assert_int_equal(s->process.pid, 4711);
	assert_true(s->process.with_threads);
	assert_string_equal(s->process.exe, "/bin/program-file");
	assert_string_equal(s->process.argv, "program -x two words");
	assert_string_equal(s->process.ending, "exited with status 0");
	for (uint32_t i = 0; i < s->blocks.count; i++) {
		const struct model_block *k;

		assert_int_equal(s->blocks.addr[i], model.blocks[i].addr);
		k = find_block(i, s->blocks.addr[i], s->blocks.size[i],
			       s->contexts[s->blocks.context[i]].kind);
		assert_non_null(k);
		if (i < 500)
			check_context(s, s->blocks.context[i], &model.contexts[k->context]);
	}
	for (uint32_t i = 0; i < s->note_count; i++)
		assert_null(strstr(s->notes[i], "the trace database held"));
	silt_snapshot_destroy(s);
	db_destroy(&b);
	model_destroy(&model);
	free(run);
}

static void test_round_trip(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++)
		round_trip(seed, 300 * (uint32_t)seed * (uint32_t)seed);
}

/* So many that they are decoded in two halves; what lies outside the directory comes before, between and behind. */
static void test_large_round_trip(void **state)
{
	(void)state;
	round_trip(6, 300000);
}

static void test_without_blocks(void **state)
{
	uint64_t count = 0, bytes = 0;
	struct built_db b;
	struct silt_snapshot *s;

	(void)state;
	model_create(&model, 9, 2000);
	db_build(&model, 0, &b);
	s = decode(&b, NULL, false);
	for (uint32_t i = 0; i < model.block_count; i++) {
		count++;
		bytes += model.blocks[i].size;
	}
	assert_int_equal(s->blocks.count, 0);
	assert_int_equal(s->total_count, count);
	assert_int_equal(s->total_bytes, bytes);
	silt_snapshot_destroy(s);
	db_destroy(&b);
	model_destroy(&model);
}

/* With sampling a block of size s stands for 1 / (1 - exp(-s/T)) blocks. */
static void test_sampling(void **state)
{
	struct silt_db_run *run = calloc(1, sizeof(*run));
	double count = 0, bytes = 0;
	struct built_db b;
	struct silt_snapshot *s;

	(void)state;
	model_create(&model, 10, 3000);
	db_build(&model, 0, &b);
	run->options.sample_bytes = 512;
	s = decode(&b, run, true);
	for (uint32_t i = 0; i < model.block_count; i++) {
		double size = model.blocks[i].size ? (double)model.blocks[i].size : 1;
		double weight = 1 / (1 - exp(-size / 512));

		count += weight;
		bytes += weight * (double)model.blocks[i].size;
	}
	/* Each context is rounded on its own. */
	assert_true(fabs((double)s->total_count - count) <= MODEL_CONTEXTS / 2.0 + 1);
	assert_true(fabs((double)s->total_bytes - bytes) <= MODEL_CONTEXTS / 2.0 + 1);
	for (uint32_t i = 0; i < s->context_count; i++)
		assert_true(s->contexts[i].alloc_count >= s->contexts[i].live_count);
	assert_int_equal(s->process.sample_bytes, 512);
	silt_snapshot_destroy(s);
	db_destroy(&b);
	model_destroy(&model);
	free(run);
}

/* Copying must not turn the file's holes into memory. */
static void test_copy_keeps_holes(void **state)
{
	struct silt_copy *copy;
	struct stat before, after;
	struct built_db b;

	(void)state;
	model_create(&model, 11, 1000);
	db_build(&model, 3, &b);
	b.db->used += 64 << 20;
	for (int sealed = 0; sealed < 2; sealed++) {
		if (sealed)
			assert_int_equal(fcntl(b.fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
		assert_int_equal(fstat(b.fd, &before), 0);
		assert_int_equal(silt_copy_create(b.fd, b.slot, &copy, NULL), 0);
		silt_copy_destroy(copy);
		assert_int_equal(fstat(b.fd, &after), 0);
		assert_int_equal(before.st_blocks, after.st_blocks);
	}
	db_destroy(&b);
	model_destroy(&model);
}

static void test_not_a_database(void **state)
{
	struct silt_copy *copy = NULL;
	struct silt_error err;
	struct built_db b;

	(void)state;
	model_create(&model, 12, 10);
	db_build(&model, 0, &b);
	assert_int_equal(silt_copy_create(b.fd, 5, &copy, &err), SILT_E_NOT_FOUND);
	assert_int_equal(silt_copy_create(b.fd, SILT_DB_SLOTS, &copy, &err), SILT_E_INVAL);
	b.db->version++;
	assert_int_equal(silt_copy_create(b.fd, 0, &copy, &err), SILT_E_UNSUPPORTED);
	b.db->magic ^= 1;
	assert_int_equal(silt_copy_create(b.fd, 0, &copy, &err), SILT_E_BAD_DATA);
	assert_null(copy);
	db_destroy(&b);
	model_destroy(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),	 cmocka_unit_test(test_large_round_trip),
		cmocka_unit_test(test_without_blocks),
		cmocka_unit_test(test_sampling),	 cmocka_unit_test(test_copy_keeps_holes),
		cmocka_unit_test(test_not_a_database),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
