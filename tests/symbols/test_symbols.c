/* SPDX-License-Identifier: MIT */
/* The interface of symbols/ on this very program, whose functions and lines the compiler tells us. */
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "symbols/elf_reader.h"
#include "symbols/symbols.h"

static uintptr_t bias;

static int find_bias(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	(void)data;
	bias = info->dlpi_addr;
	return 1;
}

static __attribute__((noinline)) uintptr_t return_address(void)
{
	return (uintptr_t)__builtin_return_address(0) - bias;
}

enum { MARK_LINE = __LINE__ + 4 };
static __attribute__((noinline)) uintptr_t marked(void)
{
	/* The next line is the one asked for. */
	uintptr_t at = return_address();

	__asm__ volatile("" : "+r"(at));
	return at;
}

static char self[4096];

static int setup(void **state)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	(void)state;
	dl_iterate_phdr(find_bias, NULL);
	return n > 0 ? 0 : -1;
}

static void expect_mark(const struct silt_symbol_frame *f, size_t count)
{
	assert_int_equal(count, 1);
	assert_string_equal(f[0].function, "marked");
	assert_int_equal(f[0].line, MARK_LINE);
	assert_non_null(strstr(f[0].file, "test_symbols.c"));
	assert_false(f[0].inlined);
	assert_true(f[0].function_start != 0);
}

static void names_a_return_address(void **state)
{
	struct silt_symbols *sy = silt_symbols_create(NULL);
	const struct silt_symbol_frame *f;
	struct silt_symbols_module_info info;
	uintptr_t at = marked();
	size_t count;
	int m;

	(void)state;
	m = silt_symbols_add_module(sy, self, NULL, 0, NULL);
	assert_true(m >= 0);
	assert_int_equal(silt_symbols_add_module(sy, self, NULL, 0, NULL), m);
	assert_int_equal(silt_symbols_request(sy, m, at, false, NULL), SILT_OK);
	assert_int_equal(silt_symbols_request(sy, m, at, false, NULL), SILT_OK);
	assert_null(silt_symbols_lookup(sy, m, at, false, &count));
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	f = silt_symbols_lookup(sy, m, at, false, &count);
	expect_mark(f, count);
	/* The same place asked for exactly. */
	assert_ptr_equal(silt_symbols_lookup(sy, m, at - 1, true, &count), f);
	assert_int_equal(silt_symbols_module_info(sy, m, &info), SILT_OK);
	assert_true(info.sources & SILT_SOURCE_DWARF);
	assert_string_equal(info.dwarf_path, self);
	assert_true(info.attempt_count >= 1);
	assert_int_equal(silt_symbols_warning_count(sy), 0);
	silt_symbols_destroy(sy);
}

