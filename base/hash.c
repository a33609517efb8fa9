/* SPDX-License-Identifier: MIT */
/* Hash tables: see hash.h. Open addressing, linear probing, at most three quarters full. */
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "base/vec.h"

uint64_t silt_hash_bytes(const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t h = size;

	while (size >= 8) {
		uint64_t w;

		memcpy(&w, p, 8);
		h = silt_hash_add(h, w);
		p += 8;
		size -= 8;
	}
	if (size) {
		uint64_t w = 0;

		memcpy(&w, p, size);
		h = silt_hash_add(h, w);
	}
	return h;
}

void silt_map_deinit(struct silt_map *m)
{
	free(m->slots);
	m->slots = NULL;
	m->count = m->cap = 0;
}

/* The slot holding key, or the empty one where it belongs. The table is never full. */
static struct silt_map_slot *map_probe(const struct silt_map *m, uint64_t key)
{
	size_t i = (size_t)silt_hash_u64(key) & (m->cap - 1);

	while (m->slots[i].used && m->slots[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

bool silt_map_get(const struct silt_map *m, uint64_t key, uint32_t *ret_value)
{
	const struct silt_map_slot *s;

	if (!m->count)
		return false;
	s = map_probe(m, key);
	if (!s->used)
		return false;
	*ret_value = s->value;
	return true;
}

static bool map_grow(struct silt_map *m)
{
	struct silt_map bigger = {NULL, m->count, m->cap ? m->cap * 2 : 16};
	size_t i;

	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		return false;
	silt_pages_large(bigger.slots, bigger.cap * sizeof(*bigger.slots));
	for (i = 0; i < m->cap; i++)
		if (m->slots[i].used)
			*map_probe(&bigger, m->slots[i].key) = m->slots[i];
	free(m->slots);
	*m = bigger;
	return true;
}

uint32_t *silt_map_slot(struct silt_map *m, uint64_t key, uint32_t fresh, bool *ret_new)
{
	struct silt_map_slot *s;

	if (m->count >= m->cap / 4 * 3 && !map_grow(m))
		return NULL;
	s = map_probe(m, key);
	if (ret_new)
		*ret_new = !s->used;
	if (!s->used) {
		s->key = key;
		s->value = fresh;
		s->used = 1;
		m->count++;
	}
	return &s->value;
}

bool silt_map_put(struct silt_map *m, uint64_t key, uint32_t value)
{
	uint32_t *p = silt_map_slot(m, key, value, NULL);

	if (!p)
		return false;
	*p = value;
	return true;
}

struct intern_text {
	const char *text;
	size_t size;
	uint64_t hash;
};

struct silt_intern {
	struct silt_arena *arena;
	SILT_VEC(struct intern_text) texts;
	uint32_t *table; /* text number + 1, 0: empty */
	size_t cap;      /* power of two, or 0 */
};

struct silt_intern *silt_intern_create(void)
{
	struct silt_intern *in = calloc(1, sizeof(*in));

	if (!in)
		return NULL;
	in->arena = silt_arena_create();
	if (!in->arena) {
		free(in);
		return NULL;
	}
	return in;
}

void silt_intern_destroy(struct silt_intern *in)
{
	if (!in)
		return;
	silt_arena_destroy(in->arena);
	silt_vec_free(&in->texts);
	free(in->table);
	free(in);
}

static uint32_t *intern_probe(const struct silt_intern *in, const void *data, size_t size, uint64_t hash)
{
	size_t i = (size_t)hash & (in->cap - 1);

	while (in->table[i]) {
		const struct intern_text *t = &in->texts.items[in->table[i] - 1];

		if (t->hash == hash && t->size == size && !memcmp(t->text, data, size))
			break;
		i = (i + 1) & (in->cap - 1);
	}
	return &in->table[i];
}

static bool intern_grow(struct silt_intern *in)
{
	size_t cap = in->cap ? in->cap * 2 : 64;
	uint32_t *table = calloc(cap, sizeof(*table));
	size_t n;

	if (!table)
		return false;
	for (n = 0; n < in->texts.count; n++) {
		size_t i = (size_t)in->texts.items[n].hash & (cap - 1);

		while (table[i])
			i = (i + 1) & (cap - 1);
		table[i] = (uint32_t)n + 1;
	}
	free(in->table);
	in->table = table;
	in->cap = cap;
	return true;
}

uint32_t silt_intern_add_bytes(struct silt_intern *in, const void *data, size_t size)
{
	struct intern_text t = {NULL, size, silt_hash_bytes(data, size)};
	uint32_t *slot;

	if (in->texts.count >= in->cap / 4 * 3 && !intern_grow(in))
		return SILT_INTERN_NONE;
	slot = intern_probe(in, data, size, t.hash);
	if (*slot)
		return *slot - 1;
	if (in->texts.count >= SILT_INTERN_NONE - 1)
		return SILT_INTERN_NONE;
	t.text = silt_arena_strndup(in->arena, data, size);
	if (!t.text || !silt_vec_push(&in->texts, t))
		return SILT_INTERN_NONE;
	*slot = (uint32_t)in->texts.count;
	return *slot - 1;
}

uint32_t silt_intern_add(struct silt_intern *in, const char *text)
{
	return text ? silt_intern_add_bytes(in, text, strlen(text)) : SILT_INTERN_NONE;
}

uint32_t silt_intern_find(const struct silt_intern *in, const char *text)
{
	size_t size;
	uint32_t *slot;

	if (!text || !in->cap)
		return SILT_INTERN_NONE;
	size = strlen(text);
	slot = intern_probe(in, text, size, silt_hash_bytes(text, size));
	return *slot ? *slot - 1 : SILT_INTERN_NONE;
}

const char *silt_intern_text(const struct silt_intern *in, uint32_t id)
{
	return id < in->texts.count ? in->texts.items[id].text : NULL;
}

size_t silt_intern_size(const struct silt_intern *in, uint32_t id)
{
	return id < in->texts.count ? in->texts.items[id].size : 0;
}

uint32_t silt_intern_count(const struct silt_intern *in)
{
	return (uint32_t)in->texts.count;
}
