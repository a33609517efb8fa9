/* SPDX-License-Identifier: MIT */
/* Sections, units and unit entries of one file's DWARF. */
#include "symbols/dwarf_file.h"

#include <dwarf.h>
#include <stdlib.h>

#include "symbols/forms.h"

static const char *const section_names[SILT_DW_SECTIONS] = {
	[SILT_DW_INFO] = ".debug_info",
	[SILT_DW_ABBREV] = ".debug_abbrev",
	[SILT_DW_STR] = ".debug_str",
	[SILT_DW_LINE] = ".debug_line",
	[SILT_DW_LINE_STR] = ".debug_line_str",
	[SILT_DW_RANGES] = ".debug_ranges",
	[SILT_DW_RNGLISTS] = ".debug_rnglists",
	[SILT_DW_ADDR] = ".debug_addr",
	[SILT_DW_STR_OFFSETS] = ".debug_str_offsets",
	[SILT_DW_ARANGES] = ".debug_aranges",
};

int silt_dwarf_create(struct silt_object *object, struct silt_dwarf *alt, const struct silt_span *code, size_t code_count,
		      struct silt_dwarf **ret, struct silt_error *err)
{
	struct silt_dwarf *dw = calloc(1, sizeof(*dw));
	int r;

	if (!dw || !(dw->arena = silt_arena_create())) {
		free(dw);
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", silt_object_path(object));
	}
	dw->object = object;
	dw->alt = alt;
	dw->code = code;
	dw->code_count = code_count;
	r = silt_units_read(dw, &dw->damage);
	/* Units before the damage are as good as any. */
	if (r && !dw->units.count) {
		if (err)
			*err = dw->damage;
		silt_dwarf_destroy(dw);
		return r;
	}
	*ret = dw;
	return SILT_OK;
}

void silt_dwarf_destroy(struct silt_dwarf *dw)
{
	if (!dw)
		return;
	silt_vec_free(&dw->units);
	silt_abbrev_cache_deinit(&dw->abbrevs);
	silt_arena_destroy(dw->arena);
	free(dw);
}

struct silt_bytes silt_dwarf_section(struct silt_dwarf *dw, enum silt_dwarf_section id)
{
	if (!dw->loaded[id]) {
		struct silt_error err;
		int r = silt_object_section(dw->object, section_names[id], &dw->sections[id], &err);

		dw->loaded[id] = true;
		if (r)
			dw->sections[id] = (struct silt_bytes){NULL, 0};
		if (r && r != SILT_E_NOT_FOUND && !dw->section_damage.code)
			dw->section_damage = err;
	}
	return dw->sections[id];
}

struct silt_unit *silt_dwarf_unit_at(struct silt_dwarf *dw, uint64_t offset)
{
	size_t low = 0, high = dw->units.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (dw->units.items[mid].end <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low < dw->units.count && dw->units.items[low].offset <= offset ? &dw->units.items[low] : NULL;
}

const struct silt_abbrevs *silt_unit_abbrevs(struct silt_dwarf *dw, const struct silt_unit *u)
{
	return silt_abbrevs_get(&dw->abbrevs, silt_dwarf_section(dw, SILT_DW_ABBREV), u->abbrev, silt_unit_sizes(u));
}

struct silt_cursor silt_unit_cursor(struct silt_dwarf *dw, const struct silt_unit *u, uint64_t offset)
{
	return silt_cursor_at(dw->sections[SILT_DW_INFO].data, u->end, offset);
}

bool silt_dwarf_is_code(const struct silt_dwarf *dw, uint64_t address)
{
	if (!dw->code_count)
		return address != 0;
	for (size_t i = 0; i < dw->code_count; i++)
		if (address >= dw->code[i].start && address < dw->code[i].end)
			return true;
	return false;
}

/* The attributes of a unit's entry that matter, before the bases they depend on are known. */
struct raw_root {
	struct silt_value name, comp_dir, low_pc, high_pc;
};

static void root_attr(struct silt_unit_root *root, struct raw_root *raw, uint16_t name, const struct silt_value *v)
{
	switch (name) {
	case DW_AT_name:
		raw->name = *v;
		break;
	case DW_AT_comp_dir:
		raw->comp_dir = *v;
		break;
	case DW_AT_low_pc:
		raw->low_pc = *v;
		break;
	case DW_AT_high_pc:
		raw->high_pc = *v;
		break;
	case DW_AT_ranges:
		root->ranges = v->u;
		root->ranges_form = v->form;
		break;
	case DW_AT_stmt_list:
		root->line = v->u;
		break;
	case DW_AT_language:
		root->language = (uint16_t)v->u;
		break;
	case DW_AT_str_offsets_base:
		root->str_offsets_base = v->u;
		break;
	case DW_AT_addr_base:
	case DW_AT_GNU_addr_base:
		root->addr_base = v->u;
		break;
	case DW_AT_rnglists_base:
		root->rnglists_base = v->u;
		break;
	default:
		break;
	}
}

static bool read_root(struct silt_dwarf *dw, const struct silt_unit *u, struct silt_unit_root *root)
{
	/* Without a base attribute the tables start behind their DWARF 5 header. */
	uint64_t header = u->version >= 5 ? (u->offset_size == 8 ? 16 : 8) : 0;
	struct silt_cursor c = silt_unit_cursor(dw, u, u->die);
	const struct silt_abbrevs *t = silt_unit_abbrevs(dw, u);
	const struct silt_abbrev *a = t ? silt_abbrev_find(t, silt_cursor_uleb(&c)) : NULL;
	struct raw_root raw = {0};
	struct silt_span span;

	*root = (struct silt_unit_root){.line = SILT_DW_NONE, .ranges = SILT_DW_NONE, .str_offsets_base = header,
					.addr_base = header, .rnglists_base = header ? header + 4 : 0};
	if (!a)
		return false;
	root->has_children = a->has_children;
	for (unsigned i = 0; i < a->attr_count; i++) {
		const struct silt_attr *attr = &t->attrs.items[a->attr_first + i];
		struct silt_value v = silt_value_read(&c, u, t, attr);

		if (c.bad)
			return false;
		root_attr(root, &raw, attr->name, &v);
	}
	root->name = silt_value_string(dw, u, root, &raw.name);
	root->comp_dir = silt_value_string(dw, u, root, &raw.comp_dir);
	silt_value_address(dw, u, root, &raw.low_pc, &root->low_pc);
	if (silt_value_pc_span(dw, u, root, &raw.low_pc, &raw.high_pc, &span))
		root->high_pc = span.end;
	return true;
}

const struct silt_unit_root *silt_unit_root(struct silt_dwarf *dw, struct silt_unit *u)
{
	static const struct silt_unit_root damaged = {.line = SILT_DW_NONE, .ranges = SILT_DW_NONE};

	if (!u->root) {
		struct silt_unit_root *root = silt_arena_alloc(dw->arena, sizeof(*root));

		u->root = root && read_root(dw, u, root) ? root : &damaged;
	}
	return u->root == &damaged ? NULL : u->root;
}
