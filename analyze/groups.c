/* SPDX-License-Identifier: MIT */
/* Rows by function, file, module, size or thread: one key per stack, block or context, summed up. */
#include "analyze/analysis.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbols/demangle.h"

static int no_memory(struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "not enough memory to group");
}

/* The row of a key, made when new. */
static struct silt_row *key_row(struct silt_analysis *r, const void *key, size_t size, struct silt_error *err)
{
	bool fresh;
	uint32_t at = silt_key_add(r->group_keys, key, size, &fresh);
	struct silt_row *row;

	if (at == SILT_NONE) {
		no_memory(err);
		return NULL;
	}
	if (!fresh)
		return &r->rows[at];
	row = silt_analysis_add_row(r);
	if (!row)
		no_memory(err);
	else
		row->key = at;
	return row;
}

/* The row of a text key; format takes the text's length and the text. */
__attribute__((format(printf, 2, 0))) static struct silt_row *
text_row(struct silt_analysis *r, const char *format, const char *text, size_t len, struct silt_error *err)
{
	struct silt_row *row;
	char *key;
	int n = asprintf(&key, format, (int)len, text);

	if (n < 0) {
		no_memory(err);
		return NULL;
	}
	row = key_row(r, key, (size_t)n, err);
	free(key);
	return row;
}

/* ---- by function, file or module ---- */

static const char *no_frames_key(uint32_t flags)
{
	if (flags & SILT_STACK_OVERFLOW)
		return "(trace database full)";
	return "(no stack)";
}

static struct silt_row *module_row(struct silt_analysis *r, uint32_t module, struct silt_error *err)
{
	const struct silt_catalog_module *m = &r->catalog.modules[module];

	if (m->twin != SILT_NONE && !(m->sides & (1u << SILT_AFTER)))
		m = &r->catalog.modules[m->twin];
	return text_row(r, "%.*s", m->path, strlen(m->path), err);
}

static struct silt_row *frame_row(struct silt_analysis *r, uint32_t location, size_t frame, struct silt_error *err)
{
	const struct silt_location *l = silt_catalog_location(&r->catalog, location);
	bool by_file = r->options->by == SILT_BY_FILE;
	const char *name = NULL;
	size_t count, len;
	const struct silt_symbol_frame *frames = silt_names_frames(&r->names, location, &count);

	if (frame < count)
		name = by_file ? frames[frame].file : frames[frame].function;
	if (name && by_file && r->catalog.modules[l->module].twin != SILT_NONE) {
		/* Builds in different directories: the name is what both have in common. */
		name = silt_path_name(name, &len);
		return text_row(r, "%.*s", name, len, err);
	}
	if (name)
		return text_row(r, "%.*s", name, strlen(name), err);
	name = silt_path_name(r->catalog.modules[l->module].path, &len);
	return text_row(r, by_file ? "(unknown file) [%.*s]" : "(unknown function) [%.*s]", name, len, err);
}

/* The row a stack counts for. */
static struct silt_row *stack_row(struct silt_analysis *r, uint32_t stack, struct silt_error *err)
{
	struct silt_stack_start start = silt_names_stack_start(&r->names, stack, r->options->all_frames);
	uint32_t count, flags;
	const uint32_t *locations = silt_catalog_stack(&r->catalog, stack, &count, &flags);
	const struct silt_location *l;

	if (count == 0) {
		const char *key = no_frames_key(flags);

		return key_row(r, key, strlen(key), err);
	}
	l = silt_catalog_location(&r->catalog, locations[start.location]);
	if (l->module == SILT_NONE) {
		static const char OUTSIDE[] = "(code outside any module)";

		return key_row(r, OUTSIDE, sizeof(OUTSIDE) - 1, err);
	}
	if (r->options->by == SILT_BY_MODULE)
		return module_row(r, l->module, err);
	return frame_row(r, locations[start.location], start.frame, err);
}

