/* SPDX-License-Identifier: MIT */
/* Demangling: names as compilers write them with both readable forms, and names made to hurt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/types.h"
#include "symbols/demangle.h"

#define E "\xe2\x80\xa6" /* … */

static void expect(const char *mangled, enum silt_demangle how, const char *want)
{
	char *got = silt_demangle(mangled, how);

	if (want)
		assert_string_equal(got ? got : "(null)", want);
	else
		assert_null(got);
	free(got);
}

struct name {
	const char *mangled, *full, *folded;
};

static void expect_all(const struct name *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		expect(names[i].mangled, SILT_DEMANGLE_FULL, names[i].full);
		expect(names[i].mangled, SILT_DEMANGLE_SHORT, names[i].folded);
		expect(names[i].mangled, SILT_DEMANGLE_OFF, NULL);
	}
}

static void cxx_names(void **state)
{
	static const struct name names[] = {
		{"_Z3foov", "foo()", "foo"},
		{"_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)",
		 "std::vector<" E ">::push_back"},
		/* Functions made from templates have their result in the name. */
		{"_Z3fooIiEvT_", "void foo<int>(int)", "foo<" E ">"},
		{"_ZNKSt8functionIFviEEclEi", "std::function<void (int)>::operator()(int) const", "std::function<" E ">::operator()"},
		{"_ZNSt6vectorISt4pairIiSt6vectorIS0_IilESaIS2_EEESaIS5_EE5clearEv",
		 "std::vector<std::pair<int, std::vector<std::pair<int, long>, std::allocator<std::pair<int, long> > > >, "
		 "std::allocator<std::pair<int, std::vector<std::pair<int, long>, std::allocator<std::pair<int, long> > > > > "
		 ">::clear()", "std::vector<" E ">::clear"},
		/* Operators whose characters are brackets. */
		{"_ZlsRSoRK3Foo", "operator<<(std::ostream&, Foo const&)", "operator<<"},
		{"_ZrsRSiR3Foo", "operator>>(std::istream&, Foo&)", "operator>>"},
		{"_ZlsI1AERSoS1_RKT_", "std::ostream& operator<< <A>(std::ostream&, A const&)", "operator<< <" E ">"},
		{"_ZltI1AEbRKT_S3_", "bool operator< <A>(A const&, A const&)", "operator< <" E ">"},
		{"_ZN1AlSERKS_", "A::operator<<=(A const&)", "A::operator<<="},
		{"_ZN1AssERKS_", "A::operator<=>(A const&)", "A::operator<=>"},
		{"_ZNK3FooptEv", "Foo::operator->() const", "Foo::operator->"},
		{"_ZNK3FoopmEi", "Foo::operator->*(int) const", "Foo::operator->*"},
		{"_ZNKSt10unique_ptrI1ASt14default_deleteIS0_EEptEv", "std::unique_ptr<A, std::default_delete<A> >::operator->() const",
		 "std::unique_ptr<" E ">::operator->"},
		{"_ZN3FooclEv", "Foo::operator()()", "Foo::operator()"},
		{"_ZN3FooixEm", "Foo::operator[](unsigned long)", "Foo::operator[]"},
		{"_Znwm", "operator new(unsigned long)", "operator new"},
		{"_ZdaPv", "operator delete[](void*)", "operator delete[]"},
		{"_Zli2_xy", "operator\"\" _x(unsigned long long)", "operator\"\" _x"},
		{"_ZNK1AILZN1BleERKS0_EE1fEv", "A<B::operator<=(B const&)>::f() const", "A<" E ">::f"},
		{"_ZN3ns13FooIXltLi1ELi2EEE3barEv", "ns1::Foo<(1)<(2)>::bar()", "ns1::Foo<" E ">::bar"},
		{"_ZN3ns13FooIXgtLi1ELi2EEE3barEv", "ns1::Foo<((1)>(2))>::bar()", "ns1::Foo<" E ">::bar"},
		/* Conversion operators are named after a type. */
		{"_ZNK3FoocvbEv", "Foo::operator bool() const", "Foo::operator bool"},
		{"_ZNK3FoocvSt6vectorIiSaIiEEEv", "Foo::operator std::vector<int, std::allocator<int> >() const",
		 "Foo::operator std::vector<" E ">"},
		{"_ZNK3FoocvPKSt6vectorIiSaIiEEEv", "Foo::operator std::vector<int, std::allocator<int> > const*() const",
		 "Foo::operator std::vector<" E "> const*"},
		{"_ZN1XcvT_IiEEv", "X::operator int<int>()", "X::operator int<" E ">"},
		{"_ZN1XcvT_ISt6vectorIiSaIiEEEEv",
		 "X::operator std::vector<int, std::allocator<int> ><std::vector<int, std::allocator<int> > >()",
		 "X::operator std::vector<" E "><" E ">"},
		/* Scopes. */
		{"_ZN12_GLOBAL__N_13fooEi", "(anonymous namespace)::foo(int)", "(anonymous namespace)::foo"},
		{"_ZNSt6vectorIN12_GLOBAL__N_11AESaIS1_EE4sizeEv",
		 "std::vector<(anonymous namespace)::A, std::allocator<(anonymous namespace)::A> >::size()", "std::vector<" E ">::size"},
		{"_ZZ4mainENKUliE_clEi", "main::{lambda(int)#1}::operator()(int) const", "main::{lambda#1}::operator()"},
		{"_ZZN1A1fIiEEvT_ENKUlvE0_clEv", "A::f<int>(int)::{lambda()#2}::operator()() const",
		 "A::f<" E ">::{lambda#2}::operator()"},
		{"_ZZZ1fvENKUlvE_clEvENKUlSt6vectorIiSaIiEEE_clES2_",
		 "f()::{lambda()#1}::operator()() const::{lambda(std::vector<int, std::allocator<int> >)#1}::operator()"
		 "(std::vector<int, std::allocator<int> >) const", "f::{lambda#1}::operator()::{lambda#1}::operator()"},
		{"_ZZ1fvE1x_0", "f()::x", "f::x"},
		{"_ZZNK1A1fEvE1x", "A::f() const::x", "A::f::x"},
		{"_ZN1AUt_1fEv", "A::{unnamed type#1}::f()", "A::{unnamed type#1}::f"},
		{"_Z3barB5cxx11v", "bar[abi:cxx11]()", "bar[abi:cxx11]"},
		{"_ZNK1AIiE3getB5cxx11Ev", "A<int>::get[abi:cxx11]() const", "A<" E ">::get[abi:cxx11]"},
		{"_ZNKSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE4sizeEv",
		 "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >::size() const",
		 "std::__cxx11::basic_string<" E ">::size"},
		/* Constructors, destructors, what compilers add. */
		{"_ZN3FooC2Ev", "Foo::Foo()", "Foo::Foo"},
		{"_ZN3FooIiED1Ev", "Foo<int>::~Foo()", "Foo<" E ">::~Foo"},
		{"_ZThn8_N1B1fIiEEvv", "non-virtual thunk to void B::f<int>()", "non-virtual thunk to B::f<" E ">"},
		{"_ZTV3FooIiE", "vtable for Foo<int>", "vtable for Foo<" E ">"},
		{"_ZGVZN1AIiE1fEvE1x", "guard variable for A<int>::f()::x", "guard variable for A<" E ">::f::x"},
		{"_Z1fi.constprop.0", "f(int) [clone .constprop.0]", "f [clone .constprop.0]"},
		{"_Z1fi.isra.0.cold", "f(int) [clone .isra.0] [clone .cold]", "f [clone .isra.0] [clone .cold]"},
		{"_ZNO1A1fEv", "A::f() &&", "A::f"},
		{"_Z1fPFviE", "f(void (*)(int))", "f"},
		{"_Z1fDTcl1gEE", "f(decltype (g()))", "f"},
	};

	(void)state;
	expect_all(names, SILT_ARRAY_LEN(names));
}

