/* SPDX-License-Identifier: MIT */
/* What children of one module share: turns, and sections that one makes and the others take, whoever dies meanwhile. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/types.h"
#include "symbols/share.h"

enum { ROOM = 1 << 20, TURNS = 20000, CHILDREN = 4 };

static const struct silt_share_key first = {1, 2, 3, 5000}, second = {1, 2, 4, 5000}, large = {1, 2, 5, ROOM + 1};

/* Runs a child and returns its exit status; a child that dies gives 256. */
static int in_child(int (*fn)(struct silt_share *), struct silt_share *s)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		alarm(60);
		_exit(fn(s));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

static int makes(struct silt_share *s)
{
	uint32_t number;
	uint8_t *bytes;

	if (silt_share_section(s, 0, &first, true, &bytes, &number) != SILT_SHARE_MAKE)
		return 1;
	memset(bytes, 'x', first.size);
	silt_share_made(s, number, true);
	return 0;
}

static int makes_badly(struct silt_share *s)
{
	uint32_t number;
	uint8_t *bytes;

	if (silt_share_section(s, 0, &first, true, &bytes, &number) != SILT_SHARE_MAKE)
		return 1;
	silt_share_made(s, number, false);
	return 0;
}

static int begins_only(struct silt_share *s)
{
	uint32_t number;
	uint8_t *bytes;

	return silt_share_section(s, 0, &first, true, &bytes, &number) != SILT_SHARE_MAKE;
}

static int takes(struct silt_share *s)
{
	uint32_t number;
	uint8_t *bytes;

	if (silt_share_section(s, 1, &first, true, &bytes, &number) != SILT_SHARE_TAKE)
		return 1;
	for (size_t i = 0; i < first.size; i++)
		if (bytes[i] != 'x')
			return 2;
	return 0;
}

static int goes_without(struct silt_share *s)
{
	uint32_t number;
	uint8_t *bytes;

	return silt_share_section(s, 1, &first, true, &bytes, &number) != SILT_SHARE_NONE;
}

static void what_one_made_others_take(void **state)
{
	struct silt_share *s = silt_share_create(ROOM);

	(void)state;
	assert_non_null(s);
	assert_int_equal(in_child(makes, s), 0);
	assert_int_equal(in_child(takes, s), 0);
	silt_share_destroy(s);
}

static void what_could_not_be_made_is_done_alone(void **state)
{
	struct silt_share *s = silt_share_create(ROOM);

	(void)state;
	assert_int_equal(in_child(makes_badly, s), 0);
	assert_int_equal(in_child(goes_without, s), 0);
	silt_share_destroy(s);
}

static void the_dead_are_not_waited_for(void **state)
{
	struct silt_share *s = silt_share_create(ROOM);

	(void)state;
	assert_int_equal(in_child(begins_only, s), 0);
	silt_share_lost(s, 0);
	assert_int_equal(in_child(goes_without, s), 0);
	silt_share_destroy(s);
}

static void a_wait_ends_when_the_other_dies(void **state)
{
	struct silt_share *s = silt_share_create(ROOM);
	static const struct timespec some = {0, 50000000};
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(in_child(begins_only, s), 0);
	pid = fork();
	if (!pid) {
		alarm(60);
		_exit(goes_without(s));
	}
	nanosleep(&some, NULL); /* most likely it waits by now; if it does not yet, the test is the one before */
	silt_share_lost(s, 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	silt_share_destroy(s);
}

static void an_offer_does_not_wait(void **state)
{
	struct silt_share *s = silt_share_create(ROOM);
	uint32_t number, other;
	uint8_t *bytes, *more;

	(void)state;
	assert_int_equal(in_child(begins_only, s), 0);
	assert_int_equal(silt_share_section(s, 1, &first, false, &bytes, &number), SILT_SHARE_OTHER);
	assert_int_equal(silt_share_section(s, 1, &second, false, &bytes, &number), SILT_SHARE_MAKE);
	silt_share_made(s, number, true);
	assert_int_equal(silt_share_section(s, 2, &second, false, &more, &other), SILT_SHARE_TAKE);
	assert_ptr_equal(bytes, more);
	assert_int_equal(number, other);
	silt_share_destroy(s);
}

static void there_is_only_so_much_room(void **state)
{
	struct silt_share *s = silt_share_create(ROOM);
	struct silt_share_key key = {1, 2, 0, 4096};
	uint32_t number, made = 0;
	uint8_t *bytes;

	(void)state;
	assert_int_equal(silt_share_section(s, 0, &large, true, &bytes, &number), SILT_SHARE_NONE);
	for (key.section = 100; key.section < 1000; key.section++) {
		if (silt_share_section(s, 0, &key, true, &bytes, &number) != SILT_SHARE_MAKE)
			continue;
		memset(bytes, 1, key.size);
		silt_share_made(s, number, true);
		made++;
	}
	assert_in_range(made, 1, ROOM / 4096);
	silt_share_destroy(s);
	assert_null(silt_share_create(UINT64_MAX));
}

/* Each adds its turns' numbers and counts them, in what all share. */
static int takes_turns(struct silt_share *s)
{
	static const struct silt_share_key sums = {9, 9, 9, 64};
	uint64_t sum = 0, count = 0, turn;
	uint32_t number;
	uint8_t *bytes;

	if (silt_share_section(s, 0, &sums, true, &bytes, &number) != SILT_SHARE_TAKE)
		return 1;
	while ((turn = silt_share_turn(s)) < TURNS) {
		sum += turn;
		count++;
	}
	__atomic_add_fetch((uint64_t *)(void *)bytes, sum, __ATOMIC_SEQ_CST);
	__atomic_add_fetch((uint64_t *)(void *)bytes + 1, count, __ATOMIC_SEQ_CST);
	return 0;
}

static void every_turn_is_taken_once(void **state)
{
	static const struct silt_share_key sums = {9, 9, 9, 64};
	struct silt_share *s = silt_share_create(ROOM);
	pid_t pids[CHILDREN];
	uint32_t number;
	uint8_t *bytes;
	int status;

	(void)state;
	assert_int_equal(silt_share_section(s, 0, &sums, true, &bytes, &number), SILT_SHARE_MAKE);
	silt_share_made(s, number, true);
	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (!pids[i])
			_exit(takes_turns(s));
	}
	for (int i = 0; i < CHILDREN; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(((uint64_t *)(void *)bytes)[0], (uint64_t)TURNS * (TURNS - 1) / 2);
	assert_int_equal(((uint64_t *)(void *)bytes)[1], TURNS);
	silt_share_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_one_made_others_take),
		cmocka_unit_test(what_could_not_be_made_is_done_alone),
		cmocka_unit_test(the_dead_are_not_waited_for),
		cmocka_unit_test(a_wait_ends_when_the_other_dies),
		cmocka_unit_test(an_offer_does_not_wait),
		cmocka_unit_test(there_is_only_so_much_room),
		cmocka_unit_test(every_turn_is_taken_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
