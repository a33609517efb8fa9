/* SPDX-License-Identifier: MIT */
/** The index of a .dwp file (.debug_cu_index): from a unit's id to its parts of the sections. */
#ifndef SILT_SYMBOLS_PACKAGE_INDEX_H
#define SILT_SYMBOLS_PACKAGE_INDEX_H

#include "symbols/dwarf_file.h"

struct silt_package_row {
	uint64_t info, info_size; /* in .debug_info.dwo */
	struct silt_unit_parts parts;
};

/** section: the bytes of .debug_cu_index, version 2 (GNU) or 5. False when the id is not there, or the index damaged. */
bool silt_package_index_find(struct silt_bytes section, uint64_t id, struct silt_package_row *ret);

#endif
