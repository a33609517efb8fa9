/* SPDX-License-Identifier: MIT */
/* Reports as text for people. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "analyze/analysis.h"
#include "analyze/text.h"

enum { NAME_COLUMNS = 40 }; /* frames' places are aligned up to names of this length */

struct page {
	const struct silt_analysis *report;
	FILE *out;
	const char *bold, *dim, *red, *green, *plain; /* terminal sequences, or "" */
	const char *about;                            /* "~" in front of estimates, else "" */
};

static void init_page(struct page *p, const struct silt_analysis *r, FILE *out)
{
	bool color = r->options->color;

	p->report = r;
	p->out = out;
	p->bold = color ? "\033[1m" : "";
	p->dim = color ? "\033[2m" : "";
	p->red = color ? "\033[31m" : "";
	p->green = color ? "\033[32m" : "";
	p->plain = color ? "\033[0m" : "";
	p->about = r->estimated ? "~" : "";
}

static void print_text(const struct page *p, const char *text)
{
	silt_text_print(p->out, text, 0, false);
}

/* What a person would have typed, as far as it is known. */
static void print_program(const struct page *p, const struct silt_process *s)
{
	bool has_argv = s->argv && *s->argv, has_exe = s->exe && *s->exe;

	print_text(p, has_argv ? s->argv : has_exe ? s->exe : "(unknown program)");
}

/* "~1.5 MiB in ~12 blocks" */
static void print_live(const struct page *p, uint64_t bytes, uint64_t count)
{
	char size[SILT_TEXT_MAX];

	fprintf(p->out, "%s%s in %s%" PRIu64 " block%s", p->about, silt_text_size(size, bytes), p->about, count,
		count == 1 ? "" : "s");
}

static uint64_t freed(uint64_t allocated, uint64_t live)
{
	return allocated > live ? allocated - live : 0;
}

/* ---- stacks ---- */

static const char *incomplete_text(uint32_t flags)
{
	if (flags & SILT_STACK_OVERFLOW)
		return "[stacks that did not fit the trace database]";
	if (flags & SILT_STACK_UNTRACKED)
		return "[no stack: allocated before tracking began, or none could be taken]";
	if (flags & SILT_STACK_NO_CFI)
		return "[stack truncated: no unwind information beyond this frame]";
	if (flags & SILT_STACK_DEPTH)
		return "[stack truncated: deeper than the depth limit]";
	if (flags & SILT_STACK_BROKEN)
		return "[stack truncated: it could not be unwound beyond this frame]";
	return NULL;
}

/* One printed line of a stack. */
struct line {
	char name[64];        /* where there is no function: module+0xoffset */
	const char *function; /* or NULL: name */
	const char *file;     /* or NULL */
	uint32_t line;
	bool inlined;
	const char *module; /* or NULL */
};

static void make_line(const struct silt_analysis *r, uint32_t location, const struct silt_symbol_frame *f,
		      struct line *ret)
{
	const struct silt_location *l = silt_catalog_location(&r->catalog, location);

	memset(ret, 0, sizeof(*ret));
	ret->module = silt_names_module_path(&r->names, location);
	if (f) {
		ret->function = f->function;
		ret->file = f->file;
		ret->line = f->line;
		ret->inlined = f->inlined;
	}
	if (!ret->function && ret->module) {
		size_t len;
		const char *name = silt_path_name(ret->module, &len);

		snprintf(ret->name, sizeof(ret->name), "%.*s+0x%" PRIx64, len > 40 ? 40 : (int)len, name,
			 l->offset);
	} else if (!ret->function) {
		snprintf(ret->name, sizeof(ret->name), "0x%" PRIx64, l->offset);
	}
}

static size_t name_limit(const struct page *p)
{
	return p->report->options->width / 2;
}

static void print_line(const struct page *p, const struct line *l, size_t aligned)
{
	size_t columns, len;
	const char *name;

	fputs("      ", p->out);
	columns = silt_text_print(p->out, l->function ? l->function : l->name, name_limit(p), false);
	fprintf(p->out, "%*s", columns < aligned ? (int)(aligned - columns) : 0, "");
	if (l->file) {
		fputs("  ", p->out);
		silt_text_print(p->out, l->file, p->report->options->width / 3, true);
		if (l->line > 0)
			fprintf(p->out, ":%" PRIu32, l->line);
	}
	if (l->module) {
		char short_name[256];

		name = silt_path_name(l->module, &len);
		snprintf(short_name, sizeof(short_name), "%.*s", len > 255 ? 255 : (int)len, name);
		/* The kernel's own names come with brackets. */
		fprintf(p->out, "  %s%s", p->dim, short_name[0] == '[' ? "" : "[");
		print_text(p, short_name);
		fprintf(p->out, "%s%s", short_name[0] == '[' ? "" : "]", p->plain);
	} else {
		fprintf(p->out, "  %s[outside any module]%s", p->dim, p->plain);
	}
	fprintf(p->out, "%s\n", l->inlined ? "  (inlined)" : "");
}

