/* SPDX-License-Identifier: MIT */
/* Sections, units and unit entries of one file's DWARF. */
#include "symbols/dwarf_file.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "symbols/entry_path.h"
#include "symbols/forms.h"

enum {
	MAX_UNITS = 4 << 20,   /* the largest programs known have some hundred thousand */
	RELAX_BYTES = 8 << 20, /* of units: the kernel maps much around each byte that is read */
};

static const struct {
	const char *name;
	const char *split; /* its name in .dwo and .dwp files; NULL: the program's counts */
} section_names[SILT_DW_SECTIONS] = {
	[SILT_DW_INFO] = {".debug_info", ".debug_info.dwo"},
	[SILT_DW_ABBREV] = {".debug_abbrev", ".debug_abbrev.dwo"},
	[SILT_DW_STR] = {".debug_str", ".debug_str.dwo"},
	[SILT_DW_LINE] = {".debug_line", NULL},
	[SILT_DW_LINE_STR] = {".debug_line_str", NULL},
	[SILT_DW_RANGES] = {".debug_ranges", NULL},
	[SILT_DW_RNGLISTS] = {".debug_rnglists", ".debug_rnglists.dwo"},
	[SILT_DW_ADDR] = {".debug_addr", NULL},
	[SILT_DW_STR_OFFSETS] = {".debug_str_offsets", ".debug_str_offsets.dwo"},
	[SILT_DW_ARANGES] = {".debug_aranges", NULL},
	[SILT_DW_GDB_INDEX] = {".gdb_index", NULL},
};

static int create(struct silt_object *object, const struct silt_span *code, size_t code_count, struct silt_dwarf *skeleton,
		  size_t info_number, struct silt_dwarf **ret, struct silt_error *err)
{
	struct silt_dwarf *dw = calloc(1, sizeof(*dw));
	int r;

	if (!dw || !(dw->arena = silt_arena_create())) {
		free(dw);
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", silt_object_path(object));
	}
	dw->object = object;
	dw->code = code;
	dw->code_count = code_count;
	dw->skeleton = skeleton;
	dw->info_number = info_number;
	if (silt_dwarf_section(dw, SILT_DW_INFO).data && silt_dwarf_section(dw, SILT_DW_ABBREV).data) {
		*ret = dw;
		return SILT_OK;
	}
	r = dw->section_damage.code ? silt_error_set(err, dw->section_damage.code, "%s", dw->section_damage.msg) :
	    silt_error_set(err, SILT_E_NOT_FOUND, "%s: no debug information", silt_object_path(object));
	silt_dwarf_destroy(dw);
	return r;
}

int silt_dwarf_create(struct silt_object *object, struct silt_dwarf *alt, const struct silt_span *code, size_t code_count,
		      struct silt_dwarf **ret, struct silt_error *err)
{
	struct silt_dwarf *dw;
	int r = create(object, code, code_count, NULL, 0, &dw, err);

	if (r)
		return r;
	dw->alt = alt;
	/* Units before damage are as good as any; without a first one there is nothing. */
	if (!silt_dwarf_unit_starting(dw, 0)) {
		silt_dwarf_list(dw);
		if (!dw->units.count) {
			if (!dw->damage.code)
				silt_error_set(&dw->damage, SILT_E_BAD_DATA,
					       "%s: debug information is damaged: none of its units can be read", silt_object_path(object));
			if (err)
				*err = dw->damage;
			r = dw->damage.code;
			silt_dwarf_destroy(dw);
			return r;
		}
	}
	*ret = dw;
	return SILT_OK;
}

int silt_dwarf_create_split(struct silt_object *object, struct silt_dwarf *skeleton, size_t number, struct silt_dwarf **ret,
			    struct silt_error *err)
{
	return create(object, skeleton->code, skeleton->code_count, skeleton, number, ret, err);
}

void silt_dwarf_destroy(struct silt_dwarf *dw)
{
	if (!dw)
		return;
	silt_vec_free(&dw->units);
	silt_entry_path_forget(dw);
	silt_abbrev_cache_deinit(&dw->abbrevs);
	silt_arena_destroy(dw->arena);
	free(dw);
}

