/* SPDX-License-Identifier: MIT */
/** From addresses to the units that hold their code. */
#ifndef SILT_SYMBOLS_UNIT_INDEX_H
#define SILT_SYMBOLS_UNIT_INDEX_H

#include "symbols/dwarf_file.h"

#define SILT_NO_UNIT UINT32_MAX

/**
 * For each of n sorted addresses the number of its unit in dw->units, or SILT_NO_UNIT. .debug_aranges is believed for
 * what it lists; addresses it leaves out (clang writes none) are looked for in the units' own ranges.
 */
int silt_unit_index_find(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, uint32_t *ret_units, struct silt_error *err);

#endif
