/* SPDX-License-Identifier: MIT */
/* Reading abbreviation tables, and passing over attribute values. */
#include "symbols/abbrev.h"

#include <dwarf.h>

enum {
	MAX_ATTRS = 1 << 20,   /* per table; the largest seen have some ten thousand */
	MAX_INDIRECT = 4,      /* DW_FORM_indirect naming DW_FORM_indirect is legal and senseless */
	MAX_FIXED = 1 << 16,
};

static enum silt_entry_kind kind_of(uint64_t tag)
{
	switch (tag) {
	case DW_TAG_subprogram:
		return SILT_ENTRY_FUNCTION;
	case DW_TAG_inlined_subroutine:
		return SILT_ENTRY_INLINE;
	case DW_TAG_lexical_block:
	case DW_TAG_try_block:
	case DW_TAG_catch_block:
	case DW_TAG_with_stmt:
		return SILT_ENTRY_BLOCK;
	case DW_TAG_compile_unit:
	case DW_TAG_partial_unit:
	case DW_TAG_namespace:
	case DW_TAG_module:
	case DW_TAG_common_block:
		return SILT_ENTRY_SCOPE;
	case DW_TAG_class_type:
	case DW_TAG_structure_type:
	case DW_TAG_union_type:
	case DW_TAG_interface_type:
	case DW_TAG_enumeration_type:
		return SILT_ENTRY_TYPE;
	default:
		return SILT_ENTRY_OTHER;
	}
}

/* Bytes of a form's value, or -1 when the data decides. */
static int form_size(uint16_t form, struct silt_form_sizes s)
{
	switch (form) {
	case DW_FORM_flag_present:
	case DW_FORM_implicit_const:
		return 0;
	case DW_FORM_data1:
	case DW_FORM_ref1:
	case DW_FORM_flag:
	case DW_FORM_strx1:
	case DW_FORM_addrx1:
		return 1;
	case DW_FORM_data2:
	case DW_FORM_ref2:
	case DW_FORM_strx2:
	case DW_FORM_addrx2:
		return 2;
	case DW_FORM_strx3:
	case DW_FORM_addrx3:
		return 3;
	case DW_FORM_data4:
	case DW_FORM_ref4:
	case DW_FORM_strx4:
	case DW_FORM_addrx4:
	case DW_FORM_ref_sup4:
		return 4;
	case DW_FORM_data8:
	case DW_FORM_ref8:
	case DW_FORM_ref_sig8:
	case DW_FORM_ref_sup8:
		return 8;
	case DW_FORM_data16:
		return 16;
	case DW_FORM_addr:
		return s.address;
	case DW_FORM_ref_addr:
		return s.version <= 2 ? s.address : s.offset;
	case DW_FORM_strp:
	case DW_FORM_line_strp:
	case DW_FORM_sec_offset:
	case DW_FORM_strp_sup:
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_GNU_strp_alt:
		return s.offset;
	default:
		return -1;
	}
}

void silt_form_skip(struct silt_cursor *c, uint16_t form, struct silt_form_sizes sizes)
{
	int size;

	for (int hop = 0; hop < MAX_INDIRECT; hop++) {
		size = form_size(form, sizes);
		if (size >= 0) {
			silt_cursor_skip(c, (uint64_t)size);
			return;
		}
		switch (form) {
		case DW_FORM_block1:
			silt_cursor_skip(c, silt_cursor_u8(c));
			return;
		case DW_FORM_block2:
			silt_cursor_skip(c, silt_cursor_u16(c));
			return;
		case DW_FORM_block4:
			silt_cursor_skip(c, silt_cursor_u32(c));
			return;
		case DW_FORM_block:
		case DW_FORM_exprloc:
			silt_cursor_skip(c, silt_cursor_uleb(c));
			return;
		case DW_FORM_string:
			silt_cursor_string(c);
			return;
		case DW_FORM_sdata:
		case DW_FORM_udata:
		case DW_FORM_ref_udata:
		case DW_FORM_strx:
		case DW_FORM_addrx:
		case DW_FORM_loclistx:
		case DW_FORM_rnglistx:
		case DW_FORM_GNU_addr_index:
		case DW_FORM_GNU_str_index:
			silt_cursor_skip_leb(c);
			return;
		case DW_FORM_indirect:
			form = (uint16_t)silt_cursor_uleb(c);
			break;
		default:
			silt_cursor_fail(c);
			return;
		}
	}
	silt_cursor_fail(c);
}

