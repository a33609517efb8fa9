/* SPDX-License-Identifier: MIT */
/* Reports as JSON: schemas silt.show/1 and silt.diff/1 (silt-show(1), silt-diff(1)). */
#include <errno.h>

#include "analyze/json.h"
#include "analyze/analysis.h"
#include "analyze/text.h"

static const char *const BY[] = {"stack", "function", "file", "module", "size", "thread", "type"};
static const char *const SORT[] = {"bytes", "count", "allocated-bytes", "allocated-count"};
static const char *const KINDS[] = {"heap", "mmap", "pool"};
static const char *const MATCHES[] = {"exact", "line", "function"};

static const struct {
	uint32_t flag;
	const char *name;
} FLAGS[] = {
	{SILT_STACK_NO_CFI, "no_unwind_information"},
	{SILT_STACK_DEPTH, "depth_limit"},
	{SILT_STACK_BROKEN, "broken"},
	{SILT_STACK_OVERFLOW, "overflow"},
	{SILT_STACK_UNTRACKED, "untracked"},
};

static void write_text(struct silt_json *j, const char *key, const char *text)
{
	silt_json_key(j, key);
	silt_json_string(j, text);
}

static void write_number(struct silt_json *j, const char *key, uint64_t value)
{
	silt_json_key(j, key);
	silt_json_unsigned(j, value);
}

static void write_bool(struct silt_json *j, const char *key, bool value)
{
	silt_json_key(j, key);
	silt_json_bool(j, value);
}

static void write_process(struct silt_json *j, const char *key, const struct silt_snapshot *s)
{
	const struct silt_process *p = &s->process;
	char time[SILT_TEXT_MAX], session[33];

	silt_json_key(j, key);
	silt_json_object(j);
	write_number(j, "pid", p->pid);
	write_number(j, "parent_pid", p->parent_pid);
	write_text(j, "exe", p->exe);
	write_text(j, "argv", p->argv);
	write_text(j, "host", p->host);
	write_text(j, "kernel", p->kernel);
	write_text(j, "libc", p->libc);
	write_text(j, "allocator", p->allocator);
	write_text(j, "method", p->method);
	write_text(j, "ending", p->ending);
	write_text(j, "start_time", silt_text_iso_time(time, p->start_ns));
	write_text(j, "capture_time", silt_text_iso_time(time, p->capture_ns));
	write_number(j, "pause_ns", p->pause_ns);
	snprintf(session, sizeof(session), "%016llx%016llx", (unsigned long long)p->session[0],
		 (unsigned long long)p->session[1]);
	write_text(j, "session", session);
	write_number(j, "epoch", p->epoch);
	write_number(j, "sample_bytes", p->sample_bytes);
	write_number(j, "min_size", p->min_size);
	write_number(j, "max_depth", p->max_depth);
	write_bool(j, "with_threads", p->with_threads);
	silt_json_key(j, "marks");
	silt_json_array(j);
	for (uint32_t i = 0; i < s->mark_count; i++) {
		silt_json_object(j);
		write_text(j, "name", s->marks[i].name);
		write_text(j, "time", silt_text_iso_time(time, s->marks[i].time_ns));
		write_number(j, "epoch", s->marks[i].epoch);
		write_number(j, "tid", s->marks[i].tid);
		silt_json_end(j);
	}
	silt_json_end(j);
	silt_json_end(j);
}

static uint64_t freed(uint64_t allocated, uint64_t live)
{
	return allocated > live ? allocated - live : 0;
}

/* by size: only live blocks are known by size, so the rest is null. */
static void write_history(struct silt_json *j, const struct silt_sum *s, bool known)
{
	const struct {
		const char *key;
		uint64_t value;
	} figures[] = {
		{"allocated_bytes", s->alloc_bytes},
		{"allocated_count", s->alloc_count},
		{"freed_bytes", freed(s->alloc_bytes, s->bytes)},
		{"freed_count", freed(s->alloc_count, s->count)},
	};

	for (size_t i = 0; i < SILT_ARRAY_LEN(figures); i++) {
		silt_json_key(j, figures[i].key);
		if (known)
			silt_json_unsigned(j, figures[i].value);
		else
			silt_json_null(j);
	}
}

