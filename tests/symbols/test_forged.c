/* SPDX-License-Identifier: MIT */
/*
 * Debug information written byte by byte: what it must answer when it is sound, and that each of the mistakes and tricks
 * below costs no more than what it touches. Among them are those that libdwarf 20210528 falls for.
 */
#include <elf.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "symbols/symbols.h"
#include "tests/fuzz/elf_forge.h"

enum { OUTER = FORGE_TEXT, INLINED = FORGE_TEXT + 0x48 };

static char dir[64];

/* What silt says of the two places: "function file:line" of each frame, innermost first, ";" between; then the warnings. */
static const char *ask(const struct silt_writer sections[FORGE_DWARF_SECTIONS])
{
	static char text[4096];
	struct silt_symbols_options options = {.timeout_seconds = 10, .max_memory = 64 << 20};
	struct silt_symbols *sy = silt_symbols_create(&options);
	struct forge_section list[FORGE_DWARF_SECTIONS];
	static const uint64_t places[] = {OUTER, INLINED};
	struct silt_writer w = {0};
	size_t n = 0, used = 0;
	char path[128];
	FILE *f;
	int m;

	for (int i = 0; i < FORGE_DWARF_SECTIONS; i++)
		if (sections[i].size)
			list[n++] = (struct forge_section){forge_dwarf_names[i], SHT_PROGBITS, 0, 0, sections[i].data, sections[i].size};
	forge_elf(&w, list, n);
	snprintf(path, sizeof(path), "%s/forged", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(w.data, 1, w.size, f), w.size);
	fclose(f);
	silt_writer_deinit(&w);
	m = silt_symbols_add_module(sy, path, NULL, 0, NULL);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(silt_symbols_request(sy, m, places[i], true, NULL), SILT_OK);
	alarm(120);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	alarm(0);
	text[0] = '\0';
	for (size_t i = 0; i < 2; i++) {
		size_t count;
		const struct silt_symbol_frame *fr = silt_symbols_lookup(sy, m, places[i], true, &count);

		for (size_t k = 0; k < count; k++)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %s:%u;", fr[k].function ? fr[k].function : "?",
						 fr[k].file ? fr[k].file : "?", fr[k].line);
		used += (size_t)snprintf(text + used, sizeof(text) - used, "|");
	}
	for (size_t i = 0; i < silt_symbols_warning_count(sy); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, " %s", silt_symbols_warning(sy, i));
	/* Whatever the file holds: the parser lives to say so itself. */
	assert_null(strstr(text, "crashed"));
	assert_null(strstr(text, "more than"));
	silt_symbols_destroy(sy);
	return text;
}

static const char sound[] = "space::outer() /source/unit.cpp:10;|space::helper /source/include/helper.h:12;space::outer() "
			    "/source/unit.cpp:42;|";
/* Version 5 counts files from 0, and the program names file 2, which is none. */
static const char sound5[] = "space::outer() /source/include/helper.h:10;|space::helper ?:12;space::outer() "
			     "/source/include/helper.h:42;|";

static void understands_every_version(void **state)
{
	(void)state;
	for (unsigned version = 2; version <= 6; version++) {
		struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}};

		/* 6: version 5 with strings, addresses and ranges by index. */
		forge_unit(s, version < 6 ? version : 5, version == 6);
		assert_string_equal(ask(s), version < 5 ? sound : sound5);
		forge_free(s);
	}
}

/* Replaces the first occurrence of bytes. */
static void replace(struct silt_writer *w, const char *old, size_t old_size, const char *new, size_t new_size)
{
	struct silt_writer out = {0};
	uint8_t *at = memmem(w->data, w->size, old, old_size);

	assert_non_null(at);
	silt_writer_bytes(&out, w->data, (size_t)(at - w->data));
	silt_writer_bytes(&out, new, new_size);
	silt_writer_bytes(&out, at + old_size, w->size - (size_t)(at - w->data) - old_size);
	silt_writer_deinit(w);
	*w = out;
}

/* A version 4 or 5 unit with some bytes of one section replaced; lengths in headers are put right again. */
static const char *ask_changed(unsigned version, enum forge_dwarf section, const char *old, size_t old_size, const char *new,
			       size_t new_size)
{
	struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}};
	uint32_t length, header_length;
	const char *answer;

	forge_unit(s, version, 0);
	replace(&s[section], old, old_size, new, new_size);
	if (new_size != old_size && (section == FORGE_LINE || section == FORGE_INFO)) {
		length = (uint32_t)(s[section].size - 4);
		memcpy(s[section].data, &length, 4);
	}
	if (new_size != old_size && section == FORGE_LINE) {
		size_t at = version >= 5 ? 8 : 6;

		memcpy(&header_length, s[section].data + at, 4);
		header_length += (uint32_t)(new_size - old_size);
		memcpy(s[section].data + at, &header_length, 4);
	}
	answer = ask(s);
	forge_free(s);
	return answer;
}