static void rust_names(void **state)
{
	static const struct name names[] = {
		/* The older scheme. */
		{"_ZN4core3fmt9Formatter9write_str17h0123456789abcdefE", "core::fmt::Formatter::write_str",
		 "core::fmt::Formatter::write_str"},
		{"_ZN4core3fmt9Formatter9write_str17h0123456789abcdefE.llvm.1234567", "core::fmt::Formatter::write_str",
		 "core::fmt::Formatter::write_str"},
		{"_ZN4core3ptr85drop_in_place$LT$std..rt..lang_start$LT$$LP$$RP$$GT$..$u7b$$u7b$closure$u7d$$u7d$$GT$"
		 "17h0123456789abcdefE", "core::ptr::drop_in_place<std::rt::lang_start<()>::{{closure}}>",
		 "core::ptr::drop_in_place<" E ">"},
		{"_ZN70_$LT$alloc..vec..Vec$LT$T$C$A$GT$$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE",
		 "<alloc::vec::Vec<T,A> as core::ops::drop::Drop>::drop", "<alloc::vec::Vec<" E "> as core::ops::drop::Drop>::drop"},
		{"_ZN59_$LT$$LP$A$C$B$RP$$u20$as$u20$core..fmt..Debug$LT$T$GT$$GT$3fmt17h0123456789abcdefE",
		 "<(A,B) as core::fmt::Debug<T>>::fmt", "<(A,B) as core::fmt::Debug<" E ">>::fmt"},
		/* v0. */
		{"_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar", "mycrate::foo::bar"},
		{"_RNvNtCs1234_7mycrate3foo3bar.llvm.123", "mycrate::foo::bar", "mycrate::foo::bar"},
		{"_RINvNtC3std3mem8align_ofdE", "std::mem::align_of::<f64>", "std::mem::align_of::<" E ">"},
		{"_RNCNvC4main4main0B3_", "main::main::{closure#0}", "main::main::{closure#0}"},
		{"_RNvMs_NtCs_7mycrate3fooINtB4_3FooiE3bar", "<mycrate::foo::Foo<isize>>::bar", "<mycrate::foo::Foo<" E ">>::bar"},
		{"_RNvXs5_NtCsd4VYFwevHkG_5alloc3vecINtB5_3VecpENtNtNtCs_4core3ops4drop4Drop4drop",
		 "<alloc::vec::Vec<_> as core::ops::drop::Drop>::drop", "<alloc::vec::Vec<" E "> as core::ops::drop::Drop>::drop"},
		{"_RINvC1a1fFG_RL0_hEmE", "a::f::<for<'a> fn(&'a u8) -> u32>", "a::f::<" E ">"},
	};

	(void)state;
	expect_all(names, SILT_ARRAY_LEN(names));
}