/* Names from the innermost frames outwards, as many rounds as it takes to leave the allocators behind. */
static int settle_starts(struct silt_analysis *r, const bool *used, struct silt_error *err)
{
	bool all_settled;
	int rc = 0;

	/* Two frames at once in the first round: most often the inner one is operator new. */
	for (uint32_t i = 0; i < silt_catalog_stack_count(&r->catalog) && rc == 0; i++) {
		uint32_t count;
		const uint32_t *locations = silt_catalog_stack(&r->catalog, i, &count, NULL);

		for (uint32_t k = 0; k < count && k < 2 && used[i] && rc == 0; k++)
			rc = silt_names_want(&r->names, locations[k], err);
	}
	do {
		all_settled = true;
		if (rc == 0)
			rc = silt_names_resolve(&r->names, err);
		for (uint32_t i = 0; i < silt_catalog_stack_count(&r->catalog) && rc == 0; i++) {
			bool settled = true;

			if (used[i])
				rc = silt_names_want_stack_start(&r->names, i, r->options->all_frames, &settled,
								 err);
			all_settled &= settled;
		}
	} while (rc == 0 && !all_settled);
	return rc;
}

static void add_context(struct silt_row *row, unsigned side, const struct silt_context *c)
{
	struct silt_sum sum = {.bytes = c->live_bytes,
			       .count = c->live_count,
			       .alloc_bytes = c->alloc_bytes,
			       .alloc_count = c->alloc_count};

	silt_sum_add(&row->sum[side], &sum);
}

static bool context_used(const struct silt_analysis *r, unsigned side, const struct silt_context *c,
			 const bool *used)
{
	return silt_analysis_counts(r, side, c) && used[silt_analysis_stack(r, side, c)];
}

static int group_by_start(struct silt_analysis *r, const bool *used, struct silt_error *err)
{
	uint32_t count = silt_catalog_stack_count(&r->catalog);
	uint32_t *rows = malloc(((size_t)count + 1) * sizeof(*rows));
	int rc = rows ? settle_starts(r, used, err) : no_memory(err);

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct silt_row *row = used[i] ? stack_row(r, i, err) : NULL;

		rows[i] = row ? (uint32_t)(row - r->rows) : SILT_NONE;
		if (used[i] && !row)
			rc = SILT_E_NOMEM;
	}
	for (unsigned side = 0; side < SILT_SIDES && rc == 0; side++) {
		const struct silt_snapshot *s = r->snapshots[side];

		for (uint32_t i = 0; s && i < s->context_count; i++)
			if (context_used(r, side, &s->contexts[i], used))
				add_context(&r->rows[rows[silt_analysis_stack(r, side, &s->contexts[i])]], side,
					    &s->contexts[i]);
	}
	free(rows);
	return rc;
}

/* ---- by thread ---- */

static struct silt_row *thread_row(struct silt_analysis *r, unsigned side, uint32_t thread, struct silt_error *err)
{
	const struct silt_snapshot *s = r->snapshots[side];
	const char *name = thread == SILT_NONE ? "(thread unknown)" : s->threads[thread].name;
	/* Thread numbers of different runs have nothing to do with each other: there, threads are their names. */
	bool by_tid = !r->snapshots[SILT_BEFORE] || r->same_run;
	uint32_t tid = thread == SILT_NONE ? 0 : s->threads[thread].tid;
	struct silt_row *row;
	char *key = NULL;
	int n;

	if (!name)
		name = "(no name)";
	n = by_tid && thread != SILT_NONE ? asprintf(&key, "%s (%u)", name, tid) : asprintf(&key, "%s", name);
	if (n < 0) {
		no_memory(err);
		return NULL;
	}
	row = key_row(r, key, (size_t)n, err);
	free(key);
	if (row && thread != SILT_NONE) {
		row->thread = thread;
		row->thread_side = side;
	}
	return row;
}

static int group_by_thread(struct silt_analysis *r, const bool *used, struct silt_error *err)
{
	for (unsigned side = 0; side < SILT_SIDES; side++) {
		const struct silt_snapshot *s = r->snapshots[side];

		for (uint32_t i = 0; s && i < s->context_count; i++) {
			struct silt_row *row;

			if (!context_used(r, side, &s->contexts[i], used))
				continue;
			row = thread_row(r, side, s->contexts[i].thread, err);
			if (!row)
				return SILT_E_NOMEM;
			add_context(row, side, &s->contexts[i]);
		}
	}
	return 0;
}

/* ---- by size ---- */

/* How many allocations one sampled block of this size stands for: 1 / P(sampled), where samples are a Poisson process
 * over allocated bytes. */
static double sample_weight(uint64_t size, uint64_t sample_bytes)
{
	if (sample_bytes == 0)
		return 1;
	return -1 / expm1(-(double)(size > 0 ? size : 1) / (double)sample_bytes);
}

static void weigh(struct silt_sum *sum, uint64_t size, uint64_t sample_bytes)
{
	double weight = sample_weight(size, sample_bytes);

	sum->bytes = (uint64_t)((double)sum->count * weight * (double)size + 0.5);
	sum->count = (uint64_t)((double)sum->count * weight + 0.5);
}

