/* SPDX-License-Identifier: MIT */
/* Vector, map and interning, each against a plain model. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/vec.h"

static void vector_grows(void **state)
{
	SILT_VEC(uint32_t) v = {0};
	uint32_t i;

	(void)state;
	for (i = 0; i < 10000; i++)
		assert_true(silt_vec_push(&v, i * 3));
	assert_int_equal(v.count, 10000);
	for (i = 0; i < 10000; i++)
		assert_int_equal(v.items[i], i * 3);
	assert_false(silt_vec_reserve(&v, SIZE_MAX / 2));
	assert_int_equal(v.count, 10000);
	silt_vec_free(&v);
	assert_null(v.items);
}

static void map_against_array(void **state)
{
	enum { KEYS = 3000 };
	struct silt_map m = SILT_MAP_INIT;
	uint32_t model[KEYS], value;
	bool there[KEYS] = {false};
	unsigned long long x = 7;
	size_t i, count = 0;

	(void)state;
	assert_false(silt_map_get(&m, 0, &value));
	for (i = 0; i < 20000; i++) {
		uint64_t key;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		key = (x >> 33) % KEYS;
		if (x >> 20 & 1) {
			/* keys spread over all 64 bits; 0 and UINT64_MAX are among them */
			assert_true(silt_map_put(&m, 0 - key, (uint32_t)x));
			model[key] = (uint32_t)x;
			count += !there[key];
			there[key] = true;
		} else {
			assert_int_equal(silt_map_get(&m, 0 - key, &value), there[key]);
			if (there[key])
				assert_int_equal(value, model[key]);
		}
	}
	assert_int_equal(m.count, count);
	silt_map_deinit(&m);
	assert_false(silt_map_get(&m, 5, &value));
}

static void map_slot_tells_new(void **state)
{
	struct silt_map m = SILT_MAP_INIT;
	bool is_new = false;
	uint32_t *p = silt_map_slot(&m, UINT64_MAX, 9, &is_new);

	(void)state;
	assert_true(is_new);
	assert_int_equal(*p, 9);
	*p = 10;
	p = silt_map_slot(&m, UINT64_MAX, 11, &is_new);
	assert_false(is_new);
	assert_int_equal(*p, 10);
	silt_map_deinit(&m);
}

static void intern_is_dense_and_stable(void **state)
{
	struct silt_intern *in = silt_intern_create();
	const char *first;
	char text[32];
	uint32_t i;

	(void)state;
	assert_int_equal(silt_intern_find(in, "n0"), SILT_INTERN_NONE);
	for (i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "n%u", i);
		assert_int_equal(silt_intern_add(in, text), i);
	}
	first = silt_intern_text(in, 0);
	for (i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "n%u", i);
		assert_int_equal(silt_intern_add(in, text), i);
		assert_int_equal(silt_intern_find(in, text), i);
		assert_string_equal(silt_intern_text(in, i), text);
	}
	assert_ptr_equal(silt_intern_text(in, 0), first);
	assert_int_equal(silt_intern_count(in), 5000);
	assert_int_equal(silt_intern_add_bytes(in, "a\0b", 3), 5000);
	assert_int_equal(silt_intern_add_bytes(in, "a\0c", 3), 5001);
	assert_int_equal(silt_intern_size(in, 5000), 3);
	assert_int_equal(silt_intern_add(in, NULL), SILT_INTERN_NONE);
	assert_null(silt_intern_text(in, SILT_INTERN_NONE));
	silt_intern_destroy(in);
	silt_intern_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vector_grows),
		cmocka_unit_test(map_against_array),
		cmocka_unit_test(map_slot_tells_new),
		cmocka_unit_test(intern_is_dense_and_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