void silt_dwarf_prepare(struct silt_object *object, bool split)
{
	/* The largest first. */
	static const enum silt_dwarf_section ids[] = {SILT_DW_INFO, SILT_DW_STR, SILT_DW_LINE, SILT_DW_RNGLISTS, SILT_DW_RANGES,
						      SILT_DW_ADDR, SILT_DW_STR_OFFSETS, SILT_DW_ABBREV, SILT_DW_LINE_STR,
						      SILT_DW_ARANGES};

	for (size_t i = 0; i < SILT_ARRAY_LEN(ids); i++) {
		const char *name = split ? section_names[ids[i]].split : section_names[ids[i]].name;

		if (name)
			silt_object_prepare(object, name);
	}
}

struct silt_bytes silt_dwarf_section(struct silt_dwarf *dw, enum silt_dwarf_section id)
{
	const char *name = dw->skeleton ? section_names[id].split : section_names[id].name;

	if (!name)
		return silt_dwarf_section(dw->skeleton, id);
	if (!dw->loaded[id]) {
		struct silt_error err;
		int r = silt_object_section_numbered(dw->object, name, id == SILT_DW_INFO ? dw->info_number : 0,
						     &dw->sections[id], &err);

		dw->loaded[id] = true;
		if (r)
			dw->sections[id] = (struct silt_bytes){NULL, 0};
		if (r && r != SILT_E_NOT_FOUND && !dw->section_damage.code)
			dw->section_damage = err;
	}
	return dw->sections[id];
}

