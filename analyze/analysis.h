/* SPDX-License-Identifier: MIT */
/**
 * One report in the making: show and diff are the same work, show being a diff whose BEFORE is empty.
 *
 * silt_analysis_prepare numbers the stacks and makes, filters, sorts and cuts the rows; the renderers only read.
 */
#ifndef SILT_ANALYZE_ANALYSIS_H
#define SILT_ANALYZE_ANALYSIS_H

#include <regex.h>

#include "analyze/analyze.h"
#include "analyze/catalog.h"
#include "analyze/names.h"

struct silt_sum {
	uint64_t bytes, count;
	uint64_t alloc_bytes, alloc_count;
};

enum silt_match { /* how the two sides of a row were found to be the same */
		  SILT_MATCH_EXACT,
		  SILT_MATCH_LINE,     /* in rebuilt modules: same functions, files and lines */
		  SILT_MATCH_FUNCTION, /* in rebuilt modules: same functions */
};

struct silt_row {
	struct silt_sum sum[SILT_SIDES];
	uint32_t stack;  /* by stack: catalog stack to print; else SILT_NONE */
	uint32_t kind;   /* by stack: enum silt_kind */
	uint32_t thread; /* by thread: into the threads of snapshots[thread_side], or SILT_NONE */
	unsigned thread_side;
	uint64_t size; /* by size */
	uint32_t key;  /* other groups: into group_keys */
	enum silt_match match;
};

enum silt_omission {
	SILT_OMIT_REGEX, /* stacks that --focus or --ignore dropped */
	SILT_OMIT_SMALL, /* rows below --min-bytes or --min-count */
	SILT_OMIT_TOP,   /* rows beyond --top */
	SILT_OMISSIONS,
};

struct silt_omitted {
	uint64_t rows;
	struct silt_sum sum[SILT_SIDES];
};

struct silt_analysis {
	const struct silt_report_options *options;
	const struct silt_snapshot *snapshots[SILT_SIDES]; /* [SILT_BEFORE] is NULL for show */
	bool estimated;                                    /* sampled: every figure is an estimate */
	bool same_run;                                     /* diff: both dumps are of one process image */
	struct silt_catalog catalog;
	uint32_t *stacks[SILT_SIDES]; /* snapshot stack -> catalog stack */
	struct silt_names names;
	uint32_t *
		representative; /* per catalog stack: the one it is shown as (itself, or its match after a rebuild) */
	unsigned char *match; /* per catalog stack: enum silt_match */
	regex_t focus, ignore;
	bool has_focus, has_ignore;
	struct silt_row *rows;
	size_t row_count, row_room;
	size_t shown; /* rows[0..shown) are printed */
	struct silt_sum totals[SILT_SIDES];
	struct silt_omitted omitted[SILT_OMISSIONS];
	struct silt_intern *warnings;   /* lines, each once */
	struct silt_intern *group_keys; /* the rows' keys; row i has key i until the rows are sorted */
};

/* ---- report.c: the way from snapshots to rows ---- */

/** before is NULL for show. On failure, too, silt_analysis_deinit must follow. */
int silt_analysis_prepare(struct silt_analysis *r, const struct silt_snapshot *before,
			const struct silt_snapshot *after, const struct silt_report_options *o,
			struct silt_error *err);
void silt_analysis_deinit(struct silt_analysis *r);
/** True when a context counts in this report (with --new, only what was allocated since BEFORE). */
bool silt_analysis_counts(const struct silt_analysis *r, unsigned side, const struct silt_context *c);
void silt_sum_add(struct silt_sum *to, const struct silt_sum *from);
/** The catalog stack a context is accounted under. */
uint32_t silt_analysis_stack(const struct silt_analysis *r, unsigned side, const struct silt_context *c);
/** Whether a row has anything to say: live memory (show) or a change (diff) in what it is sorted by. */
bool silt_row_matters(const struct silt_analysis *r, const struct silt_row *row);
/** A zeroed row at the end; NULL when out of memory. Valid until the next one. */
struct silt_row *silt_analysis_add_row(struct silt_analysis *r);

/* ---- rebuilt.c: stacks of rebuilt modules matched by names ---- */
int silt_analysis_match_rebuilt(struct silt_analysis *r, struct silt_error *err);

/* ---- filter.c: --focus and --ignore ---- */
int silt_filter_init(struct silt_analysis *r, struct silt_error *err);
void silt_filter_deinit(struct silt_analysis *r);
/** Sets keep[i] for each of the catalog stacks listed. */
int silt_filter_stacks(struct silt_analysis *r, const uint32_t *stacks, size_t count, bool *keep,
		       struct silt_error *err);

/* ---- groups.c: rows by anything but the stack ---- */
/** used: per catalog stack, whether it is accounted for and no filter took it. */
int silt_analysis_group(struct silt_analysis *r, const bool *used, struct silt_error *err);

/* ---- warnings.c ---- */
/** Everything a reader must know to take the figures for what they are; in both snapshots' own words too. */
int silt_analysis_warn(struct silt_analysis *r, struct silt_error *err);

/** Whether the snapshot is of a heap that nobody tracked: usable sizes, no stacks, nothing of what was freed. */
bool silt_snapshot_is_walked(const struct silt_snapshot *s);

/* ---- report_text.c, report_json.c ---- */
int silt_analysis_text(const struct silt_analysis *r, FILE *out, struct silt_error *err);
int silt_analysis_json(const struct silt_analysis *r, FILE *out, struct silt_error *err);

#endif
