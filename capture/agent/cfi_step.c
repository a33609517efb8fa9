/* SPDX-License-Identifier: MIT */
/* One frame outward with all registers. */
#include "capture/agent/cfi_internal.h"

/* A CFA below the stack pointer is believed only when it is at least this far away: then the frame runs on another
 * stack than its caller (its CFA comes from a saved stack pointer). Nearer, it is damage. */
#define STACK_SWITCH_MIN 4096

static bool cfa_compute(const struct cfi_row *row, const struct cfi_regs *regs, cfi_read_fn read, void *arg,
			uint64_t *ret)
{
	if (row->cfa_expr)
		return cfi_expr_eval(row->cfa_expr, row->cfa_expr_len, 0, regs, read, arg, ret);
	if (row->cfa_reg >= CFI_REGS || !(regs->known >> row->cfa_reg & 1))
		return false;
	*ret = regs->v[row->cfa_reg] + (uint64_t)(int64_t)row->cfa_offset;
	return true;
}

/* The caller's value of register reg; false when it cannot be known. */
static bool reg_recover(const struct cfi_row *row, unsigned reg, uint64_t cfa, const struct cfi_regs *regs,
			cfi_read_fn read, void *arg, uint64_t *ret)
{
	const struct cfi_reg_rule *r = &row->regs[reg];
	unsigned from = reg;
	uint64_t addr;

	switch (r->how) {
	case CFI_REGISTER:
		from = (unsigned)r->offset;
		if (from >= CFI_REGS)
			return false;
		/* fallthrough */
	case CFI_SAME:
		*ret = regs->v[from];
		return regs->known >> from & 1;
	case CFI_OFFSET:
		return read(arg, cfa + (uint64_t)(int64_t)r->offset, ret);
	case CFI_VAL_OFFSET:
		*ret = cfa + (uint64_t)(int64_t)r->offset;
		return true;
	case CFI_EXPR:
		return cfi_expr_eval(r->expr, r->expr_len, &cfa, regs, read, arg, &addr) && read(arg, addr, ret);
	case CFI_VAL_EXPR:
		return cfi_expr_eval(r->expr, r->expr_len, &cfa, regs, read, arg, ret);
	default:
		return false;
	}
}

/* The stack grows down, so going outward the stack pointer must rise; otherwise a damaged stack could be walked in
 * circles. A signal frame may lead back to any other stack, as may a frame that finds its caller's stack pointer by
 * a rule of its own or its CFA through something else than the stack pointer. */
static bool sp_is_plausible(const struct cfi_row *row, uint64_t old_sp, uint64_t cfa, uint64_t new_sp)
{
	if (row->signal_frame)
		return true;
	if (row->regs[CFI_RSP].how != CFI_SAME)
		return new_sp != old_sp;
	if (cfa > old_sp)
		return true;
	return (row->cfa_expr || row->cfa_reg != CFI_RSP) && old_sp - cfa >= STACK_SWITCH_MIN;
}

bool cfi_step(const struct cfi_row *row, struct cfi_regs *regs, cfi_read_fn read, void *arg)
{
	struct cfi_regs out;
	uint64_t cfa, v;

	if (row->regs[CFI_RA].how == CFI_UNDEFINED) {
		regs->v[CFI_RA] = 0;
		regs->known |= 1u << CFI_RA;
		return true;
	}
	/* The pc is no register that a callee could have left alone. */
	if (row->regs[CFI_RA].how == CFI_SAME || !cfa_compute(row, regs, read, arg, &cfa))
		return false;
	out.known = 0;
	for (unsigned i = 0; i < CFI_REGS; i++) {
		bool known = true;

		v = cfa;
		if (i != CFI_RSP || row->regs[i].how != CFI_SAME)
			known = reg_recover(row, i, cfa, regs, read, arg, &v);
		out.v[i] = known ? v : 0;
		out.known |= (uint32_t)known << i;
	}
	/* Any other register may stay unknown until a rule needs it. */
	if (!(out.known >> CFI_RA & 1) || !(out.known >> CFI_RSP & 1))
		return false;
	if ((regs->known >> CFI_RSP & 1) && !sp_is_plausible(row, regs->v[CFI_RSP], cfa, out.v[CFI_RSP]))
		return false;
	for (unsigned i = 0; i < CFI_REGS; i++)
		regs->v[i] = out.v[i];
	regs->known = out.known;
	return true;
}