#define CHANGED(version, section, old, new) ask_changed(version, section, old, sizeof(old) - 1, new, sizeof(new) - 1)

static void believes_no_counts_of_line_tables(void **state)
{
	static const char *const counts[] = {"\x7f", "\xff\xff\xff\xff\xf", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x1"};

	(void)state;
	/* Directories and files of version 5: "one form, path as line_strp, two of them". */
	for (size_t i = 0; i < 3; i++) {
		char dirs[16] = "\1\1\x1f", files[24] = "\2\1\x1f\2\x0b";
		const char *answer;

		strcpy(dirs + 3, counts[i]);
		answer = ask_changed(5, FORGE_LINE, "\1\1\x1f\2", 4, dirs, strlen(dirs));
		assert_non_null(strstr(answer, "space::outer() ?:"));
		strcpy(files + 5, counts[i]);
		answer = ask_changed(5, FORGE_LINE, "\2\1\x1f\2\x0b\2", 6, files, strlen(files));
		assert_non_null(strstr(answer, "space::outer() "));
	}
	/* The number of forms, too. */
	assert_non_null(strstr(CHANGED(5, FORGE_LINE, "\2\1\x1f\2\x0b\2", "\xff\1\x1f\2\x0b\2"), "space::outer() "));
}

static void knows_directories_by_their_bounds(void **state)
{
	(void)state;
	/* The second file's directory is as many as there are: one beyond the last. */
	assert_non_null(strstr(CHANGED(5, FORGE_LINE, "\x19\0\0\0\1", "\x19\0\0\0\2"), "space::outer() "));
	assert_non_null(strstr(CHANGED(4, FORGE_LINE, "helper.h\0\1", "helper.h\0\2"), "space::outer() /source/unit.cpp:10;"));
	assert_non_null(strstr(CHANGED(4, FORGE_LINE, "helper.h\0\1", "helper.h\0\x7f"), "space::outer() /source/unit.cpp:10;"));
}

static void passes_over_unknown_line_contents(void **state)
{
	static const char md5[] = "\2\1\x1f\5\x1e\2";
	const char *answer;

	(void)state;
	/* A vendor's content type, as udata, in the place of the directory; and an MD5 where directories were. */
	answer = CHANGED(5, FORGE_LINE, "\2\1\x1f\2\x0b\2", "\2\1\x1f\x81\x40\x0b\2");
	assert_non_null(strstr(answer, "helper.h:10;"));
	answer = ask_changed(5, FORGE_LINE, "\2\1\x1f\2\x0b\2", 6, md5, sizeof(md5) - 1);
	assert_non_null(strstr(answer, "space::outer() "));
}

static void survives_odd_line_headers(void **state)
{
	/* default_is_stmt, line_base, line_range, opcode_base */
	static const char *const heads[] = {"\1\xfb\0\xd", "\1\xfb\xe\0", "\1\xfb\xe\1", "\1\x80\xff\xff", "\1\xfb\xe\2"};

	(void)state;
	for (size_t i = 0; i < 5; i++)
		for (unsigned version = 2; version <= 5; version++)
			assert_non_null(strstr(ask_changed(version, FORGE_LINE, "\1\xfb\xe\xd", 4, heads[i], 4), "space::outer() "));
	/* Version 6 and 1 are unknown: lines are lost, and that is said. */
	assert_non_null(strstr(CHANGED(4, FORGE_LINE, "\4\0", "\6\0"), "space::outer() ?:0;"));
	assert_non_null(strstr(CHANGED(4, FORGE_LINE, "\4\0", "\6\0"), "version"));
	/* Extended operations of length 0, of an odd length, and longer than what is left. */
	assert_non_null(strstr(CHANGED(4, FORGE_LINE, "\0\x9\2\0\x10", "\0\0\2\0\x10"), "space::outer() "));
	assert_non_null(strstr(CHANGED(4, FORGE_LINE, "\0\x9\2\0\x10", "\0\x4\2\0\x10"), "space::outer() "));
	assert_non_null(strstr(CHANGED(4, FORGE_LINE, "\0\x9\2\0\x10", "\0\x7f\2\0\x10"), "space::outer() "));
}

/* Where an attribute's four bytes are in .debug_info: those that refer to offset. */
static size_t find_u32(const struct silt_writer *w, uint32_t value, size_t from)
{
	uint8_t bytes[4];
	uint8_t *at;

	memcpy(bytes, &value, 4);
	at = memmem(w->data + from, w->size - from, bytes, 4);
	assert_non_null(at);
	return (size_t)(at - w->data);
}

static void follows_references_only_so_far(void **state)
{
	struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}};
	uint32_t helper, self, values[8];
	uint8_t *at;
	size_t sibling, origin, n = 0;

	(void)state;
	forge_unit(s, 4, 0);
	at = memmem(s[FORGE_INFO].data, s[FORGE_INFO].size, "helper", 7);
	assert_non_null(at);
	helper = (uint32_t)(at - s[FORGE_INFO].data) - 1;
	origin = find_u32(&s[FORGE_INFO], helper, 0);
	self = (uint32_t)origin - 1;
	sibling = (size_t)helper + 10;
	/* The inlined call is its own origin, another's half, before and behind the unit; the sibling leads in circles. */
	values[n++] = self;
	values[n++] = self + 1;
	values[n++] = 0;
	values[n++] = 0xffffffff;
	values[n++] = (uint32_t)s[FORGE_INFO].size;
	for (size_t i = 0; i < n; i++) {
		memcpy(s[FORGE_INFO].data + origin, &values[i], 4);
		assert_non_null(strstr(ask(s), "space::outer() /source/unit.cpp:42;"));
	}
	memcpy(s[FORGE_INFO].data + origin, &helper, 4);
	for (size_t i = 0; i < n; i++) {
		memcpy(s[FORGE_INFO].data + sibling, &values[i], 4);
		(void)ask(s);
	}
	helper += 9; /* the function itself */
	memcpy(s[FORGE_INFO].data + sibling, &helper, 4);
	(void)ask(s);
	forge_free(s);
}

