/* SPDX-License-Identifier: MIT */
/*
 * Walking down to an entry, past siblings that end before it. Where the walk stands (an offset and the entries around it) is
 * a good beginning for every later target, so some of these places are kept: the names of a large unit's inlined constructors,
 * which have no mangled ones, would else be sought from the unit's first entry each.
 */
#include "symbols/entry_path.h"

#include <stdlib.h>
#include <string.h>

enum {
	STEPS = 48,         /* entries passed from one remembered place to the next */
	MAX_PLACES = 1 << 14, /* of one unit */
};

struct place {
	uint64_t at;
	uint32_t path; /* index of the first entry around it, in offsets */
	uint32_t depth;
};

struct silt_entry_places {
	struct silt_entry_places *next; /* of another unit */
	SILT_VEC(struct place) places;  /* by offset */
	SILT_VEC(uint64_t) offsets;
};

/* How many places lie at or before an offset. */
static size_t places_until(const struct silt_entry_places *p, uint64_t at)
{
	size_t low = 0, high = p->places.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->places.items[mid].at <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Out of memory, or with too many: the next walk is longer. */
static void remember(struct silt_entry_places *p, uint64_t at, const uint64_t *path, unsigned depth)
{
	size_t index = places_until(p, at);
	struct place new = {at, (uint32_t)p->offsets.count, depth};

	if (p->places.count >= MAX_PLACES || (index && p->places.items[index - 1].at == at) ||
	    !silt_vec_reserve(&p->places, p->places.count + 1) || !silt_vec_reserve(&p->offsets, p->offsets.count + depth))
		return;
	if (depth)
		memcpy(p->offsets.items + p->offsets.count, path, depth * sizeof(*path));
	p->offsets.count += depth;
	memmove(p->places.items + index + 1, p->places.items + index, (p->places.count - index) * sizeof(new));
	p->places.items[index] = new;
	p->places.count++;
}

static struct silt_entry_places *places_of(struct silt_dwarf *dw, struct silt_unit *u)
{
	if (!u->places && (u->places = calloc(1, sizeof(*u->places)))) {
		u->places->next = dw->places;
		dw->places = u->places;
	}
	return u->places;
}

/* Goes where the walk to target may begin. */
static unsigned begin(const struct silt_entry_places *p, uint64_t target, const uint8_t *base, struct silt_cursor *c,
		      uint64_t path[SILT_MAX_PATH])
{
	size_t known = p ? places_until(p, target) : 0;
	const struct place *from;

	if (!known)
		return 0;
	from = &p->places.items[known - 1];
	c->p = base + from->at;
	if (from->depth)
		memcpy(path, p->offsets.items + from->path, from->depth * sizeof(*path));
	return from->depth;
}

unsigned silt_entry_path(struct silt_ref target, struct silt_unit *u, const struct silt_abbrevs *t, uint64_t path[SILT_MAX_PATH])
{
	struct silt_cursor c = silt_unit_cursor(target.dw, u, u->die);
	const uint8_t *base = target.dw->sections[SILT_DW_INFO].data;
	struct silt_form_sizes sizes = silt_unit_sizes(u);
	struct silt_entry_places *places = places_of(target.dw, u);
	unsigned depth = begin(places, target.offset, base, &c, path), steps = 0;

	while (!c.bad && silt_cursor_left(&c)) {
		uint64_t at = (uint64_t)(c.p - base), code, sibling = 0;
		const struct silt_abbrev *a;

		if (at >= target.offset)
			return at == target.offset ? depth : 0;
		if (places && ++steps % STEPS == 0)
			remember(places, at, path, depth);
		code = silt_cursor_uleb(&c);
		if (!code) {
			if (depth)
				depth--;
			continue;
		}
		a = silt_abbrev_find(t, code);
		if (!a)
			return 0;
		if (a->sibling_at >= 0) {
			struct silt_cursor peek = c;

			silt_cursor_skip(&peek, (uint64_t)a->sibling_at);
			sibling = u->offset + silt_cursor_sized(&peek, a->sibling_size);
		}
		if (a->has_children && sibling > at && sibling <= target.offset) {
			c.p = base + sibling;
			continue;
		}
		silt_abbrev_skip(&c, t, a, sizes);
		if (a->has_children) {
			if (depth == SILT_MAX_PATH)
				return 0;
			path[depth++] = at;
		}
	}
	return 0;
}

void silt_entry_path_forget(struct silt_dwarf *dw)
{
	while (dw->places) {
		struct silt_entry_places *p = dw->places;

		dw->places = p->next;
		silt_vec_free(&p->places);
		silt_vec_free(&p->offsets);
		free(p);
	}
}
