/* SPDX-License-Identifier: MIT */
/** Pieces the CFI reader's files share: a bounded cursor over the module, encoded pointers, a CIE or FDE taken apart. */
#ifndef SILT_CAPTURE_AGENT_CFI_INTERNAL_H
#define SILT_CAPTURE_AGENT_CFI_INTERNAL_H

#include "capture/agent/cfi.h"

/* A LEB128 number of a producer that pads is longer than the 10 bytes 64 bits need, but never this long; the limit
 * keeps the work per field constant on damaged data. */
#define CFI_LEB_MAX 16
/* Nested DW_CFA_remember_state. Compilers nest once, hand-written assembly twice. */
#define CFI_REMEMBER_MAX 16
/* Instructions of one CIE or FDE; the longest in real libraries have some ten thousand. */
#define CFI_PROGRAM_MAX (1u << 20)
/* Entries looked at by the linear scan, for modules whose header has no table. */
#define CFI_SCAN_MAX (1u << 22)

#define DW_EH_PE_absptr 0x00
#define DW_EH_PE_uleb128 0x01
#define DW_EH_PE_udata2 0x02
#define DW_EH_PE_udata4 0x03
#define DW_EH_PE_udata8 0x04
#define DW_EH_PE_sleb128 0x09
#define DW_EH_PE_sdata2 0x0a
#define DW_EH_PE_sdata4 0x0b
#define DW_EH_PE_sdata8 0x0c
#define DW_EH_PE_pcrel 0x10
#define DW_EH_PE_datarel 0x30
#define DW_EH_PE_aligned 0x50
#define DW_EH_PE_indirect 0x80
#define DW_EH_PE_omit 0xff

#define DW_OP_breg0 0x70
#define DW_OP_deref 0x06

/* Sticky: after the first failure reads give 0 and do not move, so a record is read whole and checked once. */
struct cfi_cursor {
	const uint8_t *p, *end;
	bool bad;
};

/** A cursor from addr to the end of the module; bad when addr is outside of it. */
struct cfi_cursor cfi_cursor_at(const struct cfi_module *m, uint64_t addr);
/** Reads n <= 8 bytes, little endian. */
uint64_t cfi_cursor_uint(struct cfi_cursor *c, unsigned n);
uint64_t cfi_cursor_uleb(struct cfi_cursor *c);
int64_t cfi_cursor_sleb(struct cfi_cursor *c);
void cfi_cursor_skip(struct cfi_cursor *c, uint64_t n);
/** Reads a DW_EH_PE_* pointer; datarel is the base of that encoding, 0 where it has no meaning. */
uint64_t cfi_cursor_encoded(struct cfi_cursor *c, uint8_t encoding, uint64_t datarel);

struct cfi_cie {
	uint64_t code_align;
	int64_t data_align;
	uint64_t ra_column;
	uint8_t fde_encoding;
	bool has_aug_data; /* 'z': FDEs carry augmentation data with a length */
	bool signal_frame;
	struct cfi_cursor program;
};

struct cfi_fde {
	uint64_t pc_begin, pc_end;
	struct cfi_cie cie;
	struct cfi_cursor program;
};

/** Runs the CIE's and the FDE's instructions up to pc and fills everything of the row but the range. */
bool cfi_program_run(const struct cfi_module *m, const struct cfi_fde *fde, uint64_t pc, struct cfi_row *ret);

/** Fills the row of code that has no unwind information but is known by its bytes: the signal trampoline of C
 *  libraries that do not describe it (musl), and the start code of glibc's loader (outermost frame). */
bool cfi_code_row(const struct cfi_module *m, uint64_t pc, struct cfi_row *ret);
/** Whether the bytes in front of addr are a call instruction. */
bool cfi_code_is_called(const struct cfi_module *m, uint64_t addr);
/** Fills the row of an outermost frame for [begin, end). */
void cfi_code_outermost(uint64_t begin, uint64_t end, struct cfi_row *ret);
/** Whether the row is exactly that of the kernel's rt_sigframe. */
bool cfi_row_is_sigframe(const struct cfi_row *row);

/** Evaluates a DWARF expression. cfa != NULL: its value is pushed first. */
bool cfi_expr_eval(const uint8_t *expr, uint32_t len, const uint64_t *cfa, const struct cfi_regs *regs,
		   cfi_read_fn read, void *arg, uint64_t *ret);
/** Whether the expression is DW_OP_breg<reg> N alone (deref false) or followed by DW_OP_deref; stores N. */
bool cfi_expr_is_breg(const uint8_t *expr, uint32_t len, unsigned reg, bool deref, int64_t *ret_offset);

#endif
