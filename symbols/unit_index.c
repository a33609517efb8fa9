/* SPDX-License-Identifier: MIT */
/* Address to unit: .debug_aranges and .gdb_index first, then the ranges of the units' own entries. */
#include "symbols/unit_index.h"

#include <dwarf.h>
#include <stdlib.h>

#include "symbols/forms.h"
#include "symbols/functions.h"
#include "symbols/search.h"

struct finder {
	struct silt_dwarf *dw;
	const uint64_t *pcs;
	size_t n;
	struct silt_unit **units;
	size_t missing;
};

static void claim(struct finder *f, uint64_t start, uint64_t end, struct silt_unit *u)
{
	if (!silt_dwarf_is_code(f->dw, start))
		return;
	for (size_t i = silt_lower_bound(f->pcs, f->n, start); i < f->n && f->pcs[i] < end; i++) {
		if (!f->units[i]) {
			f->units[i] = u;
			f->missing--;
		}
	}
}

/* True when an address that is wanted and has no unit yet lies in the range: the unit is worth reading. */
static bool is_wanted(const struct finder *f, uint64_t start, uint64_t end)
{
	for (size_t i = silt_lower_bound(f->pcs, f->n, start); i < f->n && f->pcs[i] < end; i++)
		if (!f->units[i])
			return true;
	return false;
}

static bool has_ranges(const struct silt_unit_root *root)
{
	return root->ranges != SILT_DW_NONE || root->high_pc;
}

/* The unit's own ranges, from its entry. */
static void read_spans(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root, silt_spans *spans)
{
	struct silt_value v = {.form = root->ranges_form, .u = root->ranges};
	struct silt_span span = {root->low_pc, root->high_pc};

	spans->count = 0;
	if (root->ranges != SILT_DW_NONE)
		silt_ranges_read(dw, u, root, &v, spans);
	else if (root->high_pc)
		(void)silt_vec_push(spans, span);
}

