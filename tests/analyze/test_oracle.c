/* SPDX-License-Identifier: MIT */
/* Rows of random snapshots against a brute-force count that knows nothing of interning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "analyze/analysis.h"
#include "build_snapshot.h"
#include "fake_symbols.h"

static uint64_t random_state;

/* xorshift: the same snapshots in every run. */
static uint64_t next_random(uint64_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % below;
}

/* Few modules, offsets and frames, so that equal stacks are frequent; modules appear twice (loaded again). */
static struct silt_snapshot *random_snapshot(uint64_t seed)
{
	static const char *const PATHS[] = { "/bin/app", "/lib/liba.so", "/lib/libb.so", "/opt/libc.so.6" };
	struct silt_snapshot *s = build_snapshot();
	uint32_t modules = 0, stacks, contexts, threads;

	random_state = seed * 7919 + 1;
	for (; modules < 6; modules++) {
		uint32_t which = (uint32_t)next_random(4);

		build_module(s, PATHS[which], which == 3 ? 0 : (uint8_t)(which + 1));
	}
	for (uint32_t i = 0; i < 40; i++)
		build_frame(s, next_random(20) == 0 ? SILT_NONE : (uint32_t)next_random(modules), next_random(5) * 16);
	stacks = 20 + (uint32_t)next_random(100);
	for (uint32_t i = 0; i < stacks; i++) {
		uint32_t frames[4], count = (uint32_t)next_random(4);

		for (uint32_t k = 0; k < count; k++)
			frames[k] = (uint32_t)next_random(40);
		build_stack(s, next_random(10) == 0 ? SILT_STACK_DEPTH : 0, frames, count);
	}
	threads = 1 + (uint32_t)next_random(5);
	for (uint32_t i = 0; i < threads; i++)
		build_thread(s, 100 + i, next_random(2) ? "worker" : "main");
	s->process.with_threads = true;
	contexts = 1 + (uint32_t)next_random(200);
	for (uint32_t i = 0; i < contexts; i++) {
		uint64_t sizes[8], bytes = 0, count = next_random(8);
		uint32_t c;

		for (uint64_t k = 0; k < count; k++)
			bytes += sizes[k] = next_random(6) * 24;
		c = build_context(s, (uint32_t)next_random(stacks), bytes, count, next_random(1000), next_random(10));
		s->contexts[c].kind = next_random(8) == 0 ? SILT_KIND_MMAP : SILT_KIND_HEAP;
		s->contexts[c].thread = next_random(9) == 0 ? SILT_NONE : (uint32_t)next_random(threads);
		s->contexts[c].epoch = 1 + (uint32_t)next_random(3);
		for (uint64_t k = 0; k < count; k++)
			build_block(s, s->blocks.count * 256, sizes[k], c);
	}
	return s;
}

/* ---- brute force ---- */

static bool same_module(const struct silt_snapshot *s, uint32_t m, const struct silt_snapshot *t, uint32_t n)
{
	const struct silt_module *a, *b;

	if (m == SILT_NONE || n == SILT_NONE)
		return m == n;
	a = &s->modules[m];
	b = &t->modules[n];
	if (a->build_id_len != b->build_id_len)
		return false;
	return a->build_id_len ? memcmp(a->build_id, b->build_id, a->build_id_len) == 0 : strcmp(a->path, b->path) == 0;
}

static bool same_stack(const struct silt_snapshot *s, uint32_t m, const struct silt_snapshot *t, uint32_t n)
{
	const struct silt_stack *a = &s->stacks[m], *b = &t->stacks[n];

	if (a->frame_count != b->frame_count || a->flags != b->flags)
		return false;
	for (uint32_t i = 0; i < a->frame_count; i++) {
		const struct silt_frame *f = &s->frames[s->stack_frames[a->frame_first + i]];
		const struct silt_frame *g = &t->frames[t->stack_frames[b->frame_first + i]];

		if (f->offset != g->offset || !same_module(s, f->module, t, g->module))
			return false;
	}
	return true;
}

