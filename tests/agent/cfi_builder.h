/* SPDX-License-Identifier: MIT */
/** Unwind sections written byte by byte, for tests of the CFI reader. Addresses given to it are real addresses. */
#ifndef SILT_TESTS_AGENT_CFI_BUILDER_H
#define SILT_TESTS_AGENT_CFI_BUILDER_H

#include <stddef.h>

#include "capture/agent/cfi.h"

#define CFI_BUILDER_SIZE 8192
/* Functions are pretended to start here and above: near the sections, so that 32-bit distances reach. */
#define CFI_BUILDER_PC(b, n) ((uint64_t)(uintptr_t)(b)->mem + 0x100000 + (uint64_t)(n))

struct cfi_builder {
	uint8_t mem[CFI_BUILDER_SIZE];
	size_t n;
	size_t open; /* offset of the open entry's length field */
};

void cfi_builder_init(struct cfi_builder *b);
void cfi_builder_uint(struct cfi_builder *b, uint64_t v, unsigned size);
void cfi_builder_uleb(struct cfi_builder *b, uint64_t v);
void cfi_builder_sleb(struct cfi_builder *b, int64_t v);
void cfi_builder_bytes(struct cfi_builder *b, const void *p, size_t n);
/** Writes v as a DW_EH_PE_* pointer; datarel: base of that encoding. */
void cfi_builder_encoded(struct cfi_builder *b, uint8_t encoding, uint64_t v, uint64_t datarel);

/** Opens a CIE and writes everything up to its instructions; the augmentation data fits the string, of the letters
 *  R, P, L, S, B and unknown ones (two bytes of data each). Returns its offset. */
size_t cfi_builder_cie(struct cfi_builder *b, unsigned version, const char *augmentation, uint8_t fde_encoding);
/** Opens an FDE of cie; the same way. */
size_t cfi_builder_fde(struct cfi_builder *b, size_t cie, const char *augmentation, uint8_t fde_encoding,
		       uint64_t pc, uint64_t size);
/** Pads the open entry with nops and sets its length. */
void cfi_builder_end(struct cfi_builder *b);
/** The CIE every compiler writes ("zR" pcrel sdata4; CFA rsp + 8, return address at CFA - 8), closed. */
size_t cfi_builder_usual_cie(struct cfi_builder *b);

/** Writes the terminator and a header whose table (unless count is 0) holds the pcs and FDE offsets given; the module
 *  spans all that was written. */
struct cfi_module cfi_builder_finish(struct cfi_builder *b, uint8_t ptr_encoding, uint8_t table_encoding,
				     const uint64_t *pcs, const size_t *fdes, size_t count);

#endif
