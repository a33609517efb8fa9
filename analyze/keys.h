/* SPDX-License-Identifier: MIT */
/** Keys of any bytes over base's interning: tells whether a key is new. */
#ifndef SILT_ANALYZE_KEYS_H
#define SILT_ANALYZE_KEYS_H

#include "base/hash.h"

/** The key's number; *ret_new: it was not there. SILT_INTERN_NONE when out of memory. */
static inline uint32_t silt_key_add(struct silt_intern *keys, const void *key, size_t size, bool *ret_new)
{
	uint32_t count = silt_intern_count(keys);
	uint32_t number = silt_intern_add_bytes(keys, key, size);

	*ret_new = number == count;
	return number;
}

/** A key's bytes, aligned for any struct, valid as long as the table. */
static inline const void *silt_key_bytes(const struct silt_intern *keys, uint32_t number)
{
	return silt_intern_text(keys, number);
}

#endif
