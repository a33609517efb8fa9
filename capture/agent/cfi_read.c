/* SPDX-License-Identifier: MIT */
/* Finding the frame description of a pc in .eh_frame_hdr and .eh_frame (LSB Core 5.0, "Exception Frames"). */
#include "capture/agent/cfi_internal.h"

/* Longest augmentation string taken seriously; "zPLRSB" is the longest that exists. */
#define AUGMENTATION_MAX 15

/* One entry of .eh_frame: its content after the CIE id / CIE pointer field, and that field. */
struct entry {
	struct cfi_cursor body;
	uint64_t id_addr; /* address of the id field: a CIE pointer counts back from here */
	uint32_t id;      /* 0: this is a CIE */
};

/* False at the terminator (length 0) and on damage. */
static bool entry_open(const struct cfi_module *m, uint64_t addr, struct entry *ret)
{
	struct cfi_cursor c = cfi_cursor_at(m, addr);
	uint64_t len = cfi_cursor_uint(&c, 4);

	/* The id field stays 4 bytes with the extended length, unlike in .debug_frame. */
	if (len == 0xffffffff)
		len = cfi_cursor_uint(&c, 8);
	if (c.bad || len < 4 || len > (uint64_t)(c.end - c.p))
		return false;
	c.end = c.p + len;
	ret->id_addr = (uint64_t)(uintptr_t)c.p;
	ret->id = (uint32_t)cfi_cursor_uint(&c, 4);
	ret->body = c;
	return true;
}

/* Reads the augmentation data that the string (without its 'z') announces. An unknown letter ends the reading: the
 * rest is skipped through the length that 'z' gives. */
static void augmentation_read(struct cfi_cursor *data, const uint8_t *string, struct cfi_cie *cie)
{
	for (; *string; string++) {
		switch (*string) {
		case 'R':
			cie->fde_encoding = (uint8_t)cfi_cursor_uint(data, 1);
			break;
		case 'P':
			cfi_cursor_encoded(data, (uint8_t)cfi_cursor_uint(data, 1), 0);
			break;
		case 'L':
			cfi_cursor_uint(data, 1);
			break;
		case 'S':
			cie->signal_frame = true;
			break;
		case 'B': /* aarch64: return address signed with key B */
		case 'G': /* aarch64: memory tagging */
			break;
		default:
			return;
		}
	}
}

static bool cie_parse(const struct cfi_module *m, uint64_t addr, struct cfi_cie *ret)
{
	struct entry e;
	struct cfi_cursor c, aug;
	const uint8_t *string;
	uint64_t len;
	uint8_t version;

	if (!entry_open(m, addr, &e) || e.id != 0)
		return false;
	c = e.body;
	version = (uint8_t)cfi_cursor_uint(&c, 1);
	if (version != 1 && version != 3 && version != 4)
		return false;
	string = c.p;
	for (unsigned i = 0; cfi_cursor_uint(&c, 1) != 0; i++)
		if (i == AUGMENTATION_MAX)
			return false;
	if (c.bad)
		return false;
	if (version == 4 && (cfi_cursor_uint(&c, 1) != 8 || cfi_cursor_uint(&c, 1) != 0))
		return false; /* address size and segment selector size */
	ret->code_align = cfi_cursor_uleb(&c);
	ret->data_align = cfi_cursor_sleb(&c);
	ret->ra_column = version == 1 ? cfi_cursor_uint(&c, 1) : cfi_cursor_uleb(&c);
	ret->fde_encoding = DW_EH_PE_absptr;
	ret->signal_frame = false;
	ret->has_aug_data = string[0] == 'z';
	if (ret->has_aug_data) {
		len = cfi_cursor_uleb(&c);
		aug = c;
		cfi_cursor_skip(&c, len);
		if (c.bad)
			return false;
		aug.end = c.p;
		augmentation_read(&aug, string + 1, ret);
		if (aug.bad)
			return false;
	} else if (string[0] != 0) {
		return false; /* "eh" of gcc 2 and whatever else has no length */
	}
	ret->program = c;
	return !c.bad && ret->ra_column < CFI_REGS;
}

/* The range an FDE covers; c is left behind it. */
static bool fde_range_read(struct cfi_cursor *c, const struct cfi_cie *cie, uint64_t *ret_begin, uint64_t *ret_end)
{
	uint64_t begin, len;

	if (cie->fde_encoding & DW_EH_PE_indirect)
		return false;
	begin = cfi_cursor_encoded(c, cie->fde_encoding, 0);
	len = cfi_cursor_encoded(c, cie->fde_encoding & 0x0f, 0);
	if (c->bad || begin + len < begin)
		return false;
	*ret_begin = begin;
	*ret_end = begin + len;
	return true;
}