/* Index of the first unit that begins at or behind an offset. */
static size_t position_of(const struct silt_dwarf *dw, uint64_t offset)
{
	size_t low = 0, high = dw->units.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (dw->units.items[mid]->offset < offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct silt_unit *new_unit(struct silt_dwarf *dw, uint64_t offset)
{
	struct silt_unit u, *copy;

	if (!silt_unit_header_read(dw, offset, &u) || !(copy = silt_arena_alloc(dw->arena, sizeof(*copy))))
		return NULL;
	*copy = u;
	silt_dwarf_passed(dw, u.end - u.offset);
	return copy;
}

static struct silt_unit *insert_unit(struct silt_dwarf *dw, size_t at, struct silt_unit *u)
{
	if (!u || dw->units.count >= MAX_UNITS || !silt_vec_reserve(&dw->units, dw->units.count + 1))
		return NULL;
	memmove(dw->units.items + at + 1, dw->units.items + at, (dw->units.count - at) * sizeof(*dw->units.items));
	dw->units.items[at] = u;
	dw->units.count++;
	return u;
}

void silt_dwarf_passed(struct silt_dwarf *dw, uint64_t bytes)
{
	dw->passed += bytes;
	if (dw->passed < RELAX_BYTES)
		return;
	dw->passed = 0;
	silt_object_relax(dw->object);
	if (dw->alt)
		silt_object_relax(dw->alt->object);
}

struct silt_unit *silt_dwarf_unit_starting(struct silt_dwarf *dw, uint64_t offset)
{
	size_t at = position_of(dw, offset);

	if (at < dw->units.count && dw->units.items[at]->offset == offset)
		return dw->units.items[at];
	return dw->listed ? NULL : insert_unit(dw, at, new_unit(dw, offset));
}

struct silt_unit *silt_dwarf_add_unit(struct silt_dwarf *dw, uint64_t offset, const struct silt_unit_parts *parts)
{
	size_t at = position_of(dw, offset);
	struct silt_unit *u;

	if (at < dw->units.count && dw->units.items[at]->offset == offset)
		return dw->units.items[at];
	u = insert_unit(dw, at, new_unit(dw, offset));
	if (u) {
		u->parts = *parts;
		u->abbrev += parts->abbrev;
	}
	return u;
}

void silt_dwarf_list(struct silt_dwarf *dw)
{
	struct silt_bytes info = silt_dwarf_section(dw, SILT_DW_INFO);
	struct silt_unit **known = dw->units.items;
	size_t count = dw->units.count, next = 0;
	uint64_t at = 0;

	if (dw->listed)
		return;
	dw->listed = true;
	/* A unit that is known already stays the same object; one that lies across others was an index's mistake. */
	dw->units.items = NULL;
	dw->units.count = dw->units.cap = 0;
	while (at < info.size && dw->units.count < MAX_UNITS) {
		struct silt_unit *u;

		while (next < count && known[next]->offset < at)
			next++;
		u = next < count && known[next]->offset == at ? known[next] : new_unit(dw, at);
		if (!u || !silt_vec_push(&dw->units, u))
			break;
		at = u->end;
	}
	free(known);
	if (at < info.size)
		(void)silt_units_read_foreign(dw, at, &dw->damage);
}

/* The known unit around an offset. */
static struct silt_unit *known_unit_at(struct silt_dwarf *dw, uint64_t offset)
{
	size_t at = position_of(dw, offset + 1);

	return at && dw->units.items[at - 1]->end > offset ? dw->units.items[at - 1] : NULL;
}

struct silt_unit *silt_dwarf_unit_at(struct silt_dwarf *dw, uint64_t offset)
{
	struct silt_unit *u;

	if (offset == UINT64_MAX)
		return NULL;
	u = known_unit_at(dw, offset);
	if (u || dw->listed)
		return u;
	silt_dwarf_list(dw);
	return known_unit_at(dw, offset);
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
	struct silt_value name, comp_dir, dwo_name, low_pc, high_pc;
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
	case DW_AT_GNU_ranges_base:
		root->ranges_base = v->u;
		break;
	case DW_AT_dwo_name:
	case DW_AT_GNU_dwo_name:
		raw->dwo_name = *v;
		break;
	case DW_AT_GNU_dwo_id:
		root->dwo_id = v->u;
		root->has_dwo_id = true;
		break;
	default:
		break;
	}
}

/* Where the unit's tables begin when no attribute says so: behind their DWARF 5 header. */
static struct silt_unit_root root_defaults(const struct silt_unit *u)
{
	uint64_t header = u->version >= 5 ? (u->offset_size == 8 ? 16 : 8) : 0;

	return (struct silt_unit_root){.line = SILT_DW_NONE, .ranges = SILT_DW_NONE, .addr_base = header,
				       .str_offsets_base = u->parts.str_offsets + header,
				       .rnglists_base = header ? u->parts.rnglists + header + 4 : 0,
				       .dwo_id = u->dwo_id, .has_dwo_id = u->has_dwo_id};
}

/* What a split unit leaves to its skeleton. */
static void inherit(struct silt_unit_root *root, const struct silt_unit_root *skeleton)
{
	root->addr_base = skeleton->addr_base;
	root->ranges_base = skeleton->ranges_base;
	root->line = skeleton->line;
	root->low_pc = skeleton->low_pc;
	if (skeleton->comp_dir)
		root->comp_dir = skeleton->comp_dir;
}

static bool is_unit_tag(uint16_t tag)
{
	return tag == DW_TAG_compile_unit || tag == DW_TAG_partial_unit || tag == DW_TAG_skeleton_unit || tag == DW_TAG_type_unit;
}

static bool read_root(struct silt_dwarf *dw, const struct silt_unit *u, struct silt_unit_root *root)
{
	struct silt_cursor c = silt_unit_cursor(dw, u, u->die);
	const struct silt_abbrevs *t = silt_unit_abbrevs(dw, u);
	const struct silt_abbrev *a = t ? silt_abbrev_find(t, silt_cursor_uleb(&c)) : NULL;
	struct raw_root raw = {0};
	struct silt_span span;

	*root = root_defaults(u);
	if (!a || !is_unit_tag(a->tag))
		return false;
	root->tag = a->tag;
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
	root->dwo_name = silt_value_string(dw, u, root, &raw.dwo_name);
	if (u->skeleton)
		inherit(root, u->skeleton);
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

		silt_dwarf_passed(dw, u->end - u->offset);

		u->root = root && read_root(dw, u, root) ? root : &damaged;
	}
	return u->root == &damaged ? NULL : u->root;
}