static int group_by_size(struct silt_analysis *r, const bool *used, struct silt_error *err)
{
	for (unsigned side = 0; side < SILT_SIDES; side++) {
		const struct silt_snapshot *s = r->snapshots[side];
		uint64_t last_size = 0;
		uint32_t last_row = SILT_NONE; /* neighbours in memory are often of one size */

		for (uint64_t i = 0; s && i < s->blocks.count; i++) {
			uint64_t size = s->blocks.size[i];

			if (!context_used(r, side, &s->contexts[s->blocks.context[i]], used))
				continue;
			if (last_row == SILT_NONE || size != last_size) {
				struct silt_row *row = key_row(r, &size, sizeof(size), err);

				if (!row)
					return SILT_E_NOMEM;
				row->size = size;
				last_row = (uint32_t)(row - r->rows);
				last_size = size;
			}
			r->rows[last_row].sum[side].count++;
			r->rows[last_row].sum[side].bytes += size;
		}
	}
	for (size_t i = 0; i < r->row_count; i++)
		for (unsigned side = 0; side < SILT_SIDES; side++)
			if (r->snapshots[side] && r->snapshots[side]->process.sample_bytes)
				weigh(&r->rows[i].sum[side], r->rows[i].size,
				      r->snapshots[side]->process.sample_bytes);
	return 0;
}

/* ---- by type ---- */

#define TYPE_NAME_MAX 1024u /* longer mangled names are shown as they are: demangling takes time and room */

/* "ns::Type<int>" of "N2ns4TypeIiEE"; the caller frees it. */
static char *type_name(const char *mangled, enum silt_demangle how)
{
	static const char PREFIX[] = "typeinfo for ";
	char *symbol, *name = NULL, *text;

	if (strlen(mangled) > TYPE_NAME_MAX || asprintf(&symbol, "_ZTI%s", mangled) < 0)
		return strdup(mangled);
	name = silt_demangle(symbol, how);
	free(symbol);
	if (!name || strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0) {
		free(name);
		return strdup(mangled);
	}
	text = strdup(name + sizeof(PREFIX) - 1);
	free(name);
	return text;
}

static struct silt_row *type_row(struct silt_analysis *r, const struct silt_snapshot *s, const struct silt_type *t,
				 struct silt_error *err)
{
	static const char NONE[] = "(no C++ type)";
	struct silt_row *row;
	const char *module;
	char *key = NULL;
	size_t len;
	int n;

	if (!t)
		return key_row(r, NONE, sizeof(NONE) - 1, err);
	if (t->name) {
		key = type_name(t->name, r->options->symbols.demangle);
		n = key ? 0 : -1;
	} else if (t->module == SILT_NONE) {
		n = asprintf(&key, "(unnamed type) 0x%llx", (unsigned long long)t->offset);
	} else {
		module = silt_path_name(s->modules[t->module].path, &len);
		n = asprintf(&key, "(unnamed type) %.*s+0x%llx", (int)len, module, (unsigned long long)t->offset);
	}
	if (n < 0) {
		no_memory(err);
		return NULL;
	}
	row = key_row(r, key, strlen(key), err);
	free(key);
	return row;
}

static int group_by_type(struct silt_analysis *r, const bool *used, struct silt_error *err)
{
	for (unsigned side = 0; side < SILT_SIDES; side++) {
		const struct silt_snapshot *s = r->snapshots[side];
		uint32_t type = 0; /* types ascend by context */

		for (uint32_t i = 0; s && i < s->context_count; i++) {
			const struct silt_type *t = NULL;
			struct silt_row *row;

			if (type < s->type_count && s->types[type].context == i)
				t = &s->types[type++];
			if (!context_used(r, side, &s->contexts[i], used))
				continue;
			row = type_row(r, s, t, err);
			if (!row)
				return SILT_E_NOMEM;
			add_context(row, side, &s->contexts[i]);
		}
	}
	return 0;
}

int silt_analysis_group(struct silt_analysis *r, const bool *used, struct silt_error *err)
{
	switch (r->options->by) {
	case SILT_BY_SIZE:
		return group_by_size(r, used, err);
	case SILT_BY_THREAD:
		return group_by_thread(r, used, err);
	case SILT_BY_TYPE:
		return group_by_type(r, used, err);
	default:
		return group_by_start(r, used, err);
	}
}
