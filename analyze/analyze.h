/* SPDX-License-Identifier: MIT */
/** From snapshots to answers: aggregate, diff; then text and JSON into a writer. */
#ifndef SILT_ANALYZE_ANALYZE_H
#define SILT_ANALYZE_ANALYZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "formats/snapshot.h"
#include "symbols/symbols.h"

enum silt_by { SILT_BY_STACK, SILT_BY_FUNCTION, SILT_BY_FILE, SILT_BY_MODULE, SILT_BY_SIZE, SILT_BY_THREAD, SILT_BY_TYPE };
enum silt_sort { SILT_SORT_BYTES, SILT_SORT_COUNT, SILT_SORT_ALLOCATED_BYTES, SILT_SORT_ALLOCATED_COUNT };

struct silt_report_options {
	enum silt_by by;
	enum silt_sort sort;
	int64_t top; /* rows; -1: default (20 in text, all in json); 0: all */
	const char *
		focus; /* extended regular expression: keep stacks where a frame's function, file or module matches */
	const char *ignore; /* drop those */
	uint64_t min_bytes; /* drop rows below (diff: below in absolute growth) */
	uint64_t min_count;
	bool only_new;   /* diff: only blocks allocated after BEFORE and alive in AFTER */
	bool all_frames; /* show allocator and agent frames too */
	bool json;
	bool color;
	unsigned width; /* columns of the terminal, to cut long names at; 0: cut nothing */
	struct silt_symbols_options symbols;
};

/** `silt show`: aggregates s and prints it to out as text or JSON (DESIGN.md's contract). */
int silt_report_show(const struct silt_snapshot *s, const struct silt_report_options *o, FILE *out,
		     struct silt_error *err);
/** `silt diff`. */
int silt_report_diff(const struct silt_snapshot *before, const struct silt_snapshot *after,
		     const struct silt_report_options *o, FILE *out, struct silt_error *err);
/** True when the options need the blocks' columns (SILT_BY_SIZE). */
bool silt_report_needs_blocks(const struct silt_report_options *o);

#endif