/* What all contexts of one stack and kind add up to. */
static struct silt_sum sum_stack(const struct silt_snapshot *s, const struct silt_snapshot *of, uint32_t stack,
				 uint32_t kind, uint32_t after_epoch)
{
	struct silt_sum sum = { 0 };

	for (uint32_t i = 0; s && i < s->context_count; i++) {
		const struct silt_context *c = &s->contexts[i];

		if (c->kind != kind || c->epoch <= after_epoch || !same_stack(s, c->stack, of, stack))
			continue;
		sum.bytes += c->live_bytes;
		sum.count += c->live_count;
		sum.alloc_bytes += c->alloc_bytes;
		sum.alloc_count += c->alloc_count;
	}
	return sum;
}

static void assert_sums(const struct silt_sum *a, const struct silt_sum *b)
{
	assert_int_equal(a->bytes, b->bytes);
	assert_int_equal(a->count, b->count);
	assert_int_equal(a->alloc_bytes, b->alloc_bytes);
	assert_int_equal(a->alloc_count, b->alloc_count);
}

/* The row that a context of snapshot `side` belongs to, through the report's own numbering; NULL if left out. */
static const struct silt_row *row_of(const struct silt_analysis *r, unsigned side, const struct silt_context *c)
{
	for (size_t i = 0; i < r->row_count; i++)
		if (r->rows[i].stack == silt_analysis_stack(r, side, c) && r->rows[i].kind == c->kind)
			return &r->rows[i];
	return NULL;
}

/* Every context's row holds exactly what brute force finds for its stack on both sides; no row is without context. */
static void check_rows(const struct silt_analysis *r, const struct silt_snapshot *b, const struct silt_snapshot *a,
		       uint32_t after_epoch)
{
	const struct silt_snapshot *sides[2] = { b, a };
	bool *seen = calloc(r->row_count + 1, sizeof(*seen));

	for (unsigned side = 0; side < 2; side++) {
		for (uint32_t i = 0; sides[side] && i < sides[side]->context_count; i++) {
			const struct silt_context *c = &sides[side]->contexts[i];
			struct silt_sum before = sum_stack(b, sides[side], c->stack, c->kind, 0);
			struct silt_sum after = sum_stack(a, sides[side], c->stack, c->kind, after_epoch);
			const struct silt_row *row;

			if (c->epoch <= after_epoch)
				continue;
			row = row_of(r, side, c);
			if (before.bytes == after.bytes && before.count == after.count) {
				assert_null(row); /* unchanged (or nothing live): left out */
				continue;
			}
			assert_non_null(row);
			seen[row - r->rows] = true;
			assert_sums(&row->sum[SILT_BEFORE], &before);
			assert_sums(&row->sum[SILT_AFTER], &after);
		}
	}
	for (size_t i = 0; i < r->row_count; i++)
		assert_true(seen[i]);
	free(seen);
}

static void prepare(struct silt_analysis *r, const struct silt_snapshot *b, const struct silt_snapshot *a,
		    const struct silt_report_options *o)
{
	struct silt_error err = { 0 };
	int rc = silt_analysis_prepare(r, b, a, o, &err);

	if (rc != 0)
		fail_msg("%s", err.msg);
}

static void check_order(const struct silt_analysis *r)
{
	for (size_t i = 1; i < r->row_count; i++) {
		const struct silt_row *x = &r->rows[i - 1], *y = &r->rows[i];

		assert_true((int64_t)(x->sum[1].bytes - x->sum[0].bytes) >=
			    (int64_t)(y->sum[1].bytes - y->sum[0].bytes));
	}
}

enum { SEEDS = 60 };

static void show_equals_brute_force(void **state)
{
	struct silt_report_options o = { .top = 0 };

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct silt_snapshot *s = random_snapshot(seed);
		struct silt_analysis r;

		prepare(&r, NULL, s, &o);
		check_rows(&r, NULL, s, 0);
		check_order(&r);
		assert_int_equal(r.totals[SILT_AFTER].bytes, s->total_bytes);
		assert_int_equal(r.totals[SILT_AFTER].count, s->total_count);
		silt_analysis_deinit(&r);
		silt_snapshot_destroy(s);
	}
}

