/* SPDX-License-Identifier: MIT */
/* Comparing the layout of a module with that of its debug file. */
#include "symbols/shift.h"

#include <string.h>

#include "symbols/object_internal.h"

static bool is_code(const struct silt_object_section *s)
{
	const uint64_t wanted = SHF_ALLOC | SHF_EXECINSTR;

	return s->name && s->size && (s->flags & wanted) == wanted;
}

static const struct silt_object_section *same_section(const struct silt_object *o, const struct silt_object_section *like)
{
	for (size_t i = 0; i < o->sections.count; i++) {
		const struct silt_object_section *s = &o->sections.items[i];

		if (is_code(s) && s->size == like->size && strcmp(s->name, like->name) == 0)
			return s;
	}
	return NULL;
}

/* Adds one more pair of addresses to what is known; false when it contradicts. */
static bool agree(uint64_t module, uint64_t debug, bool *known, uint64_t *shift)
{
	if (*known && *shift != debug - module)
		return false;
	*known = true;
	*shift = debug - module;
	return true;
}

/* A file stripped of its section headers still has segments. */
static bool compare_segments(const struct silt_object *module, const struct silt_object *debug, uint64_t *shift)
{
	bool known = false;

	if (module->code.count != debug->code.count)
		return true;
	for (size_t i = 0; i < module->code.count; i++) {
		const struct silt_span *m = &module->code.items[i], *d = &debug->code.items[i];

		if (m->end - m->start == d->end - d->start && !agree(m->start, d->start, &known, shift))
			return false;
	}
	return true;
}

bool silt_shift_find(const struct silt_object *module, const struct silt_object *debug, uint64_t *ret)
{
	bool known = false;
	uint64_t shift = 0;

	for (size_t i = 0; i < module->sections.count; i++) {
		const struct silt_object_section *m = &module->sections.items[i], *d;

		d = is_code(m) ? same_section(debug, m) : NULL;
		if (d && !agree(m->addr, d->addr, &known, &shift))
			return false;
	}
	if (!known && !compare_segments(module, debug, &shift))
		return false;
	*ret = shift;
	return true;
}

size_t silt_shift_apply(const uint64_t *pcs, size_t n, uint64_t shift, uint64_t *ret, size_t *ret_first)
{
	bool down = shift > INT64_MAX;
	size_t first = 0, count = 0;

	while (down && first < n && pcs[first] < 0 - shift)
		first++;
	for (size_t i = first; i < n && (down || pcs[i] <= UINT64_MAX - shift); i++)
		ret[count++] = pcs[i] + shift;
	*ret_first = first;
	return count;
}
