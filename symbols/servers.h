/* SPDX-License-Identifier: MIT */
/** Asking debuginfod servers for debug files that are not here. What they bring lies where the search finds it afterwards. */
#ifndef SILT_SYMBOLS_SERVERS_H
#define SILT_SYMBOLS_SERVERS_H

#include "symbols/symbols_internal.h"

/**
 * Asks the servers of the options for what the modules of work miss; without servers it does nothing. cached: modules with complete
 * answers in the cache need none. Servers that do not answer cost a warning. SILT_E_CANCELLED when a signal came that did not
 * end the program.
 */
int silt_servers_ask(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, bool cached,
		     struct silt_error *err);
/** Puts what servers said behind the other attempts of each module. */
void silt_servers_tell(struct silt_symbols *sy);

#endif
