/* SPDX-License-Identifier: MIT */
/* Everything a reader must know to take a report's figures for what they are. */
#include "analyze/analysis.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { REBUILT_NAMED = 8 }; /* modules named one by one before the rest is only counted */

__attribute__((format(printf, 3, 4))) static int warn(struct silt_analysis *r, struct silt_error *err,
						      const char *fmt, ...)
{
	char *line;
	va_list ap;
	uint32_t number;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return silt_error_set(err, SILT_E_NOMEM, "not enough memory for a warning");
	number = silt_intern_add_bytes(r->warnings, line, (size_t)n);
	free(line);
	return number == SILT_NONE ? silt_error_set(err, SILT_E_NOMEM, "not enough memory for a warning") : 0;
}

/* "" for show, "before: " and "after: " for diff. */
static const char *side_name(const struct silt_analysis *r, unsigned side)
{
	if (!r->snapshots[SILT_BEFORE])
		return "";
	return side == SILT_BEFORE ? "before: " : "after: ";
}

static int warn_notes(struct silt_analysis *r, unsigned side, struct silt_error *err)
{
	const struct silt_snapshot *s = r->snapshots[side];

	for (uint32_t i = 0; i < s->note_count; i++) {
		int rc = warn(r, err, "%s%s", side_name(r, side), s->notes[i]);

		if (rc < 0)
			return rc;
	}
	return 0;
}

bool silt_snapshot_is_walked(const struct silt_snapshot *s)
{
	return s->process.method && strcmp(s->process.method, SILT_METHOD_WALK) == 0;
}

static int warn_options(struct silt_analysis *r, unsigned side, struct silt_error *err)
{
	const struct silt_process *p = &r->snapshots[side]->process;
	int rc = 0;

	/* In the words capture uses for its notes, so that a dump of ours says it once. */
	if (p->sample_bytes)
		rc = warn(r, err, "%sfigures are estimates: one allocation in about %llu bytes was sampled",
			  side_name(r, side), (unsigned long long)p->sample_bytes);
	if (rc == 0 && silt_snapshot_is_walked(r->snapshots[side]) && r->options->by != SILT_BY_TYPE &&
	    r->options->by != SILT_BY_SIZE)
		rc = warn(r, err, "%sa walked heap has sizes and C++ types, but no stacks: see --by size and --by type",
			  side_name(r, side));
	if (rc == 0 && p->min_size)
		rc = warn(r, err, "%sallocations below %llu bytes were not tracked", side_name(r, side),
			  (unsigned long long)p->min_size);
	return rc;
}

static const struct {
	uint32_t flag;
	const char *text;
} INCOMPLETE[] = {
	{SILT_STACK_NO_CFI, "with stacks that end early, at code without unwind information"},
	{SILT_STACK_DEPTH, "with stacks cut at the depth limit: track with a higher --depth"},
	{SILT_STACK_BROKEN, "with stacks that end early, where they could not be unwound"},
	{SILT_STACK_OVERFLOW, "without their stacks, for which the trace database had no room: track with a higher --db-size"},
	{SILT_STACK_UNTRACKED, "without a stack: allocated before tracking began, or none could be taken"},
};

/* "before: ~12 blocks (~480 bytes) " and what is the matter with them. */
static int warn_blocks(struct silt_analysis *r, unsigned side, const struct silt_sum *sum, const char *text,
		       struct silt_error *err)
{
	const char *about = r->estimated ? "~" : "";

	if (sum->count == 0)
		return 0;
	return warn(r, err, "%s%s%llu block%s (%s%llu bytes) %s", side_name(r, side), about,
		    (unsigned long long)sum->count, sum->count == 1 ? "" : "s", about,
		    (unsigned long long)sum->bytes, text);
}

static int warn_stacks(struct silt_analysis *r, unsigned side, struct silt_error *err)
{
	const struct silt_snapshot *s = r->snapshots[side];
	struct silt_sum sums[SILT_ARRAY_LEN(INCOMPLETE)] = {0};
	int rc = 0;

	if (silt_snapshot_is_walked(s))
		return 0; /* said already: none has a stack */

	for (uint32_t i = 0; i < s->context_count; i++) {
		const struct silt_context *c = &s->contexts[i];
		struct silt_sum sum = {.bytes = c->live_bytes, .count = c->live_count};

		if (!silt_analysis_counts(r, side, c))
			continue;
		for (size_t k = 0; k < SILT_ARRAY_LEN(INCOMPLETE); k++)
			if (s->stacks[c->stack].flags & INCOMPLETE[k].flag)
				silt_sum_add(&sums[k], &sum);
	}
	for (size_t k = 0; k < SILT_ARRAY_LEN(INCOMPLETE) && rc == 0; k++)
		rc = warn_blocks(r, side, &sums[k], INCOMPLETE[k].text, err);
	return rc;
}

/* ---- diff only ---- */

static void build_id_text(const struct silt_catalog_module *m, char text[20])
{
	if (m->build_id_len == 0) {
		strcpy(text, "none");
		return;
	}
	for (uint32_t i = 0; i < m->build_id_len && i < 8; i++)
		snprintf(text + 2 * (size_t)i, 3, "%02x", m->build_id[i]);
}