/* Calls print for each line of the stack, or only measures. Returns the widest name up to NAME_COLUMNS. */
static size_t each_line(const struct page *p, uint32_t stack, bool print, size_t aligned)
{
	const struct silt_analysis *r = p->report;
	struct silt_stack_start start = silt_names_stack_start(&r->names, stack, r->options->all_frames);
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(&r->catalog, stack, &count, NULL);
	size_t widest = 0;

	for (uint32_t i = start.location; i < count; i++) {
		size_t frames, k = i == start.location ? start.frame : 0;
		const struct silt_symbol_frame *f = silt_names_frames(&r->names, locations[i], &frames);

		do {
			struct line l;
			size_t columns;

			make_line(r, locations[i], k < frames ? &f[k] : NULL, &l);
			columns = silt_text_columns(l.function ? l.function : l.name, name_limit(p));
			if (columns <= NAME_COLUMNS && columns > widest)
				widest = columns;
			if (print)
				print_line(p, &l, aligned);
		} while (++k < frames);
	}
	return widest;
}

static void print_stack(const struct page *p, const struct silt_row *row)
{
	uint32_t count, flags;
	const char *incomplete;

	silt_catalog_stack(&p->report->catalog, row->stack, &count, &flags);
	each_line(p, row->stack, true, each_line(p, row->stack, false, 0));
	incomplete = incomplete_text(flags);
	if (!incomplete && count == 0)
		incomplete = "[no stack]";
	if (incomplete)
		fprintf(p->out, "      %s\n", incomplete);
}

static const char *kind_text(uint32_t kind)
{
	switch (kind) {
	case SILT_KIND_HEAP:
		return "";
	case SILT_KIND_MMAP:
		return "  [mmap]";
	case SILT_KIND_POOL:
		return "  [pool]";
	default:
		return "  [unknown kind]";
	}
}

/* ---- groups ---- */

static const char *key_heading(const struct silt_analysis *r)
{
	static const char *const HEADINGS[] = {"stack", "function", "file", "module", "block size", "thread", "type"};

	return HEADINGS[r->options->by];
}

static void print_key(const struct page *p, const struct silt_row *row)
{
	const struct silt_analysis *r = p->report;

	if (r->options->by == SILT_BY_SIZE)
		fprintf(p->out, "%" PRIu64 " bytes", row->size);
	else
		silt_text_print(p->out, silt_intern_text(r->group_keys, row->key), name_limit(p), false);
	fputc('\n', p->out);
}

