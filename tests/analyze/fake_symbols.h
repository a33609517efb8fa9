/* SPDX-License-Identifier: MIT */
/** A symbols room for tests: answers from a table instead of files, and counts what it was asked. */
#ifndef SILT_TESTS_ANALYZE_FAKE_SYMBOLS_H
#define SILT_TESTS_ANALYZE_FAKE_SYMBOLS_H

#include <stdint.h>

#include "symbols/symbols.h"

/** What is known of one address; innermost frame first; ends with a frame without function. */
struct fake_address {
	const char *module; /* path */
	uint8_t build;      /* first byte of the build-id, 0: none */
	uint64_t offset;
	struct silt_symbol_frame frames[4];
};

/** table must outlive the test. */
void fake_symbols_set(const struct fake_address *table, size_t count);
/** Requests since the last set. */
size_t fake_symbols_requests(void);
size_t fake_symbols_resolves(void);

#endif
