/* SPDX-License-Identifier: MIT */
/* From a module's files and addresses to answers: the DWARF first, symbol tables for what it leaves open. */
#include "symbols/worker.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbols/demangle.h"
#include "symbols/functions.h"
#include "symbols/lines.h"
#include "symbols/names.h"
#include "symbols/report.h"
#include "symbols/shift.h"
#include "symbols/tables.h"
#include "symbols/unit_index.h"

enum { MAX_NAME = 1 << 14 };

struct name_ids {
	uint32_t function, linkage;
	bool mangles; /* the language mangles names: without a linkage name the symbol table has a better one */
};

/* An address whose physical function has no name, or none that tells overloads apart: it waits for the symbol tables. */
struct open_end {
	uint32_t index;               /* of the address */
	uint32_t frame_count;         /* known frames; 0: nothing is known */
	size_t frame_first;           /* into open_frames */
};

struct worker {
	const struct silt_job *job;
	struct silt_report report;
	struct silt_files files;
	struct silt_object *packed; /* the symbol table in .gnu_debugdata, NULL: not needed */
	struct silt_dwarf *dwarf, *alt;
	uint64_t shift;                   /* of addresses in the DWARF: silt_files.debug_shift, where that file holds it */
	SILT_VEC(struct silt_span) code;  /* where code may be, in the DWARF's addresses */
	SILT_VEC(struct open_end) open_ends;
	SILT_VEC(struct silt_report_frame) open_frames;
	struct silt_map names; /* offset of an entry -> index into name_ids */
	SILT_VEC(struct name_ids) name_ids;
	struct silt_lines lines;
	SILT_VEC(uint32_t) file_ids; /* per file number of the unit: string number + 1, 0: not asked yet */
	struct silt_scopes scopes;
	bool failed;
};

/* The segments of the module, which a debug file copies at best, in the addresses of the DWARF. */
static void find_code(struct worker *w, const struct silt_object *owner)
{
	size_t count;
	const struct silt_span *code = silt_object_code(w->files.main ? w->files.main : owner, &count);

	w->shift = owner == w->files.debug ? w->files.debug_shift : 0;
	for (size_t i = 0; i < count; i++) {
		struct silt_span span = {code[i].start + w->shift, code[i].end + w->shift};

		if (!silt_vec_push(&w->code, span))
			w->failed = true;
	}
}

static bool load_dwarf(struct worker *w)
{
	struct silt_object *owner = w->job->no_dwarf ? NULL : silt_files_dwarf(&w->files);
	struct silt_error err;

	if (!owner)
		return false;
	find_code(w, owner);
	if (w->files.alt) {
		if (silt_dwarf_create(w->files.alt, NULL, w->code.items, w->code.count, &w->alt, &err))
			silt_report_text(&w->report, SILT_WIRE_WARNING, err.msg);
		else
			silt_report_source(&w->report, SILT_SOURCE_ALT, silt_object_path(w->files.alt));
	} else if (w->files.alt_missing) {
		char text[PATH_MAX + 256];

		snprintf(text, sizeof(text), "%s: needs %s, which is missing or another build: some names are unknown; "
			 "install the debug package that holds it", silt_object_path(owner), w->files.alt_name);
		silt_report_text(&w->report, SILT_WIRE_WARNING, text);
	}
	if (silt_dwarf_create(owner, w->alt, w->code.items, w->code.count, &w->dwarf, &err)) {
		silt_report_text(&w->report, SILT_WIRE_WARNING, err.msg);
		return false;
	}
	if (w->dwarf->damage.code)
		silt_report_text(&w->report, SILT_WIRE_WARNING, w->dwarf->damage.msg);
	silt_report_source(&w->report, SILT_SOURCE_DWARF, silt_object_path(owner));
	return true;
}

static struct name_ids name_strings(struct worker *w, const char *linkage, const char *name)
{
	char *readable = linkage ? silt_demangle(linkage, w->job->demangle) : NULL;
	/* An assembler name of C (asm labels, aliases) is what other tools show too; a mangled one that cannot be read is
	 * worse than the plain name. */
	bool plain = linkage && (w->job->demangle == SILT_DEMANGLE_OFF || !silt_demangle_is_mangled(linkage));
	struct name_ids ids = {0};

