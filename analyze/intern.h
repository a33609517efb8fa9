/* SPDX-License-Identifier: MIT */
/** Byte strings to dense numbers: the one lookup structure behind identities, groups and matches. */
#ifndef SILT_ANALYZE_INTERN_H
#define SILT_ANALYZE_INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Equal keys get the same number; numbers count from 0 in the order of first sight. */
struct silt_intern {
	unsigned char *bytes; /* all keys, each aligned to 8 so that structs may serve as keys */
	size_t used, room;
	struct silt_intern_entry *entries;
	uint32_t count, entry_room;
	uint32_t *slots; /* open addressing: number + 1, 0 empty */
	uint32_t slot_mask;
};

struct silt_intern_entry {
	size_t at, size;
	uint64_t hash;
};

void silt_intern_init(struct silt_intern *t);
void silt_intern_deinit(struct silt_intern *t);
/** The key's number; adds it when new. SILT_NONE (UINT32_MAX) when out of memory. ret_new may be NULL. */
uint32_t silt_intern_add(struct silt_intern *t, const void *key, size_t size, bool *ret_new);
/** The key's number, or UINT32_MAX. */
uint32_t silt_intern_find(const struct silt_intern *t, const void *key, size_t size);
/** A key's bytes, valid until the next add. */
const void *silt_intern_key(const struct silt_intern *t, uint32_t number, size_t *ret_size);

#endif