static void survives_odd_units(void **state)
{
	static const uint32_t lengths[] = {0, 1, 3, 7, 0xffffffff, 0xfffffff0, 0x7fffffff, 12};
	static const uint16_t versions[] = {0, 1, 6, 0xffff};
	struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}};

	(void)state;
	for (size_t i = 0; i < 12; i++) {
		forge_unit(s, 4, 0);
		memcpy(s[FORGE_INFO].data + (i < 8 ? 0 : 4), i < 8 ? (const void *)&lengths[i] : &versions[i - 8], i < 8 ? 4 : 2);
		(void)ask(s);
		forge_free(s);
	}
	/* An address size of zero, and one that does not fit. */
	for (uint8_t size = 0; size < 16; size += 5) {
		forge_unit(s, 4, 0);
		s[FORGE_INFO].data[10] = size;
		(void)ask(s);
		forge_free(s);
	}
	/* A thousand empty units before the sound one: all are passed over. */
	forge_unit(s, 4, 0);
	struct silt_writer many = {0};
	for (int i = 0; i < 1000; i++)
		silt_writer_bytes(&many, "\x8\0\0\0\4\0\0\0\0\0\x8\0", 12);
	silt_writer_deinit(&s[FORGE_ARANGES]);
	silt_writer_bytes(&many, s[FORGE_INFO].data, s[FORGE_INFO].size);
	silt_writer_deinit(&s[FORGE_INFO]);
	s[FORGE_INFO] = many;
	/* References count from the unit's start: they hold. */
	assert_string_equal(ask(s), sound);
	forge_free(s);
}

/* libdwarf forgets errors that it goes on after; what it took is given back all the same when it is closed. */
static void loses_no_memory_to_libdwarf(void **state)
{
	enum { ROUNDS = 400 };
	struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}}, w = {0};
	struct forge_section list[2];
	size_t before = 0;

	(void)state;
	forge_foreign_unit(s);
	for (int i = 0; i < 2; i++)
		list[i] = (struct forge_section){forge_dwarf_names[i], SHT_PROGBITS, 0, 0, s[i].data, s[i].size};
	assert_non_null(strstr(ask(s), "debug information is damaged"));
	forge_elf(&w, list, 2);
	for (int i = 0; i < 2 * ROUNDS; i++) {
		if (i == ROUNDS)
			before = mallinfo2().uordblks;
		forge_parse(w.data, w.size);
	}
	/* The smallest that malloc gives is 32 bytes. */
	assert_true(mallinfo2().uordblks < before + ROUNDS * 32);
	silt_writer_deinit(&w);
	forge_free(s);
}