static void d_names(void **state)
{
	static const struct name names[] = {
		{"_D3std5stdio7writelnFZv", "std.stdio.writeln()", "std.stdio.writeln"},
		{"_D8demangle__T4testTaZv", "demangle.test!(char)", "demangle.test!(" E ")"},
		{"_D8demangle4testMxFZv", "demangle.test() const", "demangle.test"},
		{"_D8demangle4testFAyaHiiZv", "demangle.test(immutable(char)[], int[int])", "demangle.test"},
		{"_D8demangle__T4testVAyaa4_28292222Z1fFiZv", "demangle.test!(\"()\"\"\").f(int)", "demangle.test!(" E ").f"},
		{"_D8demangle__T4testVAyaa2_2922VAywa1_28Z1fFiZv", "demangle.test!(\")\"\", \"(\").f(int)", "demangle.test!(" E ").f"},
		{"_D4test3fooMFZ3barMFNaNbZv", "test.foo().bar()", "test.foo.bar"},
		{"_D1a__T1fTiTAyaZ1gFZv", "a.f!(int, immutable(char)[]).g()", "a.f!(" E ").g"},
	};

	(void)state;
	expect_all(names, SILT_ARRAY_LEN(names));
}

static void other_names(void **state)
{
	static const char *const names[] = {"malloc", "", "_", "_Z", "_R", "_D", "_Znonsense", "_ZN", "_RNv", "_D3fo", "_Dmain", "Z3foov",
					    "_start", "__libc_start_main"};

	(void)state;
	for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++) {
		expect(names[i], SILT_DEMANGLE_FULL, NULL);
		expect(names[i], SILT_DEMANGLE_SHORT, NULL);
	}
	assert_true(silt_demangle_is_mangled("_Z3foov"));
	assert_true(silt_demangle_is_mangled("_RNvC1a1b"));
	assert_true(silt_demangle_is_mangled("_D1a"));
	assert_false(silt_demangle_is_mangled("_Dmain"));
	assert_false(silt_demangle_is_mangled("malloc"));
	assert_false(silt_demangle_is_mangled(""));
}

/* Names that DWARF spells out, and what is cut short. */
static void folds_text(void **state)
{
	static const struct {
		const char *full, *folded;
	} cases[] = {
		{"main", "main"},
		{"", ""},
		{"f(int, char**)", "f"},
		{"std::map<int, std::vector<int> >::operator[](int const&)", "std::map<" E ">::operator[]"},
		{"operator<<(std::ostream&, int)", "operator<<"},
		{"operator<<int>", "operator<<int>"}, /* "<<" wins, as in C++ */
		{"operator< <int>", "operator< <" E ">"},
		{"bool operator< <int>(A<int> const&)", "bool operator< <" E ">"},
		{"Fn::operator()(int) const", "Fn::operator()"},
		{"Fn::operator()(int) const &", "Fn::operator()"},
		{"A<&(B::operator->())>::f()", "A<" E ">::f"},
		{"A<((1)>(2))>::f()", "A<" E ">::f"},
		{"A<(B)1, (x<y)>::f()", "A<" E ">::f"},
		{"A<B::operator>>(C) >::f", "A<" E ">::f"},
		{"myoperator<int>", "myoperator<" E ">"},
		{"operators<int>", "operators<" E ">"},
		{"Foo::operator std::vector<int>() const", "Foo::operator std::vector<" E ">"},
		{"(anonymous namespace)::f(int)", "(anonymous namespace)::f"},
		{"main::{lambda(int)#1}::operator()(int) const", "main::{lambda#1}::operator()"},
		{"f(int) [clone .cold]", "f [clone .cold]"},
		{"get[abi:cxx11](A<int>)", "get[abi:cxx11]"},
		{"<Vec<T> as Drop>::drop", "<Vec<" E "> as Drop>::drop"},
		{"f<(a)1, (b)2>(int)", "f<" E ">"},
		{"broken<int(", "broken<" E ">"},
		{"broken(((", "broken"},
		{"broken<<<", "broken<" E ">"},
		{"a>b", "a>b"},
	};

	(void)state;
	for (size_t i = 0; i < SILT_ARRAY_LEN(cases); i++) {
		char *got = silt_demangle_fold(cases[i].full, SILT_NAME_CXX);

		assert_string_equal(got, cases[i].folded);
		free(got);
	}
}

