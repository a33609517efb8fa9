/* SPDX-License-Identifier: MIT */
/* Small parts: the cursor, binary search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "symbols/cursor.h"
#include "symbols/search.h"

static void cursor_reads_leb128(void **state)
{
	static const uint8_t bytes[] = {0xe5, 0x8e, 0x26, 0x7f, 0x80, 0x7f, 0x80, 0x80, 0x00, 0xff};
	struct silt_cursor c = silt_cursor_at(bytes, sizeof(bytes), 0);

	(void)state;
	assert_int_equal(silt_cursor_uleb(&c), 624485);
	assert_int_equal(silt_cursor_sleb(&c), -1);
	assert_int_equal(silt_cursor_sleb(&c), -128);
	assert_int_equal(silt_cursor_uleb(&c), 0); /* padded, as assemblers write it */
	assert_false(c.bad);
	assert_int_equal(silt_cursor_uleb(&c), 0); /* has no end */
	assert_true(c.bad);
}

static void cursor_stays_bad(void **state)
{
	static const uint8_t bytes[] = {1, 2, 3, 'a', 'b'};
	struct silt_cursor c = silt_cursor_at(bytes, sizeof(bytes), 0);

	(void)state;
	assert_int_equal(silt_cursor_u16(&c), 0x201);
	assert_int_equal(silt_cursor_u32(&c), 0);
	assert_true(c.bad);
	assert_int_equal(silt_cursor_u8(&c), 0);
	c = silt_cursor_at(bytes, sizeof(bytes), 3);
	assert_null(silt_cursor_string(&c));
	c = silt_cursor_at(bytes, sizeof(bytes), 6);
	assert_true(c.bad);
	c = silt_cursor_at(bytes, sizeof(bytes), 5);
	assert_false(c.bad);
	silt_cursor_skip(&c, UINT64_MAX);
	assert_true(c.bad);
}

static void lower_bound_finds_every_gap(void **state)
{
	static const uint64_t v[] = {10, 20, 20, 30};

	(void)state;
	assert_int_equal(silt_lower_bound(v, 4, 0), 0);
	assert_int_equal(silt_lower_bound(v, 4, 10), 0);
	assert_int_equal(silt_lower_bound(v, 4, 11), 1);
	assert_int_equal(silt_lower_bound(v, 4, 20), 1);
	assert_int_equal(silt_lower_bound(v, 4, 21), 3);
	assert_int_equal(silt_lower_bound(v, 4, 31), 4);
	assert_int_equal(silt_lower_bound(v, 0, 5), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_reads_leb128), cmocka_unit_test(cursor_stays_bad),
		cmocka_unit_test(lower_bound_finds_every_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
