/* SPDX-License-Identifier: MIT */
/** Reading and writing .silt dump files (docs/FORMAT.md) and, later, every foreign format. */
#ifndef SILT_FORMATS_DUMP_H
#define SILT_FORMATS_DUMP_H

#include <stdint.h>

#include "base/error.h"
#include "formats/snapshot.h"

enum {
	SILT_READ_BLOCKS = 1,  /* read the blocks' columns too */
	SILT_READ_SALVAGE = 2, /* take what is intact from a damaged file; a note says what is missing */
};

struct silt_read_options {
	unsigned flags;
	uint64_t max_memory; /* bytes the snapshot may take; 0: default (see base/limits.h) */
};

struct silt_write_options {
	int level;        /* zlib level; 0: default (1, fast) */
	unsigned threads; /* compressing threads; 0: as many as there are processors, at most 4 */
};

/**
 * Reads a dump, recognised by its content. opts may be NULL. A regular file without salvage must be whole; damage is
 * SILT_E_BAD_DATA with file and offset. path "-" reads standard input.
 */
int silt_dump_read(const char *path, const struct silt_read_options *opts, struct silt_snapshot **ret,
		   struct silt_error *err);

/** Writes to a temporary name beside path, mode 0600, syncs, renames. path "-" writes to standard output. */
int silt_dump_write(const char *path, const struct silt_snapshot *s, const struct silt_write_options *opts,
		    struct silt_error *err);
/** Writes to an open descriptor (may be a pipe). name is for messages. */
int silt_dump_write_fd(int fd, const char *name, const struct silt_snapshot *s,
		       const struct silt_write_options *opts, struct silt_error *err);

#endif
