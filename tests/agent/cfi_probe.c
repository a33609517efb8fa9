/* SPDX-License-Identifier: MIT */
/* One lookup with everything that follows from it. */
#include "tests/agent/cfi_probe.h"

#include <stdio.h>
#include <stdlib.h>

#include "capture/agent/cfi_internal.h"

#define STEPS 4

static void broken(const char *what)
{
	fprintf(stderr, "cfi_probe: %s\n", what);
	abort();
}

/* Repeatable contents for any address; some addresses cannot be read. */
static bool memory_make(void *arg, uint64_t addr, uint64_t *ret)
{
	uint64_t x = (addr + *(uint64_t *)arg) * 0x9e3779b97f4a7c15u;

	if ((x >> 60) == 0)
		return false;
	*ret = x >> 20;
	return true;
}

static void expr_check(const struct cfi_module *m, const uint8_t *expr, uint32_t len)
{
	uint64_t at = (uint64_t)(uintptr_t)expr;

	if (!expr)
		broken("expression missing");
	if (at < m->lo || at > m->hi || len > m->hi - at)
		broken("expression outside of the module");
}

static void row_check(const struct cfi_module *m, uint64_t pc, const struct cfi_row *row)
{
	if (pc < row->pc_begin || pc >= row->pc_end)
		broken("the range does not hold the pc");
	if (cfi_row_is_sigframe(row))
		return; /* maybe the one made from constants */
	if (row->cfa_expr)
		expr_check(m, row->cfa_expr, row->cfa_expr_len);
	else if (row->cfa_reg >= CFI_REGS && row->regs[CFI_RA].how != CFI_UNDEFINED)
		broken("no CFA");
	for (unsigned i = 0; i < CFI_REGS; i++) {
		const struct cfi_reg_rule *r = &row->regs[i];

		if (r->how > CFI_VAL_EXPR)
			broken("unknown rule");
		if (r->how == CFI_EXPR || r->how == CFI_VAL_EXPR)
			expr_check(m, r->expr, r->expr_len);
		if (r->how == CFI_REGISTER && (uint32_t)r->offset >= CFI_REGS)
			broken("unknown register");
	}
}

static void steps_take(const struct cfi_row *row, uint64_t pc, uint64_t seed)
{
	struct cfi_regs regs;

	for (unsigned i = 0; i < CFI_REGS; i++)
		regs.v[i] = 0x7fff0000 + 64 * i;
	regs.v[CFI_RA] = pc;
	regs.known = (1u << CFI_REGS) - 1;
	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t sp = regs.v[CFI_RSP];

		if (!cfi_step(row, &regs, memory_make, &seed) || regs.v[CFI_RA] == 0)
			return;
		if (!row->signal_frame && row->regs[CFI_RSP].how == CFI_SAME && !row->cfa_expr &&
		    row->cfa_reg == CFI_RSP && regs.v[CFI_RSP] <= sp)
			broken("the stack pointer does not grow");
	}
}

bool cfi_probe(const struct cfi_module *m, uint64_t pc, uint64_t seed)
{
	struct cfi_row row;
	uint32_t compact;

	if (cfi_find_return_row(m, pc, &row) && CFI_TYPE(cfi_compact(&row)) != CFI_T_END)
		row_check(m, pc - 1, &row);
	if (!cfi_find_row(m, pc, &row))
		return false;
	row_check(m, pc, &row);
	compact = cfi_compact(&row);
	if (compact >> 24 || CFI_TYPE(compact) == CFI_T_NONE || CFI_TYPE(compact) > CFI_T_GENERIC)
		broken("not a 24-bit rule");
	steps_take(&row, pc, seed);
	return true;
}