/* Twins that occur in some stack. */
static bool *used_modules(const struct silt_analysis *r)
{
	bool *used = calloc((size_t)silt_catalog_module_count(&r->catalog) + 1, sizeof(*used));

	for (uint32_t i = 0; used && i < silt_catalog_location_count(&r->catalog); i++) {
		uint32_t module = silt_catalog_location(&r->catalog, i)->module;

		if (module != SILT_NONE)
			used[module] = true;
	}
	return used;
}

static int warn_rebuilt_modules(struct silt_analysis *r, struct silt_error *err)
{
	bool *used = used_modules(r);
	uint32_t named = 0, more = 0;
	int rc = used ? 0 : silt_error_set(err, SILT_E_NOMEM, "not enough memory for a warning");

	for (uint32_t i = 0; i < silt_catalog_module_count(&r->catalog) && rc == 0; i++) {
		const struct silt_catalog_module *m = &r->catalog.modules[i], *twin;
		char old_id[20], new_id[20];

		if (m->twin == SILT_NONE || !(m->sides & 1u << SILT_AFTER) || !used[i] || !used[m->twin])
			continue;
		if (++named > REBUILT_NAMED) {
			more++;
			continue;
		}
		twin = &r->catalog.modules[m->twin];
		build_id_text(twin, old_id);
		build_id_text(m, new_id);
		rc = warn(r, err,
			  "%s was rebuilt between the dumps (build-id %s before, %s after): its stacks are "
			  "matched by function and line, else by function",
			  m->path, old_id, new_id);
	}
	if (rc == 0 && more > 0)
		rc = warn(r, err, "%u more modules were rebuilt between the dumps", more);
	free(used);
	return rc;
}

/* Stacks through rebuilt modules whose frames have no names are new to one side only because nothing could tell. */
static int warn_unnamed(struct silt_analysis *r, struct silt_error *err)
{
	uint64_t unmatched = 0;

	for (uint32_t i = 0; i < silt_catalog_stack_count(&r->catalog); i++) {
		uint32_t count;
		const uint32_t *locations = silt_catalog_stack(&r->catalog, i, &count, NULL);

		for (uint32_t k = 0; k < count; k++) {
			const struct silt_location *l = silt_catalog_location(&r->catalog, locations[k]);
			size_t frames;

			if (l->module == SILT_NONE || r->catalog.modules[l->module].twin == SILT_NONE)
				continue;
			silt_names_frames(&r->names, locations[k], &frames);
			if (frames == 0) {
				unmatched++;
				break;
			}
		}
	}
	if (unmatched == 0)
		return 0;
	return warn(r, err,
		    "%llu stacks of rebuilt modules could not be matched, because the names in one of the builds "
		    "are unknown: keep the files of both builds and name their directory with --debug-dir",
		    (unsigned long long)unmatched);
}

static bool has_anonymous(const struct silt_analysis *r)
{
	for (uint32_t i = 0; i < silt_catalog_location_count(&r->catalog); i++)
		if (silt_catalog_location(&r->catalog, i)->module == SILT_NONE)
			return true;
	return false;
}

static int warn_pair(struct silt_analysis *r, struct silt_error *err)
{
	const struct silt_process *b = &r->snapshots[SILT_BEFORE]->process,
				  *a = &r->snapshots[SILT_AFTER]->process;
	int rc = 0;

	if (r->same_run ? a->epoch < b->epoch : b->capture_ns > a->capture_ns && a->capture_ns != 0)
		rc = warn(r, err, "BEFORE was captured later than AFTER");
	if (rc == 0 && (b->sample_bytes != a->sample_bytes || b->min_size != a->min_size))
		rc = warn(r, err,
			  "the dumps were tracked with different --sample or --min-size: part of the difference "
			  "is due to that");
	if (rc == 0 && silt_snapshot_is_walked(r->snapshots[SILT_BEFORE]) != silt_snapshot_is_walked(r->snapshots[SILT_AFTER]))
		rc = warn(r, err,
			  "one of the dumps is of a walked heap and has usable sizes, the other one has requested sizes: part "
			  "of the difference is due to that");
	if (rc == 0 && !r->same_run && has_anonymous(r))
		rc = warn(r, err,
			  "the dumps are of different runs: code outside any module (JIT) is taken for one place");
	if (rc == 0 && !r->options->only_new)
		rc = warn_rebuilt_modules(r, err);
	if (rc == 0 && !r->options->only_new)
		rc = warn_unnamed(r, err);
	return rc;
}

int silt_analysis_warn(struct silt_analysis *r, struct silt_error *err)
{
	int rc = 0;

	for (unsigned side = 0; side < SILT_SIDES && rc == 0; side++) {
		if (!r->snapshots[side])
			continue;
		rc = warn_notes(r, side, err);
		if (rc == 0)
			rc = warn_options(r, side, err);
		if (rc == 0)
			rc = warn_stacks(r, side, err);
	}
	if (rc == 0 && r->snapshots[SILT_BEFORE])
		rc = warn_pair(r, err);
	for (size_t i = 0; i < silt_symbols_warning_count(r->names.symbols) && rc == 0; i++)
		rc = warn(r, err, "%s", silt_symbols_warning(r->names.symbols, i));
	return rc;
}
