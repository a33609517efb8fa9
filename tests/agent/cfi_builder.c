/* SPDX-License-Identifier: MIT */
/* Writing .eh_frame and .eh_frame_hdr for tests. */
#include "tests/agent/cfi_builder.h"

#include <stdlib.h>
#include <string.h>

#include "capture/agent/cfi_internal.h"

void cfi_builder_init(struct cfi_builder *b)
{
	memset(b, 0, sizeof(*b));
}

void cfi_builder_uint(struct cfi_builder *b, uint64_t v, unsigned size)
{
	if (b->n + size > CFI_BUILDER_SIZE)
		abort();
	memcpy(b->mem + b->n, &v, size);
	b->n += size;
}

void cfi_builder_uleb(struct cfi_builder *b, uint64_t v)
{
	do {
		uint8_t byte = v & 0x7f;

		v >>= 7;
		cfi_builder_uint(b, byte | (v ? 0x80 : 0), 1);
	} while (v);
}

void cfi_builder_sleb(struct cfi_builder *b, int64_t v)
{
	bool more = true;

	while (more) {
		uint8_t byte = v & 0x7f;

		v >>= 7;
		more = !((v == 0 && !(byte & 0x40)) || (v == -1 && (byte & 0x40)));
		cfi_builder_uint(b, byte | (more ? 0x80 : 0), 1);
	}
}

void cfi_builder_bytes(struct cfi_builder *b, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cfi_builder_uint(b, ((const uint8_t *)p)[i], 1);
}

void cfi_builder_encoded(struct cfi_builder *b, uint8_t encoding, uint64_t v, uint64_t datarel)
{
	uint64_t at = (uint64_t)(uintptr_t)(b->mem + b->n);

	if (encoding == DW_EH_PE_aligned) {
		while ((uintptr_t)(b->mem + b->n) & 7)
			cfi_builder_uint(b, 0, 1);
		cfi_builder_uint(b, v, 8);
		return;
	}
	if ((encoding & 0x70) == DW_EH_PE_pcrel)
		v -= at;
	if ((encoding & 0x70) == DW_EH_PE_datarel)
		v -= datarel;
	switch (encoding & 0x0f) {
	case DW_EH_PE_uleb128:
		cfi_builder_uleb(b, v);
		break;
	case DW_EH_PE_sleb128:
		cfi_builder_sleb(b, (int64_t)v);
		break;
	case DW_EH_PE_udata2:
	case DW_EH_PE_sdata2:
		cfi_builder_uint(b, v, 2);
		break;
	case DW_EH_PE_udata4:
	case DW_EH_PE_sdata4:
		cfi_builder_uint(b, v, 4);
		break;
	default:
		cfi_builder_uint(b, v, 8);
	}
}

static void augmentation_write(struct cfi_builder *b, const char *letters, uint8_t fde_encoding)
{
	size_t len_at = b->n;

	cfi_builder_uint(b, 0, 1);
	for (; *letters; letters++) {
		switch (*letters) {
		case 'R':
			cfi_builder_uint(b, fde_encoding, 1);
			break;
		case 'P':
			cfi_builder_uint(b, DW_EH_PE_indirect | DW_EH_PE_pcrel | DW_EH_PE_sdata4, 1);
			cfi_builder_uint(b, 0x12345678, 4);
			break;
		case 'L':
			cfi_builder_uint(b, DW_EH_PE_pcrel | DW_EH_PE_sdata4, 1);
			break;
		case 'S':
		case 'B':
			break;
		default:
			cfi_builder_uint(b, 0xabcd, 2);
		}
	}
	b->mem[len_at] = (uint8_t)(b->n - len_at - 1);
}

size_t cfi_builder_cie(struct cfi_builder *b, unsigned version, const char *augmentation, uint8_t fde_encoding)
{
	b->open = b->n;
	cfi_builder_uint(b, 0, 4);
	cfi_builder_uint(b, 0, 4);
	cfi_builder_uint(b, version, 1);
	cfi_builder_bytes(b, augmentation, strlen(augmentation) + 1);
	if (version == 4)
		cfi_builder_uint(b, 8, 2); /* address size 8, segment selector size 0 */
	cfi_builder_uleb(b, 1);
	cfi_builder_sleb(b, -8);
	cfi_builder_uleb(b, CFI_RA);
	if (augmentation[0] == 'z')
		augmentation_write(b, augmentation + 1, fde_encoding);
	return b->open;
}

size_t cfi_builder_fde(struct cfi_builder *b, size_t cie, const char *augmentation, uint8_t fde_encoding,
		       uint64_t pc, uint64_t size)
{
	b->open = b->n;
	cfi_builder_uint(b, 0, 4);
	cfi_builder_uint(b, b->n - cie, 4);
	cfi_builder_encoded(b, fde_encoding, pc, 0);
	cfi_builder_encoded(b, fde_encoding & 0x0f, size, 0);
	if (augmentation[0] == 'z') {
		bool lsda = strchr(augmentation, 'L') != NULL;

		cfi_builder_uleb(b, lsda ? 4 : 0);
		if (lsda)
			cfi_builder_uint(b, 0x0badf00d, 4);
	}
	return b->open;
}

void cfi_builder_end(struct cfi_builder *b)
{
	uint32_t len;

	while ((b->n - b->open) & 7)
		cfi_builder_uint(b, 0, 1);
	len = (uint32_t)(b->n - b->open - 4);
	memcpy(b->mem + b->open, &len, 4);
}

size_t cfi_builder_usual_cie(struct cfi_builder *b)
{
	size_t cie = cfi_builder_cie(b, 1, "zR", DW_EH_PE_pcrel | DW_EH_PE_sdata4);

	cfi_builder_bytes(b, "\x0c\x07\x08\x90\x01", 5);
	cfi_builder_end(b);
	return cie;
}

struct cfi_module cfi_builder_finish(struct cfi_builder *b, uint8_t ptr_encoding, uint8_t table_encoding,
				     const uint64_t *pcs, const size_t *fdes, size_t count)
{
	struct cfi_module m;
	uint64_t base;

	cfi_builder_uint(b, 0, 4);
	while (b->n & 3)
		cfi_builder_uint(b, 0, 1);
	m.eh_frame_hdr = b->mem + b->n;
	base = (uint64_t)(uintptr_t)m.eh_frame_hdr;
	cfi_builder_uint(b, 1, 1);
	cfi_builder_uint(b, ptr_encoding, 1);
	cfi_builder_uint(b, count ? DW_EH_PE_udata4 : DW_EH_PE_omit, 1);
	cfi_builder_uint(b, table_encoding, 1);
	if (ptr_encoding != DW_EH_PE_omit)
		cfi_builder_encoded(b, ptr_encoding, (uint64_t)(uintptr_t)b->mem, base);
	if (count)
		cfi_builder_uint(b, count, 4);
	for (size_t i = 0; i < count; i++) {
		cfi_builder_encoded(b, table_encoding, pcs[i], base);
		cfi_builder_encoded(b, table_encoding, (uint64_t)(uintptr_t)(b->mem + fdes[i]), base);
	}
	m.lo = (uint64_t)(uintptr_t)b->mem;
	m.hi = m.lo + b->n;
	return m;
}
