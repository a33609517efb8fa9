/* SPDX-License-Identifier: MIT */
/**
 * Answers on disk. A module's file is found by everything that an answer depends on beside files: the module's path and
 * build-id, where files are sought, how names are written, and which silt and libraries read them. The files themselves,
 * found or missing, stand in it with what stat() said: an answer holds while they are what they were.
 */
#ifndef SILT_SYMBOLS_CACHE_H
#define SILT_SYMBOLS_CACHE_H

#include "symbols/symbols_internal.h"

/** Takes what is known of a module's sorted, distinct addresses; known[i] says which answers were. Damage is no error. */
void silt_cache_take(struct silt_symbols *sy, struct silt_symbols_module *m, const uint64_t *pcs, size_t n,
		     struct silt_answer *answers, bool *known);
/** Keeps all answers that came from files since the last time, where that is worth it yet (final: in any case). Failures cost
 *  time later, nothing else. */
void silt_cache_save(struct silt_symbols *sy, bool final);
/** True when what is kept of a module came from debug information, and nothing was missing: there is no reason to ask servers. */
bool silt_cache_is_complete(struct silt_symbols *sy, const struct silt_symbols_module *m);
/** Releases what a module has open. */
void silt_cache_close(struct silt_symbols_module *m);
/** A file that an answer for the module depends on. False when out of memory. */
bool silt_cache_depend(struct silt_symbols_module *m, const struct silt_dependency *d);

#endif
