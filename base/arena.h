/* SPDX-License-Identifier: MIT */
/**
 * Arena: many allocations, freed together.
 *
 * Memory is 16-byte aligned. Big arrays get a mapping of their own, so untouched parts of them cost nothing.
 * Not thread-safe. Nothing here reports why it failed: NULL means out of memory, overflow, or the arena's limit.
 */
#ifndef SILT_BASE_ARENA_H
#define SILT_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct silt_arena;

/** NULL when out of memory. */
struct silt_arena *silt_arena_create(void);
/** Frees everything that came from it. NULL is fine. */
void silt_arena_destroy(struct silt_arena *a);
/** From now on allocations fail that would bring the sum above `bytes`. 0: no limit (the default). */
void silt_arena_set_limit(struct silt_arena *a, uint64_t bytes);
/** Bytes handed out so far (rounding included). */
uint64_t silt_arena_used(const struct silt_arena *a);

/** Zeroed memory; size 0 gives a valid pointer. */
void *silt_arena_alloc(struct silt_arena *a, size_t size);
/** Zeroed array of n elements; n = 0 gives a valid pointer. */
void *silt_arena_array(struct silt_arena *a, uint64_t n, size_t element_size);
/** Makes memory from malloc the arena's: it is freed with it. Does not count against the limit. 0, or -1 when out of memory
 *  (p stays the caller's). NULL is fine. */
int silt_arena_adopt(struct silt_arena *a, void *p);
/** Copies of text; NULL in gives NULL out. strndup copies exactly len bytes and adds a NUL. */
char *silt_arena_strdup(struct silt_arena *a, const char *text);
char *silt_arena_strndup(struct silt_arena *a, const char *text, size_t len);

#endif
