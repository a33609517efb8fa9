/* SPDX-License-Identifier: MIT */
/* Decoding attribute values. */
#include "symbols/forms.h"

#include <dwarf.h>

enum { MAX_INDIRECT = 4 };

static uint64_t read_number(struct silt_cursor *c, const struct silt_unit *u, uint16_t form)
{
	switch (form) {
	case DW_FORM_data1:
	case DW_FORM_ref1:
	case DW_FORM_flag:
	case DW_FORM_strx1:
	case DW_FORM_addrx1:
		return silt_cursor_u8(c);
	case DW_FORM_data2:
	case DW_FORM_ref2:
	case DW_FORM_strx2:
	case DW_FORM_addrx2:
		return silt_cursor_u16(c);
	case DW_FORM_strx3:
	case DW_FORM_addrx3:
		return silt_cursor_sized(c, 3);
	case DW_FORM_data4:
	case DW_FORM_ref4:
	case DW_FORM_strx4:
	case DW_FORM_addrx4:
	case DW_FORM_ref_sup4:
		return silt_cursor_u32(c);
	case DW_FORM_data8:
	case DW_FORM_ref8:
	case DW_FORM_ref_sig8:
	case DW_FORM_ref_sup8:
		return silt_cursor_u64(c);
	case DW_FORM_addr:
		return silt_cursor_sized(c, u->address_size);
	case DW_FORM_ref_addr:
		return silt_cursor_sized(c, u->version <= 2 ? u->address_size : u->offset_size);
	case DW_FORM_strp:
	case DW_FORM_line_strp:
	case DW_FORM_sec_offset:
	case DW_FORM_strp_sup:
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_GNU_strp_alt:
		return silt_cursor_sized(c, u->offset_size);
	case DW_FORM_udata:
	case DW_FORM_ref_udata:
	case DW_FORM_strx:
	case DW_FORM_addrx:
	case DW_FORM_loclistx:
	case DW_FORM_rnglistx:
	case DW_FORM_GNU_addr_index:
	case DW_FORM_GNU_str_index:
		return silt_cursor_uleb(c);
	case DW_FORM_sdata:
		return (uint64_t)silt_cursor_sleb(c);
	case DW_FORM_flag_present:
		return 1;
	default:
		silt_cursor_fail(c);
		return 0;
	}
}

static bool block_length(struct silt_cursor *c, uint16_t form, uint64_t *ret)
{
	switch (form) {
	case DW_FORM_block1:
		*ret = silt_cursor_u8(c);
		return true;
	case DW_FORM_block2:
		*ret = silt_cursor_u16(c);
		return true;
	case DW_FORM_block4:
		*ret = silt_cursor_u32(c);
		return true;
	case DW_FORM_block:
	case DW_FORM_exprloc:
		*ret = silt_cursor_uleb(c);
		return true;
	case DW_FORM_data16:
		*ret = 16;
		return true;
	default:
		return false;
	}
}

struct silt_value silt_value_read(struct silt_cursor *c, const struct silt_unit *u, const struct silt_abbrevs *t,
				  const struct silt_attr *attr)
{
	struct silt_value v = {.form = attr->form};

	if (v.form == DW_FORM_implicit_const && t) {
		v.u = (uint64_t)t->implicit.items[attr->implicit];
		return v;
	}
	for (int hop = 0; v.form == DW_FORM_indirect && hop < MAX_INDIRECT; hop++)
		v.form = (uint16_t)silt_cursor_uleb(c);
	if (v.form == DW_FORM_string) {
		v.bytes = (const uint8_t *)silt_cursor_string(c);
	} else if (block_length(c, v.form, &v.u)) {
		v.bytes = c->p;
		silt_cursor_skip(c, v.u);
	} else {
		v.u = read_number(c, u, v.form);
	}
	if (c->bad)
		v.form = 0;
	return v;
}

static const char *string_at(struct silt_bytes section, uint64_t offset)
{
	struct silt_cursor c = silt_cursor_at(section.data, section.size, offset);

	return c.bad ? NULL : silt_cursor_string(&c);
}