static void write_change(struct silt_json *j, const char *key, uint64_t before, uint64_t after)
{
	silt_json_key(j, key);
	silt_json_object(j);
	write_number(j, "before", before);
	write_number(j, "after", after);
	silt_json_key(j, "delta");
	silt_json_signed(j, (int64_t)(after - before));
	silt_json_end(j);
}

static void write_figures(struct silt_json *j, const struct silt_analysis *r, const struct silt_sum sum[SILT_SIDES],
			  bool history)
{
	const struct silt_sum *b = &sum[SILT_BEFORE], *a = &sum[SILT_AFTER];

	if (!r->snapshots[SILT_BEFORE]) {
		write_number(j, "bytes", a->bytes);
		write_number(j, "count", a->count);
		write_history(j, a, history);
		return;
	}
	write_change(j, "bytes", b->bytes, a->bytes);
	write_change(j, "count", b->count, a->count);
	if (history) {
		write_change(j, "allocated_bytes", b->alloc_bytes, a->alloc_bytes);
		write_change(j, "allocated_count", b->alloc_count, a->alloc_count);
	}
}

static void write_frame(struct silt_json *j, const struct silt_analysis *r, uint32_t location,
			const struct silt_symbol_frame *f)
{
	const struct silt_location *l = silt_catalog_location(&r->catalog, location);
	const struct silt_catalog_module *m = l->module == SILT_NONE ? NULL : &r->catalog.modules[l->module];

	silt_json_object(j);
	write_text(j, "function", f ? f->function : NULL);
	write_text(j, "file", f ? f->file : NULL);
	silt_json_key(j, "line");
	if (f && f->line > 0)
		silt_json_unsigned(j, f->line);
	else
		silt_json_null(j);
	write_text(j, "module", m ? m->path : "[unknown]"); /* code outside any module, as of a JIT */
	silt_json_key(j, "build_id");
	if (m && m->build_id_len > 0)
		silt_json_hex(j, m->build_id, m->build_id_len);
	else
		silt_json_null(j);
	silt_json_key(j, "offset");
	silt_json_address(j, l->offset);
	write_bool(j, "inlined", f && f->inlined);
	silt_json_end(j);
}

static void write_frames(struct silt_json *j, const struct silt_analysis *r, uint32_t stack)
{
	struct silt_stack_start start = silt_names_stack_start(&r->names, stack, r->options->all_frames);
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(&r->catalog, stack, &count, NULL);

	silt_json_key(j, "frames");
	silt_json_array(j);
	for (uint32_t i = start.location; i < count; i++) {
		size_t frames;
		const struct silt_symbol_frame *f = silt_names_frames(&r->names, locations[i], &frames);

		if (frames == 0)
			write_frame(j, r, locations[i], NULL);
		for (size_t k = i == start.location ? start.frame : 0; k < frames; k++)
			write_frame(j, r, locations[i], &f[k]);
	}
	silt_json_end(j);
}

static void write_flags(struct silt_json *j, uint32_t flags)
{
	silt_json_key(j, "flags");
	silt_json_array(j);
	for (size_t i = 0; i < SILT_ARRAY_LEN(FLAGS); i++)
		if (flags & FLAGS[i].flag)
			silt_json_string(j, FLAGS[i].name);
	silt_json_end(j);
}