static void diff_equals_brute_force(void **state)
{
	struct silt_report_options o = { .top = 0 };

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct silt_snapshot *b = random_snapshot(seed), *a = random_snapshot(seed + 1000);
		struct silt_analysis r;
		int64_t bytes = 0;

		prepare(&r, b, a, &o);
		check_rows(&r, b, a, 0);
		check_order(&r);
		for (size_t i = 0; i < r.row_count; i++)
			bytes += (int64_t)(r.rows[i].sum[1].bytes - r.rows[i].sum[0].bytes);
		assert_int_equal(bytes, (int64_t)(a->total_bytes - b->total_bytes));
		silt_analysis_deinit(&r);
		silt_snapshot_destroy(b);
		silt_snapshot_destroy(a);
	}
}

static void diff_with_itself_is_empty(void **state)
{
	struct silt_report_options o = { .top = 0 };

	(void)state;
	for (int by = SILT_BY_STACK; by <= SILT_BY_THREAD; by++) {
		struct silt_snapshot *b = random_snapshot(5), *a = random_snapshot(5);
		struct silt_analysis r;

		o.by = (enum silt_by)by;
		a->process.epoch = 2;
		prepare(&r, b, a, &o);
		assert_int_equal(r.row_count, 0);
		silt_analysis_deinit(&r);
		silt_snapshot_destroy(b);
		silt_snapshot_destroy(a);
	}
}

static void diff_backwards_is_negated(void **state)
{
	struct silt_report_options o = { .top = 0 };
	struct silt_snapshot *b = random_snapshot(11), *a = random_snapshot(12);
	struct silt_analysis forth, back;

	(void)state;
	prepare(&forth, b, a, &o);
	prepare(&back, a, b, &o);
	assert_int_equal(forth.row_count, back.row_count);
	assert_true(forth.row_count > 10);
	for (uint32_t i = 0; i < a->context_count; i++) {
		const struct silt_row *x = row_of(&forth, SILT_AFTER, &a->contexts[i]);
		const struct silt_row *y = row_of(&back, SILT_BEFORE, &a->contexts[i]);

		assert_int_equal(!x, !y);
		if (x) {
			assert_sums(&x->sum[SILT_BEFORE], &y->sum[SILT_AFTER]);
			assert_sums(&x->sum[SILT_AFTER], &y->sum[SILT_BEFORE]);
		}
	}
	silt_analysis_deinit(&forth);
	silt_analysis_deinit(&back);
	silt_snapshot_destroy(b);
	silt_snapshot_destroy(a);
}

static void new_counts_later_epochs_only(void **state)
{
	struct silt_report_options o = { .top = 0, .only_new = true };

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct silt_snapshot *b = random_snapshot(seed), *a = random_snapshot(seed + 1000);
		struct silt_analysis r;
		uint64_t bytes = 0;

		b->process.epoch = 1;
		a->process.epoch = 3;
		prepare(&r, b, a, &o);
		check_rows(&r, NULL, a, 1);
		for (uint32_t i = 0; i < a->context_count; i++)
			bytes += a->contexts[i].epoch > 1 ? a->contexts[i].live_bytes : 0;
		assert_int_equal(r.totals[SILT_AFTER].bytes, bytes);
		assert_int_equal(r.totals[SILT_BEFORE].bytes, 0);
		silt_analysis_deinit(&r);
		silt_snapshot_destroy(b);
		silt_snapshot_destroy(a);
	}
}

/* Whatever is left out is accounted for: shown rows and omissions add up to the totals. */
static void omissions_add_up(void **state)
{
	struct silt_report_options o = { .top = 3, .min_bytes = 100, .min_count = 2, .ignore = "liba" };

	(void)state;
	for (int by = SILT_BY_STACK; by <= SILT_BY_THREAD; by++) {
		struct silt_snapshot *s = random_snapshot(21);
		struct silt_analysis r;
		uint64_t bytes = 0, count = 0;

		o.by = (enum silt_by)by;
		prepare(&r, NULL, s, &o);
		assert_in_range(r.shown, 1, 3);
		for (size_t i = 0; i < r.shown; i++) {
			bytes += r.rows[i].sum[1].bytes;
			count += r.rows[i].sum[1].count;
			assert_true(r.rows[i].sum[1].bytes >= 100 && r.rows[i].sum[1].count >= 2);
		}
		for (int i = 0; i < SILT_OMISSIONS; i++) {
			bytes += r.omitted[i].sum[1].bytes;
			count += r.omitted[i].sum[1].count;
		}
		assert_true(r.omitted[SILT_OMIT_REGEX].rows > 0);
		assert_int_equal(bytes, s->total_bytes);
		assert_int_equal(count, s->total_count);
		silt_analysis_deinit(&r);
		silt_snapshot_destroy(s);
	}
}