static const char *indexed_string(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
				  uint64_t index)
{
	struct silt_bytes offsets = silt_dwarf_section(dw, SILT_DW_STR_OFFSETS);
	struct silt_cursor c;
	uint64_t at;

	if (!root || __builtin_mul_overflow(index, (uint64_t)u->offset_size, &at) ||
	    __builtin_add_overflow(at, root->str_offsets_base, &at))
		return NULL;
	c = silt_cursor_at(offsets.data, offsets.size, at);
	at = silt_cursor_sized(&c, u->offset_size);
	return c.bad ? NULL : string_at(silt_dwarf_section(dw, SILT_DW_STR), at);
}

const char *silt_value_string(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
			      const struct silt_value *v)
{
	switch (v->form) {
	case DW_FORM_string:
		return (const char *)v->bytes;
	case DW_FORM_strp:
		return string_at(silt_dwarf_section(dw, SILT_DW_STR), v->u);
	case DW_FORM_line_strp:
		return string_at(silt_dwarf_section(dw, SILT_DW_LINE_STR), v->u);
	case DW_FORM_GNU_strp_alt:
	case DW_FORM_strp_sup:
		return dw->alt ? string_at(silt_dwarf_section(dw->alt, SILT_DW_STR), v->u) : NULL;
	case DW_FORM_strx:
	case DW_FORM_strx1:
	case DW_FORM_strx2:
	case DW_FORM_strx3:
	case DW_FORM_strx4:
	case DW_FORM_GNU_str_index:
		return indexed_string(dw, u, root, v->u);
	default:
		return NULL;
	}
}

bool silt_form_is_address(uint16_t form)
{
	switch (form) {
	case DW_FORM_addr:
	case DW_FORM_addrx:
	case DW_FORM_addrx1:
	case DW_FORM_addrx2:
	case DW_FORM_addrx3:
	case DW_FORM_addrx4:
	case DW_FORM_GNU_addr_index:
		return true;
	default:
		return false;
	}
}

static bool indexed_address(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
			    uint64_t index, uint64_t *ret)
{
	struct silt_bytes addr = silt_dwarf_section(dw, SILT_DW_ADDR);
	struct silt_cursor c;
	uint64_t at;

	if (!root || __builtin_mul_overflow(index, (uint64_t)u->address_size, &at) ||
	    __builtin_add_overflow(at, root->addr_base, &at))
		return false;
	c = silt_cursor_at(addr.data, addr.size, at);
	*ret = silt_cursor_sized(&c, u->address_size);
	return !c.bad;
}

bool silt_value_address(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
			const struct silt_value *v, uint64_t *ret)
{
	if (v->form == DW_FORM_addr) {
		*ret = v->u;
		return true;
	}
	return silt_form_is_address(v->form) && indexed_address(dw, u, root, v->u, ret);
}

bool silt_value_ref(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_value *v, struct silt_ref *ret)
{
	switch (v->form) {
	case DW_FORM_ref1:
	case DW_FORM_ref2:
	case DW_FORM_ref4:
	case DW_FORM_ref8:
	case DW_FORM_ref_udata:
		if (v->u >= u->end - u->offset)
			return false;
		*ret = (struct silt_ref){dw, u->offset + v->u};
		return true;
	case DW_FORM_ref_addr:
		*ret = (struct silt_ref){dw, v->u};
		return true;
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_ref_sup4:
	case DW_FORM_ref_sup8:
		*ret = (struct silt_ref){dw->alt, v->u};
		return dw->alt;
	default:
		return false;
	}
}

bool silt_value_pc_span(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
			const struct silt_value *low, const struct silt_value *high, struct silt_span *ret)
{
	struct silt_span s;

	if (!low->form || !high->form || !silt_value_address(dw, u, root, low, &s.start))
		return false;
	if (silt_form_is_address(high->form)) {
		if (!silt_value_address(dw, u, root, high, &s.end))
			return false;
	} else if (__builtin_add_overflow(s.start, high->u, &s.end)) {
		return false;
	}
	*ret = s;
	return s.end > s.start;
}