	if (!readable && !plain && name && w->job->demangle == SILT_DEMANGLE_SHORT)
		readable = silt_demangle_fold(name, SILT_NAME_CXX);
	ids.linkage = silt_report_string(&w->report, linkage);
	ids.function = silt_report_string(&w->report, readable ? readable : plain || !name ? linkage : name);
	free(readable);
	return ids;
}

/* The name of a function's entry, from the cache or the file. */
static struct name_ids scope_name(struct worker *w, uint64_t die)
{
	struct name_ids ids = {0};
	char qualified[MAX_NAME];
	struct silt_name name;
	uint32_t at;

	if (silt_map_get(&w->names, die, &at))
		return w->name_ids.items[at];
	name = silt_name_find(w->dwarf, die);
	if (!name.linkage && silt_name_qualify(&name, qualified, sizeof(qualified)))
		ids = name_strings(w, NULL, qualified);
	else if (name.linkage || name.name)
		ids = name_strings(w, name.linkage, name.name);
	ids.mangles = silt_language_mangles(name.language);
	if (!silt_map_put(&w->names, die, (uint32_t)w->name_ids.count) || !silt_vec_push(&w->name_ids, ids))
		w->failed = true;
	return ids;
}

static uint32_t file_string(struct worker *w, uint32_t file)
{
	char path[PATH_MAX];
	uint32_t id;

	if (file < w->file_ids.count && w->file_ids.items[file])
		return w->file_ids.items[file] - 1;
	id = silt_lines_path(&w->lines, file, path, sizeof(path)) ? silt_report_string(&w->report, path) : 0;
	if (file < w->file_ids.count)
		w->file_ids.items[file] = id + 1;
	return id;
}

/* Lets an address wait for the symbol tables, with the frames it has. */
static void leave_open(struct worker *w, uint32_t index, const struct silt_report_frame *frames, size_t count)
{
	struct open_end end = {index, (uint32_t)count, w->open_frames.count};

	for (size_t i = 0; i < count; i++)
		if (!silt_vec_push(&w->open_frames, frames[i]))
			w->failed = true;
	if (!silt_vec_push(&w->open_ends, end))
		w->failed = true;
}

static void answer_address(struct worker *w, uint32_t index, uint32_t scope, const struct silt_row *row)
{
	struct silt_report_frame frames[SILT_WIRE_MAX_FRAMES], *f = frames;
	bool named = false;
	size_t count = 0;

	memset(f, 0, sizeof(*f));
	if (row->found) {
		f->file = file_string(w, row->file);
		f->line = row->line;
		f->column = row->column;
	}
	while (scope != SILT_NO_SCOPE && count < SILT_WIRE_MAX_FRAMES) {
		const struct silt_scope *s = &w->scopes.items.items[scope];
		struct name_ids ids = scope_name(w, s->die);

		f = &frames[count++];
		f->function = ids.function;
		f->linkage = ids.linkage;
		f->start = s->start - w->shift;
		named = ids.function && (ids.linkage || !ids.mangles);
		scope = s->parent;
		if (scope != SILT_NO_SCOPE && count < SILT_WIRE_MAX_FRAMES) {
			frames[count] = (struct silt_report_frame){.line = s->call_line, .column = s->call_column,
								   .file = file_string(w, s->call_file)};
		}
	}
	if (named)
		silt_report_answer(&w->report, index, frames, count);
	else
		leave_open(w, index, frames, count ? count : row->found);
}

