/* SPDX-License-Identifier: MIT */
/**
 * One file of cached answers: those of one module under one key.
 *
 * The layout is private to this version of silt on this machine: what cannot be read is no loss. A file is read in checked
 * blocks into memory of ours, as far as it is needed; whatever happens to it meanwhile, answers are right or missing.
 *
 *   head    64 bytes: magic, version, sizes, CRC-32 of the head and the block table
 *   table   CRC-32 of each 64 KiB of the body
 *   body    key · facts · addresses (8 each, ascending) · first frame and count (4 + 4) of each · frames (32 each) ·
 *           names and files: end of each (4), text · linkage names: end of each (4), text; each part begins at a multiple of 8
 *
 * Numbers are little-endian. Strings are numbered from 1 and end with a NUL; equal runs of frames are stored once.
 */
#ifndef SILT_SYMBOLS_CACHE_FILE_H
#define SILT_SYMBOLS_CACHE_FILE_H

#include "symbols/symbols_internal.h"

struct silt_cache_file;

struct silt_cache_entry {
	uint64_t pc;
	struct silt_answer answer;
};

/** Opens NAME in dir and checks head and key. NULL when there is none of that key, or it is damaged, another user's, or larger
 *  than max_bytes. linkage: linkage names are wanted, too (half of the bytes of a C++ program). */
struct silt_cache_file *silt_cache_file_open(int dir, const char *name, const void *key, size_t key_size, uint64_t max_bytes,
					     bool linkage);
void silt_cache_file_destroy(struct silt_cache_file *c);
/** What was stored beside the answers; NULL: damaged. Borrowed until destroy. */
const uint8_t *silt_cache_file_facts(struct silt_cache_file *c, size_t *ret_size);
/** The answer for an address; false when there is none or it is damaged. Frames lie in arena, their strings in c. */
bool silt_cache_file_find(struct silt_cache_file *c, uint64_t pc, struct silt_arena *arena, struct silt_answer *ret);
size_t silt_cache_file_count(const struct silt_cache_file *c);
/** The i-th answer by address; false when it is damaged. */
bool silt_cache_file_entry(struct silt_cache_file *c, size_t i, struct silt_arena *arena, struct silt_cache_entry *ret);
/** Notes that the file was used: the ones that were not for the longest time are removed first. */
void silt_cache_file_touch(struct silt_cache_file *c);

/** Writes NAME in dir anew, complete or not at all. entries ascend and are distinct. SILT_E_LIMIT: more than max_bytes. */
int silt_cache_file_write(int dir, const char *name, const void *key, size_t key_size, const void *facts, size_t facts_size,
			  const struct silt_cache_entry *entries, size_t count, uint64_t max_bytes, struct silt_error *err);

#endif
