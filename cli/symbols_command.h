/* SPDX-License-Identifier: MIT */
/** silt symbols: what was asked for (symbols.c), answered address by address (symbols_answer.c) or as a list of modules
 *  (symbols_list.c). */
#ifndef SILT_CLI_SYMBOLS_COMMAND_H
#define SILT_CLI_SYMBOLS_COMMAND_H

#include "base/vec.h"
#include "cli/settings.h"

struct silt_symbols_request {
	struct silt_settings *settings; /* owned */
	struct silt_symbols_options options;
	const char *file;
	SILT_VEC(uint64_t) addresses; /* of the command line; none: they come from standard input */
	bool json, verbose, list, clear_cache;
	bool show_addresses;
	/* addr2line's form: nothing but what is asked for. */
	bool classic, functions, inlines, demangle, pretty, base_names;
	const char *how; /* of --demangle, NULL: not given */
};

/** All answers, in the order of the addresses. Returns the exit status. */
int silt_symbols_answer(const struct silt_symbols_request *q);
/** What was found for each module of a dump, or for one ELF file. Returns the exit status. */
int silt_symbols_list(const struct silt_symbols_request *q);
/** "silt symbols: out of memory" and the exit status. */
int silt_symbols_no_memory(void);
/** A hexadecimal address with or without 0x, and nothing behind it. */
bool silt_symbols_parse_address(const char *text, uint64_t *ret);

#endif
