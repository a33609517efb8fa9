/* SPDX-License-Identifier: MIT */
/** Values that people write: numbers, sizes, words. All return false for what makes no sense, and leave *ret alone then. */
#ifndef SILT_CLI_VALUES_H
#define SILT_CLI_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A decimal number without sign. */
bool silt_value_count(const char *text, uint64_t *ret);
/** "4096", "64K", "1M", "2GiB": bytes, units are powers of 1024. */
bool silt_value_size(const char *text, uint64_t *ret);
/** "90", "90s", "5m", "2h", "1d": seconds. */
bool silt_value_seconds(const char *text, uint64_t *ret);
/** yes, no, on, off, true, false, 1, 0. */
bool silt_value_bool(const char *text, bool *ret);
/** The number of text in a list of words. */
bool silt_value_word(const char *text, const char *const *words, size_t count, int *ret);

/** auto, always or never: whether forked children are to know their parent's blocks. Sets flags of enum silt_db_flags. */
bool silt_value_inherit(const char *text, uint32_t *flags);

#endif
