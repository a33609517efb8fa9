/* SPDX-License-Identifier: MIT */
/* Stacks of rebuilt modules, matched by names and lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "analyze/analysis.h"
#include "build_snapshot.h"
#include "fake_symbols.h"

#define FN(name, at, start) { .function = name, .file = "/old/src/app.c", .line = at, .function_start = start }
#define FN2(name, at, start) { .function = name, .file = "/new/src/app.c", .line = at, .function_start = start }

/* The old build: grow() at line 10 allocates at 12 and 15; gone() at 40. The new one: the same 100 lines further
 * down and elsewhere in memory; grow() has one more call site, at 20, and added() is new. */
static const struct fake_address SYMBOLS[] = {
	{ "/bin/app", 1, 0x1000, { FN("grow", 10, 0x1000) } },  { "/bin/app", 1, 0x1012, { FN("grow", 12, 0x1000) } },
	{ "/bin/app", 1, 0x1015, { FN("grow", 15, 0x1000) } },  { "/bin/app", 1, 0x1040, { FN("gone", 40, 0x1040) } },
	{ "/bin/app", 1, 0x1050, { FN("main", 50, 0x1050) } },  { "/bin/app", 2, 0x2000, { FN2("grow", 110, 0x2000) } },
	{ "/bin/app", 2, 0x2012, { FN2("grow", 112, 0x2000) } }, { "/bin/app", 2, 0x2015, { FN2("grow", 115, 0x2000) } },
	{ "/bin/app", 2, 0x2020, { FN2("grow", 120, 0x2000) } }, { "/bin/app", 2, 0x2050, { FN2("main", 150, 0x2050) } },
	{ "/bin/app", 2, 0x2060, { FN2("added", 160, 0x2060) } },
	/* A function whose allocation moved inside it: old line 72, new line 75. */
	{ "/bin/app", 1, 0x1070, { FN("moved", 70, 0x1070) } },  { "/bin/app", 1, 0x1072, { FN("moved", 72, 0x1070) } },
	{ "/bin/app", 2, 0x2070, { FN2("moved", 170, 0x2070) } }, { "/bin/app", 2, 0x2075, { FN2("moved", 175, 0x2070) } },
	{ "/bin/app", 2, 0x2078, { FN2("moved", 178, 0x2070) } },
};

struct pair {
	struct silt_snapshot *before, *after;
	uint32_t app_before, app_after, lib_before, lib_after;
};

static void make_pair(struct pair *p)
{
	fake_symbols_set(SYMBOLS, SILT_ARRAY_LEN(SYMBOLS));
	p->before = build_snapshot();
	p->after = build_snapshot();
	p->after->process.session[0] = 77;
	p->app_before = build_module(p->before, "/bin/app", 1);
	p->app_after = build_module(p->after, "/bin/app", 2);
	p->lib_before = build_module(p->before, "/lib/libx.so.1", 9);
	p->lib_after = build_module(p->after, "/usr/lib/libx.so.1", 9);
}

static void free_pair(struct pair *p)
{
	silt_snapshot_destroy(p->before);
	silt_snapshot_destroy(p->after);
}

/* main -> app_offset -> (lib_offset, unless 0) */
static void add(struct silt_snapshot *s, uint32_t app, uint32_t lib, uint64_t lib_offset, uint64_t offset,
		uint64_t main_offset, uint64_t bytes)
{
	uint32_t frames[3], n = 0;

	if (lib_offset)
		frames[n++] = build_frame(s, lib, lib_offset);
	frames[n++] = build_frame(s, app, offset);
	frames[n++] = build_frame(s, app, main_offset);
	build_context(s, build_stack(s, 0, frames, n), bytes, 1, 0, 0);
}

static void add_before(struct pair *p, uint64_t lib_offset, uint64_t offset, uint64_t bytes)
{
	add(p->before, p->app_before, p->lib_before, lib_offset, offset, 0x1050, bytes);
}

static void add_after(struct pair *p, uint64_t lib_offset, uint64_t offset, uint64_t bytes)
{
	add(p->after, p->app_after, p->lib_after, lib_offset, offset, 0x2050, bytes);
}

static void prepare(struct silt_analysis *r, const struct pair *p)
{
	static const struct silt_report_options o = { .top = 0 };
	struct silt_error err = { 0 };
	int rc = silt_analysis_prepare(r, p->before, p->after, &o, &err);

	if (rc != 0)
		fail_msg("%s", err.msg);
}

static const struct silt_row *find(const struct silt_analysis *r, uint64_t before, uint64_t after)
{
	for (size_t i = 0; i < r->row_count; i++)
		if (r->rows[i].sum[0].bytes == before && r->rows[i].sum[1].bytes == after)
			return &r->rows[i];
	fail_msg("no row with %lu bytes before and %lu after", (unsigned long)before, (unsigned long)after);
	return NULL;
}

