/* SPDX-License-Identifier: MIT */
/** Names from all the symbol tables that a module's files have, for what the DWARF leaves open. */
#ifndef SILT_SYMBOLS_TABLES_H
#define SILT_SYMBOLS_TABLES_H

#include "symbols/debug_files.h"
#include "symbols/symtab.h"

/** Told of each table that was used: enum silt_symbols_source, and the file it is in; and of damage. */
struct silt_tables_events {
	void (*source)(void *data, unsigned kind, const char *path);
	void (*damage)(void *data, const char *text);
	void *data;
};

/** Names n sorted addresses of the module (link-time addresses of the file that was loaded). hits is overwritten; names
 *  lie in files and in *ret_packed, which the caller destroys (NULL: not needed). */
int silt_tables_find(struct silt_files *files, const uint64_t *pcs, size_t n, struct silt_symbol_hit *hits,
		     const struct silt_tables_events *events, struct silt_object **ret_packed, struct silt_error *err);

#endif
