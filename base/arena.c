/* SPDX-License-Identifier: MIT */
/* Arena: see arena.h. A list of chunks; small requests are cut from the newest one. */
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/pages.h"

#define ARENA_ALIGN 16u
#define ARENA_CHUNK (64u * 1024u)
#define ARENA_BIG (16u * 1024u) /* from here on a request gets a chunk of its own */

struct chunk {
	struct chunk *next;
	size_t size; /* payload bytes */
	size_t used;
	size_t pad; /* keeps the payload 16-byte aligned */
};

struct adopted {
	struct adopted *next;
	void *p;
};

struct silt_arena {
	struct chunk *small; /* chunk that small requests are cut from, then its predecessors */
	struct chunk *big;
	struct adopted *adopted;
	uint64_t used;
	uint64_t limit;
};

struct silt_arena *silt_arena_create(void)
{
	return calloc(1, sizeof(struct silt_arena));
}

static void chunks_free(struct chunk *c)
{
	while (c) {
		struct chunk *next = c->next;

		free(c);
		c = next;
	}
}

void silt_arena_destroy(struct silt_arena *a)
{
	if (!a)
		return;
	chunks_free(a->small);
	chunks_free(a->big);
	while (a->adopted) {
		struct adopted *next = a->adopted->next;

		free(a->adopted->p);
		free(a->adopted);
		a->adopted = next;
	}
	free(a);
}

int silt_arena_adopt(struct silt_arena *a, void *p)
{
	struct adopted *one;

	if (!p)
		return 0;
	one = malloc(sizeof(*one));
	if (!one)
		return -1;
	one->p = p;
	one->next = a->adopted;
	a->adopted = one;
	return 0;
}

void silt_arena_set_limit(struct silt_arena *a, uint64_t bytes)
{
	a->limit = bytes;
}

uint64_t silt_arena_used(const struct silt_arena *a)
{
	return a->used;
}

static struct chunk *chunk_create(size_t payload, struct chunk **list)
{
	/* calloc, not malloc: for big chunks it is a fresh mapping, zero already and not touched. */
	struct chunk *c = calloc(1, sizeof(*c) + payload);

	if (!c)
		return NULL;
	silt_pages_large(c, sizeof(*c) + payload);
	c->size = payload;
	c->next = *list;
	*list = c;
	return c;
}

/* size is rounded already. Always zero: chunks come from calloc and no byte is handed out twice. */
static void *arena_take(struct silt_arena *a, size_t size)
{
	struct chunk *c;
	void *p;

	if (a->limit && (size > a->limit || a->used > a->limit - size))
		return NULL;
	if (size >= ARENA_BIG) {
		c = chunk_create(size, &a->big);
		if (!c)
			return NULL;
		c->used = size;
		a->used += size;
		return c + 1;
	}
	c = a->small;
	if (!c || c->size - c->used < size) {
		c = chunk_create(ARENA_CHUNK, &a->small);
		if (!c)
			return NULL;
	}
	p = (char *)(c + 1) + c->used;
	c->used += size;
	a->used += size;
	return p;
}

static int round_up(size_t size, size_t *ret)
{
	if (size > SIZE_MAX - sizeof(struct chunk) - ARENA_ALIGN)
		return 0;
	*ret = size ? (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1) : ARENA_ALIGN;
	return 1;
}

void *silt_arena_alloc(struct silt_arena *a, size_t size)
{
	if (!round_up(size, &size))
		return NULL;
	return arena_take(a, size);
}

void *silt_arena_array(struct silt_arena *a, uint64_t n, size_t element_size)
{
	size_t size;

	if (__builtin_mul_overflow(n, element_size, &size))
		return NULL;
	return silt_arena_alloc(a, size);
}

char *silt_arena_strndup(struct silt_arena *a, const char *text, size_t len)
{
	char *copy;

	if (!text || len == SIZE_MAX)
		return NULL;
	copy = silt_arena_alloc(a, len + 1);
	if (!copy)
		return NULL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

char *silt_arena_strdup(struct silt_arena *a, const char *text)
{
	return text ? silt_arena_strndup(a, text, strlen(text)) : NULL;
}
