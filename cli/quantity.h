/* SPDX-License-Identifier: MIT */
/** Sizes and times on the command line, and what is tracked when nothing is said. */
#ifndef SILT_CLI_QUANTITY_H
#define SILT_CLI_QUANTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "capture/agent/trace_db.h"

#define SILT_DEFAULT_DB_MB 256ull
#define SILT_DEFAULT_MMAP_MIN 65536ull
#define SILT_TRACK_DEFAULTS                                                                             \
	{                                                                                               \
		.max_depth = SILT_DB_DEFAULT_DEPTH, .db_limit = SILT_DEFAULT_DB_MB << 20,               \
		.mmap_min = SILT_DEFAULT_MMAP_MIN                                                       \
	}

/** Bytes, with K, M, G (KB, MB, GB) behind. */
bool silt_quantity_size(const char *text, uint64_t *ret);
/** The same within bounds. */
bool silt_quantity_range(const char *text, uint64_t low, uint64_t high, uint64_t *ret);
/** 500ms, 30s, 5m, 1h; a plain number is seconds. At least a millisecond. */
bool silt_quantity_time(const char *text, uint64_t *ret_ns);

#endif
