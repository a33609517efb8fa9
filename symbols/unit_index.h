/* SPDX-License-Identifier: MIT */
/** From addresses to the units that hold their code. */
#ifndef SILT_SYMBOLS_UNIT_INDEX_H
#define SILT_SYMBOLS_UNIT_INDEX_H

#include "symbols/dwarf_file.h"

/**
 * For each of n sorted addresses its unit, or NULL. .debug_aranges and .gdb_index are believed for what they list;
 * addresses that they leave out (clang writes neither) are looked for in the ranges of all units, then in the functions
 * of units that give no ranges.
 */
int silt_unit_index_find(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, struct silt_unit **ret_units,
			 struct silt_error *err);
/** The same without the indexes: for addresses of which the unit that an index named knows nothing. */
int silt_unit_index_search(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, struct silt_unit **ret_units,
			   struct silt_error *err);
/** Whether the unit's own ranges hold each of n sorted addresses; true for all when it gives none. An index that is older
 *  than the units names wrong ones. */
void silt_unit_covers(struct silt_dwarf *dw, struct silt_unit *u, const uint64_t *pcs, size_t n, bool *ret);

#endif