static bool warned(const struct silt_analysis *r, const char *text)
{
	for (uint32_t i = 0; i < silt_intern_count(r->warnings); i++)
		if (strstr(silt_intern_text(r->warnings, i), text))
			return true;
	return false;
}

static void lines_count_from_the_function(void **state)
{
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	add_before(&p, 0, 0x1012, 100);
	add_before(&p, 0, 0x1015, 1000);
	add_after(&p, 0, 0x2012, 101);
	add_after(&p, 0, 0x2015, 1002);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 2);
	assert_int_equal(find(&r, 100, 101)->match, SILT_MATCH_LINE);
	assert_int_equal(find(&r, 1000, 1002)->match, SILT_MATCH_LINE);
	assert_true(warned(&r, "/bin/app was rebuilt"));
	assert_true(warned(&r, "build-id 0101010101010101 before, 0202020202020202 after"));
	silt_analysis_deinit(&r);
	free_pair(&p);
}

static void new_and_gone_stacks_stay_alone(void **state)
{
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	add_before(&p, 0, 0x1040, 5);
	add_before(&p, 0, 0x1012, 100);
	add_after(&p, 0, 0x2012, 100); /* unchanged: no row */
	add_after(&p, 0, 0x2060, 7);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 2);
	assert_int_equal(find(&r, 5, 0)->match, SILT_MATCH_EXACT);
	assert_int_equal(find(&r, 0, 7)->match, SILT_MATCH_EXACT);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

static void moved_lines_match_by_function(void **state)
{
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	add_before(&p, 0, 0x1072, 10);
	add_after(&p, 0, 0x2075, 30);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 1);
	assert_int_equal(find(&r, 10, 30)->match, SILT_MATCH_FUNCTION);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

/* Several call sites of one function, none of which kept its line, become one row that shows the heaviest. */
static void leftovers_of_a_function_are_one_row(void **state)
{
	struct pair p;
	struct silt_analysis r;
	const struct silt_row *row;
	uint32_t count;
	const uint32_t *locations;

	(void)state;
	make_pair(&p);
	add_before(&p, 0, 0x1072, 10);
	add_after(&p, 0, 0x2075, 30);
	add_after(&p, 0, 0x2078, 500);
	add_after(&p, 0, 0x2075, 1);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 1);
	row = find(&r, 10, 531);
	assert_int_equal(row->match, SILT_MATCH_FUNCTION);
	locations = silt_catalog_stack(&r.catalog, row->stack, &count, NULL);
	assert_int_equal(silt_catalog_location(&r.catalog, locations[0])->offset, 0x2078);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

/* A call site that is new in a function whose other ones match: no partner is left for it. */
static void added_call_site_is_growth(void **state)
{
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	add_before(&p, 0, 0x1012, 100);
	add_after(&p, 0, 0x2012, 100);
	add_after(&p, 0, 0x2020, 64);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 1);
	find(&r, 0, 64);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

/* Frames in modules that were not rebuilt must be the same, wherever their file lies now. */
static void other_frames_must_be_equal(void **state)
{
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	add_before(&p, 0x500, 0x1012, 100);
	add_after(&p, 0x500, 0x2012, 300);
	add_after(&p, 0x600, 0x2012, 7);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 2);
	assert_int_equal(find(&r, 100, 300)->match, SILT_MATCH_LINE);
	find(&r, 0, 7);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

static void without_names_nothing_is_guessed(void **state)
{
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	fake_symbols_set(SYMBOLS, 5); /* of the old build only */
	add_before(&p, 0, 0x1012, 100);
	add_after(&p, 0, 0x2012, 100);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 2);
	assert_true(warned(&r, "could not be matched"));
	assert_true(warned(&r, "--debug-dir"));
	silt_analysis_deinit(&r);
	free_pair(&p);
}

/* The same name on both sides, unchanged on one: nothing was rebuilt, a second library was loaded. */
static void a_second_build_is_no_rebuild(void **state)
{
	struct pair p;
	struct silt_analysis r;
	uint32_t frame;

	(void)state;
	make_pair(&p);
	build_module(p.after, "/opt/libx.so.1", 10);
	frame = build_frame(p.before, p.lib_before, 0x500);
	build_context(p.before, build_stack(p.before, 0, &frame, 1), 10, 1, 0, 0);
	frame = build_frame(p.after, p.lib_after, 0x500);
	build_context(p.after, build_stack(p.after, 0, &frame, 1), 20, 1, 0, 0);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 1);
	assert_int_equal(find(&r, 10, 20)->match, SILT_MATCH_EXACT);
	assert_false(warned(&r, "libx"));
	silt_analysis_deinit(&r);
	free_pair(&p);
}

