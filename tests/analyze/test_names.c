/* SPDX-License-Identifier: MIT */
/* Where stacks begin for a reader, what filters see, and how little is asked of the symbols room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "analyze/analysis.h"
#include "build_snapshot.h"
#include "fake_symbols.h"

#define CXX "/usr/lib/libstdc++.so.6"

static const struct fake_address SYMBOLS[] = {
	{ CXX, 2, 0x10, { { .function = "operator new(unsigned long)", .linkage = "_Znwm" } } },
	{ CXX, 2, 0x20, { { .function = "std::locale::init()", .linkage = "_ZNSt6locale4initEv" } } },
	{ "/bin/app", 1, 0x100,
	  { { .function = "std::__new_allocator<int>::allocate(unsigned long)", .file = "/usr/include/new_allocator.h",
	      .line = 137, .inlined = true },
	    { .function = "Cache::insert(int)", .file = "/src/cache.cpp", .line = 20 } } },
	{ "/bin/app", 1, 0x200, { { .function = "main", .file = "/src/main.cpp", .line = 7 } } },
	{ "/bin/app", 1, 0x300, { { .function = "silt_alloc", .file = "/src/silt.h", .line = 40, .inlined = true },
				  { .function = "Pool::get", .file = "/src/pool.cpp", .line = 9 } } },
	{ "/bin/app", 1, 0x400, { { .function = "mmap", .file = "/src/own.c", .line = 3 } } },
	{ "/lib/libc.so.6", 3, 0x400, { { .function = "mmap64" } } },
	{ "/lib/libc.so.6", 3, 0x500, { { .function = "strdup" } } },
};

struct fixture {
	struct silt_snapshot *s;
	uint32_t app, cxx, libc, je, next_bytes;
};

static void setup(struct fixture *f)
{
	fake_symbols_set(SYMBOLS, SILT_ARRAY_LEN(SYMBOLS));
	f->s = build_snapshot();
	f->app = build_module(f->s, "/bin/app", 1);
	f->cxx = build_module(f->s, CXX, 2);
	f->libc = build_module(f->s, "/lib/libc.so.6", 3);
	f->je = build_module(f->s, "/usr/lib/libjemalloc.so.2", 4);
}

static uint32_t add2(struct fixture *f, uint32_t m1, uint64_t o1, uint32_t m2, uint64_t o2, uint64_t bytes)
{
	uint32_t frames[2] = { build_frame(f->s, m1, o1), build_frame(f->s, m2, o2) };
	uint32_t stack = build_stack(f->s, 0, frames, 2);

	build_context(f->s, stack, bytes, 1, 0, 0);
	return stack;
}

static void prepare(struct silt_analysis *r, const struct fixture *f, const struct silt_report_options *o)
{
	struct silt_error err = { 0 };
	int rc = silt_analysis_prepare(r, NULL, f->s, o, &err);

	if (rc != 0)
		fail_msg("%s", err.msg);
}

static struct silt_stack_start start_of(struct fixture *f, uint32_t stack, bool all_frames)
{
	struct silt_report_options o = { .top = 0, .all_frames = all_frames };
	struct silt_stack_start start;
	struct silt_analysis r;

	prepare(&r, f, &o);
	start = silt_names_stack_start(&r.names, r.stacks[SILT_AFTER][stack], all_frames);
	silt_analysis_deinit(&r);
	return start;
}

static void assert_start(struct fixture *f, uint32_t stack, bool all_frames, uint32_t location, size_t frame)
{
	struct silt_stack_start start = start_of(f, stack, all_frames);

	assert_int_equal(start.location, location);
	assert_int_equal(start.frame, frame);
}

static void allocators_are_hidden(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	assert_start(&f, add2(&f, f.cxx, 0x10, f.app, 0x100, 1), false, 1, 0);
	assert_start(&f, add2(&f, f.cxx, 0x10, f.app, 0x100, 1), true, 0, 0);
	assert_start(&f, add2(&f, f.cxx, 0x20, f.app, 0x100, 1), false, 0, 0); /* libstdc++, but no allocator */
	assert_start(&f, add2(&f, f.je, 0x77, f.app, 0x200, 1), false, 1, 0);  /* all of jemalloc, names or not */
	assert_start(&f, add2(&f, f.libc, 0x400, f.app, 0x200, 1), false, 1, 0);
	assert_start(&f, add2(&f, f.libc, 0x500, f.app, 0x200, 1), false, 0, 0);
	assert_start(&f, add2(&f, f.app, 0x400, f.app, 0x200, 1), false, 0, 0); /* the program's own mmap() */
	assert_start(&f, add2(&f, f.app, 0x300, f.app, 0x200, 1), false, 0, 1); /* inlined silt_alloc */
	assert_start(&f, add2(&f, f.je, 0x77, f.cxx, 0x10, 1), false, 0, 0);    /* never an empty stack */
	silt_snapshot_destroy(f.s);
}

