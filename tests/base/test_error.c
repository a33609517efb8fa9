/* SPDX-License-Identifier: MIT */
/* Errors: what they say, and what they leave alone. */
#include "cmocka_all.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

static void set_fills_and_keeps_errno(void **state)
{
	struct silt_error e;

	(void)state;
	memset(&e, 0xaa, sizeof(e));
	errno = EBUSY;
	assert_int_equal(silt_error_set(&e, SILT_E_LIMIT, "%s: %d", "x", 7), SILT_E_LIMIT);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(e.code, SILT_E_LIMIT);
	assert_int_equal(e.errnum, 0);
	assert_int_equal(e.offset, 0);
	assert_string_equal(e.msg, "x: 7");
	assert_int_equal(silt_error_set(NULL, SILT_E_LIMIT, "nobody asks"), SILT_E_LIMIT);
}

static void os_appends_the_reason(void **state)
{
	struct silt_error e;

	(void)state;
	assert_int_equal(silt_error_os(&e, ENOENT, "a.silt: cannot open"), SILT_E_OS);
	assert_int_equal(e.errnum, ENOENT);
	assert_string_equal(e.msg, "a.silt: cannot open: No such file or directory");
}

static void prefix_goes_in_front(void **state)
{
	struct silt_error e;

	(void)state;
	silt_error_set(&e, SILT_E_BAD_DATA, "inner");
	assert_int_equal(silt_error_prefix(&e, "outer %d", 1), SILT_E_BAD_DATA);
	assert_string_equal(e.msg, "outer 1: inner");
}

static void long_texts_are_cut(void **state)
{
	struct silt_error e;
	char text[2000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	silt_error_set(&e, SILT_E_OS, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	silt_error_prefix(&e, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	silt_error_os(&e, EIO, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
}

static void reasons_and_lines_are_kept(void **state)
{
	struct silt_error err;
	char path[4096];

	(void)state;
	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	silt_error_os(&err, ENOENT, "cannot open %s", path);
	assert_non_null(strstr(err.msg, "cannot open ppp"));
	assert_non_null(strstr(err.msg, ": No such file or directory"));
	assert_int_equal(strlen(err.msg) < sizeof(err.msg), 1);
	silt_error_set(&err, SILT_E_INVAL, "%s: bad", "two\nlines\t\x7f");
	assert_string_equal(err.msg, "two?lines??: bad");
}

static void fatal_are_memory_and_cancel(void **state)
{
	struct silt_error e = {.code = SILT_E_NOMEM};

	(void)state;
	assert_true(silt_error_is_fatal(&e));
	e.code = SILT_E_CANCELLED;
	assert_true(silt_error_is_fatal(&e));
	e.code = SILT_E_BAD_DATA;
	assert_false(silt_error_is_fatal(&e));
	assert_false(silt_error_is_fatal(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_fills_and_keeps_errno), cmocka_unit_test(os_appends_the_reason),
		cmocka_unit_test(prefix_goes_in_front),      cmocka_unit_test(long_texts_are_cut),
		cmocka_unit_test(reasons_and_lines_are_kept),
		cmocka_unit_test(fatal_are_memory_and_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
