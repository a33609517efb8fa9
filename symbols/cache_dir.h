/* SPDX-License-Identifier: MIT */
/** Directories below the cache: private to the user, of bounded size, safe with any number of users at once. */
#ifndef SILT_SYMBOLS_CACHE_DIR_H
#define SILT_SYMBOLS_CACHE_DIR_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/** What lies below the cache directory. */
#define SILT_CACHE_ANSWERS "answers" /* files of cache_file.h */
#define SILT_CACHE_STORE "debug"     /* downloaded debug files, as .build-id/xx/rest.debug */
#define SILT_CACHE_MISSES "misses"   /* what servers did not have */

/** Opens ROOT/SUB; with create it and what is missing above are made, mode 0700. Returns a descriptor, or a negative code:
 *  SILT_E_NOT_FOUND when it is not there, SILT_E_INVAL when others than the user may write to it. */
int silt_cache_dir_open(const char *root, const char *sub, bool create, struct silt_error *err);
/** Makes a file name of any bytes: 32 hexadecimal digits. */
void silt_cache_name(const void *key, size_t size, char ret[33]);

struct silt_cache_usage {
	uint64_t bytes, files;
};
/** Sizes of all files in the directory and the directories in it. */
struct silt_cache_usage silt_cache_dir_usage(int dir);
/** Removes the files that were not used for the longest time until max_bytes and max_files hold, and what writers that died
 *  have left behind. Does nothing while both hold. */
void silt_cache_dir_trim(int dir, uint64_t max_bytes, uint64_t max_files);
/** Removes everything silt keeps below root. Returns the bytes that were freed, or a negative code. */
int64_t silt_cache_clear(const char *root, struct silt_error *err);

#endif
