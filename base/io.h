/* SPDX-License-Identifier: MIT */
/** Files: whole reads and writes that survive EINTR, EAGAIN and short counts, and files that appear complete or not at all. */
#ifndef SILT_BASE_IO_H
#define SILT_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/** Reads until size bytes or end of file. Returns the bytes read, or -1 with errno. */
ssize_t silt_read_full(int fd, void *buffer, size_t size);
/** The same at an offset. */
ssize_t silt_pread_full(int fd, void *buffer, size_t size, uint64_t offset);
/** Reads to end of file; more than limit bytes is SILT_E_LIMIT. A NUL follows the bytes (not counted). Caller frees
 *  *ret_data. name is for messages. */
int silt_read_all_fd(int fd, const char *name, uint64_t limit, uint8_t **ret_data, size_t *ret_size,
		     struct silt_error *err);
/** The same for a path (works for /proc files, whose size says 0). */
int silt_read_file(const char *path, uint64_t limit, uint8_t **ret_data, size_t *ret_size, struct silt_error *err);
/** Writes everything or fails. */
int silt_write_all(int fd, const char *name, const void *data, size_t size, struct silt_error *err);

/** A file being written beside its final name. A process that dies leaves the old file as it was; where the file
 *  system has O_TMPFILE it leaves nothing behind either. */
struct silt_temp {
	int fd;       /* write here; -1 when not open */
	char *target; /* final path, symbolic links resolved */
	char *path;   /* the temporary name; NULL: it has none yet (O_TMPFILE) */
};

/** Opens a new file (mode 0600) in target's directory. */
int silt_temp_create(const char *target, struct silt_temp *ret, struct silt_error *err);
/** Syncs, renames to the final name, syncs the directory, closes. On failure the temporary file is removed. */
int silt_temp_commit(struct silt_temp *t, struct silt_error *err);
/** Closes and removes. Safe after commit. */
void silt_temp_discard(struct silt_temp *t);

#endif