static const char *only_key(struct fixture *f, enum silt_by by, struct silt_analysis *r)
{
	static struct silt_report_options o;

	o = (struct silt_report_options){ .top = 0, .by = by };
	prepare(r, f, &o);
	assert_int_equal(r->row_count, 1);
	return silt_intern_text(r->group_keys, r->rows[0].key);
}

static void groups_take_the_first_shown_frame(void **state)
{
	static const struct {
		enum silt_by by;
		const char *key;
	} EXPECTED[] = {
		{ SILT_BY_FUNCTION, "std::__new_allocator<int>::allocate(unsigned long)" },
		{ SILT_BY_FILE, "/usr/include/new_allocator.h" },
		{ SILT_BY_MODULE, "/bin/app" },
	};
	struct fixture f;

	(void)state;
	setup(&f);
	add2(&f, f.cxx, 0x10, f.app, 0x100, 40);
	add2(&f, f.je, 0x10, f.app, 0x100, 2);
	for (size_t i = 0; i < SILT_ARRAY_LEN(EXPECTED); i++) {
		struct silt_analysis r;

		assert_string_equal(only_key(&f, EXPECTED[i].by, &r), EXPECTED[i].key);
		assert_int_equal(r.rows[0].sum[1].bytes, 42);
		silt_analysis_deinit(&r);
	}
	silt_snapshot_destroy(f.s);
}

static void unknown_functions_are_grouped_by_module(void **state)
{
	struct fixture f;
	struct silt_analysis r;

	(void)state;
	setup(&f);
	add2(&f, f.app, 0xdead, f.app, 0x200, 1);
	add2(&f, f.app, 0xbeef, f.app, 0x200, 2);
	assert_string_equal(only_key(&f, SILT_BY_FUNCTION, &r), "(unknown function) [app]");
	assert_int_equal(r.rows[0].sum[1].bytes, 3);
	silt_analysis_deinit(&r);
	silt_snapshot_destroy(f.s);
}

static size_t rows_with(struct fixture *f, const char *focus, const char *ignore, bool all_frames)
{
	struct silt_report_options o = { .top = 0, .focus = focus, .ignore = ignore, .all_frames = all_frames };
	struct silt_analysis r;
	size_t count;

	prepare(&r, f, &o);
	count = r.row_count;
	silt_analysis_deinit(&r);
	return count;
}

static void filters_see_what_readers_see(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	add2(&f, f.cxx, 0x10, f.app, 0x100, 1);
	add2(&f, f.libc, 0x500, f.app, 0x200, 2);
	assert_int_equal(rows_with(&f, NULL, NULL, false), 2);
	assert_int_equal(rows_with(&f, "Cache::insert", NULL, false), 1);
	assert_int_equal(rows_with(&f, "cache\\.cpp$", NULL, false), 1);
	assert_int_equal(rows_with(&f, "^/bin/", NULL, false), 2);
	assert_int_equal(rows_with(&f, "libc\\.so", NULL, false), 1);
	assert_int_equal(rows_with(&f, "operator new", NULL, false), 0);
	assert_int_equal(rows_with(&f, "operator new", NULL, true), 1);
	assert_int_equal(rows_with(&f, NULL, "strdup|Cache", false), 0);
	assert_int_equal(rows_with(&f, "app", "strdup", false), 1);
	silt_snapshot_destroy(f.s);
}

/* Only frames of shown rows are looked up, and everything in one go. */
static void few_names_are_asked_for(void **state)
{
	struct silt_report_options o = { .top = 1 };
	struct fixture f;
	struct silt_analysis r;

	(void)state;
	setup(&f);
	for (uint64_t i = 0; i < 100; i++)
		add2(&f, f.app, 0x9000 + i, f.app, 0xa000 + i, i + 1);
	prepare(&r, &f, &o);
	assert_int_equal(r.shown, 1);
	assert_int_equal(r.rows[0].sum[1].bytes, 100);
	assert_int_equal(fake_symbols_requests(), 2);
	assert_int_equal(fake_symbols_resolves(), 1);
	silt_analysis_deinit(&r);
	silt_snapshot_destroy(f.s);
}

