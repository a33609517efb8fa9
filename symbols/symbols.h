/* SPDX-License-Identifier: MIT */
/**
 * From (module, offset) to functions, files, lines and inlined frames.
 *
 * Usage: create, add modules, request many addresses, resolve once, get answers. Work happens in
 * silt_symbols_resolve, module by module, in child processes (a debug file is hostile input): a child that dies
 * costs that module its names, a warning, nothing else. Results stay valid until destroy.
 * Not thread-safe: one thread per struct silt_symbols.
 */
#ifndef SILT_SYMBOLS_SYMBOLS_H
#define SILT_SYMBOLS_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/types.h"
#include "symbols/search_path.h"

struct silt_symbols;

enum silt_demangle { SILT_DEMANGLE_FULL, SILT_DEMANGLE_SHORT, SILT_DEMANGLE_OFF };

/** Bounds on one file from a server. */
struct silt_download_limits {
	uint64_t max_bytes;
	unsigned max_seconds;  /* in all */
	unsigned idle_seconds; /* without a byte */
	unsigned miss_seconds; /* a server that did not have a file is not asked for it again for so long */
};

struct silt_symbols_options {
	const char *const *debug_dirs; /* searched before /usr/lib/debug, in this order */
	size_t debug_dir_count;
	const char *sysroot; /* prefix for module paths, or NULL */
	bool no_inlines;
	bool no_linkage; /* answers that are known already may come without linkage names: quicker */
	bool bare_names; /* a function without a linkage name is called what its entry says, without namespaces and classes */
	enum silt_demangle demangle;
	uint64_t max_memory;      /* bytes a parsing child may use; 0: default */
	unsigned timeout_seconds; /* for one module; 0: default */
	unsigned jobs;            /* children at once; 0: processors */
	const char *cache_dir;    /* answers, downloaded files and misses are kept below it, private; NULL: nowhere */
	bool no_cache;            /* answers are neither read nor kept */
	uint64_t cache_bytes;     /* of all answers kept; 0: default */
	const struct silt_server *servers; /* debuginfod servers, asked in order when nothing is found here; url is never NULL */
	size_t server_count;
	bool servers_wanted;      /* the user asked for servers: when there are none, a warning says so */
	struct silt_download_limits download; /* zeros: defaults */
};

/** One line of an answer: innermost (inlined) first; the last one is the physical function. */
struct silt_symbol_frame {
	const char *function; /* demangled as asked; NULL unknown */
	const char *linkage;  /* mangled name, or NULL */
	const char *file;     /* full path, or NULL */
	uint32_t line;        /* 0 unknown */
	uint32_t column;
	uint32_t discriminator; /* of the first frame, as the line table has it: which of several blocks on that line; 0: none */
	bool inlined;            /* true for all but the last */
	uint64_t function_start; /* link-time address of the physical function, 0 unknown (for name+offset) */
};

/** opts may be NULL; what it points to is copied. Returns NULL when out of memory. */
struct silt_symbols *silt_symbols_create(const struct silt_symbols_options *opts);
void silt_symbols_destroy(struct silt_symbols *sy);

/**
 * Makes a module known. build_id (may be NULL) is compared with every file opened: a mismatch gives no names, and a
 * warning. Returns its number >= 0 or a negative code. The same path and build-id twice give the same number.
 */
int silt_symbols_add_module(struct silt_symbols *sy, const char *path, const uint8_t *build_id,
			    size_t build_id_len, struct silt_error *err);
/**
 * Names a process that the modules were seen in, at captured_ns (nanoseconds since 1970; 0: unknown). While it is there
 * still, its root and its mappings are searched for modules and debug files too (containers, deleted files), where a
 * build-id can be compared. A module without a build-id whose file was changed after the earliest such moment is not believed.
 */
int silt_symbols_add_process(struct silt_symbols *sy, unsigned pid, int64_t captured_ns, struct silt_error *err);
/** Asks for a link-time address; a return address unless exact. Duplicates are free. */
int silt_symbols_request(struct silt_symbols *sy, int module, uint64_t offset, bool exact,
			 struct silt_error *err);
/** Works on all requests since the last call. Missing debug files are no error; see warnings. */
int silt_symbols_resolve(struct silt_symbols *sy, struct silt_error *err);
/** The answer for a resolved request: count frames (0: nothing known). Borrowed until destroy. */
const struct silt_symbol_frame *silt_symbols_lookup(const struct silt_symbols *sy, int module, uint64_t offset,
						    bool exact, size_t *ret_count);
/** Warnings for people gathered so far. */
size_t silt_symbols_warning_count(const struct silt_symbols *sy);
const char *silt_symbols_warning(const struct silt_symbols *sy, size_t i);

/** Which kinds of names a module has; the best one wins, address by address. */
enum silt_symbols_source {
	SILT_SOURCE_DWARF = 1,  /* functions, files, lines, inlined calls */
	SILT_SOURCE_ALT = 2,    /* a dwz file that the DWARF refers to */
	SILT_SOURCE_SYMTAB = 4, /* .symtab: all functions, no lines */
	SILT_SOURCE_DYNSYM = 8, /* exported functions only */
	SILT_SOURCE_PACKED = 16, /* .gnu_debugdata: functions that are not exported, no lines */
	SILT_SOURCE_SPLIT = 32, /* .dwp or .dwo files that hold the entries of the DWARF's units */
};

struct silt_symbols_found {
	enum silt_symbols_source kind;
	const char *path; /* the file that holds it */
};

/** What the search for a module's symbols came to. Filled by resolve and locate. */
struct silt_symbols_module_info {
	unsigned sources;       /* or of enum silt_symbols_source; 0: nothing was found (or asked) */
	const char *dwarf_path; /* the file that holds the DWARF, or NULL */
	size_t attempt_count;   /* files tried, in order: "path: what came of it" */
	const char *const *attempts;
	size_t found_count; /* what was used, by resolve, or what there is, by locate */
	const struct silt_symbols_found *found;
};
/** Searches the files of every module, and opens them, without a look at any address: for `silt symbols --list`. */
int silt_symbols_locate(struct silt_symbols *sy, struct silt_error *err);
/** Borrowed until destroy. Returns SILT_E_INVAL for an unknown module. */
int silt_symbols_module_info(const struct silt_symbols *sy, int module, struct silt_symbols_module_info *ret);

#endif
