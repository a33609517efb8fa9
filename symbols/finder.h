/* SPDX-License-Identifier: MIT */
/** The search for files of one module: where they may lie, and whether a file found is the one sought. */
#ifndef SILT_SYMBOLS_FINDER_H
#define SILT_SYMBOLS_FINDER_H

#include <limits.h>

#include "symbols/debug_files.h"
#include "symbols/links.h"

enum { SILT_MAX_ROOTS = 8 };

/* What the kernel puts behind the name of a file that was removed or replaced; the new file has the old name. */
#define SILT_DELETED " (deleted)"

struct silt_finder {
	const struct silt_file_query *q;
	struct silt_files *f;
	/* Where paths of the process begin: the sysroot or "" first, then live processes' own roots that differ. */
	char roots[SILT_MAX_ROOTS][PATH_MAX];
	size_t root_count;
	const char *main_root; /* one of them: where the module was found; NULL: it was not */
	char path[PATH_MAX];   /* the module's below that root, without SILT_DELETED; "": too long */
	struct silt_object *plain; /* a debug file of the right build with symbols only */
	/* What the debug file sought must have: a build-id, or without one this checksum. */
	const uint8_t *id;
	size_t id_len;
	bool check_crc;
	uint32_t crc;
};

void silt_finder_init(struct silt_finder *s, const struct silt_file_query *q, struct silt_files *f);

/** Tells the attempt to whoever asked to be told. */
void silt_finder_report(const struct silt_finder *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The i-th debug directory and the root it is in: the user's, each root's /usr/lib/debug, the system's. False after the last. */
bool silt_finder_debug_dir(const struct silt_finder *s, size_t i, const char **ret_root, const char **ret_dir);

bool silt_finder_same_id(const struct silt_object *o, const uint8_t *id, size_t len);

/** Opens a path below a root; NULL (reported) when there is none or it is no ELF file. */
struct silt_object *silt_finder_open(const struct silt_finder *s, const char *root, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** Finds the module itself (module_file.c): f->main, f->mismatched, f->changed. */
void silt_finder_find_module(struct silt_finder *s);

/** "DIR/.build-id/xx/rest" + suffix in every debug directory, opened and handed to take until that returns an object. */
struct silt_object *silt_finder_by_build_id(struct silt_finder *s, const uint8_t *id, size_t len, const char *suffix,
					    struct silt_object *(*take)(struct silt_finder *, struct silt_object *, const void *),
					    const void *data);

#endif