/* The frame between a handler and what it interrupted has a name whatever is known of its module. */
static void signal_trampolines_have_a_name(void **state)
{
	struct silt_report_options o = { .top = 0 };
	struct fixture f;
	struct silt_analysis r;
	uint32_t frames[4], stack, count;
	const uint32_t *locations;

	(void)state;
	setup(&f);
	frames[0] = build_frame(f.s, f.app, 0x200);
	frames[1] = build_frame(f.s, f.libc, 0x3c050);
	frames[2] = build_frame(f.s, f.app, 0x100);
	f.s->frames[frames[2]].flags = SILT_FRAME_INTERRUPTED;
	frames[3] = build_frame(f.s, f.libc, 0x2724a);
	stack = build_stack(f.s, 0, frames, 4);
	build_context(f.s, stack, 10, 1, 0, 0);
	prepare(&r, &f, &o);
	locations = silt_catalog_stack(&r.catalog, r.stacks[SILT_AFTER][stack], &count, NULL);
	for (uint32_t i = 0; i < count; i++) {
		size_t n;
		const struct silt_symbol_frame *names = silt_names_frames(&r.names, locations[i], &n);

		assert_int_equal(i == 1, n == 1 && strcmp(names->function, "<signal handler called>") == 0);
	}
	assert_int_equal(fake_symbols_requests(), 3);
	silt_analysis_deinit(&r);
	assert_int_equal(rows_with(&f, "signal handler called", NULL, false), 1);
	/* An allocator that a signal interrupted: the reader's stack begins behind it. */
	f.s->contexts[0].stack = build_stack(f.s, 0, (uint32_t[]){ build_frame(f.s, f.je, 0x77), frames[1], frames[2] }, 3);
	o.by = SILT_BY_FUNCTION;
	prepare(&r, &f, &o);
	assert_int_equal(r.row_count, 1);
	assert_string_equal(silt_intern_text(r.group_keys, r.rows[0].key), "<signal handler called>");
	silt_analysis_deinit(&r);
	silt_snapshot_destroy(f.s);
}

static void wrong_regex_is_wrong_usage(void **state)
{
	struct silt_report_options o = { .focus = "(" };
	struct silt_error err = { 0 };
	struct silt_analysis r;
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(silt_analysis_prepare(&r, NULL, f.s, &o, &err), SILT_E_INVAL);
	assert_non_null(strstr(err.msg, "--focus: '('"));
	silt_analysis_deinit(&r);
	silt_snapshot_destroy(f.s);
}

static int diff_error(struct silt_snapshot *b, struct silt_snapshot *a, const struct silt_report_options *o,
		      struct silt_error *err)
{
	struct silt_analysis r;
	int rc = silt_analysis_prepare(&r, b, a, o, err);

	silt_analysis_deinit(&r);
	return rc;
}

static void new_needs_one_run_in_order(void **state)
{
	struct silt_report_options o = { .only_new = true };
	struct silt_snapshot *b = build_snapshot(), *a = build_snapshot();
	struct silt_error err = { 0 };

	(void)state;
	assert_int_equal(diff_error(b, a, &o, &err), SILT_E_UNSUPPORTED); /* the same epoch */
	assert_non_null(strstr(err.msg, "both are dump"));
	a->process.epoch = 2;
	assert_int_equal(diff_error(a, b, &o, &err), SILT_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "swap them"));
	assert_int_equal(diff_error(b, a, &o, &err), 0);
	a->process.session[1]++;
	assert_int_equal(diff_error(b, a, &o, &err), SILT_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "two dumps of one run"));
	silt_snapshot_destroy(b);
	silt_snapshot_destroy(a);
}

static void overlapping_stacks_are_refused(void **state)
{
	struct silt_report_options o = { .top = 0 };
	struct silt_error err = { 0 };
	struct silt_snapshot *s = build_snapshot();
	uint32_t frames[1000] = { 0 };

	(void)state;
	build_frame(s, build_module(s, "/bin/app", 1), 1);
	build_stack(s, 0, frames, 1000);
	for (uint32_t i = 1; i < 2000; i++)
		s->stacks[s->stack_count++] = s->stacks[0];
	assert_int_equal(diff_error(NULL, s, &o, &err), SILT_E_LIMIT);
	silt_snapshot_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocators_are_hidden),
		cmocka_unit_test(groups_take_the_first_shown_frame),
		cmocka_unit_test(unknown_functions_are_grouped_by_module),
		cmocka_unit_test(filters_see_what_readers_see),
		cmocka_unit_test(few_names_are_asked_for),
		cmocka_unit_test(signal_trampolines_have_a_name),
		cmocka_unit_test(wrong_regex_is_wrong_usage),
		cmocka_unit_test(new_needs_one_run_in_order),
		cmocka_unit_test(overlapping_stacks_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
