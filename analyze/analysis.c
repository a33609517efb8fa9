/* SPDX-License-Identifier: MIT */
/* The way from one or two snapshots to sorted, filtered rows. */
#include "analyze/analysis.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TOP = 20 };

static int no_memory(struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "not enough memory for the report");
}

void silt_sum_add(struct silt_sum *to, const struct silt_sum *from)
{
	to->bytes += from->bytes;
	to->count += from->count;
	to->alloc_bytes += from->alloc_bytes;
	to->alloc_count += from->alloc_count;
}

static struct silt_sum context_sum(const struct silt_context *c)
{
	return (struct silt_sum){.bytes = c->live_bytes,
				 .count = c->live_count,
				 .alloc_bytes = c->alloc_bytes,
				 .alloc_count = c->alloc_count};
}

bool silt_analysis_counts(const struct silt_analysis *r, unsigned side, const struct silt_context *c)
{
	if (!r->options->only_new)
		return true;
	return side == SILT_AFTER && c->epoch > r->snapshots[SILT_BEFORE]->process.epoch;
}

uint32_t silt_analysis_stack(const struct silt_analysis *r, unsigned side, const struct silt_context *c)
{
	return r->representative[r->stacks[side][c->stack]];
}

struct silt_row *silt_analysis_add_row(struct silt_analysis *r)
{
	if (r->row_count == r->row_room) {
		size_t room = r->row_room ? r->row_room * 2 : 256;
		struct silt_row *rows = reallocarray(r->rows, room, sizeof(*rows));

		if (!rows)
			return NULL;
		r->rows = rows;
		r->row_room = room;
	}
	r->rows[r->row_count] = (struct silt_row){.stack = SILT_NONE, .thread = SILT_NONE, .key = SILT_NONE};
	return &r->rows[r->row_count++];
}

static bool by_allocated(const struct silt_analysis *r)
{
	return r->options->sort == SILT_SORT_ALLOCATED_BYTES || r->options->sort == SILT_SORT_ALLOCATED_COUNT;
}

bool silt_row_matters(const struct silt_analysis *r, const struct silt_row *row)
{
	const struct silt_sum *b = &row->sum[SILT_BEFORE], *a = &row->sum[SILT_AFTER];

	if (b->bytes != a->bytes || b->count != a->count)
		return true;
	return by_allocated(r) && (b->alloc_bytes != a->alloc_bytes || b->alloc_count != a->alloc_count);
}

/* ---- what the options need of the snapshots ---- */

static int check_sessions(const struct silt_analysis *r, struct silt_error *err)
{
	const struct silt_snapshot *b = r->snapshots[SILT_BEFORE], *a = r->snapshots[SILT_AFTER];

	if (!r->options->only_new)
		return 0;
	if (!b)
		return silt_error_set(err, SILT_E_INVAL, "--new compares two dumps: use it with diff");
	if (!r->same_run)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "--new needs two dumps of one run: these are of pid %u and pid %u, tracked "
				      "separately; leave --new out to compare them",
				      b->process.pid, a->process.pid);
	if (a->process.epoch == b->process.epoch)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "--new needs two dumps: both are dump %u of the run",
				      b->process.epoch);
	if (a->process.epoch < b->process.epoch)
		return silt_error_set(
			err, SILT_E_UNSUPPORTED,
			"--new needs BEFORE to be the older dump: these are dumps %u and %u of the run; swap them",
			b->process.epoch, a->process.epoch);
	return 0;
}

