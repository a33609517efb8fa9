/* SPDX-License-Identifier: MIT */
/* The bounded reader: right values, and no byte beyond the end, whatever the input. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/reader.h"

static struct silt_reader over(const void *data, size_t size)
{
	struct silt_reader r;

	silt_reader_init(&r, data, size, "t", 0x100);
	return r;
}

static void fixed_numbers(void **state)
{
	static const uint8_t b[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	struct silt_reader r = over(b, sizeof(b));

	(void)state;
	assert_int_equal(silt_reader_u8(&r), 1);
	assert_int_equal(silt_reader_u16(&r), 0x0302);
	assert_int_equal(silt_reader_u32(&r), 0x07060504);
	assert_true(silt_reader_u64(&r) == 0x0f0e0d0c0b0a0908ull);
	assert_true(silt_reader_ok(&r));
	assert_int_equal(silt_reader_left(&r), 0);
	assert_int_equal(silt_reader_offset(&r), 0x100 + sizeof(b));
}

static void failure_sticks(void **state)
{
	static const uint8_t b[] = {1, 2, 3};
	struct silt_reader r = over(b, sizeof(b));
	struct silt_error e;

	(void)state;
	assert_int_equal(silt_reader_u8(&r), 1);
	assert_int_equal(silt_reader_u32(&r), 0);
	assert_false(silt_reader_ok(&r));
	assert_int_equal(silt_reader_u8(&r), 0); /* bytes are left, but the reader has failed */
	assert_int_equal(silt_reader_varint(&r), 0);
	assert_int_equal(silt_reader_left(&r), 0);
	silt_reader_fail(&r, "something later");
	assert_int_equal(silt_reader_error(&r, &e), SILT_E_BAD_DATA);
	assert_int_equal(e.offset, 0x101);
	assert_string_equal(e.msg, "t: +0x101: more bytes than are left");
}

static void huge_requests_fail(void **state)
{
	static const uint8_t b[] = {1};
	struct silt_reader r = over(b, sizeof(b));

	(void)state;
	assert_null(silt_reader_bytes(&r, UINT64_MAX));
	r = over(b, sizeof(b));
	silt_reader_skip(&r, (uint64_t)1 << 63);
	assert_false(silt_reader_ok(&r));
}

static void nothing_to_read(void **state)
{
	struct silt_reader r = over(NULL, 99);

	(void)state;
	assert_int_equal(silt_reader_left(&r), 0);
	assert_non_null(silt_reader_bytes(&r, 0));
	assert_int_equal(silt_reader_u8(&r), 0);
	assert_false(silt_reader_ok(&r));
}

static bool varint_of(const uint8_t *bytes, size_t size, uint64_t *ret)
{
	uint8_t *copy = malloc(size ? size : 1); /* of exact size: a sanitizer sees any byte read behind it */
	struct silt_reader r;
	bool ok;

	memcpy(copy, bytes, size);
	r = over(copy, size);
	*ret = silt_reader_varint(&r);
	ok = silt_reader_ok(&r);
	free(copy);
	return ok;
}

static void varints(void **state)
{
	static const struct {
		uint8_t bytes[12];
		size_t size;
		bool ok;
		uint64_t value;
	} cases[] = {
		{{0}, 1, true, 0},
		{{0x7f}, 1, true, 127},
		{{0x80, 0x01}, 2, true, 128},
		{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 10, true, UINT64_MAX},
		{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, 10, false, 0},
		{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00}, 11, false, 0},
		{{0x80, 0x00}, 2, false, 0},       /* padded */
		{{0xff, 0x80, 0x00}, 3, false, 0}, /* padded */
		{{0x80}, 1, false, 0},             /* cut short */
		{{0}, 0, false, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t v;

		assert_int_equal(varint_of(cases[i].bytes, cases[i].size, &v), cases[i].ok);
		assert_true(v == cases[i].value);
	}
}

static void signed_varints(void **state)
{
	static const uint8_t b[] = {0, 1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
	struct silt_reader r = over(b, sizeof(b));

	(void)state;
	assert_true(silt_reader_svarint(&r) == 0);
	assert_true(silt_reader_svarint(&r) == -1);
	assert_true(silt_reader_svarint(&r) == 1);
	assert_true(silt_reader_svarint(&r) == INT64_MIN);
	assert_true(silt_reader_ok(&r));
}

static void limits_hold(void **state)
{
	static const uint8_t big[] = {0x80, 0x80, 0x80, 0x80, 0x10}; /* 2^32 */
	static const uint8_t three[] = {3, 9, 9, 9, 9, 9};
	struct silt_reader r = over(big, sizeof(big));

	(void)state;
	assert_int_equal(silt_reader_varint32(&r), 0);
	assert_false(silt_reader_ok(&r));
	assert_int_equal(r.failed_at, 0x100);
	r = over(three, sizeof(three));
	assert_int_equal(silt_reader_count(&r, 2), 0); /* 3 records of 2 bytes do not fit 5 bytes */
	assert_false(silt_reader_ok(&r));
	r = over(three, sizeof(three));
	assert_int_equal(silt_reader_count(&r, 1), 3);
	assert_true(silt_reader_ok(&r));
	r = over(three, sizeof(three));
	assert_int_equal(silt_reader_varint_max(&r, 2, "at most 2"), 0);
	assert_string_equal(r.failure, "at most 2");
}

static void texts(void **state)
{
	static const uint8_t b[] = {2, 'h', 'i', 3, 'a', 0, 'b'};
	struct silt_reader r = over(b, sizeof(b));
	size_t len = 99;
	const char *p = silt_reader_text(&r, 10, &len);

	(void)state;
	assert_int_equal(len, 2);
	assert_memory_equal(p, "hi", 2);
	assert_null(silt_reader_text(&r, 10, &len)); /* NUL inside */
	assert_false(silt_reader_ok(&r));
	r = over(b, sizeof(b));
	assert_null(silt_reader_text(&r, 1, &len));
	r = over(b, 2);
	assert_null(silt_reader_text(&r, 10, &len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fixed_numbers),   cmocka_unit_test(failure_sticks), cmocka_unit_test(huge_requests_fail),
		cmocka_unit_test(nothing_to_read), cmocka_unit_test(varints),	     cmocka_unit_test(signed_varints),
		cmocka_unit_test(limits_hold),	   cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
