/* SPDX-License-Identifier: MIT */
/**
 * Where the debug information of a module is: the module's own file, a separate file by build-id or debug link, and the
 * dwz file that one may share with others. Every file is compared before it is believed; every attempt is recorded.
 */
#ifndef SILT_SYMBOLS_DEBUG_FILES_H
#define SILT_SYMBOLS_DEBUG_FILES_H

#include "symbols/object.h"

struct silt_file_query {
	const char *path;        /* the module as the process saw it */
	const uint8_t *build_id; /* of what was loaded; length 0: unknown */
	size_t build_id_len;
	const char *sysroot;     /* or NULL */
	const char *const *debug_dirs;
	size_t debug_dir_count;
	const unsigned *processes; /* that had it loaded and may still be there: their roots and mappings are searched, too */
	size_t process_count;
	int64_t not_after;         /* without a build-id: files changed later (nanoseconds since 1970) are not believed; 0: all are */
};

struct silt_files {
	struct silt_object *main;  /* the module itself; NULL: missing or another build */
	struct silt_object *debug; /* separate debug file, NULL: none */
	uint64_t debug_shift;      /* added to an address of the module, gives the debug file's (modulo 2^64) */
	struct silt_object *alt;   /* dwz file of the one that holds the DWARF, NULL: none */
	bool mismatched;           /* the module on disk is another build */
	bool changed;              /* it was changed since and has no build-id to compare */
	bool alt_missing;          /* a dwz file is named and was not found */
	char *alt_name;            /* what it is called */
	uint8_t alt_id[64];        /* … and its build-id */
	size_t alt_id_len;
	void (*attempt)(void *data, const char *text); /* told of every file tried: "path: what came of it" */
	/* Told of every file before it is looked at, whether it is there or not; a path below a root, as silt_rooted_path takes
	 * them. May be NULL. */
	void (*depend)(void *data, const char *root, const char *path);
	void *data;
};

/** Finds what can be found; ret->attempt and ret->data are set by the caller, everything else is written. Missing files
 *  are no error. Destroy with silt_files_deinit. */
int silt_files_find(const struct silt_file_query *q, struct silt_files *ret, struct silt_error *err);
void silt_files_deinit(struct silt_files *f);
/** The object that holds .debug_info, or NULL. */
struct silt_object *silt_files_dwarf(const struct silt_files *f);

#endif