/* One set of .debug_aranges: the tuples of one unit. */
static void read_set(struct finder *f, struct silt_cursor *c, const uint8_t *start, unsigned offset_size)
{
	uint16_t version = silt_cursor_u16(c);
	uint64_t info = silt_cursor_sized(c, offset_size);
	unsigned address_size = silt_cursor_u8(c), segment_size = silt_cursor_u8(c);
	size_t tuple = (size_t)address_size * 2, used = (size_t)(c->p - start);
	struct silt_unit *u = NULL;

	if (c->bad || version != 2 || (address_size != 4 && address_size != 8) || segment_size)
		return;
	/* Tuples are aligned to their size, counted from the set's start. */
	silt_cursor_skip(c, (tuple - used % tuple) % tuple);
	while (silt_cursor_left(c) >= tuple) {
		uint64_t low = silt_cursor_sized(c, address_size), length = silt_cursor_sized(c, address_size);

		/* A pair of zeros ends the set, but linkers also leave them for discarded sections: the set's length
		 * decides. */
		if (!length || low + length < low || !is_wanted(f, low, low + length))
			continue;
		if (!u && !(u = silt_dwarf_unit_starting(f->dw, info)))
			return;
		claim(f, low, low + length, u);
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

/* .gdb_index (GDB manual, appendix "Index Section Format"): a list of units, and address ranges with numbers of units. */
static void search_gdb_index(struct finder *f)
{
	enum { UNIT_BYTES = 16, RANGE_BYTES = 20 };
	struct silt_bytes section = silt_dwarf_section(f->dw, SILT_DW_GDB_INDEX);
	struct silt_cursor c = silt_cursor_at(section.data, section.size, 0), range, entry;
	uint32_t version = silt_cursor_u32(&c), units = silt_cursor_u32(&c), types = silt_cursor_u32(&c);
	uint32_t ranges = silt_cursor_u32(&c), names = silt_cursor_u32(&c);

	/* Older ones were written with mistakes, and GDB refuses them too. */
	if (c.bad || version < 4 || version > 9 || units > types || types > ranges || ranges > names || names > section.size)
		return;
	range = (struct silt_cursor){section.data + ranges, section.data + names, false};
	while (silt_cursor_left(&range) >= RANGE_BYTES && f->missing) {
		uint64_t low = silt_cursor_u64(&range), high = silt_cursor_u64(&range);
		uint32_t number = silt_cursor_u32(&range);
		struct silt_unit *u;

		if (low >= high || number >= (types - units) / UNIT_BYTES || !is_wanted(f, low, high))
			continue;
		entry = silt_cursor_at(section.data, section.size, units + (uint64_t)number * UNIT_BYTES);
		u = silt_dwarf_unit_starting(f->dw, silt_cursor_u64(&entry));
		if (u)
			claim(f, low, high, u);
	}
}

void silt_unit_covers(struct silt_dwarf *dw, struct silt_unit *u, const uint64_t *pcs, size_t n, bool *ret)
{
	const struct silt_unit_root *root = silt_unit_root(dw, u);
	bool all = root && !has_ranges(root);
	silt_spans spans = {0};

	for (size_t i = 0; i < n; i++)
		ret[i] = all;
	if (!root || all)
		return;
	read_spans(dw, u, root, &spans);
	for (size_t i = 0; i < spans.count; i++)
		for (size_t at = silt_lower_bound(pcs, n, spans.items[i].start); at < n && pcs[at] < spans.items[i].end; at++)
			ret[at] = true;
	silt_vec_free(&spans);
}

static bool is_type_unit(const struct silt_unit *u)
{
	return u->type == DW_UT_type || u->type == DW_UT_split_type;
}

static void search_unit(struct finder *f, struct silt_unit *u, silt_spans *spans)
{
	const struct silt_unit_root *root;

	if (is_type_unit(u) || !(root = silt_unit_root(f->dw, u)) || !has_ranges(root))
		return;
	read_spans(f->dw, u, root, spans);
	for (size_t i = 0; i < spans->count; i++)
		claim(f, spans->items[i].start, spans->items[i].end, u);
}

/* A unit that does not say where its code is: its functions do. */
static bool search_functions(struct finder *f, struct silt_unit *u, struct silt_scopes *scopes, uint64_t *pcs, uint32_t *scope_of,
			     struct silt_error *err)
{
	const struct silt_unit_root *root = is_type_unit(u) ? NULL : silt_unit_root(f->dw, u);
	const struct silt_abbrevs *t = root && !has_ranges(root) && root->has_children ? silt_unit_abbrevs(f->dw, u) : NULL;
	size_t count = 0;
	int r;

	if (!t || !t->has_code)
		return true;
	for (size_t i = 0; i < f->n; i++)
		if (!f->units[i])
			pcs[count++] = f->pcs[i];
	r = silt_functions_find(f->dw, u, pcs, count, false, scopes, scope_of, err);
	count = 0;
	for (size_t i = 0; i < f->n && !r; i++) {
		if (f->units[i])
			continue;
		if (scope_of[count++] != SILT_NO_SCOPE) {
			f->units[i] = u;
			f->missing--;
		}
	}
	return r == SILT_OK;
}

static int search_all_functions(struct finder *f, struct silt_error *err)
{
	uint64_t *pcs = calloc(f->n, sizeof(*pcs));
	uint32_t *scope_of = calloc(f->n, sizeof(*scope_of));
	struct silt_scopes scopes = {0};
	bool good = pcs && scope_of;

	for (size_t i = 0; good && i < f->dw->units.count && f->missing; i++)
		good = search_functions(f, f->dw->units.items[i], &scopes, pcs, scope_of, err);
	silt_scopes_deinit(&scopes);
	free(pcs);
	free(scope_of);
	return good ? SILT_OK : silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", silt_object_path(f->dw->object));
}

static int find(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, bool indexes, struct silt_unit **ret_units,
		struct silt_error *err)
{
	struct finder f = {.dw = dw, .pcs = pcs, .n = n, .units = ret_units, .missing = n};
	silt_spans spans = {0};

	for (size_t i = 0; i < n; i++)
		ret_units[i] = NULL;
	if (indexes) {
		search_aranges(&f);
		if (f.missing)
			search_gdb_index(&f);
	}
	if (f.missing)
		silt_dwarf_list(dw);
	for (size_t i = 0; i < dw->units.count && f.missing; i++)
		search_unit(&f, dw->units.items[i], &spans);
	silt_vec_free(&spans);
	return f.missing ? search_all_functions(&f, err) : SILT_OK;
}

int silt_unit_index_find(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, struct silt_unit **ret_units,
			 struct silt_error *err)
{
	return find(dw, pcs, n, true, ret_units, err);
}

int silt_unit_index_search(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, struct silt_unit **ret_units,
			   struct silt_error *err)
{
	return find(dw, pcs, n, false, ret_units, err);
}
