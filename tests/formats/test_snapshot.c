/* SPDX-License-Identifier: MIT */
/* The snapshot model: strings, arrays, lists that grow, totals. */
#include "samples.h"

#include <stdio.h>
#include <string.h>

static void strings_are_copies(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create();
	char text[] = "abc";
	const char *copy = silt_snapshot_string(s, text);

	(void)state;
	text[0] = 'x';
	assert_string_equal(copy, "abc");
	assert_null(silt_snapshot_string(s, NULL));
	silt_snapshot_destroy(s);
	silt_snapshot_destroy(NULL);
}

static void arrays_are_zero_and_checked(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create();
	uint64_t *a = silt_snapshot_array(s, 1000, sizeof(*a));
	int i;

	(void)state;
	for (i = 0; i < 1000; i++)
		assert_true(a[i] == 0);
	assert_non_null(silt_snapshot_array(s, 0, 8));
	assert_null(silt_snapshot_array(s, UINT64_MAX / 4, 8));
	silt_snapshot_destroy(s);
}

static void lists_grow(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create();
	char name[20];
	uint32_t i;

	(void)state;
	for (i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "counter.%u", i);
		assert_int_equal(silt_snapshot_counter(s, name, i, NULL), 0);
		assert_int_equal(silt_snapshot_note(s, NULL, "note %u", i), 0);
	}
	assert_int_equal(s->counter_count, 1000);
	assert_int_equal(s->note_count, 1000);
	assert_string_equal(s->counters[999].name, "counter.999");
	assert_string_equal(s->notes[500], "note 500");
	silt_snapshot_destroy(s);
}

/* Lists that somebody else made (a reader, of just the right size) grow too. */
static void foreign_lists_grow(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create();
	uint32_t i;

	(void)state;
	s->notes = silt_snapshot_array(s, 5, sizeof(*s->notes));
	s->counters = silt_snapshot_array(s, 5, sizeof(*s->counters));
	s->note_count = s->counter_count = 5;
	for (i = 0; i < 5; i++) {
		s->notes[i] = "old";
		s->counters[i].name = "old";
	}
	for (i = 0; i < 20; i++) {
		assert_int_equal(silt_snapshot_note(s, NULL, "new"), 0);
		assert_int_equal(silt_snapshot_counter(s, "new", 1, NULL), 0);
	}
	assert_string_equal(s->notes[4], "old");
	assert_string_equal(s->notes[24], "new");
	assert_string_equal(s->counters[4].name, "old");
	assert_string_equal(s->counters[5].name, "new");
	silt_snapshot_destroy(s);
}

static void totals(void **state)
{
	struct silt_snapshot *s = silt_snapshot_create();

	(void)state;
	s->contexts = silt_snapshot_array(s, 3, sizeof(*s->contexts));
	s->context_count = 3;
	s->contexts[0].live_bytes = 10;
	s->contexts[0].live_count = 1;
	s->contexts[2].live_bytes = 5;
	s->contexts[2].live_count = 2;
	silt_snapshot_total(s);
	assert_int_equal(s->total_bytes, 15);
	assert_int_equal(s->total_count, 3);
	s->contexts[1].live_bytes = UINT64_MAX; /* from a file: a sum that cannot be told must not look small */
	silt_snapshot_total(s);
	assert_true(s->total_bytes == UINT64_MAX);
	silt_snapshot_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_are_copies), cmocka_unit_test(arrays_are_zero_and_checked),
		cmocka_unit_test(lists_grow),	      cmocka_unit_test(foreign_lists_grow),
		cmocka_unit_test(totals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
