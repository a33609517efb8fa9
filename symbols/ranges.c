/* SPDX-License-Identifier: MIT */
/* Range lists: .debug_ranges (DWARF 3, 4) and .debug_rnglists (DWARF 5). */
#include "symbols/forms.h"

#include <dwarf.h>

enum { MAX_RANGES = 1 << 20 }; /* of one list: units of the largest programs have some ten thousand */

static bool add(silt_spans *spans, uint64_t start, uint64_t end)
{
	struct silt_span s = {start, end};

	if (end <= start)
		return true; /* empty ones are legal and mean nothing */
	return spans->count < MAX_RANGES && silt_vec_push(spans, s);
}

static void read_ranges(struct silt_dwarf *dw, const struct silt_unit *u, uint64_t base, uint64_t offset, silt_spans *ret)
{
	struct silt_bytes section = silt_dwarf_section(dw, SILT_DW_RANGES);
	struct silt_cursor c = silt_cursor_at(section.data, section.size, offset);
	uint64_t select = u->address_size == 4 ? UINT32_MAX : UINT64_MAX;

	while (!c.bad) {
		uint64_t start = silt_cursor_sized(&c, u->address_size), end = silt_cursor_sized(&c, u->address_size);

		if (c.bad || (!start && !end))
			return;
		if (start == select)
			base = end;
		else if (!add(ret, base + start, base + end))
			return;
	}
}

static bool indexed(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
		    struct silt_cursor *c, uint64_t *ret)
{
	struct silt_value v = {.form = DW_FORM_addrx, .u = silt_cursor_uleb(c)};

	return silt_value_address(dw, u, root, &v, ret);
}

static void read_rnglist(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root, uint64_t offset,
			 silt_spans *ret)
{
	struct silt_bytes section = silt_dwarf_section(dw, SILT_DW_RNGLISTS);
	struct silt_cursor c = silt_cursor_at(section.data, section.size, offset);
	uint64_t base = root->low_pc, start = 0, end = 0;
	bool good = true;

	while (!c.bad && good) {
		switch (silt_cursor_u8(&c)) {
		case DW_RLE_end_of_list:
			return;
		case DW_RLE_base_addressx:
			good = indexed(dw, u, root, &c, &base);
			continue;
		case DW_RLE_startx_endx:
			good = indexed(dw, u, root, &c, &start) && indexed(dw, u, root, &c, &end);
			break;
		case DW_RLE_startx_length:
			good = indexed(dw, u, root, &c, &start);
			end = start + silt_cursor_uleb(&c);
			break;
		case DW_RLE_offset_pair:
			start = base + silt_cursor_uleb(&c);
			end = base + silt_cursor_uleb(&c);
			break;
		case DW_RLE_base_address:
			base = silt_cursor_sized(&c, u->address_size);
			continue;
		case DW_RLE_start_end:
			start = silt_cursor_sized(&c, u->address_size);
			end = silt_cursor_sized(&c, u->address_size);
			break;
		case DW_RLE_start_length:
			start = silt_cursor_sized(&c, u->address_size);
			end = start + silt_cursor_uleb(&c);
			break;
		default:
			return;
		}
		if (good && !c.bad)
			good = add(ret, start, end);
	}
}

/* DW_FORM_rnglistx: an index into the offsets that follow the list table's header. */
static bool rnglist_offset(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root, uint64_t index,
			   uint64_t *ret)
{
	struct silt_bytes section = silt_dwarf_section(dw, SILT_DW_RNGLISTS);
	struct silt_cursor c;
	uint64_t at;

	if (__builtin_mul_overflow(index, (uint64_t)u->offset_size, &at) || __builtin_add_overflow(at, root->rnglists_base, &at))
		return false;
	c = silt_cursor_at(section.data, section.size, at);
	*ret = root->rnglists_base + silt_cursor_sized(&c, u->offset_size);
	return !c.bad;
}

void silt_ranges_read(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
		      const struct silt_value *v, silt_spans *ret)
{
	uint64_t offset = v->u;

	ret->count = 0;
	if (!root)
		return;
	if (v->form == DW_FORM_rnglistx) {
		if (rnglist_offset(dw, u, root, v->u, &offset))
			read_rnglist(dw, u, root, offset, ret);
	} else if (v->form == DW_FORM_sec_offset || v->form == DW_FORM_data4 || v->form == DW_FORM_data8) {
		if (u->version >= 5)
			read_rnglist(dw, u, root, offset, ret);
		else
			read_ranges(dw, u, root->low_pc, u->skeleton ? offset + root->ranges_base : offset, ret);
	}
}
