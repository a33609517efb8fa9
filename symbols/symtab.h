/* SPDX-License-Identifier: MIT */
/** Names from ELF symbol tables, for code without debug information. */
#ifndef SILT_SYMBOLS_SYMTAB_H
#define SILT_SYMBOLS_SYMTAB_H

#include "symbols/object.h"

struct silt_symbol_hit {
	const char *name; /* NULL: not found; lies in the file */
	uint64_t start;
	uint64_t size;    /* 0: the symbol says none, the address may lie beyond it */
	int rank;
	const char *file; /* of a local symbol, when the table says it; lies in the file */
};

struct silt_symtab_table {
	struct silt_object *object;
	bool dynamic; /* .dynsym, else .symtab */
};

/**
 * Looks up n sorted addresses in tables that count as one; addresses that have a name already are left alone.
 * A symbol covers [value, value + size); the nearest start wins, then functions over labels, global over weak over
 * local, larger over smaller. Without such a symbol the nearest lower one without size in the same section counts,
 * unless a sized one ends between.
 */
int silt_symtab_find(const struct silt_symtab_table *tables, size_t table_count, const uint64_t *pcs, size_t n,
		     struct silt_symbol_hit *hits, struct silt_error *err);

#endif
