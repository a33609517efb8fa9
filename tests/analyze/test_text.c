/* SPDX-License-Identifier: MIT */
/* The JSON writer and the text helpers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "analyze/json.h"
#include "analyze/text.h"

static void assert_json_string(const char *text, const char *expected)
{
	struct silt_json j;
	char *out;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	silt_json_init(&j, f);
	silt_json_string(&j, text);
	fclose(f);
	assert_string_equal(out, expected);
	free(out);
}

static void json_strings(void **state)
{
	(void)state;
	assert_json_string(NULL, "null");
	assert_json_string("", "\"\"");
	assert_json_string("a\"b\\c\n\t\x01\x7f", "\"a\\\"b\\\\c\\n\\t\\u0001\\u007f\"");
	assert_json_string("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
	assert_json_string("x\xffy", "\"x\xef\xbf\xbdy\"");
	assert_json_string("\xc3", "\"\xef\xbf\xbd\"");                              /* cut short */
	assert_json_string("\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"");              /* overlong NUL */
	assert_json_string("\xe0\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); /* overlong */
	assert_json_string("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); /* surrogate */
	assert_json_string("\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void json_structure(void **state)
{
	const uint8_t id[] = { 0x0a, 0xff };
	struct silt_json j;
	char *out;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	(void)state;
	silt_json_init(&j, f);
	silt_json_object(&j);
	silt_json_key(&j, "a");
	silt_json_array(&j);
	silt_json_unsigned(&j, UINT64_MAX);
	silt_json_signed(&j, INT64_MIN);
	silt_json_end(&j);
	silt_json_key(&j, "b");
	silt_json_object(&j);
	silt_json_end(&j);
	silt_json_key(&j, "c");
	silt_json_address(&j, 0xabc);
	silt_json_key(&j, "d");
	silt_json_hex(&j, id, sizeof(id));
	silt_json_key(&j, "e");
	silt_json_bool(&j, true);
	silt_json_end(&j);
	fclose(f);
	assert_string_equal(out, "{\n \"a\":[\n  18446744073709551615,\n  -9223372036854775808],\n \"b\":{},\n"
				 " \"c\":\"0xabc\",\n \"d\":\"0aff\",\n \"e\":true}\n");
	free(out);
}

static void sizes(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} CASES[] = {
		{ 0, "0 B" },           { 1023, "1023 B" },          { 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },    { 1048575, "1.0 MiB" },      { 1048576, "1.0 MiB" },
		{ 5ull << 30, "5.0 GiB" }, { UINT64_MAX, "16.0 EiB" },
	};
	char buf[SILT_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++)
		assert_string_equal(silt_text_size(buf, CASES[i].bytes), CASES[i].text);
	assert_string_equal(silt_text_growth(buf, 2048), "+2.0 KiB");
	assert_string_equal(silt_text_growth(buf, -5), "-5 B");
	assert_string_equal(silt_text_growth(buf, 0), "0 B");
	assert_string_equal(silt_text_growth(buf, INT64_MIN), "-8.0 EiB");
}

static void times(void **state)
{
	char buf[SILT_TEXT_MAX];

	(void)state;
	assert_string_equal(silt_text_time(buf, 1700000000123456789), "2023-11-14 22:13:20 UTC");
	assert_string_equal(silt_text_iso_time(buf, 1700000000123456789), "2023-11-14T22:13:20.123456789Z");
	assert_string_equal(silt_text_iso_time(buf, -1), "1969-12-31T23:59:59.999999999Z");
	assert_string_equal(silt_text_time(buf, 0), "at an unknown time");
	assert_null(silt_text_iso_time(buf, 0));
	assert_non_null(silt_text_iso_time(buf, INT64_MIN));
	assert_string_equal(silt_text_duration(buf, 1500), "1 us");
	assert_string_equal(silt_text_duration(buf, 20000000), "20.0 ms");
	assert_string_equal(silt_text_duration(buf, 12345000000), "12.3 s");
}

static void assert_printed(const char *text, size_t max, bool keep_end, const char *expected)
{
	char *out;
	size_t size;
	FILE *f = open_memstream(&out, &size);
	size_t columns = silt_text_print(f, text, max, keep_end);

	fclose(f);
	assert_string_equal(out, expected);
	assert_int_equal(columns, silt_text_columns(text, max));
	free(out);
}

static void printed_names(void **state)
{
	(void)state;
	assert_printed("plain", 0, false, "plain");
	assert_printed("plain", 5, false, "plain");
	assert_printed("a_long_name", 8, false, "a_lon...");
	assert_printed("/a/long/path.c", 9, true, "...path.c");
	assert_printed("abcdef", 2, false, "ab");
	assert_printed("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 4, false, "\xc3\xa9...");
	assert_printed("\033[31mred\x07\n", 0, false, "?[31mred??");
	assert_printed("c1:\xc2\x9b!", 0, false, "c1:?!");
	assert_printed("bad\xff", 0, false, "bad?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_strings), cmocka_unit_test(json_structure), cmocka_unit_test(sizes),
		cmocka_unit_test(times),        cmocka_unit_test(printed_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
