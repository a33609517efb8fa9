/* SPDX-License-Identifier: MIT */
/**
 * Hash functions, a map from uint64_t to uint32_t, and string interning.
 *
 * Hashes are for tables in memory only: they may change between versions and never go into files.
 */
#ifndef SILT_BASE_HASH_H
#define SILT_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

/** Mixes all 64 bits (a bijection: distinct keys stay distinct). */
static inline uint64_t silt_hash_u64(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	return x;
}

/** Folds one more word into a running hash; start with 0. */
static inline uint64_t silt_hash_add(uint64_t hash, uint64_t word)
{
	return silt_hash_u64(hash * 31 + word + 0x9e3779b97f4a7c15ull);
}

uint64_t silt_hash_bytes(const void *data, size_t size);

struct silt_map_slot {
	uint64_t key;
	uint32_t value;
	uint32_t used;
};

/** Any key, any value. Start with SILT_MAP_INIT or all zero. */
struct silt_map {
	struct silt_map_slot *slots;
	size_t count;
	size_t cap; /* power of two, or 0 */
};
#define SILT_MAP_INIT {NULL, 0, 0}

void silt_map_deinit(struct silt_map *m);
/** True and *ret_value when key is there. */
bool silt_map_get(const struct silt_map *m, uint64_t key, uint32_t *ret_value);
/** Sets key's value. False when out of memory. */
bool silt_map_put(struct silt_map *m, uint64_t key, uint32_t value);
/** Where key's value lives, inserting it with `fresh` when it was not there (*ret_new says so; may be NULL).
 *  NULL when out of memory. The pointer holds until the next insertion. */
uint32_t *silt_map_slot(struct silt_map *m, uint64_t key, uint32_t fresh, bool *ret_new);

/** Strings to dense numbers 0, 1, 2 … in order of first sight, and back. */
struct silt_intern;
#define SILT_INTERN_NONE UINT32_MAX

struct silt_intern *silt_intern_create(void);
void silt_intern_destroy(struct silt_intern *in);
/** SILT_INTERN_NONE when out of memory, or for NULL text. */
uint32_t silt_intern_add(struct silt_intern *in, const char *text);
uint32_t silt_intern_add_bytes(struct silt_intern *in, const void *data, size_t size);
/** SILT_INTERN_NONE when it was never added. */
uint32_t silt_intern_find(const struct silt_intern *in, const char *text);
/** NUL-terminated (a NUL follows bytes too); lives as long as the table. NULL for SILT_INTERN_NONE. */
const char *silt_intern_text(const struct silt_intern *in, uint32_t id);
size_t silt_intern_size(const struct silt_intern *in, uint32_t id);
uint32_t silt_intern_count(const struct silt_intern *in);

#endif