/* One unit and the addresses that lie in it. */
static void answer_unit(struct worker *w, struct silt_unit *u, const uint64_t *pcs, const uint32_t *indices, size_t n,
			uint32_t *scope_of, struct silt_row *rows)
{
	const struct silt_unit_root *root = silt_unit_root(w->dwarf, u);
	struct silt_error err;

	w->file_ids.count = 0;
	memset(rows, 0, n * sizeof(*rows));
	for (size_t i = 0; i < n; i++)
		scope_of[i] = SILT_NO_SCOPE;
	if (root) {
		if (silt_functions_find(w->dwarf, u, pcs, n, !w->job->no_inlines, &w->scopes, scope_of, &err))
			w->failed = true;
		if (silt_lines_open(&w->lines, w->dwarf, u, root, &err) == SILT_OK)
			silt_lines_find(&w->lines, pcs, n, rows);
		else if (err.code != SILT_E_NOT_FOUND)
			silt_report_text(&w->report, SILT_WIRE_WARNING, err.msg);
		if (silt_vec_reserve(&w->file_ids, w->lines.files.count + 1)) {
			w->file_ids.count = w->lines.files.count + 1;
			memset(w->file_ids.items, 0, w->file_ids.count * sizeof(*w->file_ids.items));
		}
	}
	for (size_t i = 0; i < n; i++)
		answer_address(w, indices[i], scope_of[i], &rows[i]);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Working arrays for all addresses of the job. */
struct plan {
	uint64_t *wanted; /* the job's addresses as the DWARF has them: count of them, beginning with the job's first */
	size_t first, count;
	uint32_t *unit_of;
	uint64_t *order; /* unit << 32 | index: sorted, the addresses of one unit stand together and ascend */
	uint64_t *pcs;
	uint32_t *indices, *scope_of;
	struct silt_row *rows;
};

static bool plan_init(struct plan *p, size_t n)
{
	p->wanted = calloc(n, sizeof(*p->wanted));
	p->unit_of = calloc(n, sizeof(*p->unit_of));
	p->order = calloc(n, sizeof(*p->order));
	p->pcs = calloc(n, sizeof(*p->pcs));
	p->indices = calloc(n, sizeof(*p->indices));
	p->scope_of = calloc(n, sizeof(*p->scope_of));
	p->rows = calloc(n, sizeof(*p->rows));
	return p->wanted && p->unit_of && p->order && p->pcs && p->indices && p->scope_of && p->rows;
}

static void plan_deinit(struct plan *p)
{
	free(p->wanted);
	free(p->unit_of);
	free(p->order);
	free(p->pcs);
	free(p->indices);
	free(p->scope_of);
	free(p->rows);
}

static void answer_by_dwarf(struct worker *w)
{
	const struct silt_job *job = w->job;
	struct plan p = {0};
	size_t n = 0;

	if (plan_init(&p, job->count))
		n = p.count = silt_shift_apply(job->pcs, job->count, w->shift, p.wanted, &p.first);
	else
		w->failed = true;
	if (n && silt_unit_index_find(w->dwarf, p.wanted, n, p.unit_of, NULL))
		w->failed = true;
	for (size_t i = 0; i < job->count; i++)
		if (i < p.first || i - p.first >= n)
			leave_open(w, (uint32_t)i, NULL, 0);
	for (size_t i = 0; i < n; i++)
		p.order[i] = (uint64_t)p.unit_of[i] << 32 | i;
	if (n)
		qsort(p.order, n, sizeof(*p.order), compare_u64);
	for (size_t first = 0, end; first < n && !w->failed; first = end) {
		uint32_t unit = (uint32_t)(p.order[first] >> 32);

		for (end = first; end < n && p.order[end] >> 32 == unit; end++) {
			p.indices[end - first] = (uint32_t)(p.first + (uint32_t)p.order[end]);
			p.pcs[end - first] = p.wanted[(uint32_t)p.order[end]];
		}
		if (unit != SILT_NO_UNIT) {
			answer_unit(w, &w->dwarf->units.items[unit], p.pcs, p.indices, end - first, p.scope_of, p.rows);
			continue;
		}
		for (size_t i = 0; i < end - first; i++)
			leave_open(w, p.indices[i], NULL, 0);
	}
	plan_deinit(&p);
}

static int compare_open_ends(const void *a, const void *b)
{
	const struct open_end *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static void report_source(void *data, unsigned kind, const char *path)
{
	silt_report_source(&((struct worker *)data)->report, kind, path);
}

static void report_damage(void *data, const char *text)
{
	silt_report_text(&((struct worker *)data)->report, SILT_WIRE_WARNING, text);
}

static void close_end(struct worker *w, const struct open_end *end, const struct silt_symbol_hit *hit)
{
	struct silt_report_frame none = {0};
	struct silt_report_frame *frames = end->frame_count ? &w->open_frames.items[end->frame_first] : &none;
	size_t count = end->frame_count ? end->frame_count : 1;
	struct silt_report_frame *physical = &frames[count - 1];
	bool mangled = hit->name && silt_demangle_is_mangled(hit->name);

	/* A name from DWARF gives way only to the mangled name of just that function. */
	if (hit->name && (!physical->function || (mangled && hit->start == physical->start))) {
		struct name_ids ids = name_strings(w, hit->name, NULL);

		physical->function = ids.function;
		physical->linkage = ids.linkage;
		physical->start = hit->start;
	}
	if (physical->function || frames[0].file)
		silt_report_answer(&w->report, end->index, frames, count);
}

/* Names what the DWARF left open from the symbol tables. */
static void answer_by_symbols(struct worker *w)
{
	struct silt_tables_events events = {report_source, report_damage, w};
	size_t n = w->open_ends.count;
	uint64_t *pcs = calloc(n ? n : 1, sizeof(*pcs));
	struct silt_symbol_hit *hits = calloc(n ? n : 1, sizeof(*hits));

	if (!pcs || !hits) {
		w->failed = true;
		n = 0;
	}
	if (n)
		qsort(w->open_ends.items, n, sizeof(*w->open_ends.items), compare_open_ends);
	for (size_t i = 0; i < n; i++)
		pcs[i] = w->job->pcs[w->open_ends.items[i].index];
	if (n && silt_tables_find(&w->files, pcs, n, hits, &events, &w->packed, NULL))
		w->failed = true;
	for (size_t i = 0; i < n; i++)
		close_end(w, &w->open_ends.items[i], &hits[i]);
	free(pcs);
	free(hits);
}

static void leave_all_open(struct worker *w)
{
	for (size_t i = 0; i < w->job->count; i++)
		leave_open(w, (uint32_t)i, NULL, 0);
}

static void report_attempt(void *data, const char *text)
{
	struct worker *w = data;

	if (w->job->attempts)
		silt_report_text(&w->report, SILT_WIRE_ATTEMPT, text);
}

bool silt_worker_run(const struct silt_job *job, int fd)
{
	struct worker w = {.job = job};
	struct silt_error err;
	bool done;

	if (!silt_report_init(&w.report, fd))
		return false;
	w.files.attempt = report_attempt;
	w.files.data = &w;
	if (silt_files_find(&job->query, &w.files, &err)) {
		silt_report_text(&w.report, SILT_WIRE_WARNING, err.msg);
	} else {
		if (load_dwarf(&w))
			answer_by_dwarf(&w);
		else
			leave_all_open(&w);
		if (w.dwarf && w.dwarf->section_damage.code)
			silt_report_text(&w.report, SILT_WIRE_WARNING, w.dwarf->section_damage.msg);
		answer_by_symbols(&w);
	}
	if (w.failed)
		silt_report_text(&w.report, SILT_WIRE_WARNING, "out of memory while reading debug information");
	done = silt_report_end(&w.report) && !w.failed;
	silt_dwarf_destroy(w.dwarf);
	silt_dwarf_destroy(w.alt);
	silt_object_destroy(w.packed);
	silt_files_deinit(&w.files);
	silt_vec_free(&w.code);
	silt_scopes_deinit(&w.scopes);
	silt_lines_deinit(&w.lines);
	silt_vec_free(&w.open_ends);
	silt_vec_free(&w.open_frames);
	silt_vec_free(&w.name_ids);
	silt_vec_free(&w.file_ids);
	silt_map_deinit(&w.names);
	silt_report_deinit(&w.report);
	return done;
}
