/* SPDX-License-Identifier: MIT */
/* Rows in 24 bits, and the signal trampoline's row. */
#include "capture/agent/cfi_internal.h"

#define OFF_MAX 0x3fff
#define RBP_AT_MAX 0x7f

/* Where the kernel's rt_sigframe holds the registers, as distances from rsp in the trampoline: there rsp points at the
 * ucontext (its first field, the return address into the trampoline, is popped), uc_mcontext.gregs starts at 40 and is
 * in the order r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip (arch/x86/include/uapi/asm/sigcontext.h). */
static const uint8_t sigframe_offset[CFI_REGS] = {
	144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96, 168,
};

/* DW_OP_breg7 N for each of them, N as two bytes SLEB128; and with a DW_OP_deref for the CFA. */
#define AT_RSP(n) DW_OP_breg0 + CFI_RSP, ((n) & 0x7f) | 0x80, (n) >> 7
#define AT_RSP_LEN 3
static const uint8_t sigframe_expr[] = {
	AT_RSP(144), AT_RSP(136), AT_RSP(152), AT_RSP(128), AT_RSP(112), AT_RSP(104), AT_RSP(120), AT_RSP(160), AT_RSP(40),
	AT_RSP(48),  AT_RSP(56),  AT_RSP(64),  AT_RSP(72),  AT_RSP(80),	 AT_RSP(88),  AT_RSP(96),  AT_RSP(168),
};
static const uint8_t sigframe_cfa_expr[] = { AT_RSP(160), DW_OP_deref };

/* mov $15 (rt_sigreturn) into eax or rax, syscall: byte for byte what debuggers and libgcc look for. */
static const uint8_t trampoline_rax[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
static const uint8_t trampoline_eax[] = { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05 };

static bool code_is(const struct cfi_module *m, uint64_t addr, const uint8_t *code, unsigned len)
{
	struct cfi_cursor c = cfi_cursor_at(m, addr);

	for (unsigned i = 0; i < len; i++)
		if ((uint8_t)cfi_cursor_uint(&c, 1) != code[i] || c.bad)
			return false;
	return true;
}

bool cfi_trampoline_row(const struct cfi_module *m, uint64_t pc, struct cfi_row *ret)
{
	/* Nobody calls a trampoline: its "return address" is its first instruction, and callers look up one less. */
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = pc + 1 - i;
		unsigned len = 0;

		if (code_is(m, at, trampoline_rax, sizeof(trampoline_rax)))
			len = sizeof(trampoline_rax);
		else if (code_is(m, at, trampoline_eax, sizeof(trampoline_eax)))
			len = sizeof(trampoline_eax);
		if (len == 0)
			continue;
		ret->pc_begin = at - 1;
		ret->pc_end = at + len;
		ret->signal_frame = true;
		ret->cfa_reg = CFI_RSP;
		ret->cfa_offset = 0;
		ret->cfa_expr = sigframe_cfa_expr;
		ret->cfa_expr_len = sizeof(sigframe_cfa_expr);
		for (unsigned r = 0; r < CFI_REGS; r++) {
			ret->regs[r].how = CFI_EXPR;
			ret->regs[r].offset = 0;
			ret->regs[r].expr = sigframe_expr + AT_RSP_LEN * r;
			ret->regs[r].expr_len = AT_RSP_LEN;
		}
		return true;
	}
	return false;
}

bool cfi_row_is_sigframe(const struct cfi_row *row)
{
	int64_t n;

	if (!row->signal_frame || !cfi_expr_is_breg(row->cfa_expr, row->cfa_expr_len, CFI_RSP, true, &n) ||
	    n != sigframe_offset[CFI_RSP])
		return false;
	for (unsigned i = 0; i < CFI_REGS; i++) {
		const struct cfi_reg_rule *r = &row->regs[i];

		if (r->how != CFI_EXPR || !cfi_expr_is_breg(r->expr, r->expr_len, CFI_RSP, false, &n) ||
		    n != sigframe_offset[i])
			return false;
	}
	return true;
}

/* gcc's stack realignment with a dynamic realign argument pointer: the CFA is kept in the frame below rbp, and the
 * caller's rbp is the word at rbp. */
static uint32_t realigned_compact(const struct cfi_row *row)
{
	const struct cfi_reg_rule *rbp = &row->regs[CFI_RBP];
	int64_t at, rbp_at;

	if (!cfi_expr_is_breg(row->cfa_expr, row->cfa_expr_len, CFI_RBP, true, &at) || rbp->how != CFI_EXPR ||
	    !cfi_expr_is_breg(rbp->expr, rbp->expr_len, CFI_RBP, false, &rbp_at))
		return CFI_T_GENERIC;
	if (rbp_at != 0 || at > 0 || at % 8 != 0 || at < -8 * OFF_MAX)
		return CFI_T_GENERIC;
	return CFI_T_RBP_DEREF | (uint32_t)(-at / 8) << 3;
}

uint32_t cfi_compact(const struct cfi_row *row)
{
	const struct cfi_reg_rule *ra = &row->regs[CFI_RA], *rbp = &row->regs[CFI_RBP];
	uint32_t type, rbp_at = 0;

	if (ra->how == CFI_UNDEFINED)
		return CFI_T_END;
	if (cfi_row_is_sigframe(row))
		return CFI_T_SIGNAL;
	if (row->signal_frame || ra->how != CFI_OFFSET || ra->offset != -8 || row->regs[CFI_RSP].how != CFI_SAME)
		return CFI_T_GENERIC;
	if (row->cfa_expr)
		return realigned_compact(row);
	if (row->cfa_reg == CFI_RSP)
		type = CFI_T_RSP;
	else if (row->cfa_reg == CFI_RBP)
		type = CFI_T_RBP;
	else
		return CFI_T_GENERIC;
	if (row->cfa_offset <= 0 || row->cfa_offset % 8 != 0 || row->cfa_offset > 8 * OFF_MAX)
		return CFI_T_GENERIC;
	if (rbp->how == CFI_OFFSET) {
		if (rbp->offset >= 0 || rbp->offset % 8 != 0 || rbp->offset < -8 * RBP_AT_MAX)
			return CFI_T_GENERIC;
		rbp_at = (uint32_t)(-rbp->offset / 8);
	} else if (rbp->how != CFI_SAME && rbp->how != CFI_UNDEFINED) {
		return CFI_T_GENERIC;
	}
	return type | (uint32_t)(row->cfa_offset / 8) << 3 | rbp_at << 17;
}
