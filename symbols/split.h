/* SPDX-License-Identifier: MIT */
/**
 * Split DWARF: where the entries of a program's skeleton units are, in .dwp and .dwo files (GNU's DWARF 4 extension and
 * DWARF 5, 7.3.5). Every file is compared by its unit's id before it is believed.
 */
#ifndef SILT_SYMBOLS_SPLIT_H
#define SILT_SYMBOLS_SPLIT_H

#include "symbols/debug_files.h"
#include "symbols/dwarf_file.h"

/** The split files of one program. */
struct silt_splits;

/** Borrows all until destroy. files->attempt hears of every file tried. NULL when out of memory. */
struct silt_splits *silt_splits_create(struct silt_dwarf *program, struct silt_files *files,
				       const struct silt_file_query *query);
void silt_splits_destroy(struct silt_splits *s);
/** True for a unit that has its entries elsewhere. */
bool silt_unit_is_skeleton(struct silt_dwarf *dw, struct silt_unit *u);
/** Where a skeleton's entries are; false when no file has them. The result holds until the next call. */
bool silt_splits_find(struct silt_splits *s, struct silt_unit *skeleton, struct silt_dwarf **ret_dw,
		      struct silt_unit **ret_unit);
/** Units whose files were not found so far, and the name of the first of those files (NULL: none is missing). */
size_t silt_splits_missing(const struct silt_splits *s, const char **ret_name);
/** The .dwp file in use, or NULL. */
const struct silt_object *silt_splits_package(const struct silt_splits *s);

#endif
