/* SPDX-License-Identifier: MIT */
/** Where files from servers are kept, and what servers did not have. */
#ifndef SILT_SYMBOLS_SERVER_STORE_H
#define SILT_SYMBOLS_SERVER_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/** STORE/.build-id/xx/rest.debug. False when that is too long, or the build-id has less than two bytes. */
bool silt_store_path(const char *store, const uint8_t *id, size_t id_len, char ret[PATH_MAX]);
/** A new private directory in the store, which is made when it is missing; also removes what runs that were killed left there. */
int silt_store_open(const char *store, char ret_dir[PATH_MAX], struct silt_error *err);
/** Moves a file from such a directory to its place, mode 0600. */
int silt_store_keep(const char *store, const char *file, const uint8_t *id, size_t id_len, struct silt_error *err);
/** Removes the directory and everything below it. */
void silt_store_close(const char *dir);

/** Remembers below cache_dir (NULL: not at all) that a server did not have a file, and why. */
void silt_miss_remember(const char *cache_dir, const char *url, const uint8_t *id, size_t id_len, const char *why);
/** True with the text when that was no longer than seconds ago. */
bool silt_miss_is_known(const char *cache_dir, const char *url, const uint8_t *id, size_t id_len, unsigned seconds, char *why,
			size_t size);

#endif
