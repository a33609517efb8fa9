/* SPDX-License-Identifier: MIT */
/* The ELF reader on this very program, on files that are none, and on damaged copies. */
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "symbols/elf_reader.h"

static void reads_itself(void **state)
{
	struct silt_elf_info info;
	struct silt_error err = {0};
	bool libc = false;

	(void)state;
	assert_int_equal(silt_elf_inspect("/proc/self/exe", &info, &err), SILT_OK);
	assert_int_equal(info.elf_class, 64);
	assert_true(info.has_interp);
	assert_non_null(strstr(info.interp, "ld-linux"));
	assert_true(info.has_dynamic);
	for (size_t i = 0; i < info.needed_count; i++)
		libc |= strcmp(info.needed[i], "libc.so.6") == 0;
	assert_true(libc);
	assert_int_equal(err.code, 0);
}

static void knows_who_defines_malloc(void **state)
{
	struct silt_elf_info info;

	(void)state;
	assert_int_equal(silt_elf_inspect("/proc/self/exe", &info, NULL), SILT_OK);
	assert_false(info.exports_malloc);
	assert_int_equal(silt_elf_inspect("/lib/x86_64-linux-gnu/libc.so.6", &info, NULL), SILT_OK);
	assert_true(info.exports_malloc);
	assert_true(info.build_id_len >= 2);
}

static void refuses_what_is_no_elf_file(void **state)
{
	struct silt_elf_info info;
	struct silt_error err = {0};

	(void)state;
	assert_int_equal(silt_elf_inspect("/nowhere/file", &info, &err), SILT_E_OS);
	assert_non_null(strstr(err.msg, "/nowhere/file"));
	assert_int_equal(silt_elf_inspect("/dev/null", &info, &err), SILT_E_BAD_DATA);
	assert_int_equal(silt_elf_inspect("/", &info, &err), SILT_E_BAD_DATA);
	assert_int_equal(silt_elf_inspect("/etc/passwd", &info, &err), SILT_E_BAD_DATA);
}

static void survives_every_length_and_byte_of_the_headers(void **state)
{
	uint8_t *bytes;
	size_t size;
	struct silt_elf_info info;
	int fd = memfd_create("copy", 0);

	(void)state;
	assert_int_equal(silt_read_file("/proc/self/exe", 1 << 30, &bytes, &size, NULL), SILT_OK);
	for (size_t cut = 0; cut < size; cut += cut < 2048 ? 1 : size / 256) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, bytes, cut, 0), cut);
		(void)silt_elf_inspect_fd(fd, "cut", &info, NULL);
	}
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	for (size_t at = 0; at < 64 + 56 * 13; at++) {
		for (int bit = 0; bit < 8; bit++) {
			uint8_t flipped = bytes[at] ^ (uint8_t)(1 << bit);

			assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
			(void)silt_elf_inspect_fd(fd, "flipped", &info, NULL);
		}
		assert_int_equal(pwrite(fd, &bytes[at], 1, (off_t)at), 1);
	}
	assert_int_equal(silt_elf_inspect_fd(fd, "whole again", &info, NULL), SILT_OK);
	free(bytes);
	close(fd);
}

static void finds_build_ids_among_notes(void **state)
{
	/* A property note (8-byte aligned), then a build-id of three bytes. */
	static const uint8_t notes[] = {4, 0, 0, 0, 16, 0, 0, 0, 5, 0, 0, 0, 'G', 'N', 'U', 0, 2, 0, 0, 0xc0, 4, 0, 0, 0, 3,
					0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0, 0xab,
					0xcd, 0xef, 0};
	uint8_t id[64];

	(void)state;
	assert_int_equal(silt_elf_note_build_id(notes, sizeof(notes), 4, id), 3);
	assert_memory_equal(id, "\xab\xcd\xef", 3);
	assert_int_equal(silt_elf_note_build_id(notes, sizeof(notes), 8, id), 3);
	for (size_t cut = 0; cut < sizeof(notes) - 1; cut++)
		assert_int_equal(silt_elf_note_build_id(notes, cut, 4, id), 0);
}

static void bounds_hostile_note_sizes(void **state)
{
	uint8_t notes[32];
	uint8_t id[64];

	(void)state;
	memset(notes, 0xff, sizeof(notes));
	assert_int_equal(silt_elf_note_build_id(notes, sizeof(notes), 4, id), 0);
	assert_int_equal(silt_elf_note_build_id(notes, sizeof(notes), 8, id), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_itself),
		cmocka_unit_test(knows_who_defines_malloc),
		cmocka_unit_test(refuses_what_is_no_elf_file),
		cmocka_unit_test(survives_every_length_and_byte_of_the_headers),
		cmocka_unit_test(finds_build_ids_among_notes),
		cmocka_unit_test(bounds_hostile_note_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
