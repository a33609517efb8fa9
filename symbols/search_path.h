/* SPDX-License-Identifier: MIT */
/**
 * SILT_SYMBOL_PATH: an ordered list of directories with debug files, a cache, and servers, after the model of Windows'
 * _NT_SYMBOL_PATH. docs/man/silt-symbols.1.md gives the grammar to users.
 *
 *   path    = element { (";" | ":") element }           empty elements are nothing
 *   element = DIRECTORY                                   a debug directory: DIRECTORY/.build-id/xx/rest.debug
 *           | "cache*" [DIRECTORY]                        where answers and downloads are kept; empty: the default
 *           | "srv*" { [DIRECTORY] "*" } [URL]            a debuginfod server; downloads go to the first DIRECTORY
 *
 * An element that begins with "cache*" or "srv*" ends at the next ";" or at the end: a colon belongs to its URL. Blanks around
 * elements are nothing; "~/" at the beginning of a directory is the home directory.
 */
#ifndef SILT_SYMBOLS_SEARCH_PATH_H
#define SILT_SYMBOLS_SEARCH_PATH_H

#include "base/arena.h"
#include "base/error.h"
#include "base/vec.h"

enum { SILT_SEARCH_PATH_MAX = 1024 }; /* elements */

struct silt_server {
	const char *url;   /* "https://…"; NULL: those of DEBUGINFOD_URLS */
	const char *store; /* directory that its files are kept in; NULL: the default one */
};

struct silt_search_path {
	const char *home; /* for "~/"; NULL: it stays as it is. Set by the caller, borrowed */
	SILT_VEC(const char *) dirs; /* debug directories in order, the servers' own among them */
	SILT_VEC(struct silt_server) servers;
	const char *cache;  /* the last "cache*DIRECTORY"; NULL: none */
	bool default_cache; /* the last one was "cache*" alone */
};

/** Adds text's elements to p. Strings are copies in arena. SILT_E_INVAL names the wrong element; p is half filled then. */
int silt_search_path_add(struct silt_search_path *p, const char *text, struct silt_arena *arena, struct silt_error *err);
void silt_search_path_deinit(struct silt_search_path *p);
/** True for http://, https:// and file:// followed by something, without blanks: what debuginfod clients take. */
bool silt_is_server_url(const char *text);

#endif
