/* SPDX-License-Identifier: MIT */
/* Building and freeing the snapshot model: see snapshot.h. */
#include "formats/snapshot.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "formats/snapshot_internal.h"

/* What silt_snapshot_create really allocates: the lists that grow one by one remember their room here. */
struct snapshot_storage {
	struct silt_snapshot s;
	const char **notes; /* the array that note_cap is true of */
	uint32_t note_cap;
	struct silt_counter *counters;
	uint32_t counter_cap;
};

struct silt_snapshot *silt_snapshot_create(void)
{
	struct snapshot_storage *st = calloc(1, sizeof(*st));

	if (!st)
		return NULL;
	st->s.arena = silt_arena_create();
	if (!st->s.arena) {
		free(st);
		return NULL;
	}
	return &st->s;
}

void silt_snapshot_destroy(struct silt_snapshot *s)
{
	if (!s)
		return;
	silt_arena_destroy(s->arena);
	free((struct snapshot_storage *)s);
}

const char *silt_snapshot_string(struct silt_snapshot *s, const char *text)
{
	return silt_arena_strdup(s->arena, text);
}

void *silt_snapshot_array(struct silt_snapshot *s, uint64_t n, size_t element_size)
{
	return silt_arena_array(s->arena, n, element_size);
}

/* A copy of the list with room for more. Lists are short: the copies left behind in the arena do not matter. */
static void *list_grow(struct silt_snapshot *s, const void *items, uint32_t count, size_t element_size,
		       uint32_t *ret_cap)
{
	uint32_t cap = count < 4 ? 8 : count * 2;
	void *bigger;

	if (cap < count)
		return NULL;
	bigger = silt_snapshot_array(s, cap, element_size);
	if (!bigger)
		return NULL;
	if (count)
		memcpy(bigger, items, count * element_size);
	*ret_cap = cap;
	return bigger;
}

int silt_snapshot_note(struct silt_snapshot *s, struct silt_error *err, const char *fmt, ...)
{
	struct snapshot_storage *st = (struct snapshot_storage *)s;
	char text[1024];
	const char *copy;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	copy = silt_snapshot_string(s, text);
	if (!copy)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for a note");
	if (!s->notes || s->notes != st->notes || s->note_count >= st->note_cap) {
		const char **bigger = list_grow(s, s->notes, s->note_count, sizeof(*s->notes), &st->note_cap);

		if (!bigger)
			return silt_error_set(err, SILT_E_NOMEM, "out of memory for a note");
		s->notes = st->notes = bigger;
	}
	s->notes[s->note_count++] = copy;
	return 0;
}

int silt_snapshot_counter(struct silt_snapshot *s, const char *name, uint64_t value, struct silt_error *err)
{
	struct snapshot_storage *st = (struct snapshot_storage *)s;
	const char *copy = silt_snapshot_string(s, name);

	if (!copy)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for a counter");
	if (!s->counters || s->counters != st->counters || s->counter_count >= st->counter_cap) {
		struct silt_counter *bigger =
			list_grow(s, s->counters, s->counter_count, sizeof(*s->counters), &st->counter_cap);

		if (!bigger)
			return silt_error_set(err, SILT_E_NOMEM, "out of memory for a counter");
		s->counters = st->counters = bigger;
	}
	s->counters[s->counter_count].name = copy;
	s->counters[s->counter_count++].value = value;
	return 0;
}

/* A damaged file may hold anything: a total that cannot be told must not look small. */
static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

void silt_snapshot_total(struct silt_snapshot *s)
{
	uint32_t i;

	s->total_count = s->total_bytes = 0;
	for (i = 0; i < s->context_count; i++) {
		s->total_count = add_saturating(s->total_count, s->contexts[i].live_count);
		s->total_bytes = add_saturating(s->total_bytes, s->contexts[i].live_bytes);
	}
}
