/* SPDX-License-Identifier: MIT */
/** The entries that lie around an entry of a unit. DWARF has no links upwards: they are found from the unit's beginning. */
#ifndef SILT_SYMBOLS_ENTRY_PATH_H
#define SILT_SYMBOLS_ENTRY_PATH_H

#include "symbols/forms.h"

enum { SILT_MAX_PATH = 64 }; /* nesting of namespaces, classes and functions */

/** Offsets of the entries around the one at target.offset, which lies in u, outermost first; path[0] is the unit's own. Returns
 *  how many, 0: none, damage, or too deep. t: the unit's abbreviations. Places on the way are remembered with the unit, so that
 *  the next question is not answered from its beginning. */
unsigned silt_entry_path(struct silt_ref target, struct silt_unit *u, const struct silt_abbrevs *t, uint64_t path[SILT_MAX_PATH]);

/** Frees what silt_entry_path remembered for all units of a file. */
void silt_entry_path_forget(struct silt_dwarf *dw);

#endif