/* An inlined function lies in the same file as the one it is inlined into, and moved with it. */
static void inlined_lines_move_along(void **state)
{
	static const struct fake_address symbols[] = {
		{ "/bin/app", 1, 0x1000, { FN("work", 30, 0x1000) } },
		{ "/bin/app", 1, 0x1012, { { .function = "put", .file = "/old/src/app.c", .line = 5, .inlined = true },
					   { .function = "std::grow", .file = "/usr/include/v.h", .line = 9, .inlined = true },
					   FN("work", 33, 0x1000) } },
		{ "/bin/app", 1, 0x1050, { FN("main", 50, 0) } },
		{ "/bin/app", 2, 0x2000, { FN2("work", 130, 0x2000) } },
		{ "/bin/app", 2, 0x2012, { { .function = "put", .file = "/new/src/app.c", .line = 105, .inlined = true },
					   { .function = "std::grow", .file = "/usr/include/v.h", .line = 9, .inlined = true },
					   FN2("work", 133, 0x2000) } },
		{ "/bin/app", 2, 0x2050, { FN2("main", 50, 0) } },
	};
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	fake_symbols_set(symbols, SILT_ARRAY_LEN(symbols));
	add_before(&p, 0, 0x1012, 1);
	add_after(&p, 0, 0x2012, 10);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 1);
	assert_int_equal(find(&r, 1, 10)->match, SILT_MATCH_LINE);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

static void programs_pair_under_any_name(void **state)
{
	static const struct fake_address symbols[] = {
		{ "/bin/app-1", 1, 0x10, { FN("grow", 12, 0) } },
		{ "/bin/app-2", 2, 0x20, { FN("grow", 12, 0) } },
	};
	struct silt_snapshot *b = build_snapshot(), *a = build_snapshot();
	struct pair p = { .before = b, .after = a };
	struct silt_analysis r;
	uint32_t frame;

	(void)state;
	fake_symbols_set(symbols, SILT_ARRAY_LEN(symbols));
	a->process.session[0] = 77;
	b->process.exe = "/bin/app-1";
	a->process.exe = "/bin/app-2";
	frame = build_frame(b, build_module(b, "/bin/app-1", 1), 0x10);
	build_context(b, build_stack(b, 0, &frame, 1), 10, 1, 0, 0);
	frame = build_frame(a, build_module(a, "/bin/app-2", 2), 0x20);
	build_context(a, build_stack(a, 0, &frame, 1), 25, 1, 0, 0);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 1);
	assert_int_equal(find(&r, 10, 25)->match, SILT_MATCH_LINE);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

static void clones_and_hashes_do_not_matter(void **state)
{
	static const struct fake_address symbols[] = {
		{ "/bin/app", 1, 0x10, { { .function = "f", .linkage = "work.constprop.0", .line = 3 } } },
		{ "/bin/app", 2, 0x20, { { .function = "f", .linkage = "work.isra.0", .line = 3 } } },
		{ "/bin/app", 1, 0x30, { { .function = "app::go", .linkage = "_ZN3app2go17h0123456789abcdefE", .line = 4 } } },
		{ "/bin/app", 2, 0x40, { { .function = "app::go", .linkage = "_ZN3app2go17hfedcba9876543210E", .line = 4 } } },
		{ "/bin/app", 1, 0x1050, { FN("main", 50, 0) } },
		{ "/bin/app", 2, 0x2050, { FN("main", 50, 0) } },
	};
	struct pair p;
	struct silt_analysis r;

	(void)state;
	make_pair(&p);
	fake_symbols_set(symbols, SILT_ARRAY_LEN(symbols));
	add_before(&p, 0, 0x10, 1);
	add_before(&p, 0, 0x30, 2);
	add_after(&p, 0, 0x20, 10);
	add_after(&p, 0, 0x40, 20);
	prepare(&r, &p);
	assert_int_equal(r.row_count, 2);
	assert_int_equal(find(&r, 1, 10)->match, SILT_MATCH_LINE);
	assert_int_equal(find(&r, 2, 20)->match, SILT_MATCH_LINE);
	silt_analysis_deinit(&r);
	free_pair(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_count_from_the_function),
		cmocka_unit_test(new_and_gone_stacks_stay_alone),
		cmocka_unit_test(moved_lines_match_by_function),
		cmocka_unit_test(leftovers_of_a_function_are_one_row),
		cmocka_unit_test(added_call_site_is_growth),
		cmocka_unit_test(other_frames_must_be_equal),
		cmocka_unit_test(without_names_nothing_is_guessed),
		cmocka_unit_test(a_second_build_is_no_rebuild),
		cmocka_unit_test(inlined_lines_move_along),
		cmocka_unit_test(programs_pair_under_any_name),
		cmocka_unit_test(clones_and_hashes_do_not_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
