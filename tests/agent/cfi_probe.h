/* SPDX-License-Identifier: MIT */
/** Everything the agent does with unwind tables, on tables that may be damaged; for mutation tests and fuzzing. */
#ifndef SILT_TESTS_AGENT_CFI_PROBE_H
#define SILT_TESTS_AGENT_CFI_PROBE_H

#include "capture/agent/cfi.h"

/** Looks pc up, checks what the row may point at, packs it and steps with it a few times; aborts when a promise of
 *  cfi.h is broken. The memory "read" is made from the address and seed. Returns whether a row was found. */
bool cfi_probe(const struct cfi_module *m, uint64_t pc, uint64_t seed);

#endif