static void believes_aranges_only_where_units_agree(void **state)
{
	static const uint32_t offsets[] = {1, 11, 0xffffffff, 0x7fffffff};
	struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		forge_unit(s, 4, 0);
		memcpy(s[FORGE_ARANGES].data + 6, &offsets[i], 4); /* the unit's offset */
		(void)ask(s);
		forge_free(s);
	}
	/* A length that wraps around, and a section cut short everywhere. */
	forge_unit(s, 4, 0);
	memset(s[FORGE_ARANGES].data + 24, 0xff, 8);
	(void)ask(s);
	while (s[FORGE_ARANGES].size-- > 1)
		assert_non_null(strstr(ask(s), "space::outer() /source/unit.cpp:10;"));
	forge_free(s);
}

static void reads_sections_that_compress_well(void **state)
{
	struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}};
	char path[128], command[512];
	struct silt_symbols *sy;
	const struct silt_symbol_frame *frames;
	size_t count;
	int m;

	(void)state;
	/* A megabyte of zero bytes behind the unit's strings: a thousandfold. */
	forge_unit(s, 4, 0);
	for (int i = 0; i < 1 << 17; i++)
		silt_writer_u64(&s[FORGE_STR], 0);
	assert_string_equal(ask(s), sound);
	forge_free(s);
	snprintf(path, sizeof(path), "%s/forged", dir);
	snprintf(command, sizeof(command), "objcopy --compress-debug-sections=zlib %s 2>/dev/null", path);
	if (system(command)) {
		print_message("skip: objcopy cannot compress here\n");
		skip();
	}
	sy = silt_symbols_create(NULL);
	m = silt_symbols_add_module(sy, path, NULL, 0, NULL);
	assert_int_equal(silt_symbols_request(sy, m, OUTER, true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	frames = silt_symbols_lookup(sy, m, OUTER, true, &count);
	assert_int_equal(count, 1);
	assert_string_equal(frames[0].function, "space::outer()");
	assert_int_equal(frames[0].line, 10);
	silt_symbols_destroy(sy);
}

/* Later versions of C++ have namespaces, too: languages that were numbered after DWARF 5. */
static void qualifies_names_of_later_languages(void **state)
{
	(void)state;
	assert_string_equal(CHANGED(4, FORGE_INFO, "unit.cpp\0\4", "unit.cpp\0\x2b"), sound);
	assert_string_equal(CHANGED(5, FORGE_INFO, "unit.cpp\0\4", "unit.cpp\0\x2c"), sound5);
	/* C: no namespace in front of the function without a linkage name. */
	assert_non_null(strstr(CHANGED(4, FORGE_INFO, "unit.cpp\0\4", "unit.cpp\0\1"), "|helper "));
}

/* Nothing is made of a table that holds no attribute at all (under sanitizers: no pointer either). */
static void passes_over_entries_without_attributes(void **state)
{
	static const uint8_t abbrev[] = {1, 0x11, 1, 0, 0, 2, 0x2e, 1, 0, 0, 0};
	static const uint8_t entries[] = {1, 2, 2, 0, 0, 0};
	struct silt_writer s[FORGE_DWARF_SECTIONS] = {{0}};

	(void)state;
	silt_writer_bytes(&s[FORGE_ABBREV], abbrev, sizeof(abbrev));
	silt_writer_u32(&s[FORGE_INFO], 7 + sizeof(entries));
	silt_writer_u16(&s[FORGE_INFO], 4);
	silt_writer_u32(&s[FORGE_INFO], 0);
	silt_writer_u8(&s[FORGE_INFO], 8);
	silt_writer_bytes(&s[FORGE_INFO], entries, sizeof(entries));
	assert_string_equal(ask(s), "||");
	forge_free(s);
}

static int make_directory(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/silt-forged-XXXXXX");
	return !mkdtemp(dir);
}

static int remove_directory(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(understands_every_version),
		cmocka_unit_test(believes_no_counts_of_line_tables),
		cmocka_unit_test(knows_directories_by_their_bounds),
		cmocka_unit_test(passes_over_unknown_line_contents),
		cmocka_unit_test(survives_odd_line_headers),
		cmocka_unit_test(follows_references_only_so_far),
		cmocka_unit_test(survives_odd_units),
		cmocka_unit_test(loses_no_memory_to_libdwarf),
		cmocka_unit_test(believes_aranges_only_where_units_agree),
		cmocka_unit_test(reads_sections_that_compress_well),
		cmocka_unit_test(qualifies_names_of_later_languages),
		cmocka_unit_test(passes_over_entries_without_attributes),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
