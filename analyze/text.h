/* SPDX-License-Identifier: MIT */
/** Text for people: sizes, times, and names that come from elsewhere and must not upset a terminal. */
#ifndef SILT_ANALYZE_TEXT_H
#define SILT_ANALYZE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SILT_TEXT_MAX = 48 };

/** "512 B", "1.5 KiB", "2.0 GiB". Returns buf. */
const char *silt_text_size(char buf[SILT_TEXT_MAX], uint64_t bytes);
/** The same with a sign, always: "+1.5 KiB", "-512 B", "0 B". */
const char *silt_text_growth(char buf[SILT_TEXT_MAX], int64_t bytes);
/** "2026-11-20 16:28:19 UTC", or "at an unknown time". */
const char *silt_text_time(char buf[SILT_TEXT_MAX], int64_t ns);
/** "2026-11-20T16:28:19.123456789Z"; NULL for 0. */
const char *silt_text_iso_time(char buf[SILT_TEXT_MAX], int64_t ns);
/** "1.5 s", "20.0 ms", "3 us". */
const char *silt_text_duration(char buf[SILT_TEXT_MAX], uint64_t ns);

/** Prints text without control characters or broken UTF-8. max: columns, 0 for all; what is cut becomes "...", at the
 *  end or, with keep_end, at the beginning. Returns the columns printed (one for each character). */
size_t silt_text_print(FILE *out, const char *text, size_t max, bool keep_end);
/** The columns silt_text_print would take. */
size_t silt_text_columns(const char *text, size_t max);

#endif