/* ---- names made to hurt ---- */

struct builder {
	char *text;
	size_t used;
};

static void add(struct builder *b, const char *text, size_t times)
{
	for (size_t i = 0; i < times; i++) {
		strcpy(b->text + b->used, text);
		b->used += strlen(text);
	}
}

/* The n-th substitution of the C++ ABI: S_, S0_ … SZ_, S10_ … */
static void add_substitution(struct builder *b, unsigned n)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char text[16] = "S_";

	if (n > 36)
		snprintf(text, sizeof(text), "S%c%c_", digits[(n - 1) / 36], digits[(n - 1) % 36]);
	else if (n)
		snprintf(text, sizeof(text), "S%c_", digits[n - 1]);
	add(b, text, 1);
}

/* Every level names the one below twice. */
static void add_doubling(struct builder *b, const char *start, unsigned levels)
{
	add(b, start, 1);
	add(b, "1BI", levels);
	add(b, "1AIiE", 1);
	for (unsigned i = 0; i < levels; i++) {
		add_substitution(b, levels + 1 + i);
		add(b, "E", 1);
	}
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void expect_bounded(struct builder *b, const char *want_full)
{
	expect(b->text, SILT_DEMANGLE_FULL, want_full);
	free(silt_demangle(b->text, SILT_DEMANGLE_SHORT));
	b->used = 0;
	b->text[0] = '\0';
}

static void bounds_hostile_names(void **state)
{
	struct builder b = {calloc(1, 1 << 18), 0};
	char *got;
	double before;

	(void)state;
	/* Without a bound these would print 2^60 names. */
	add_doubling(&b, "_Z1f", 60);
	expect_bounded(&b, NULL);
	/* Rust: tuples of back references (the positions of 16 levels are worked out; each is two digits of base 62). */
	add(&b, "_RINvC1a1fTTTTTTTThhETThhETTThhE", 1);
	expect_bounded(&b, NULL);
	/* Recursion. */
	add(&b, "_Z1f", 1);
	add(&b, "P", 30000);
	add(&b, "i", 1);
	expect_bounded(&b, NULL);
	add(&b, "_Z1f", 1);
	add(&b, "PF", 8000);
	add(&b, "v", 1);
	add(&b, "E", 8000);
	expect_bounded(&b, NULL);
	add(&b, "_RINvC1a1f", 1);
	add(&b, "R", 30000);
	add(&b, "hE", 1);
	expect_bounded(&b, NULL);
	add(&b, "_D1a1fF", 1);
	add(&b, "P", 9000);
	add(&b, "iZv", 1);
	expect_bounded(&b, NULL);
	/* A stack frame of gigabytes inside libiberty. */
	add(&b, "_Z1f", 1);
	add(&b, "1AIiE", 3000);
	add(&b, "RT_", 4000);
	expect_bounded(&b, NULL);
	/* Too long to be anybody's name. */
	add(&b, "_Z1f", 1);
	add(&b, "i", 70000);
	expect_bounded(&b, NULL);
	/* Long, but some program's: beyond what c++filt takes without -r. */
	add(&b, "_ZN", 1);
	for (int i = 0; i < 5; i++) {
		add(&b, "300", 1);
		add(&b, "abc", 100);
	}
	add(&b, "Ev", 1);
	got = silt_demangle(b.text, SILT_DEMANGLE_FULL);
	assert_non_null(got);
	assert_int_equal(strlen(got), 5 * 300 + 4 * strlen("::") + strlen("()"));
	free(got);
	b.used = 0;
	/* Silent work without end: after some of these the file is not worth more time. */
	before = seconds();
	for (int i = 0; i < 100; i++) {
		add_doubling(&b, "_Z1fDp", 60);
		expect_bounded(&b, NULL);
	}
	assert_true(seconds() - before < 20);
	expect("_Z3foov", SILT_DEMANGLE_FULL, NULL);
	free(b.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cxx_names), cmocka_unit_test(rust_names), cmocka_unit_test(d_names), cmocka_unit_test(other_names),
		cmocka_unit_test(folds_text), cmocka_unit_test(bounds_hostile_names), /* the last: demangling ends with it */
	};

	silt_demangle_guard_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
