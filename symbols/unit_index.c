/* SPDX-License-Identifier: MIT */
/* Address to unit: .debug_aranges first, then the ranges of the units' own entries. */
#include "symbols/unit_index.h"

#include <dwarf.h>

#include "symbols/forms.h"
#include "symbols/search.h"

struct finder {
	struct silt_dwarf *dw;
	const uint64_t *pcs;
	size_t n;
	uint32_t *units;
	size_t missing;
};

static void claim(struct finder *f, uint64_t start, uint64_t end, uint32_t unit)
{
	if (!silt_dwarf_is_code(f->dw, start))
		return;
	for (size_t i = silt_lower_bound(f->pcs, f->n, start); i < f->n && f->pcs[i] < end; i++) {
		if (f->units[i] == SILT_NO_UNIT) {
			f->units[i] = unit;
			f->missing--;
		}
	}
}

/* One set of .debug_aranges: the tuples of one unit. */
static void read_set(struct finder *f, struct silt_cursor *c, const uint8_t *start, unsigned offset_size)
{
	uint16_t version = silt_cursor_u16(c);
	uint64_t info = silt_cursor_sized(c, offset_size);
	unsigned address_size = silt_cursor_u8(c), segment_size = silt_cursor_u8(c);
	size_t tuple = (size_t)address_size * 2, used = (size_t)(c->p - start);
	struct silt_unit *u;
	uint32_t number;

	if (c->bad || version != 2 || (address_size != 4 && address_size != 8) || segment_size)
		return;
	u = silt_dwarf_unit_at(f->dw, info);
	if (!u || u->offset != info)
		return;
	number = (uint32_t)(u - f->dw->units.items);
	/* Tuples are aligned to their size, counted from the set's start. */
	silt_cursor_skip(c, (tuple - used % tuple) % tuple);
	while (silt_cursor_left(c) >= tuple) {
		uint64_t low = silt_cursor_sized(c, address_size), length = silt_cursor_sized(c, address_size);

		/* A pair of zeros ends the set, but linkers also leave them for discarded sections: the set's length
		 * decides. */
		if (length && low + length > low)
			claim(f, low, low + length, number);
	}
}

static void search_aranges(struct finder *f)
{
	struct silt_bytes section = silt_dwarf_section(f->dw, SILT_DW_ARANGES);
	struct silt_cursor c = silt_cursor_at(section.data, section.size, 0);

	while (silt_cursor_left(&c) && f->missing) {
		const uint8_t *start = c.p;
		unsigned offset_size = 4;
		uint64_t length = silt_cursor_u32(&c);
		struct silt_cursor set;

		if (length == UINT32_MAX) {
			length = silt_cursor_u64(&c);
			offset_size = 8;
		}
		if (c.bad || length > silt_cursor_left(&c))
			return;
		set = (struct silt_cursor){c.p, c.p + length, false};
		silt_cursor_skip(&c, length);
		read_set(f, &set, start, offset_size);
	}
}

static void search_unit(struct finder *f, uint32_t number, silt_spans *spans)
{
	struct silt_unit *u = &f->dw->units.items[number];
	const struct silt_unit_root *root;

	if (u->type == DW_UT_type || u->type == DW_UT_split_type || !(root = silt_unit_root(f->dw, u)))
		return;
	if (root->ranges != SILT_DW_NONE) {
		struct silt_value v = {.form = root->ranges_form, .u = root->ranges};

		silt_ranges_read(f->dw, u, root, &v, spans);
		for (size_t i = 0; i < spans->count; i++)
			claim(f, spans->items[i].start, spans->items[i].end, number);
	} else if (root->high_pc) {
		claim(f, root->low_pc, root->high_pc, number);
	}
}

int silt_unit_index_find(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, uint32_t *ret_units, struct silt_error *err)
{
	struct finder f = {.dw = dw, .pcs = pcs, .n = n, .units = ret_units, .missing = n};
	silt_spans spans = {0};

	if (dw->units.count >= SILT_NO_UNIT)
		return silt_error_set(err, SILT_E_LIMIT, "%s: too many units", silt_object_path(dw->object));
	for (size_t i = 0; i < n; i++)
		ret_units[i] = SILT_NO_UNIT;
	search_aranges(&f);
	for (uint32_t i = 0; i < dw->units.count && f.missing; i++)
		search_unit(&f, i, &spans);
	silt_vec_free(&spans);
	return SILT_OK;
}
