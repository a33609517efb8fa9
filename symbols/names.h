/* SPDX-License-Identifier: MIT */
/** Names of functions, through abstract origins, specifications and dwz files. */
#ifndef SILT_SYMBOLS_NAMES_H
#define SILT_SYMBOLS_NAMES_H

#include "symbols/forms.h"

struct silt_name {
	const char *linkage; /* mangled, or NULL; lies in the file */
	const char *name;    /* as written in the source, or NULL; lies in the file */
	struct silt_ref origin; /* the entry that gave the name */
	uint16_t language;   /* DW_LANG_ of its unit */
};

/** The names of the entry at ref. Both NULL when it has none. */
struct silt_name silt_name_find(struct silt_dwarf *dw, uint64_t die);
/** True for languages with namespaces and overloading: their names in symbol tables are mangled. */
bool silt_language_mangles(uint16_t language);
/** name with its namespaces and classes in front, for languages that have them; false when there are none or the
 *  result does not fit. */
bool silt_name_qualify(const struct silt_name *name, char *buffer, size_t size);

#endif