static int check_snapshot(const struct silt_analysis *r, const struct silt_snapshot *s, struct silt_error *err)
{
	if (r->options->by == SILT_BY_THREAD && !s->process.with_threads)
		return silt_error_set(
			err, SILT_E_UNSUPPORTED,
			"the dump of pid %u does not say which thread allocated what: track with --threads",
			s->process.pid);
	if (r->options->by == SILT_BY_TYPE && s->type_count == 0 &&
	    (!s->process.method || strcmp(s->process.method, SILT_METHOD_WALK) != 0))
		return silt_error_set(
			err, SILT_E_UNSUPPORTED,
			"the dump of pid %u does not say what its blocks hold: types are known where the heap was walked, "
			"as `silt capture` does with a process that is not tracked",
			s->process.pid);
	if (r->options->by == SILT_BY_SIZE && s->blocks.count == 0 && s->total_count > 0)
		return silt_error_set(
			err, SILT_E_UNSUPPORTED,
			"the dump of pid %u holds no single blocks, so --by size has nothing to count",
			s->process.pid);
	return 0;
}

static int check_options(const struct silt_analysis *r, struct silt_error *err)
{
	int rc = 0;

	if (r->options->by == SILT_BY_SIZE && by_allocated(r))
		return silt_error_set(err, SILT_E_INVAL,
				      "--by size knows live blocks only: sort by bytes or count");
	for (unsigned side = 0; side < SILT_SIDES && rc == 0; side++)
		if (r->snapshots[side])
			rc = check_snapshot(r, r->snapshots[side], err);
	return rc < 0 ? rc : check_sessions(r, err);
}

static bool same_run(const struct silt_snapshot *b, const struct silt_snapshot *a)
{
	const uint64_t *x = b->process.session, *y = a->process.session;

	return (x[0] != 0 || x[1] != 0) && x[0] == y[0] && x[1] == y[1];
}

/* ---- numbering ---- */

static int number_stacks(struct silt_analysis *r, struct silt_error *err)
{
	const struct silt_snapshot *b = r->snapshots[SILT_BEFORE], *a = r->snapshots[SILT_AFTER];
	int rc = silt_catalog_init(&r->catalog, err);

	for (unsigned side = 0; side < SILT_SIDES && rc == 0; side++)
		if (r->snapshots[side])
			rc = silt_catalog_add(&r->catalog, r->snapshots[side], side, b && !r->same_run,
					      &r->stacks[side], err);
	if (rc == 0 && b)
		rc = silt_catalog_pair(&r->catalog, b->process.exe, a->process.exe, err);
	if (rc < 0)
		return rc;
	r->representative = calloc((size_t)silt_catalog_stack_count(&r->catalog) + 1, sizeof(*r->representative));
	r->match = calloc((size_t)silt_catalog_stack_count(&r->catalog) + 1, sizeof(*r->match));
	if (!r->representative || !r->match)
		return no_memory(err);
	for (uint32_t i = 0; i < silt_catalog_stack_count(&r->catalog); i++)
		r->representative[i] = i;
	rc = silt_names_init(&r->names, &r->catalog, &r->options->symbols, err);
	for (unsigned side = 0; side < SILT_SIDES && rc == 0; side++)
		if (r->snapshots[side])
			rc = silt_symbols_add_process(r->names.symbols, r->snapshots[side]->process.pid,
						      r->snapshots[side]->process.capture_ns, err);
	return rc;
}

static void add_totals(struct silt_analysis *r)
{
	for (unsigned side = 0; side < SILT_SIDES; side++) {
		const struct silt_snapshot *s = r->snapshots[side];

		for (uint32_t i = 0; s && i < s->context_count; i++) {
			struct silt_sum sum = context_sum(&s->contexts[i]);

			if (silt_analysis_counts(r, side, &s->contexts[i]))
				silt_sum_add(&r->totals[side], &sum);
		}
	}
}

/* ---- rows by stack ---- */

static int add_stack_row(struct silt_analysis *r, struct silt_intern *index, unsigned side,
			 const struct silt_context *c, struct silt_error *err)
{
	uint32_t key[2] = {silt_analysis_stack(r, side, c), c->kind};
	struct silt_sum sum = context_sum(c);
	struct silt_row *row;
	bool fresh;
	uint32_t at = silt_key_add(index, key, sizeof(key), &fresh);

	if (at == SILT_NONE)
		return no_memory(err);
	row = fresh ? silt_analysis_add_row(r) : &r->rows[at];
	if (!row)
		return no_memory(err);
	if (fresh) {
		row->stack = key[0];
		row->kind = key[1];
	}
	if (r->match[r->stacks[side][c->stack]] > row->match)
		row->match = r->match[r->stacks[side][c->stack]];
	silt_sum_add(&row->sum[side], &sum);
	return 0;
}

