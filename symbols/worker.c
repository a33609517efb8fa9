/* SPDX-License-Identifier: MIT */
/* From a module's files and addresses to answers: the DWARF first, symbol tables for what it leaves open. */
#include "symbols/worker.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "symbols/demangle.h"
#include "symbols/functions.h"
#include "symbols/lines.h"
#include "symbols/names.h"
#include "symbols/plan.h"
#include "symbols/report.h"
#include "symbols/shift.h"
#include "symbols/split.h"
#include "symbols/tables.h"

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
	uint64_t pc;                  /* to look up: the function's start where that is known, it may have parts elsewhere */
};

struct worker {
	const struct silt_job *job;
	struct silt_report report;
	struct silt_files files;
	struct silt_object *packed; /* the symbol table in .gnu_debugdata, NULL: not needed */
	struct silt_dwarf *dwarf, *alt;
	uint64_t shift;                   /* of addresses in the DWARF: silt_files.debug_shift, where that file holds it */
	SILT_VEC(struct silt_span) code;  /* where code may be, in the DWARF's addresses */
	size_t first;                     /* of the job's addresses that the DWARF may know: with the shift it does not wrap around */
	struct silt_splits *splits; /* made when the first split unit is met */
	SILT_VEC(struct open_end) open_ends;
	SILT_VEC(struct silt_report_frame) open_frames;
	struct silt_dwarf *names_of; /* the file that names are kept of */
	struct silt_map names; /* offset of an entry -> index into name_ids */
	SILT_VEC(struct name_ids) name_ids;
	struct silt_lines lines;
	SILT_VEC(uint32_t) file_ids; /* per file number of the unit: string number + 1, 0: not asked yet */
	struct silt_scopes scopes;
	SILT_VEC(uint32_t) scope_of; /* beside the addresses of a group */
	SILT_VEC(struct silt_row) rows;
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

static void warn_of_missing_alt(struct worker *w, const struct silt_object *owner)
{
	char text[PATH_MAX + 256];

	snprintf(text, sizeof(text), "%s: needs %s, which is missing or another build: some names are unknown; "
		 "install the debug package that holds it", silt_object_path(owner), w->files.alt_name);
	silt_report_text(&w->report, SILT_WIRE_WARNING, text);
}

static void warn_of_relocatable(struct worker *w, const struct silt_object *owner)
{
	char text[PATH_MAX + 256];

	snprintf(text, sizeof(text), "%s: not linked yet, so its debug information is not used: function names only",
		 silt_object_path(owner));
	silt_report_text(&w->report, SILT_WIRE_WARNING, text);
}

static bool load_dwarf(struct worker *w)
{
	struct silt_object *owner = w->job->no_dwarf ? NULL : silt_files_dwarf(&w->files);
	struct silt_error err;

	if (!owner)
		return false;
	if (silt_object_is_relocatable(owner)) {
		warn_of_relocatable(w, owner);
		return false;
	}
	find_code(w, owner);
	if (w->job->share) {
		silt_object_join(owner, w->job->share, w->job->member);
		silt_dwarf_prepare(owner, false);
	}
	if (w->job->share && w->files.alt) {
		silt_object_join(w->files.alt, w->job->share, w->job->member);
		silt_dwarf_prepare(w->files.alt, false);
	}
	if (w->files.alt) {
		if (silt_dwarf_create(w->files.alt, NULL, w->code.items, w->code.count, &w->alt, &err))
			silt_report_text(&w->report, SILT_WIRE_WARNING, err.msg);
		else
			silt_report_source(&w->report, SILT_SOURCE_ALT, silt_object_path(w->files.alt));
	} else if (w->files.alt_missing) {
		warn_of_missing_alt(w, owner);
	}
	if (silt_dwarf_create(owner, w->alt, w->code.items, w->code.count, &w->dwarf, &err)) {
		silt_report_text(&w->report, SILT_WIRE_WARNING, err.msg);
		return false;
	}
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
	name = silt_name_find(w->names_of, die);
	if (!name.linkage && !w->job->bare_names && silt_name_qualify(&name, qualified, sizeof(qualified)))
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
	const struct silt_report_frame *last = count ? &frames[count - 1] : NULL;
	struct open_end end = {index, (uint32_t)count, w->open_frames.count,
			       last && last->function && last->start ? last->start : w->job->pcs[index]};

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
		f->discriminator = row->discriminator;
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

/* The file and unit that hold the entries of a unit of the program. */
static struct silt_unit *entries_of(struct worker *w, struct silt_unit *u, struct silt_dwarf **ret)
{
	struct silt_unit *split;

	*ret = w->dwarf;
	if (!silt_unit_is_skeleton(w->dwarf, u))
		return u;
	if (!w->splits && !(w->splits = silt_splits_create(w->dwarf, &w->files, &w->job->query)))
		w->failed = true;
	/* Some compilers put inlined calls into the skeleton, too. */
	return w->splits && silt_splits_find(w->splits, u, ret, &split) ? split : u;
}

/* Names are kept as long as their file stays open: a split file is open for one unit. */
static void keep_names_of(struct worker *w, struct silt_dwarf *dw)
{
	if (w->names_of == dw && !dw->skeleton)
		return;
	silt_map_deinit(&w->names);
	w->names = (struct silt_map)SILT_MAP_INIT;
	w->name_ids.count = 0;
	w->names_of = dw;
}

/* Functions and lines of a group, into scopes, scope_of and rows. */
static void read_group(struct worker *w, const struct silt_plan_group *g)
{
	const struct silt_unit_root *root = silt_unit_root(w->dwarf, g->unit);
	struct silt_dwarf *dw;
	struct silt_unit *u;
	struct silt_error err;

	w->file_ids.count = w->lines.files.count = 0;
	for (size_t i = 0; i < g->n; i++)
		w->scope_of.items[i] = SILT_NO_SCOPE;
	memset(w->rows.items, 0, g->n * sizeof(*w->rows.items));
	if (!root)
		return;
	u = entries_of(w, g->unit, &dw);
	keep_names_of(w, dw);
	if (silt_functions_find(dw, u, g->pcs, g->n, !w->job->no_inlines, &w->scopes, w->scope_of.items, &err))
		w->failed = true;
	if (silt_lines_open(&w->lines, w->dwarf, g->unit, root, &err) == SILT_OK)
		silt_lines_find(&w->lines, g->pcs, g->n, w->rows.items);
	else if (err.code != SILT_E_NOT_FOUND)
		silt_report_text(&w->report, SILT_WIRE_WARNING, err.msg);
	if (silt_vec_reserve(&w->file_ids, w->lines.files.count + 1)) {
		w->file_ids.count = w->lines.files.count + 1;
		memset(w->file_ids.items, 0, w->file_ids.count * sizeof(*w->file_ids.items));
	}
}

/* One unit and the addresses that lie in it. */
static void answer_group(void *data, const struct silt_plan_group *g)
{
	struct worker *w = data;

	if (!g->unit || !silt_vec_reserve(&w->scope_of, g->n) || !silt_vec_reserve(&w->rows, g->n)) {
		w->failed |= g->unit != NULL;
		for (size_t i = 0; i < g->n; i++)
			leave_open(w, (uint32_t)w->first + g->indices[i], NULL, 0);
		return;
	}
	read_group(w, g);
	for (size_t i = 0; i < g->n; i++) {
		if (g->unknown && w->scope_of.items[i] == SILT_NO_SCOPE && !w->rows.items[i].found)
			g->unknown[i] = true;
		else
			answer_address(w, (uint32_t)w->first + g->indices[i], w->scope_of.items[i], &w->rows.items[i]);
	}
	silt_dwarf_passed(w->dwarf, g->unit->end - g->unit->offset);
}

/* What is to be said once, when all units were read. */
static void report_dwarf(struct worker *w)
{
	const struct silt_object *package;
	const char *name;
	size_t missing;

	if (w->dwarf->damage.code)
		silt_report_text(&w->report, SILT_WIRE_WARNING, w->dwarf->damage.msg);
	if (!w->splits)
		return;
	package = silt_splits_package(w->splits);
	if (package)
		silt_report_source(&w->report, SILT_SOURCE_SPLIT, silt_object_path(package));
	missing = silt_splits_missing(w->splits, &name);
	if (missing) {
		char text[PATH_MAX + 512];

		snprintf(text, sizeof(text), "%s: %s with its debug information is missing or belongs to another build: names of "
			 "symbol tables and no inlined calls there; put the .dwo files where they were, or a .dwp file beside "
			 "the program", w->job->query.path, name ? name : "a split file");
		silt_report_text(&w->report, SILT_WIRE_WARNING, text);
	}
}

static void answer_by_dwarf(struct worker *w)
{
	const struct silt_job *job = w->job;
	uint64_t *wanted = calloc(job->count, sizeof(*wanted));
	size_t n = wanted ? silt_shift_apply(job->pcs, job->count, w->shift, wanted, &w->first) : 0;

	w->failed |= !wanted;
	for (size_t i = 0; i < job->count && !job->member; i++)
		if (i < w->first || i - w->first >= n)
			leave_open(w, (uint32_t)i, NULL, 0);
	if (n && !silt_plan_run(w->dwarf, wanted, n, job->share, answer_group, w))
		w->failed = true;
	free(wanted);
	report_dwarf(w);
}

static int compare_open_ends(const void *a, const void *b)
{
	const struct open_end *x = a, *y = b;

	return x->pc < y->pc ? -1 : x->pc > y->pc;
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
	/* Where lines say nothing, the symbol table may know the file at least. */
	if (count == 1 && !physical->file && !physical->line)
		physical->file = silt_report_string(&w->report, hit->file);
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
		pcs[i] = w->open_ends.items[i].pc;
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

/* What there is, whether or not an address would need it. */
static void tell_what_is_there(struct worker *w)
{
	struct silt_object *owner = silt_files_dwarf(&w->files), *both[] = {w->files.main, w->files.debug};

	if (owner)
		silt_report_source(&w->report, SILT_SOURCE_DWARF, silt_object_path(owner));
	if (w->files.alt)
		silt_report_source(&w->report, SILT_SOURCE_ALT, silt_object_path(w->files.alt));
	else if (w->files.alt_missing)
		warn_of_missing_alt(w, owner);
	for (size_t i = 0; i < SILT_ARRAY_LEN(both); i++)
		if (both[i] && silt_object_has(both[i], ".symtab"))
			silt_report_source(&w->report, SILT_SOURCE_SYMTAB, silt_object_path(both[i]));
	if (w->files.main && silt_object_has(w->files.main, ".gnu_debugdata"))
		silt_report_source(&w->report, SILT_SOURCE_PACKED, silt_object_path(w->files.main));
	if (w->files.main && silt_object_has(w->files.main, ".dynsym"))
		silt_report_source(&w->report, SILT_SOURCE_DYNSYM, silt_object_path(w->files.main));
}

/* What a server may have: the debug file, or the dwz file of the one that is here. */
static void tell_what_is_missing(struct worker *w)
{
	const uint8_t *id = w->job->query.build_id;
	size_t len = w->job->query.build_id_len;

	if (silt_files_dwarf(&w->files)) {
		if (w->files.alt_missing && w->files.alt_id_len)
			silt_report_wanted(&w->report, true, w->files.alt_id, w->files.alt_id_len);
		return;
	}
	if (!len && w->files.main)
		id = silt_object_build_id(w->files.main, &len);
	if (len)
		silt_report_wanted(&w->report, false, id, len);
}

/* What a live process has mapped is compared by build-id when it is used; where it lies in /proc says nothing later. */
static void report_depend(void *data, const char *root, const char *path)
{
	struct worker *w = data;
	struct silt_dependency d = {.root = root, .path = path};

	if (strncmp(root, "/proc/", 6) == 0 || (!*root && strncmp(path, "/proc/", 6) == 0))
		return;
	silt_dependency_look(&d);
	silt_report_dependency(&w->report, &d);
}

bool silt_worker_run(const struct silt_job *job, int fd)
{
	struct worker w = {.job = job};
	struct silt_error err;
	bool done;

	if (!silt_report_init(&w.report, fd))
		return false;
	w.files.attempt = report_attempt;
	w.files.depend = report_depend;
	w.files.data = &w;
	if (job->seek) {
		w.files.depend = NULL;
		silt_files_find(&job->query, &w.files, &err); /* whatever it says, it says again when answers are sought */
		tell_what_is_missing(&w);
	} else if (silt_files_find(&job->query, &w.files, &err)) {
		silt_report_text(&w.report, SILT_WIRE_WARNING, err.msg);
	} else if (job->locate) {
		tell_what_is_there(&w);
	} else {
		if (load_dwarf(&w))
			answer_by_dwarf(&w);
		else if (!job->member)
			leave_all_open(&w);
		if (w.dwarf && w.dwarf->section_damage.code)
			silt_report_text(&w.report, SILT_WIRE_WARNING, w.dwarf->section_damage.msg);
		answer_by_symbols(&w);
	}
	if (w.failed) {
		silt_report_text(&w.report, SILT_WIRE_WARNING, "out of memory while reading debug information");
		silt_report_mark(&w.report, SILT_WIRE_UNCERTAIN);
	}
	done = silt_report_end(&w.report) && !w.failed;
	silt_splits_destroy(w.splits);
	silt_dwarf_destroy(w.dwarf);
	silt_dwarf_destroy(w.alt);
	silt_object_destroy(w.packed);
	silt_files_deinit(&w.files);
	silt_vec_free(&w.code);
	silt_scopes_deinit(&w.scopes);
	silt_vec_free(&w.scope_of);
	silt_vec_free(&w.rows);
	silt_lines_deinit(&w.lines);
	silt_vec_free(&w.open_ends);
	silt_vec_free(&w.open_frames);
	silt_vec_free(&w.name_ids);
	silt_vec_free(&w.file_ids);
	silt_map_deinit(&w.names);
	silt_report_deinit(&w.report);
	return done;
}