/* Reads the FDE at addr when it covers pc. */
static bool fde_parse(const struct cfi_module *m, uint64_t addr, uint64_t pc, struct cfi_fde *ret)
{
	struct entry e;

	if (!entry_open(m, addr, &e) || e.id == 0 || !cie_parse(m, e.id_addr - e.id, &ret->cie))
		return false;
	if (!fde_range_read(&e.body, &ret->cie, &ret->pc_begin, &ret->pc_end))
		return false;
	if (pc < ret->pc_begin || pc >= ret->pc_end)
		return false;
	if (ret->cie.has_aug_data)
		cfi_cursor_skip(&e.body, cfi_cursor_uleb(&e.body));
	ret->program = e.body;
	return !e.body.bad;
}

/* Walks .eh_frame from its start; only for modules linked without a search table. */
static bool fde_scan(const struct cfi_module *m, uint64_t addr, uint64_t pc, struct cfi_fde *ret)
{
	struct entry e;
	struct cfi_cie cie;
	uint64_t cie_addr = 0, begin, end;

	for (unsigned i = 0; i < CFI_SCAN_MAX && entry_open(m, addr, &e); i++) {
		uint64_t at = addr;

		addr = (uint64_t)(uintptr_t)e.body.end;
		if (e.id == 0)
			continue;
		if (cie_addr != e.id_addr - e.id) {
			cie_addr = e.id_addr - e.id;
			if (!cie_parse(m, cie_addr, &cie)) {
				cie_addr = 0;
				continue;
			}
		}
		if (fde_range_read(&e.body, &cie, &begin, &end) && pc >= begin && pc < end)
			return fde_parse(m, at, pc, ret);
	}
	return false;
}

/* Width of one field of the search table; 0: not an encoding one can index. */
static unsigned table_field_size(uint8_t encoding)
{
	if ((encoding & 0xf0) != DW_EH_PE_datarel && (encoding & 0xf0) != DW_EH_PE_absptr)
		return 0;
	switch (encoding & 0x0f) {
	case DW_EH_PE_udata4:
	case DW_EH_PE_sdata4:
		return 4;
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		return 8;
	default:
		return 0;
	}
}

/* Binary search for the last entry that starts at or below pc. table spans the whole table. */
static bool table_search(struct cfi_cursor table, uint8_t encoding, uint64_t base, uint64_t pc, uint64_t *ret_fde)
{
	unsigned size = table_field_size(encoding);
	uint64_t lo = 0, hi = (uint64_t)(table.end - table.p) / (2 * size);

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		struct cfi_cursor c = {table.p + mid * 2 * size, table.end, false};

		if (cfi_cursor_encoded(&c, encoding, base) <= pc)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return false;
	table.p += (lo - 1) * 2 * size + size;
	*ret_fde = cfi_cursor_encoded(&table, encoding, base);
	return !table.bad;
}

static bool fde_find(const struct cfi_module *m, uint64_t pc, struct cfi_fde *ret)
{
	uint64_t base = (uint64_t)(uintptr_t)m->eh_frame_hdr, eh_frame = 0, count = 0, fde;
	struct cfi_cursor c = cfi_cursor_at(m, base);
	uint8_t version, ptr_enc, count_enc, table_enc;
	unsigned size;

	version = (uint8_t)cfi_cursor_uint(&c, 1);
	ptr_enc = (uint8_t)cfi_cursor_uint(&c, 1);
	count_enc = (uint8_t)cfi_cursor_uint(&c, 1);
	table_enc = (uint8_t)cfi_cursor_uint(&c, 1);
	if (c.bad || version != 1)
		return false;
	if (ptr_enc != DW_EH_PE_omit && !(ptr_enc & DW_EH_PE_indirect))
		eh_frame = cfi_cursor_encoded(&c, ptr_enc, base);
	if (count_enc != DW_EH_PE_omit && !(count_enc & DW_EH_PE_indirect))
		count = cfi_cursor_encoded(&c, count_enc, base);
	if (c.bad)
		return false;
	size = table_field_size(table_enc);
	if (count == 0 || size == 0)
		return eh_frame != 0 && fde_scan(m, eh_frame, pc, ret);
	if (count < (uint64_t)(c.end - c.p) / (2 * size))
		c.end = c.p + count * 2 * size;
	return table_search(c, table_enc, base, pc, &fde) && fde_parse(m, fde, pc, ret);
}

bool cfi_find_return_row(const struct cfi_module *m, uint64_t ra, struct cfi_row *ret)
{
	struct cfi_fde fde;

	if (!cfi_code_is_called(m, ra) && m->eh_frame_hdr != 0 && fde_find(m, ra, &fde) && fde.pc_begin == ra &&
	    !fde.cie.signal_frame) {
		cfi_code_outermost(fde.pc_begin, fde.pc_end, ret);
		return true;
	}
	return cfi_find_row(m, ra - 1, ret);
}

bool cfi_find_row(const struct cfi_module *m, uint64_t pc, struct cfi_row *ret)
{
	struct cfi_fde fde;

	if (m->eh_frame_hdr != 0 && fde_find(m, pc, &fde)) {
		if (!cfi_program_run(m, &fde, pc, ret))
			return false;
		ret->pc_begin = fde.pc_begin;
		ret->pc_end = fde.pc_end;
		ret->signal_frame = fde.cie.signal_frame;
		return true;
	}
	return cfi_code_row(m, pc, ret);
}
