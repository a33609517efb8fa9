/* SPDX-License-Identifier: MIT */
/* Numbers that the agent's freestanding layout and the snapshot model state separately must be the same numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "capture/agent/trace_db.h"
#include "formats/snapshot.h"

static void stack_flags_agree(void **state)
{
	(void)state;
	assert_int_equal(SILT_DB_STACK_NO_CFI, SILT_STACK_NO_CFI);
	assert_int_equal(SILT_DB_STACK_DEPTH, SILT_STACK_DEPTH);
	assert_int_equal(SILT_DB_STACK_BROKEN, SILT_STACK_BROKEN);
	assert_int_equal(SILT_DB_STACK_OVERFLOW, SILT_STACK_OVERFLOW);
	assert_int_equal(SILT_DB_STACK_UNTRACKED, SILT_STACK_UNTRACKED);
}

/* A context's flags: stack flags, then the kind; none may reach into its neighbour. */
static void context_flags_do_not_overlap(void **state)
{
	uint32_t flags = SILT_STACK_NO_CFI | SILT_STACK_DEPTH | SILT_STACK_BROKEN | SILT_STACK_OVERFLOW;

	(void)state;
	assert_int_equal(flags & ~0xffffu, 0);
	assert_int_equal(SILT_DB_CONTEXT_KIND(SILT_KIND_POOL << 16), SILT_KIND_POOL);
	assert_int_equal(SILT_DB_CONTEXT_KIND(flags), SILT_KIND_HEAP);
}

/* An entry of the live table: offset, context and size fill the word without overlap. */
static void entry_fields_fill_the_word(void **state)
{
	uint64_t entry = 0x1ffull | 0xffffffull << 9 | (uint64_t)SILT_DB_SIZE_HUGE << 33;

	(void)state;
	assert_int_equal(entry | SILT_DB_ENTRY_FROZEN, UINT64_MAX);
	assert_int_equal(SILT_DB_ENTRY_OFFSET(entry), 4088);
	assert_int_equal(SILT_DB_ENTRY_CONTEXT(entry), 0xffffff);
	assert_int_equal(SILT_DB_ENTRY_SIZE(entry), SILT_DB_SIZE_HUGE);
	assert_int_equal(SILT_DB_CONTEXT_SEG * (uint64_t)SILT_DB_CONTEXT_SEGS, 1u << 24);
	assert_int_equal(SILT_DB_ROOT_ENTRIES * (uint64_t)SILT_DB_LEAF_PAGES * 4096, 1ull << 47);
}

/* What is mapped of the run area must hold the run page, and a slot's refs (32 bits) must reach all of it. */
static void areas_hold_what_is_put_there(void **state)
{
	(void)state;
	assert_true(sizeof(struct silt_db_run) <= SILT_DB_RUN_SIZE);
	assert_true(SILT_DB_RUN_SIZE <= SILT_DB_SLOT_OFFSET);
	assert_true(SILT_DB_SLOT_SIZE / SILT_DB_UNIT <= 1ull << 32);
	assert_true(SILT_DB_DEFAULT_DEPTH <= SILT_DB_MAX_DEPTH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stack_flags_agree),
		cmocka_unit_test(context_flags_do_not_overlap),
		cmocka_unit_test(entry_fields_fill_the_word),
		cmocka_unit_test(areas_hold_what_is_put_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
