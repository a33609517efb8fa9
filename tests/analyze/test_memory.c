/* SPDX-License-Identifier: MIT */
/* Reports when memory runs out: every allocation fails in turn; the linker leads them here (--wrap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyze/analyze.h"
#include "build_snapshot.h"
#include "fake_symbols.h"

static long allocations_left = -1; /* -1: no end */

static bool allowed(void)
{
	if (allocations_left > 0)
		allocations_left--;
	return allocations_left != 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
	return allowed() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return allowed() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
	return allowed() ? __real_realloc(p, size) : NULL;
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return allowed() ? __real_reallocarray(p, n, size) : NULL;
}

static const struct fake_address SYMBOLS[] = {
	{ "/bin/app", 1, 0x10, { { .function = "work", .file = "/src/a.c", .line = 12, .function_start = 0x10 } } },
	{ "/bin/app", 2, 0x20, { { .function = "work", .file = "/src/a.c", .line = 15, .function_start = 0x20 } } },
};

static struct silt_snapshot *snapshot(uint8_t build, uint64_t offset)
{
	struct silt_snapshot *s = build_snapshot();
	uint32_t frames[2], thread = build_thread(s, 100, "main");
	uint32_t app = build_module(s, "/bin/app", build), lib = build_module(s, "/lib/plain.so", 0);

	s->process.with_threads = true;
	for (uint32_t i = 0; i < 300; i++) {
		uint32_t c;

		frames[0] = build_frame(s, i % 2 ? app : lib, i % 2 ? offset : i * 16);
		frames[1] = build_frame(s, app, offset);
		c = build_context(s, build_stack(s, 0, frames, 2), (i + build) * 8, 1, 8, 1);
		s->contexts[c].thread = thread;
		build_block(s, 4096 * (i + 1), (i + build) * 8, c);
	}
	return s;
}

/* Runs one report with its n-th allocation failing; true when it had fewer. */
static bool survives(const struct silt_snapshot *b, const struct silt_snapshot *a, const struct silt_report_options *o,
		     FILE *out, long n)
{
	struct silt_error err = { 0 };
	bool ended;
	int rc;

	allocations_left = n;
	rc = b ? silt_report_diff(b, a, o, out, &err) : silt_report_show(a, o, out, &err);
	ended = allocations_left != 0;
	allocations_left = -1;
	if (ended) {
		assert_int_equal(rc, 0);
	} else {
		assert_int_equal(rc, SILT_E_NOMEM);
		assert_true(strlen(err.msg) > 0);
	}
	return ended;
}

static void every_allocation_may_fail(void **state)
{
	struct silt_snapshot *b = snapshot(1, 0x10), *a = snapshot(2, 0x20);
	FILE *out = fopen("/dev/null", "w");

	(void)state;
	a->process.session[0] = 99;
	fake_symbols_set(SYMBOLS, SILT_ARRAY_LEN(SYMBOLS));
	for (int by = SILT_BY_STACK; by <= SILT_BY_THREAD; by++) {
		for (int diff = 0; diff < 2; diff++) {
			struct silt_report_options o = { .by = (enum silt_by)by, .ignore = "nothing", .json = diff };
			long n = 1;

			while (!survives(diff ? b : NULL, a, &o, out, n))
				n++;
			assert_true(n > 10);
		}
	}
	fclose(out);
	silt_snapshot_destroy(b);
	silt_snapshot_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_allocation_may_fail) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
