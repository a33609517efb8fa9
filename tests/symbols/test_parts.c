/* SPDX-License-Identifier: MIT */
/* Small parts: the cursor, demangling and folding of names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "symbols/cursor.h"
#include "symbols/demangle.h"
#include "symbols/search.h"

static void cursor_reads_leb128(void **state)
{
	static const uint8_t bytes[] = {0xe5, 0x8e, 0x26, 0x7f, 0x80, 0x7f, 0x80, 0x80, 0x00, 0xff};
	struct silt_cursor c = silt_cursor_at(bytes, sizeof(bytes), 0);

	(void)state;
	assert_int_equal(silt_cursor_uleb(&c), 624485);
	assert_int_equal(silt_cursor_sleb(&c), -1);
	assert_int_equal(silt_cursor_sleb(&c), -128);
	assert_int_equal(silt_cursor_uleb(&c), 0); /* padded, as assemblers write it */
	assert_false(c.bad);
	assert_int_equal(silt_cursor_uleb(&c), 0); /* has no end */
	assert_true(c.bad);
}

static void cursor_stays_bad(void **state)
{
	static const uint8_t bytes[] = {1, 2, 3, 'a', 'b'};
	struct silt_cursor c = silt_cursor_at(bytes, sizeof(bytes), 0);

	(void)state;
	assert_int_equal(silt_cursor_u16(&c), 0x201);
	assert_int_equal(silt_cursor_u32(&c), 0);
	assert_true(c.bad);
	assert_int_equal(silt_cursor_u8(&c), 0);
	c = silt_cursor_at(bytes, sizeof(bytes), 3);
	assert_null(silt_cursor_string(&c));
	c = silt_cursor_at(bytes, sizeof(bytes), 6);
	assert_true(c.bad);
	c = silt_cursor_at(bytes, sizeof(bytes), 5);
	assert_false(c.bad);
	silt_cursor_skip(&c, UINT64_MAX);
	assert_true(c.bad);
}

static void lower_bound_finds_every_gap(void **state)
{
	static const uint64_t v[] = {10, 20, 20, 30};

	(void)state;
	assert_int_equal(silt_lower_bound(v, 4, 0), 0);
	assert_int_equal(silt_lower_bound(v, 4, 10), 0);
	assert_int_equal(silt_lower_bound(v, 4, 11), 1);
	assert_int_equal(silt_lower_bound(v, 4, 20), 1);
	assert_int_equal(silt_lower_bound(v, 4, 21), 3);
	assert_int_equal(silt_lower_bound(v, 4, 31), 4);
	assert_int_equal(silt_lower_bound(v, 0, 5), 0);
}

static void expect_demangled(const char *mangled, enum silt_demangle how, const char *want)
{
	char *got = silt_demangle(mangled, how);

	if (want)
		assert_string_equal(got ? got : "(null)", want);
	else
		assert_null(got);
	free(got);
}

static void demangles_what_compilers_write(void **state)
{
	(void)state;
	expect_demangled("_ZNSt6vectorIiSaIiEE9push_backERKi", SILT_DEMANGLE_FULL,
			 "std::vector<int, std::allocator<int> >::push_back(int const&)");
	expect_demangled("_ZNSt6vectorIiSaIiEE9push_backERKi", SILT_DEMANGLE_SHORT, "std::vector<\u2026>::push_back");
	expect_demangled("_ZN4core3fmt9Formatter9write_str17h0123456789abcdefE", SILT_DEMANGLE_FULL,
			 "core::fmt::Formatter::write_str");
	expect_demangled("_RNvNtCs1234_7mycrate3foo3bar", SILT_DEMANGLE_FULL, "mycrate::foo::bar");
	expect_demangled("_D3std5stdio7writelnFZv", SILT_DEMANGLE_FULL, "std.stdio.writeln()");
	expect_demangled("_Z3fooi", SILT_DEMANGLE_OFF, NULL);
	expect_demangled("malloc", SILT_DEMANGLE_FULL, NULL);
	expect_demangled("_Znonsense", SILT_DEMANGLE_FULL, NULL);
	expect_demangled("_", SILT_DEMANGLE_FULL, NULL);
}

static void folds_long_names(void **state)
{
	static const struct {
		const char *full, *folded;
	} cases[] = {
		{"main", "main"},
		{"f(int, char**)", "f"},
		{"std::map<int, std::vector<int> >::operator[](int const&)", "std::map<\u2026>::operator[]"},
		{"operator<<(std::ostream&, int)", "operator<<"},
		{"bool operator< <int>(A<int> const&)", "bool operator< <\u2026>"},
		{"Fn::operator()(int) const", "Fn::operator()"},
		{"A<&(B::operator->())>::f()", "A<\u2026>::f"},
		{"(anonymous namespace)::f(int)", "(anonymous namespace)::f"},
		{"<Vec<T> as Drop>::drop", "<Vec<\u2026> as Drop>::drop"},
		{"f<(a)1, (b)2>(int)", "f<\u2026>"},
		{"broken<int(", "broken<\u2026>"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *got = silt_demangle_fold(cases[i].full);

		assert_string_equal(got, cases[i].folded);
		free(got);
	}
}

static void bounds_names_that_grow(void **state)
{
	/* Substitutions that double with every argument. */
	char name[70000] = "_Z1f";
	char *got;

	(void)state;
	for (int i = 0; i < 20000; i++)
		strcat(name + 4 + 3 * (size_t)i, "PFi");
	got = silt_demangle(name, SILT_DEMANGLE_FULL);
	free(got);
	memset(name, 'i', sizeof(name) - 1);
	memcpy(name, "_Z1f", 4);
	name[sizeof(name) - 1] = '\0';
	assert_null(silt_demangle(name, SILT_DEMANGLE_FULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_reads_leb128),   cmocka_unit_test(cursor_stays_bad),
		cmocka_unit_test(lower_bound_finds_every_gap), cmocka_unit_test(demangles_what_compilers_write),
		cmocka_unit_test(folds_long_names),      cmocka_unit_test(bounds_names_that_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