static void note_attr(struct silt_abbrev *a, struct silt_attr *attr, int64_t *fixed, struct silt_form_sizes sizes)
{
	int size = form_size(attr->form, sizes);

	attr->size = (int8_t)size;
	if (attr->name == DW_AT_sibling && size > 0 && attr->form != DW_FORM_ref_addr) {
		a->sibling_size = (uint8_t)size;
		a->sibling_at = *fixed >= 0 ? (int32_t)*fixed : -1;
	}
	if (attr->name == DW_AT_low_pc || attr->name == DW_AT_ranges)
		a->has_pc = true;
	*fixed = size < 0 || *fixed < 0 || *fixed > MAX_FIXED ? -1 : *fixed + size;
}

static bool read_entry(struct silt_abbrevs *t, struct silt_cursor *c, uint64_t code, struct silt_form_sizes sizes)
{
	struct silt_abbrev a = {.code = code, .sibling_at = -1};
	uint64_t tag = silt_cursor_uleb(c);
	int64_t fixed = 0;
	size_t count;

	a.attr_first = (uint32_t)t->attrs.count;
	a.tag = (uint16_t)tag;
	a.kind = (uint8_t)kind_of(tag);
	a.has_children = silt_cursor_u8(c) != 0;
	for (;;) {
		uint64_t name = silt_cursor_uleb(c), form = silt_cursor_uleb(c);
		struct silt_attr attr = {.name = (uint16_t)name, .form = (uint16_t)form};

		if (c->bad)
			return false;
		if (!name && !form)
			break;
		if (name > UINT16_MAX || form > UINT16_MAX || t->attrs.count >= MAX_ATTRS)
			return false;
		if (form == DW_FORM_implicit_const) {
			attr.implicit = (uint32_t)t->implicit.count;
			if (!silt_vec_push(&t->implicit, silt_cursor_sleb(c)))
				return false;
		}
		note_attr(&a, &attr, &fixed, sizes);
		if (!silt_vec_push(&t->attrs, attr))
			return false;
	}
	count = t->attrs.count - a.attr_first;
	if (count > UINT16_MAX)
		return false;
	a.attr_count = (uint16_t)count;
	a.fixed_size = (int32_t)fixed;
	t->has_code |= a.has_pc && a.kind == SILT_ENTRY_FUNCTION;
	if (t->dense && code != t->entries.count + 1) {
		t->dense = false;
		for (size_t i = 0; i < t->entries.count; i++)
			if (!silt_map_put(&t->by_code, t->entries.items[i].code, (uint32_t)i))
				return false;
	}
	if (!t->dense && !silt_map_put(&t->by_code, code, (uint32_t)t->entries.count))
		return false;
	return silt_vec_push(&t->entries, a);
}

static void clear(struct silt_abbrevs *t)
{
	t->entries.count = t->attrs.count = t->implicit.count = 0;
	silt_map_deinit(&t->by_code);
	t->by_code = (struct silt_map)SILT_MAP_INIT;
	t->dense = true;
	t->has_code = false;
	t->used = false;
}

static bool read_table(struct silt_abbrevs *t, struct silt_cursor *c, struct silt_form_sizes sizes)
{
	for (;;) {
		uint64_t code = silt_cursor_uleb(c);

		/* A table that ends with its section lacks the final 0 only: what was read is good. */
		if (!code)
			return !c->bad || t->entries.count;
		if (!read_entry(t, c, code, sizes))
			return false;
	}
}

const struct silt_abbrevs *silt_abbrevs_get(struct silt_abbrev_cache *cache, struct silt_bytes section, uint64_t offset,
					    struct silt_form_sizes sizes)
{
	/* dwz shares tables between units; form sizes are part of what was prepared. */
	uint64_t key = offset << 8 ^ (uint64_t)sizes.address << 4 ^ (uint64_t)(sizes.offset == 8) << 3 ^ (sizes.version <= 2);
	struct silt_abbrevs *t = &cache->slots[silt_hash_u64(key) % SILT_ABBREV_SLOTS];
	struct silt_cursor c;

	if (t->used && t->key == key)
		return t;
	clear(t);
	c = silt_cursor_at(section.data, section.size, offset);
	if (c.bad || !read_table(t, &c, sizes)) {
		clear(t);
		return NULL;
	}
	t->key = key;
	t->used = true;
	return t;
}

const struct silt_abbrev *silt_abbrev_find_sparse(const struct silt_abbrevs *t, uint64_t code)
{
	uint32_t i;

	return silt_map_get(&t->by_code, code, &i) ? &t->entries.items[i] : NULL;
}

void silt_abbrev_cache_deinit(struct silt_abbrev_cache *cache)
{
	for (size_t i = 0; i < SILT_ABBREV_SLOTS; i++) {
		struct silt_abbrevs *t = &cache->slots[i];

		clear(t);
		silt_vec_free(&t->entries);
		silt_vec_free(&t->attrs);
		silt_vec_free(&t->implicit);
	}
}
