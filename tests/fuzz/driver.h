/* SPDX-License-Identifier: MIT */
/* What a fuzz target defines, and what the plain driver and libFuzzer call. */
#ifndef SILT_TESTS_FUZZ_DRIVER_H
#define SILT_TESTS_FUZZ_DRIVER_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Optional. Seed number i made on the spot (malloc'ed to *ret), its size returned; 0: there are no more. */
__attribute__((weak)) size_t silt_fuzz_seed(unsigned i, uint8_t **ret);

#endif
