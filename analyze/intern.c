/* SPDX-License-Identifier: MIT */
/* Byte strings to dense numbers, by open addressing with linear probing. */
#include "analyze/intern.h"

#include <stdlib.h>
#include <string.h>

/* Keys come from files others wrote. The multiply-and-fold below is not keyed, but a collision only costs probing
 * among at most as many keys as the file has room for. */
static uint64_t hash_bytes(const void *key, size_t size)
{
	const unsigned char *p = key;
	uint64_t h = 0x9e3779b97f4a7c15ull ^ size;

	while (size >= 8) {
		uint64_t w;

		memcpy(&w, p, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
		p += 8;
		size -= 8;
	}
	if (size > 0) {
		uint64_t w = 0;

		memcpy(&w, p, size);
		h = (h ^ w) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	h *= 0xc4ceb9fe1a85ec53ull;
	return h ^ (h >> 29);
}

void silt_intern_init(struct silt_intern *t)
{
	memset(t, 0, sizeof(*t));
}

void silt_intern_deinit(struct silt_intern *t)
{
	free(t->bytes);
	free(t->entries);
	free(t->slots);
	memset(t, 0, sizeof(*t));
}

static bool grow_slots(struct silt_intern *t)
{
	uint32_t size = t->slots ? (t->slot_mask + 1) * 2 : 64;
	uint32_t *slots;

	if (size == 0 || !(slots = calloc(size, sizeof(*slots))))
		return false;
	for (uint32_t i = 0; i < t->count; i++) {
		uint32_t at = (uint32_t)t->entries[i].hash & (size - 1);

		while (slots[at])
			at = (at + 1) & (size - 1);
		slots[at] = i + 1;
	}
	free(t->slots);
	t->slots = slots;
	t->slot_mask = size - 1;
	return true;
}

static bool grow_entries(struct silt_intern *t)
{
	uint32_t room = t->entry_room ? t->entry_room * 2 : 64;
	struct silt_intern_entry *entries;

	if (room <= t->entry_room || !(entries = reallocarray(t->entries, room, sizeof(*entries))))
		return false;
	t->entries = entries;
	t->entry_room = room;
	return true;
}

static bool grow_bytes(struct silt_intern *t, size_t need)
{
	size_t room = t->room ? t->room : 1024;
	unsigned char *bytes;

	while (room < need) {
		if (room > SIZE_MAX / 2)
			return false;
		room *= 2;
	}
	bytes = realloc(t->bytes, room);
	if (!bytes)
		return false;
	t->bytes = bytes;
	t->room = room;
	return true;
}

/* The slot that holds the key, or the empty one where it belongs. */
static uint32_t find_slot(const struct silt_intern *t, uint64_t hash, const void *key, size_t size)
{
	uint32_t at = (uint32_t)hash & t->slot_mask;

	while (t->slots[at]) {
		const struct silt_intern_entry *e = &t->entries[t->slots[at] - 1];

		if (e->hash == hash && e->size == size && memcmp(t->bytes + e->at, key, size) == 0)
			break;
		at = (at + 1) & t->slot_mask;
	}
	return at;
}

uint32_t silt_intern_find(const struct silt_intern *t, const void *key, size_t size)
{
	if (!t->slots)
		return UINT32_MAX;
	return t->slots[find_slot(t, hash_bytes(key, size), key, size)] - 1;
}

uint32_t silt_intern_add(struct silt_intern *t, const void *key, size_t size, bool *ret_new)
{
	uint64_t hash = hash_bytes(key, size);
	size_t end;
	uint32_t at;

	/* Kept at most half full. */
	if ((!t->slots || t->count >= (t->slot_mask + 1) / 2) && !grow_slots(t))
		return UINT32_MAX;
	at = find_slot(t, hash, key, size);
	if (ret_new)
		*ret_new = t->slots[at] == 0;
	if (t->slots[at])
		return t->slots[at] - 1;
	if (__builtin_add_overflow(t->used, size, &end) || end > SIZE_MAX - 8)
		return UINT32_MAX;
	end = (end + 7) & ~(size_t)7;
	if ((end > t->room || !t->bytes) && !grow_bytes(t, end))
		return UINT32_MAX;
	if (t->count == t->entry_room && !grow_entries(t))
		return UINT32_MAX;
	if (size > 0)
		memcpy(t->bytes + t->used, key, size);
	t->entries[t->count] = (struct silt_intern_entry){ .at = t->used, .size = size, .hash = hash };
	t->used = end;
	t->slots[at] = ++t->count;
	return t->count - 1;
}

const void *silt_intern_key(const struct silt_intern *t, uint32_t number, size_t *ret_size)
{
	const struct silt_intern_entry *e = &t->entries[number];

	if (ret_size)
		*ret_size = e->size;
	return t->bytes + e->at;
}
