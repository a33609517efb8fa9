/* SPDX-License-Identifier: MIT */
/* The arena: aligned, zeroed, separate, limited. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"

static void aligned_zeroed_separate(void **state)
{
	struct silt_arena *a = silt_arena_create();
	unsigned char *p[2000];
	size_t sizes[2000], i, k;

	(void)state;
	assert_non_null(a);
	for (i = 0; i < 2000; i++) {
		sizes[i] = i % 97 == 0 ? 100000 : i * 7 % 300;
		p[i] = silt_arena_alloc(a, sizes[i]);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % 16, 0);
		for (k = 0; k < sizes[i]; k++)
			assert_int_equal(p[i][k], 0);
		memset(p[i], (int)(i % 255) + 1, sizes[i]);
	}
	for (i = 0; i < 2000; i++)
		for (k = 0; k < sizes[i]; k++)
			assert_int_equal(p[i][k], i % 255 + 1);
	silt_arena_destroy(a);
	silt_arena_destroy(NULL);
}

static void overflow_is_refused(void **state)
{
	struct silt_arena *a = silt_arena_create();

	(void)state;
	assert_null(silt_arena_array(a, UINT64_MAX, 8));
	assert_null(silt_arena_array(a, UINT64_MAX / 8 + 2, 8));
	assert_null(silt_arena_alloc(a, SIZE_MAX));
	assert_null(silt_arena_alloc(a, SIZE_MAX - 20));
	assert_non_null(silt_arena_array(a, 0, 8));
	silt_arena_destroy(a);
}

static void limit_holds(void **state)
{
	struct silt_arena *a = silt_arena_create();

	(void)state;
	silt_arena_set_limit(a, 1000);
	assert_non_null(silt_arena_alloc(a, 900));
	assert_null(silt_arena_alloc(a, 200));
	assert_non_null(silt_arena_alloc(a, 80));
	assert_true(silt_arena_used(a) <= 1000);
	assert_null(silt_arena_alloc(a, 1u << 30));
	silt_arena_set_limit(a, 0);
	assert_non_null(silt_arena_alloc(a, 200));
	silt_arena_destroy(a);
}

static void strings(void **state)
{
	struct silt_arena *a = silt_arena_create();

	(void)state;
	assert_string_equal(silt_arena_strdup(a, "abc"), "abc");
	assert_string_equal(silt_arena_strdup(a, ""), "");
	assert_null(silt_arena_strdup(a, NULL));
	assert_string_equal(silt_arena_strndup(a, "abcdef", 2), "ab");
	silt_arena_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aligned_zeroed_separate),
		cmocka_unit_test(overflow_is_refused),
		cmocka_unit_test(limit_holds),
		cmocka_unit_test(strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
