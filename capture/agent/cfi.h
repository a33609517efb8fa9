/* SPDX-License-Identifier: MIT */
/**
 * Call frame information (.eh_frame) for the agent: freestanding, no allocation, no locks, no system calls,
 * async-signal-safe, bounded. Sources: DWARF 5 section 6.4; LSB Core "Exception Frames" (.eh_frame,
 * .eh_frame_hdr); System V ABI x86-64 psABI section 3.7 and figure 3.36 (register numbers).
 */
#ifndef SILT_CAPTURE_AGENT_CFI_H
#define SILT_CAPTURE_AGENT_CFI_H

#include <stdbool.h>
#include <stdint.h>

#define CFI_REGS 17 /* DWARF numbers 0..15 general purpose (6 = rbp, 7 = rsp), 16 = return address */
#define CFI_RBP 6
#define CFI_RSP 7
#define CFI_RA 16

enum cfi_how {
	CFI_SAME,      /* not changed (the default for callee-saved registers) */
	CFI_UNDEFINED, /* gone; for the return address: the outermost frame */
	CFI_OFFSET,    /* saved at CFA + offset */
	CFI_VAL_OFFSET, /* is CFA + offset */
	CFI_REGISTER,  /* in another register: offset holds its number */
	CFI_EXPR,      /* saved at the address the expression gives (CFA pushed first) */
	CFI_VAL_EXPR,  /* is what the expression gives */
};

struct cfi_reg_rule {
	uint8_t how; /* enum cfi_how */
	int32_t offset;
	const uint8_t *expr;
	uint32_t expr_len;
};

struct cfi_row {
	uint64_t pc_begin, pc_end; /* the FDE's range */
	bool signal_frame;         /* augmentation 'S': the caller's pc is exact */
	uint8_t cfa_reg;           /* when cfa_expr is NULL: CFA = reg + offset */
	int32_t cfa_offset;
	const uint8_t *cfa_expr;
	uint32_t cfa_expr_len;
	struct cfi_reg_rule regs[CFI_REGS];
};

/* Where the unwind tables of the module that holds a pc are. Reads stay inside [lo, hi). */
struct cfi_module {
	uint64_t lo, hi;             /* the module's mapped range */
	const uint8_t *eh_frame_hdr; /* NULL: none; how long it is, nobody tells: it ends before hi */
};

/** Finds the row for lookup address pc (callers pass return address - 1, or the exact pc of an interrupted frame).
 *  False: no unwind information covers it, or it is damaged or unsupported. */
bool cfi_find_row(const struct cfi_module *m, uint64_t pc, struct cfi_row *ret);

/** The same for a return address. Where no call ends in front of it and a function begins there, nobody came from there: such an
 *  address is put at the bottom of a coroutine's stack (glibc's makecontext: __start_context), and is the outermost frame. */
bool cfi_find_return_row(const struct cfi_module *m, uint64_t ra, struct cfi_row *ret);

/* A row in 24 bits, for frames whose unwinding only needs rsp and rbp. */
enum cfi_type {
	CFI_T_RSP = 0,       /* CFA = rsp + 8 * off; 0, so that the low 16 bits are what is added to rsp, up to 64 KiB */
	CFI_T_NONE = 1,      /* no information: stop, truncated */
	CFI_T_RBP = 2,       /* CFA = rbp + 8 * off */
	CFI_T_RBP_DEREF = 3, /* CFA = *(rbp - 8 * off), caller's rbp = *(rbp): gcc's stack realignment (DRAP); the
			      * return address is at CFA - 8 as always, CFI_RBP_AT is 0 and says nothing here */
	CFI_T_SIGNAL = 4,    /* signal trampoline: registers from the ucontext at rsp, that is rbp = *(rsp + 120),
			      * rsp = *(rsp + 160), pc = *(rsp + 168), and this pc is exact */
	CFI_T_END = 5,       /* return address undefined: outermost frame */
	CFI_T_GENERIC = 6,   /* needs cfi_step with all registers */
};
/* Compact rule: bits 0..2 type; bits 3..16 off; bits 17..23 where rbp was saved: 0 not saved (same), else at
 * CFA - 8 * n. Return address at CFA - 8 always, otherwise GENERIC. rbp undefined counts as same. */
#define CFI_TYPE(c) ((c) & 7u)
#define CFI_OFF(c) (((c) >> 3) & 0x3fffu)
#define CFI_RBP_AT(c) (((c) >> 17) & 0x7fu)
#define CFI_COMPACT 0xffffffu
#define CFI_FRAME_POINTER (CFI_T_RBP | 2u << 3 | 2u << 17) /* behind "push rbp; mov rbp, rsp" */
uint32_t cfi_compact(const struct cfi_row *row);

/** Reads one word of the target's memory (the stack, mostly); false when it must not be touched. */
typedef bool (*cfi_read_fn)(void *arg, uint64_t addr, uint64_t *ret);

struct cfi_regs {
	uint64_t v[CFI_REGS]; /* v[16] = pc of the frame */
	uint32_t known;       /* bit n: v[n] is known */
};
/** One step outward with all registers: replaces regs by the caller's. False: cannot (missing register, refused read,
 *  bad expression, stack pointer not growing; it need not grow in a signal frame, in a frame with a rule for rsp, or
 *  where the CFA does not come from rsp and is a page or more below it: another stack). A caller's rsp or pc that cannot
 *  be had fails, any other register merely becomes unknown. A caller pc of 0 or an undefined one: true with v[16] = 0. */
bool cfi_step(const struct cfi_row *row, struct cfi_regs *regs, cfi_read_fn read, void *arg);

#endif