static void write_stack_row(struct silt_json *j, const struct silt_analysis *r, const struct silt_row *row)
{
	uint32_t count, flags;

	silt_catalog_stack(&r->catalog, row->stack, &count, &flags);
	silt_json_object(j);
	write_figures(j, r, row->sum, true);
	if (!r->snapshots[SILT_BEFORE]) {
		silt_json_key(j, "resident_bytes");
		silt_json_null(j);
	} else {
		write_text(j, "match", MATCHES[row->match]);
	}
	write_text(j, "kind", row->kind < SILT_ARRAY_LEN(KINDS) ? KINDS[row->kind] : "unknown");
	write_flags(j, flags);
	write_frames(j, r, row->stack);
	silt_json_end(j);
}

static void write_group_row(struct silt_json *j, const struct silt_analysis *r, const struct silt_row *row)
{
	char size[32];

	silt_json_object(j);
	if (r->options->by == SILT_BY_SIZE) {
		snprintf(size, sizeof(size), "%llu", (unsigned long long)row->size);
		write_text(j, "key", size);
		write_number(j, "size", row->size);
	} else {
		write_text(j, "key", silt_intern_text(r->group_keys, row->key));
	}
	if (r->options->by == SILT_BY_THREAD && row->thread != SILT_NONE) {
		const struct silt_thread *t = &r->snapshots[row->thread_side]->threads[row->thread];

		write_text(j, "name", t->name);
		write_number(j, "tid", t->tid);
		write_bool(j, "exited", t->exited);
	}
	write_figures(j, r, row->sum, r->options->by != SILT_BY_SIZE);
	silt_json_end(j);
}

static void write_omitted(struct silt_json *j, const struct silt_analysis *r)
{
	static const char *const NAMES[] = {"regex", "small", "top"};

	silt_json_key(j, "omitted");
	silt_json_object(j);
	for (size_t i = 0; i < SILT_OMISSIONS; i++) {
		silt_json_key(j, NAMES[i]);
		silt_json_object(j);
		write_number(j, "rows", r->omitted[i].rows);
		write_figures(j, r, r->omitted[i].sum, r->options->by != SILT_BY_SIZE);
		silt_json_end(j);
	}
	silt_json_end(j);
}

static void write_rows(struct silt_json *j, const struct silt_analysis *r)
{
	bool by_stack = r->options->by == SILT_BY_STACK;

	silt_json_key(j, by_stack ? "stacks" : "groups");
	silt_json_array(j);
	for (size_t i = 0; i < r->shown; i++) {
		if (by_stack)
			write_stack_row(j, r, &r->rows[i]);
		else
			write_group_row(j, r, &r->rows[i]);
	}
	silt_json_end(j);
}

static void write_warnings(struct silt_json *j, const struct silt_analysis *r)
{
	silt_json_key(j, "warnings");
	silt_json_array(j);
	for (uint32_t i = 0; i < silt_intern_count(r->warnings); i++)
		silt_json_string(j, silt_intern_text(r->warnings, i));
	silt_json_end(j);
}

int silt_analysis_json(const struct silt_analysis *r, FILE *out, struct silt_error *err)
{
	bool diff = r->snapshots[SILT_BEFORE] != NULL;
	struct silt_json j;

	silt_json_init(&j, out);
	silt_json_object(&j);
	write_text(&j, "schema", diff ? "silt.diff/1" : "silt.show/1");
	if (diff)
		write_process(&j, "before", r->snapshots[SILT_BEFORE]);
	write_process(&j, diff ? "after" : "process", r->snapshots[SILT_AFTER]);
	if (diff)
		write_bool(&j, "new", r->options->only_new);
	write_text(&j, "by", BY[r->options->by]);
	write_text(&j, "sort", SORT[r->options->sort]);
	write_bool(&j, "estimated", r->estimated);
	silt_json_key(&j, "totals");
	silt_json_object(&j);
	write_figures(&j, r, r->totals, true);
	silt_json_end(&j);
	write_omitted(&j, r);
	write_rows(&j, r);
	write_warnings(&j, r);
	silt_json_end(&j);
	if (fflush(out) != 0 || ferror(out))
		return silt_error_os(err, errno, "writing the report");
	return 0;
}