static int make_stack_rows(struct silt_analysis *r, struct silt_error *err)
{
	struct silt_intern *index = silt_intern_create();
	int rc = index ? 0 : no_memory(err);

	for (unsigned side = 0; side < SILT_SIDES; side++) {
		const struct silt_snapshot *s = r->snapshots[side];

		for (uint32_t i = 0; s && i < s->context_count && rc == 0; i++)
			if (silt_analysis_counts(r, side, &s->contexts[i]))
				rc = add_stack_row(r, index, side, &s->contexts[i], err);
	}
	silt_intern_destroy(index);
	return rc;
}

/* ---- leaving rows out ---- */

static void omit(struct silt_analysis *r, enum silt_omission why, const struct silt_row *row)
{
	r->omitted[why].rows++;
	for (unsigned side = 0; side < SILT_SIDES; side++)
		silt_sum_add(&r->omitted[why].sum[side], &row->sum[side]);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static bool is_small(const struct silt_analysis *r, const struct silt_row *row)
{
	const struct silt_sum *b = &row->sum[SILT_BEFORE], *a = &row->sum[SILT_AFTER];

	return distance(b->bytes, a->bytes) < r->options->min_bytes ||
	       distance(b->count, a->count) < r->options->min_count;
}

static void drop_small_rows(struct silt_analysis *r)
{
	size_t kept = 0;

	for (size_t i = 0; i < r->row_count; i++) {
		if (!silt_row_matters(r, &r->rows[i]))
			continue;
		if (is_small(r, &r->rows[i]))
			omit(r, SILT_OMIT_SMALL, &r->rows[i]);
		else
			r->rows[kept++] = r->rows[i];
	}
	r->row_count = kept;
}

static int filter_stack_rows(struct silt_analysis *r, struct silt_error *err)
{
	uint32_t *stacks = calloc(r->row_count + 1, sizeof(*stacks));
	bool *keep = calloc((size_t)silt_catalog_stack_count(&r->catalog) + 1, sizeof(*keep));
	size_t kept = 0;
	int rc = stacks && keep ? 0 : no_memory(err);

	for (size_t i = 0; i < r->row_count && rc == 0; i++)
		stacks[i] = r->rows[i].stack;
	if (rc == 0)
		rc = silt_filter_stacks(r, stacks, r->row_count, keep, err);
	for (size_t i = 0; i < r->row_count && rc == 0; i++) {
		if (keep[r->rows[i].stack])
			r->rows[kept++] = r->rows[i];
		else
			omit(r, SILT_OMIT_REGEX, &r->rows[i]);
	}
	if (rc == 0)
		r->row_count = kept;
	free(stacks);
	free(keep);
	return rc;
}

/* ---- rows by anything else: filters take stacks before they are grouped ---- */

static bool *used_stacks(const struct silt_analysis *r)
{
	bool *used = calloc((size_t)silt_catalog_stack_count(&r->catalog) + 1, sizeof(*used));

	for (unsigned side = 0; used && side < SILT_SIDES; side++) {
		const struct silt_snapshot *s = r->snapshots[side];

		for (uint32_t i = 0; s && i < s->context_count; i++)
			if (silt_analysis_counts(r, side, &s->contexts[i]))
				used[silt_analysis_stack(r, side, &s->contexts[i])] = true;
	}
	return used;
}

static void count_dropped(struct silt_analysis *r, const bool *was_used, const bool *used)
{
	for (uint32_t i = 0; i < silt_catalog_stack_count(&r->catalog); i++)
		r->omitted[SILT_OMIT_REGEX].rows += was_used[i] && !used[i];
	for (unsigned side = 0; side < SILT_SIDES; side++) {
		const struct silt_snapshot *s = r->snapshots[side];

		for (uint32_t i = 0; s && i < s->context_count; i++) {
			struct silt_sum sum = context_sum(&s->contexts[i]);

			if (silt_analysis_counts(r, side, &s->contexts[i]) &&
			    !used[silt_analysis_stack(r, side, &s->contexts[i])])
				silt_sum_add(&r->omitted[SILT_OMIT_REGEX].sum[side], &sum);
		}
	}
}

static int make_group_rows(struct silt_analysis *r, struct silt_error *err)
{
	uint32_t count = silt_catalog_stack_count(&r->catalog), listed = 0;
	bool *used = used_stacks(r), *keep = calloc((size_t)count + 1, sizeof(*keep));
	uint32_t *stacks = calloc((size_t)count + 1, sizeof(*stacks));
	int rc = used && keep && stacks ? 0 : no_memory(err);

	if (rc == 0 && (r->has_focus || r->has_ignore)) {
		for (uint32_t i = 0; i < count; i++)
			if (used[i])
				stacks[listed++] = i;
		rc = silt_filter_stacks(r, stacks, listed, keep, err);
		if (rc == 0)
			count_dropped(r, used, keep);
	} else if (rc == 0) {
		memcpy(keep, used, count * sizeof(*keep));
	}
	if (rc == 0)
		rc = silt_analysis_group(r, keep, err);
	free(used);
	free(keep);
	free(stacks);
	return rc;
}

/* ---- order ---- */

static int compare_u64(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* Locations compare by module name and offset, so that equal figures come in the same order in every run. */
static int compare_locations(const struct silt_catalog *c, uint32_t a, uint32_t b)
{
	const struct silt_location *x = silt_catalog_location(c, a), *y = silt_catalog_location(c, b);
	const char *p = x->module == SILT_NONE ? "" : c->modules[x->module].path;
	const char *q = y->module == SILT_NONE ? "" : c->modules[y->module].path;
	int order = x->module == y->module ? 0 : strcmp(p, q);

	return order ? order : compare_u64(x->offset, y->offset);
}

static int compare_stacks(const struct silt_catalog *c, uint32_t a, uint32_t b)
{
	uint32_t m, n, flags_a, flags_b;
	const uint32_t *x = silt_catalog_stack(c, a, &m, &flags_a), *y = silt_catalog_stack(c, b, &n, &flags_b);

	for (uint32_t i = 0; i < m && i < n; i++) {
		int order = x[i] == y[i] ? 0 : compare_locations(c, x[i], y[i]);

		if (order)
			return order;
	}
	return m != n ? compare_u64(m, n) : compare_u64(flags_a, flags_b);
}

static int64_t delta(const struct silt_row *row, enum silt_sort sort)
{
	const struct silt_sum *b = &row->sum[SILT_BEFORE], *a = &row->sum[SILT_AFTER];

	switch (sort) {
	case SILT_SORT_COUNT:
		return (int64_t)(a->count - b->count);
	case SILT_SORT_ALLOCATED_BYTES:
		return (int64_t)(a->alloc_bytes - b->alloc_bytes);
	case SILT_SORT_ALLOCATED_COUNT:
		return (int64_t)(a->alloc_count - b->alloc_count);
	case SILT_SORT_BYTES:
		break;
	}
	return (int64_t)(a->bytes - b->bytes);
}

static int compare_keys(const struct silt_analysis *r, const struct silt_row *a, const struct silt_row *b)
{
	const char *p, *q;
	int order;

	if (r->options->by == SILT_BY_STACK) {
		order = a->stack == b->stack ? 0 : compare_stacks(&r->catalog, a->stack, b->stack);
		return order ? order : compare_u64(a->kind, b->kind);
	}
	if (r->options->by == SILT_BY_SIZE)
		return compare_u64(a->size, b->size);
	p = silt_intern_text(r->group_keys, a->key);
	q = silt_intern_text(r->group_keys, b->key);
	return strcmp(p, q);
}

/* Largest growth first, shrinking last. */
static int compare_rows(const void *pa, const void *pb, void *report)
{
	const struct silt_analysis *r = report;
	const struct silt_row *a = pa, *b = pb;
	const enum silt_sort keys[] = {r->options->sort, SILT_SORT_BYTES, SILT_SORT_COUNT};

	for (size_t i = 0; i < SILT_ARRAY_LEN(keys); i++) {
		int64_t x = delta(a, keys[i]), y = delta(b, keys[i]);

		if (x != y)
			return x > y ? -1 : 1;
	}
	return compare_keys(r, a, b);
}

static void cut_rows(struct silt_analysis *r)
{
	int64_t top = r->options->top;

	if (top < 0)
		top = r->options->json ? 0 : DEFAULT_TOP;
	r->shown = top > 0 && (uint64_t)top < r->row_count ? (size_t)top : r->row_count;
	for (size_t i = r->shown; i < r->row_count; i++)
		omit(r, SILT_OMIT_TOP, &r->rows[i]);
}

static int name_shown_rows(struct silt_analysis *r, struct silt_error *err)
{
	for (size_t i = 0; i < r->shown && r->options->by == SILT_BY_STACK; i++) {
		int rc = silt_names_want_stack(&r->names, r->rows[i].stack, err);

		if (rc < 0)
			return rc;
	}
	return silt_names_resolve(&r->names, err);
}

static int make_rows(struct silt_analysis *r, struct silt_error *err)
{
	bool by_stack = r->options->by == SILT_BY_STACK;
	int rc = by_stack ? make_stack_rows(r, err) : make_group_rows(r, err);

	if (rc < 0)
		return rc;
	drop_small_rows(r);
	if (by_stack && (r->has_focus || r->has_ignore))
		rc = filter_stack_rows(r, err);
	if (rc < 0)
		return rc;
	if (r->row_count > 0)
		qsort_r(r->rows, r->row_count, sizeof(*r->rows), compare_rows, r);
	cut_rows(r);
	return name_shown_rows(r, err);
}

int silt_analysis_prepare(struct silt_analysis *r, const struct silt_snapshot *before,
			const struct silt_snapshot *after, const struct silt_report_options *o,
			struct silt_error *err)
{
	int rc;

	memset(r, 0, sizeof(*r));
	r->options = o;
	r->snapshots[SILT_BEFORE] = before;
	r->snapshots[SILT_AFTER] = after;
	r->same_run = before && same_run(before, after);
	r->estimated = after->process.sample_bytes != 0 || (before && before->process.sample_bytes != 0);
	r->group_keys = silt_intern_create();
	r->warnings = silt_intern_create();
	if (!r->group_keys || !r->warnings)
		return no_memory(err);
	rc = check_options(r, err);
	if (rc == 0)
		rc = silt_filter_init(r, err);
	if (rc == 0)
		rc = number_stacks(r, err);
	if (rc < 0)
		return rc;
	add_totals(r);
	if (before && !o->only_new)
		rc = silt_analysis_match_rebuilt(r, err);
	if (rc == 0)
		rc = make_rows(r, err);
	return rc < 0 ? rc : silt_analysis_warn(r, err);
}

void silt_analysis_deinit(struct silt_analysis *r)
{
	if (r->names.catalog)
		silt_names_deinit(&r->names);
	silt_catalog_deinit(&r->catalog);
	silt_intern_destroy(r->group_keys);
	silt_filter_deinit(r);
	silt_intern_destroy(r->warnings);
	for (unsigned side = 0; side < SILT_SIDES; side++)
		free(r->stacks[side]);
	free(r->representative);
	free(r->match);
	free(r->rows);
	memset(r, 0, sizeof(*r));
}