static void keeps_answers_over_later_requests(void **state)
{
	struct silt_symbols *sy = silt_symbols_create(NULL);
	int m = silt_symbols_add_module(sy, self, NULL, 0, NULL);
	uintptr_t at = marked();
	const struct silt_symbol_frame *f, *again;
	size_t count;

	(void)state;
	assert_int_equal(silt_symbols_request(sy, m, at, false, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	f = silt_symbols_lookup(sy, m, at, false, &count);
	for (uintptr_t near = at - 64; near < at + 64; near++)
		assert_int_equal(silt_symbols_request(sy, m, near, true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	again = silt_symbols_lookup(sy, m, at, false, &count);
	assert_ptr_equal(f, again);
	expect_mark(again, count);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	silt_symbols_destroy(sy);
}

static void takes_many_requests_in_bounded_memory(void **state)
{
	struct silt_symbols_options o = {.jobs = 3};
	struct silt_symbols *sy = silt_symbols_create(&o);
	int m = silt_symbols_add_module(sy, self, NULL, 0, NULL);
	uintptr_t at = marked();
	size_t count;

	(void)state;
	for (int i = 0; i < 2000000; i++)
		assert_int_equal(silt_symbols_request(sy, m, at - 2000 + (uintptr_t)(i % 4000), true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	expect_mark(silt_symbols_lookup(sy, m, at - 1, true, &count), 1);
	silt_symbols_destroy(sy);
}

static void gives_no_names_of_another_build(void **state)
{
	static const uint8_t other[20] = {1, 2, 3};
	struct silt_symbols *sy = silt_symbols_create(NULL);
	int m = silt_symbols_add_module(sy, self, other, sizeof(other), NULL);
	uintptr_t at = marked();
	size_t count;

	(void)state;
	assert_int_equal(silt_symbols_request(sy, m, at, false, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	assert_null(silt_symbols_lookup(sy, m, at, false, &count));
	assert_int_equal(count, 0);
	assert_int_equal(silt_symbols_warning_count(sy), 1);
	assert_non_null(strstr(silt_symbols_warning(sy, 0), "another build"));
	silt_symbols_destroy(sy);
}

static void says_which_files_are_missing(void **state)
{
	struct silt_symbols *sy = silt_symbols_create(NULL);
	int gone = silt_symbols_add_module(sy, "/nowhere/lib.so", NULL, 0, NULL);
	int vdso = silt_symbols_add_module(sy, "[vdso]", NULL, 0, NULL);
	size_t count;

	(void)state;
	assert_int_equal(silt_symbols_request(sy, gone, 100, true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_request(sy, vdso, 100, true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	assert_null(silt_symbols_lookup(sy, gone, 100, true, &count));
	assert_int_equal(silt_symbols_warning_count(sy), 1);
	assert_non_null(strstr(silt_symbols_warning(sy, 0), "/nowhere/lib.so"));
	silt_symbols_destroy(sy);
}

static void refuses_unknown_modules(void **state)
{
	struct silt_symbols *sy = silt_symbols_create(NULL);
	struct silt_symbols_module_info info;
	uint8_t id[65] = {0};
	size_t count = 7;

	(void)state;
	assert_int_equal(silt_symbols_request(sy, 0, 0, true, NULL), SILT_E_INVAL);
	assert_int_equal(silt_symbols_request(sy, -1, 0, true, NULL), SILT_E_INVAL);
	assert_int_equal(silt_symbols_add_module(sy, "x", id, sizeof(id), NULL), SILT_E_INVAL);
	assert_int_equal(silt_symbols_module_info(sy, 3, &info), SILT_E_INVAL);
	assert_null(silt_symbols_lookup(sy, 5, 0, true, &count));
	assert_int_equal(count, 0);
	silt_symbols_destroy(sy);
	silt_symbols_destroy(NULL);
}

/* With too little memory the child fails: that is said, and what it could not find is missing, never wrong. */
static void reports_children_that_fail(void **state)
{
	struct silt_symbols_options o = {.max_memory = 1 << 16};
	struct silt_symbols *sy = silt_symbols_create(&o);
	int m = silt_symbols_add_module(sy, self, NULL, 0, NULL);
	const struct silt_symbol_frame *f;
	size_t count;

	(void)state;
	for (uintptr_t i = 0; i < 20000; i++)
		assert_int_equal(silt_symbols_request(sy, m, i, true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	assert_true(silt_symbols_warning_count(sy) > 0);
	f = silt_symbols_lookup(sy, m, marked(), false, &count);
	if (count)
		assert_string_equal(f[count - 1].function, "marked");
	silt_symbols_destroy(sy);
}

/* A named pipe that nobody writes to would block open() for ever. */
static void does_not_wait_for_pipes(void **state)
{
	struct silt_symbols_options o = {.timeout_seconds = 1, .jobs = 2};
	struct silt_symbols *sy = silt_symbols_create(&o);
	char directory[] = "/tmp/silt-test-fifo-XXXXXX", fifo[64];
	int m;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(fifo, sizeof(fifo), "%s/f", directory);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	m = silt_symbols_add_module(sy, fifo, NULL, 0, NULL);
	assert_int_equal(silt_symbols_request(sy, m, 1, true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	assert_int_equal(silt_symbols_warning_count(sy), 1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	unlink(fifo);
	rmdir(directory);
	silt_symbols_destroy(sy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_a_return_address),
		cmocka_unit_test(keeps_answers_over_later_requests),
		cmocka_unit_test(takes_many_requests_in_bounded_memory),
		cmocka_unit_test(gives_no_names_of_another_build),
		cmocka_unit_test(says_which_files_are_missing),
		cmocka_unit_test(refuses_unknown_modules),
		cmocka_unit_test(reports_children_that_fail),
		cmocka_unit_test(does_not_wait_for_pipes),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