static double share(uint64_t part, uint64_t whole)
{
	return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

/* A figure of the table, right-aligned, marked when it is an estimate. */
static void print_cell(const struct page *p, const char *text)
{
	fprintf(p->out, "%*s%s  ", 12 - (int)strlen(text), p->about, text);
}

static void print_show_group(const struct page *p, const struct silt_row *row)
{
	const struct silt_sum *a = &row->sum[SILT_AFTER];
	char text[SILT_TEXT_MAX];

	print_cell(p, silt_text_size(text, a->bytes));
	snprintf(text, sizeof(text), "%" PRIu64, a->count);
	print_cell(p, text);
	fprintf(p->out, "%5.1f%%  ", share(a->bytes, p->report->totals[SILT_AFTER].bytes));
	if (p->report->options->by == SILT_BY_SIZE || silt_snapshot_is_walked(p->report->snapshots[SILT_AFTER])) {
		fprintf(p->out, "%12s  ", "-"); /* what was freed is not known by size */
	} else {
		snprintf(text, sizeof(text), "%" PRIu64, a->alloc_count);
		print_cell(p, text);
	}
	print_key(p, row);
}

static void signed_text(char *buf, size_t size, const char *about, int64_t value)
{
	snprintf(buf, size, "%s%s%" PRId64, about, value > 0 ? "+" : "", value);
}

static void print_diff_group(const struct page *p, const struct silt_row *row)
{
	const struct silt_sum *b = &row->sum[SILT_BEFORE], *a = &row->sum[SILT_AFTER];
	char text[SILT_TEXT_MAX];

	print_cell(p, silt_text_growth(text, (int64_t)(a->bytes - b->bytes)));
	signed_text(text, sizeof(text), "", (int64_t)(a->count - b->count));
	print_cell(p, text);
	print_cell(p, silt_text_size(text, b->bytes));
	print_cell(p, silt_text_size(text, a->bytes));
	print_key(p, row);
}

static void print_groups(const struct page *p, bool diff)
{
	const struct silt_analysis *r = p->report;

	if (r->shown == 0)
		return;
	fprintf(p->out, "\n%s%12s  %12s  %*s  %12s  %s%s\n", p->bold, diff ? "growth" : "live", "blocks",
		diff ? 12 : 6, diff ? "before" : "share", diff ? "after" : "allocations", key_heading(r),
		p->plain);
	for (size_t i = 0; i < r->shown; i++) {
		if (diff)
			print_diff_group(p, &r->rows[i]);
		else
			print_show_group(p, &r->rows[i]);
	}
}

/* ---- what was left out, and warnings ---- */

static void print_omitted(const struct page *p, bool diff)
{
	static const char *const WHY[] = {"left out by --focus or --ignore", "below --min-bytes or --min-count",
					  "not shown: see --top"};
	const struct silt_analysis *r = p->report;
	bool any = false;

	for (size_t i = 0; i < SILT_OMISSIONS; i++) {
		const struct silt_omitted *o = &r->omitted[i];
		bool stacks = r->options->by == SILT_BY_STACK || i == SILT_OMIT_REGEX;
		const struct silt_sum *b = &o->sum[SILT_BEFORE], *a = &o->sum[SILT_AFTER];
		char size[SILT_TEXT_MAX], count[32];

		if (o->rows == 0)
			continue;
		fprintf(p->out, "%s%" PRIu64 " %s%s %s: ", any ? "" : "\n", o->rows, stacks ? "stack" : "row",
			o->rows == 1 ? "" : "s", WHY[i]);
		any = true;
		if (diff) {
			signed_text(count, sizeof(count), p->about, (int64_t)(a->count - b->count));
			fprintf(p->out, "%s%s in %s blocks\n", p->about,
				silt_text_growth(size, (int64_t)(a->bytes - b->bytes)), count);
		} else {
			print_live(p, a->bytes, a->count);
			fputc('\n', p->out);
		}
	}
}

static void print_warnings(const struct page *p)
{
	const struct silt_analysis *r = p->report;

	for (uint32_t i = 0; i < silt_intern_count(r->warnings); i++) {
		fprintf(p->out, "%swarning: ", i == 0 ? "\n" : "");
		print_text(p, silt_intern_text(r->warnings, i));
		fputc('\n', p->out);
	}
}

/* ---- show ---- */

static void print_show_head(const struct page *p)
{
	const struct silt_process *s = &p->report->snapshots[SILT_AFTER]->process;
	const struct silt_sum *t = &p->report->totals[SILT_AFTER];
	char text[SILT_TEXT_MAX];

	fprintf(p->out, "process    %u  ", s->pid);
	print_program(p, s);
	fprintf(p->out, "\ncaptured   %s", silt_text_time(text, s->capture_ns));
	if (s->start_ns != 0 && s->capture_ns >= s->start_ns)
		fprintf(p->out, ", %s after %s",
			silt_text_duration(text, (uint64_t)s->capture_ns - (uint64_t)s->start_ns),
			silt_snapshot_is_walked(p->report->snapshots[SILT_AFTER]) ? "the process began" : "tracking began");
	if (s->pause_ns > 0)
		fprintf(p->out, "; paused for %s", silt_text_duration(text, s->pause_ns));
	if (s->ending) {
		fputs("; ", p->out);
		print_text(p, s->ending);
	}
	fprintf(p->out, "\nlive       %s%" PRIu64 " bytes (%s) in %s%" PRIu64 " blocks\n", p->about, t->bytes,
		silt_text_size(text, t->bytes), p->about, t->count);
	if (silt_snapshot_is_walked(p->report->snapshots[SILT_AFTER]))
		return;
	fprintf(p->out, "allocated  %s%" PRIu64 " bytes (%s) in %s%" PRIu64 " allocations; %s%" PRIu64 " freed\n",
		p->about, t->alloc_bytes, silt_text_size(text, t->alloc_bytes), p->about, t->alloc_count, p->about,
		freed(t->alloc_count, t->count));
	if (p->report->estimated)
		fputs("           ~ marks estimates: only a sample of the allocations was tracked\n", p->out);
}

static void print_show_row(const struct page *p, size_t i)
{
	const struct silt_row *row = &p->report->rows[i];
	const struct silt_sum *a = &row->sum[SILT_AFTER];
	char size[SILT_TEXT_MAX];

	fprintf(p->out, "\n#%zu  %s", i + 1, p->bold);
	print_live(p, a->bytes, a->count);
	fprintf(p->out, "%s  %.1f%%", p->plain, share(a->bytes, p->report->totals[SILT_AFTER].bytes));
	if (!silt_snapshot_is_walked(p->report->snapshots[SILT_AFTER]))
		fprintf(p->out, "  (allocated %s%s in %s%" PRIu64 ", %s%" PRIu64 " freed)", p->about,
			silt_text_size(size, a->alloc_bytes), p->about, a->alloc_count, p->about,
			freed(a->alloc_count, a->count));
	fprintf(p->out, "%s\n", kind_text(row->kind));
	print_stack(p, row);
}

/* ---- diff ---- */

static void print_diff_head(const struct page *p)
{
	for (unsigned side = 0; side < SILT_SIDES; side++) {
		const struct silt_process *s = &p->report->snapshots[side]->process;
		char text[SILT_TEXT_MAX];

		fprintf(p->out, "%s  %s  %u  ", side == SILT_BEFORE ? "before" : "after ",
			silt_text_time(text, s->capture_ns), s->pid);
		print_program(p, s);
		fputc('\n', p->out);
	}
	if (p->report->estimated)
		fputs("~ marks estimates: only a sample of the allocations was tracked\n", p->out);
	if (p->report->options->only_new)
		fputs("only blocks allocated after BEFORE was captured and still live in AFTER\n", p->out);
}

static const char *match_text(enum silt_match match)
{
	switch (match) {
	case SILT_MATCH_LINE:
		return "  [rebuilt: matched by function and line]";
	case SILT_MATCH_FUNCTION:
		return "  [rebuilt: matched by function]";
	case SILT_MATCH_EXACT:
		break;
	}
	return "";
}

static void print_diff_row(const struct page *p, size_t i)
{
	const struct silt_row *row = &p->report->rows[i];
	const struct silt_sum *b = &row->sum[SILT_BEFORE], *a = &row->sum[SILT_AFTER];
	int64_t growth = (int64_t)(a->bytes - b->bytes);
	char text[SILT_TEXT_MAX], count[32];

	signed_text(count, sizeof(count), p->about, (int64_t)(a->count - b->count));
	fprintf(p->out, "\n#%zu  %s%s%s%s in %s blocks%s  (", i + 1, p->bold,
		growth > 0   ? p->red
		: growth < 0 ? p->green
			     : "",
		p->about, silt_text_growth(text, growth), count, p->plain);
	print_live(p, b->bytes, b->count);
	fputs(" -> ", p->out);
	print_live(p, a->bytes, a->count);
	fprintf(p->out, ")%s%s\n", kind_text(row->kind), match_text(row->match));
	print_stack(p, row);
}

static void print_total(const struct page *p, const char *name, uint64_t before, uint64_t after, bool sizes)
{
	int64_t growth = (int64_t)(after - before);
	char b[32], a[32], g[32], size[SILT_TEXT_MAX];

	snprintf(b, sizeof(b), "%s%" PRIu64, p->about, before);
	snprintf(a, sizeof(a), "%s%" PRIu64, p->about, after);
	signed_text(g, sizeof(g), p->about, growth);
	fprintf(p->out, "%s  before %s  after %s  growth %s%s%s", name, b, a, p->bold, g, p->plain);
	if (sizes)
		fprintf(p->out, "  (%s)", silt_text_growth(size, growth));
	fputc('\n', p->out);
}

static void print_diff_totals(const struct page *p)
{
	const struct silt_sum *b = &p->report->totals[SILT_BEFORE], *a = &p->report->totals[SILT_AFTER];

	fputc('\n', p->out);
	print_total(p, "total bytes ", b->bytes, a->bytes, true);
	print_total(p, "total blocks", b->count, a->count, false);
}

static const char *no_rows_text(const struct silt_analysis *r, bool diff)
{
	for (size_t i = 0; i < SILT_OMISSIONS; i++)
		if (r->omitted[i].rows > 0)
			return "\nthe filters leave nothing to show\n";
	return diff ? "\nno stack differs\n" : "\nno live blocks\n";
}

static void print_rows(const struct page *p, bool diff)
{
	const struct silt_analysis *r = p->report;

	if (r->row_count == 0)
		fputs(no_rows_text(r, diff), p->out);
	if (r->options->by != SILT_BY_STACK) {
		print_groups(p, diff);
		return;
	}
	for (size_t i = 0; i < r->shown; i++) {
		if (diff)
			print_diff_row(p, i);
		else
			print_show_row(p, i);
	}
}

int silt_analysis_text(const struct silt_analysis *r, FILE *out, struct silt_error *err)
{
	bool diff = r->snapshots[SILT_BEFORE] != NULL;
	struct page p;

	init_page(&p, r, out);
	if (diff)
		print_diff_head(&p);
	else
		print_show_head(&p);
	print_rows(&p, diff);
	print_omitted(&p, diff);
	if (diff)
		print_diff_totals(&p);
	print_warnings(&p);
	if (fflush(out) != 0 || ferror(out))
		return silt_error_os(err, errno, "writing the report");
	return 0;
}