static void sizes_equal_brute_force(void **state)
{
	struct silt_report_options o = { .top = 0, .by = SILT_BY_SIZE };

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct silt_snapshot *b = random_snapshot(seed), *a = random_snapshot(seed + 1000);
		const struct silt_snapshot *sides[2] = { b, a };
		uint64_t expected[2][200] = { { 0 } };
		struct silt_analysis r;

		for (unsigned side = 0; side < 2; side++)
			for (uint64_t i = 0; i < sides[side]->blocks.count; i++)
				expected[side][sides[side]->blocks.size[i]]++;
		prepare(&r, b, a, &o);
		for (size_t i = 0; i < r.row_count; i++) {
			for (unsigned side = 0; side < 2; side++) {
				assert_int_equal(r.rows[i].sum[side].count, expected[side][r.rows[i].size]);
				assert_int_equal(r.rows[i].sum[side].bytes,
						 expected[side][r.rows[i].size] * r.rows[i].size);
			}
			expected[0][r.rows[i].size] = expected[1][r.rows[i].size] = 0;
		}
		for (size_t i = 0; i < 200; i++)
			assert_int_equal(expected[0][i], expected[1][i]); /* the rest is unchanged */
		silt_analysis_deinit(&r);
		silt_snapshot_destroy(b);
		silt_snapshot_destroy(a);
	}
}

static void sampled_sizes_are_weighed(void **state)
{
	struct silt_report_options o = { .top = 0, .by = SILT_BY_SIZE };
	struct silt_snapshot *s = build_snapshot();
	struct silt_analysis r;
	uint32_t c = build_context(s, build_stack(s, 0, NULL, 0), 200 * 1000000, 1000000, 0, 0);

	(void)state;
	s->process.sample_bytes = 1000;
	for (uint64_t i = 0; i < 100; i++)
		build_block(s, i * 256, 200, c);
	prepare(&r, NULL, s, &o);
	assert_true(r.estimated);
	assert_int_equal(r.row_count, 1);
	/* 1 / (1 - exp(-0.2)) = 5.5167 */
	assert_int_equal(r.rows[0].sum[1].count, 552);
	assert_in_range(r.rows[0].sum[1].bytes, 110300, 110400);
	silt_analysis_deinit(&r);
	silt_snapshot_destroy(s);
}

static void threads_equal_brute_force(void **state)
{
	struct silt_report_options o = { .top = 0, .by = SILT_BY_THREAD };
	struct silt_snapshot *s = random_snapshot(33);
	struct silt_analysis r;

	(void)state;
	prepare(&r, NULL, s, &o);
	assert_true(r.row_count >= 2);
	for (size_t i = 0; i < r.row_count; i++) {
		struct silt_sum sum = { 0 };

		for (uint32_t k = 0; k < s->context_count; k++) {
			const struct silt_context *c = &s->contexts[k];

			if (c->thread == r.rows[i].thread) {
				sum.bytes += c->live_bytes;
				sum.count += c->live_count;
				sum.alloc_bytes += c->alloc_bytes;
				sum.alloc_count += c->alloc_count;
			}
		}
		assert_sums(&r.rows[i].sum[1], &sum);
	}
	silt_analysis_deinit(&r);
	silt_snapshot_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(show_equals_brute_force),
		cmocka_unit_test(diff_equals_brute_force),
		cmocka_unit_test(diff_with_itself_is_empty),
		cmocka_unit_test(diff_backwards_is_negated),
		cmocka_unit_test(new_counts_later_epochs_only),
		cmocka_unit_test(omissions_add_up),
		cmocka_unit_test(sizes_equal_brute_force),
		cmocka_unit_test(sampled_sizes_are_weighed),
		cmocka_unit_test(threads_equal_brute_force),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
