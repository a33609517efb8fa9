/* SPDX-License-Identifier: MIT */
/* Log, progress bar and the table of limits. */
#include "cmocka_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/progress.h"

struct seen {
	int calls;
	enum silt_log_level level;
	char text[2048];
};

static void remember(void *data, enum silt_log_level level, const char *text)
{
	struct seen *s = data;

	s->calls++;
	s->level = level;
	snprintf(s->text, sizeof(s->text), "%s", text);
}

static int costly(int *calls)
{
	return ++*calls;
}

static void log_levels(void **state)
{
	struct seen s = {0};
	struct silt_log log = {SILT_LOG_WARN, remember, &s};
	int evaluated = 0;

	(void)state;
	silt_log(&log, SILT_LOG_INFO, "%d", costly(&evaluated));
	assert_int_equal(s.calls, 0);
	assert_int_equal(evaluated, 0);
	silt_log(&log, SILT_LOG_WARN, "%d lost", costly(&evaluated));
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.level, SILT_LOG_WARN);
	assert_string_equal(s.text, "1 lost");
	silt_log((const struct silt_log *)NULL, SILT_LOG_ERROR, "nobody");
	log.sink = NULL;
	silt_log(&log, SILT_LOG_ERROR, "nobody");
	assert_int_equal(s.calls, 1);
	assert_string_equal(silt_log_level_name(SILT_LOG_WARN), "warning");
}

struct screen {
	bool terminal;
	uint64_t now;
	unsigned columns;
	unsigned writes;
	char last[512];
};

static bool is_terminal(void *data)
{
	return ((struct screen *)data)->terminal;
}

static uint64_t now_ns(void *data)
{
	return ((struct screen *)data)->now;
}

static void put(void *data, const char *text, size_t size)
{
	struct screen *s = data;

	s->writes++;
	memcpy(s->last, text, size);
	s->last[size] = '\0';
}

static unsigned columns(void *data)
{
	return ((struct screen *)data)->columns;
}

static void progress_needs_a_terminal(void **state)
{
	struct screen s = {false, 0, 80, 0, ""};
	struct silt_progress_hooks h = {is_terminal, now_ns, put, columns, &s};
	struct silt_progress p;

	(void)state;
	silt_progress_start(&p, "work", &h);
	s.now = 5000000000ull;
	silt_progress_update(&p, 1, 2);
	silt_progress_end(&p);
	assert_int_equal(s.writes, 0);
}

static void progress_is_slow_and_erased(void **state)
{
	struct screen s = {true, 1000, 80, 0, ""};
	struct silt_progress_hooks h = {is_terminal, now_ns, put, columns, &s};
	struct silt_progress p;
	unsigned i;

	(void)state;
	silt_progress_start(&p, "work", &h);
	for (i = 0; i < 2000; i++) { /* two seconds */
		s.now += 1000000;
		silt_progress_update(&p, i, 2000);
	}
	assert_true(s.writes > 5);
	assert_true(s.writes <= 16); /* nothing in the first half second, then ten a second */
	assert_non_null(strstr(s.last, "%"));
	assert_non_null(strstr(s.last, "work"));
	silt_progress_end(&p);
	assert_string_equal(s.last, "\r\033[K");
}

static void progress_fits_the_line(void **state)
{
	struct screen s = {true, 0, 20, 0, ""};
	struct silt_progress_hooks h = {is_terminal, now_ns, put, columns, &s};
	struct silt_progress p;

	(void)state;
	silt_progress_start(&p, "a very long description of what is going on", &h);
	s.now = 1000000000ull;
	silt_progress_update(&p, 5, 10);
	assert_int_equal(strlen(s.last), 1 + 19 + 3);
	s.now = 2000000000ull;
	silt_progress_update(&p, UINT64_MAX, 1); /* more done than there is */
	assert_non_null(strstr(s.last, "["));
	s.now = 3000000000ull;
	silt_progress_update(&p, 77, 0);
	assert_non_null(strstr(s.last, "77"));
}

static void limits_are_complete(void **state)
{
	int i, k;

	(void)state;
	for (i = 0; i < SILT_LIMIT_COUNT; i++) {
		const struct silt_limit_info *info = silt_limit_info((enum silt_limit)i);

		assert_non_null(info->name);
		assert_non_null(info->help);
		assert_non_null(info->unit);
		assert_true(info->value > 0);
		for (k = 0; k < i; k++)
			assert_string_not_equal(info->name, silt_limit_info((enum silt_limit)k)->name);
		assert_true(silt_limit_or_default((enum silt_limit)i, 0) == info->value);
		assert_int_equal(silt_limit_or_default((enum silt_limit)i, 5), 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_levels),
		cmocka_unit_test(progress_needs_a_terminal),
		cmocka_unit_test(progress_is_slow_and_erased),
		cmocka_unit_test(progress_fits_the_line),
		cmocka_unit_test(limits_are_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
