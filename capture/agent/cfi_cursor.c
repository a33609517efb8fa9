/* SPDX-License-Identifier: MIT */
/* Bounded reading of a loaded module's bytes: integers, LEB128 and the pointer encodings of .eh_frame. */
#include "capture/agent/cfi_internal.h"

struct cfi_cursor cfi_cursor_at(const struct cfi_module *m, uint64_t addr)
{
	struct cfi_cursor c = {0, 0, true};

	if (addr >= m->lo && addr < m->hi) {
		c.p = (const uint8_t *)(uintptr_t)addr;
		c.end = (const uint8_t *)(uintptr_t)m->hi;
		c.bad = false;
	}
	return c;
}

uint64_t cfi_cursor_uint(struct cfi_cursor *c, unsigned n)
{
	uint64_t v = 0;

	if (c->bad || (uint64_t)(c->end - c->p) < n) {
		c->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < n; i++)
		v |= (uint64_t)c->p[i] << (8 * i);
	c->p += n;
	return v;
}

/* Bits above the 64th are dropped: they are padding in whatever a producer writes. */
static uint64_t leb_read(struct cfi_cursor *c, bool is_signed)
{
	uint64_t v = 0;
	unsigned shift = 0;

	for (unsigned i = 0; i < CFI_LEB_MAX; i++) {
		uint8_t b = (uint8_t)cfi_cursor_uint(c, 1);

		if (c->bad)
			return 0;
		if (shift < 64)
			v |= (uint64_t)(b & 0x7f) << shift;
		shift += 7;
		if (b & 0x80)
			continue;
		if (is_signed && (b & 0x40) && shift < 64)
			v |= ~(uint64_t)0 << shift;
		return v;
	}
	c->bad = true;
	return 0;
}

uint64_t cfi_cursor_uleb(struct cfi_cursor *c)
{
	return leb_read(c, false);
}

int64_t cfi_cursor_sleb(struct cfi_cursor *c)
{
	return (int64_t)leb_read(c, true);
}

void cfi_cursor_skip(struct cfi_cursor *c, uint64_t n)
{
	if (c->bad || (uint64_t)(c->end - c->p) < n)
		c->bad = true;
	else
		c->p += n;
}

static uint64_t format_read(struct cfi_cursor *c, uint8_t format)
{
	switch (format) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		return cfi_cursor_uint(c, 8);
	case DW_EH_PE_uleb128:
		return cfi_cursor_uleb(c);
	case DW_EH_PE_sleb128:
		return (uint64_t)cfi_cursor_sleb(c);
	case DW_EH_PE_udata2:
		return cfi_cursor_uint(c, 2);
	case DW_EH_PE_sdata2:
		return (uint64_t)(int64_t)(int16_t)cfi_cursor_uint(c, 2);
	case DW_EH_PE_udata4:
		return cfi_cursor_uint(c, 4);
	case DW_EH_PE_sdata4:
		return (uint64_t)(int64_t)(int32_t)cfi_cursor_uint(c, 4);
	default:
		c->bad = true;
		return 0;
	}
}

/* An indirect pointer is left unresolved: only personality routines are indirect, and those are skipped. */
uint64_t cfi_cursor_encoded(struct cfi_cursor *c, uint8_t encoding, uint64_t datarel)
{
	uint64_t at = (uint64_t)(uintptr_t)c->p, v;

	if (encoding == DW_EH_PE_aligned) {
		cfi_cursor_skip(c, -at & 7);
		return cfi_cursor_uint(c, 8);
	}
	v = format_read(c, encoding & 0x0f);
	switch (encoding & 0x70) {
	case DW_EH_PE_absptr:
		return v;
	case DW_EH_PE_pcrel:
		return v + at;
	case DW_EH_PE_datarel:
		if (datarel)
			return v + datarel;
		break;
	}
	c->bad = true; /* relative to a section or function start that is not known here */
	return 0;
}
