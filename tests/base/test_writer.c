/* SPDX-License-Identifier: MIT */
/* The writer: what it writes the reader reads, and its limit holds. */
#include "cmocka_all.h"

#include <string.h>

#include "base/reader.h"
#include "base/writer.h"

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void round_trip(void **state)
{
	struct silt_writer w = {0};
	struct silt_reader r;
	uint64_t x = 42;
	size_t i, len;

	(void)state;
	for (i = 0; i < 5000; i++) {
		uint64_t v = next_random(&x) >> next_random(&x) % 64;

		silt_writer_u8(&w, (uint8_t)v);
		silt_writer_u16(&w, (uint16_t)v);
		silt_writer_u32(&w, (uint32_t)v);
		silt_writer_u64(&w, v);
		silt_writer_varint(&w, v);
		silt_writer_svarint(&w, (int64_t)v);
		silt_writer_svarint(&w, -(int64_t)(v >> 1));
		silt_writer_text(&w, "text", v % 5);
	}
	assert_true(silt_writer_ok(&w));
	silt_reader_init(&r, w.data, w.size, "t", 0);
	x = 42;
	for (i = 0; i < 5000; i++) {
		uint64_t v = next_random(&x) >> next_random(&x) % 64;

		assert_int_equal(silt_reader_u8(&r), (uint8_t)v);
		assert_int_equal(silt_reader_u16(&r), (uint16_t)v);
		assert_int_equal(silt_reader_u32(&r), (uint32_t)v);
		assert_true(silt_reader_u64(&r) == v);
		assert_true(silt_reader_varint(&r) == v);
		assert_true(silt_reader_svarint(&r) == (int64_t)v);
		assert_true(silt_reader_svarint(&r) == -(int64_t)(v >> 1));
		assert_memory_equal(silt_reader_text(&r, 4, &len), "text", v % 5);
		assert_int_equal(len, v % 5);
	}
	assert_true(silt_reader_ok(&r));
	assert_int_equal(silt_reader_left(&r), 0);
	silt_writer_deinit(&w);
}

static void limit_holds_and_sticks(void **state)
{
	struct silt_writer w;

	(void)state;
	silt_writer_init(&w, 10);
	silt_writer_u64(&w, 1);
	silt_writer_u16(&w, 2);
	assert_true(silt_writer_ok(&w));
	silt_writer_u8(&w, 3);
	assert_false(silt_writer_ok(&w));
	assert_int_equal(w.size, 10);
	assert_null(silt_writer_reserve(&w, 0));
	silt_writer_clear(&w);
	assert_true(silt_writer_ok(&w));
	assert_int_equal(w.size, 0);
	assert_null(silt_writer_reserve(&w, SIZE_MAX));
	assert_false(silt_writer_ok(&w));
	silt_writer_deinit(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(limit_holds_and_sticks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
