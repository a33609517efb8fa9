/* SPDX-License-Identifier: MIT */
/* Rows in 24 bits: the frames whose unwinding needs rsp and rbp only. */
#include "capture/agent/cfi_internal.h"

#define OFF_MAX 0x3fff
#define RBP_AT_MAX 0x7f

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
