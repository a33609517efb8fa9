/* SPDX-License-Identifier: MIT */
/* The call frame instructions of a CIE and an FDE, run up to one pc (DWARF 5 section 6.4.2 and 6.4.3). */
#include "capture/agent/cfi_internal.h"

enum {
	DW_CFA_nop = 0x00,
	DW_CFA_set_loc = 0x01,
	DW_CFA_advance_loc1 = 0x02,
	DW_CFA_advance_loc2 = 0x03,
	DW_CFA_advance_loc4 = 0x04,
	DW_CFA_offset_extended = 0x05,
	DW_CFA_restore_extended = 0x06,
	DW_CFA_undefined = 0x07,
	DW_CFA_same_value = 0x08,
	DW_CFA_register = 0x09,
	DW_CFA_remember_state = 0x0a,
	DW_CFA_restore_state = 0x0b,
	DW_CFA_def_cfa = 0x0c,
	DW_CFA_def_cfa_register = 0x0d,
	DW_CFA_def_cfa_offset = 0x0e,
	DW_CFA_def_cfa_expression = 0x0f,
	DW_CFA_expression = 0x10,
	DW_CFA_offset_extended_sf = 0x11,
	DW_CFA_def_cfa_sf = 0x12,
	DW_CFA_def_cfa_offset_sf = 0x13,
	DW_CFA_val_offset = 0x14,
	DW_CFA_val_offset_sf = 0x15,
	DW_CFA_val_expression = 0x16,
	DW_CFA_GNU_args_size = 0x2e,
	DW_CFA_GNU_negative_offset_extended = 0x2f,
	/* the first two bits; the rest of the byte is the operand */
	DW_CFA_advance_loc = 0x40,
	DW_CFA_offset = 0x80,
	DW_CFA_restore = 0xc0,
};

#define NO_REG 0xff

/* A row as small as possible, because several live on the stack at once. arg is the offset or register of a rule; for
 * an expression, the distance of its length field from the module's start. */
struct state {
	uint32_t arg[CFI_REGS];
	uint32_t cfa_expr; /* 0: the CFA is cfa_reg + cfa_offset */
	int32_t cfa_offset;
	uint8_t how[CFI_REGS];
	uint8_t cfa_reg;
};

struct machine {
	const struct cfi_module *m;
	const struct cfi_cie *cie;
	struct cfi_cursor c;
	uint64_t loc;
	bool bad; /* an operand without meaning; c.bad: out of bytes */
	unsigned depth;
	struct state now, initial, remembered[CFI_REMEMBER_MAX];
};

static int32_t offset_check(struct machine *vm, int64_t v)
{
	if (v < INT32_MIN || v > INT32_MAX)
		vm->bad = true;
	return (int32_t)v;
}

static int32_t offset_scale(struct machine *vm, int64_t v)
{
	int64_t r;

	if (__builtin_mul_overflow(v, vm->cie->data_align, &r)) {
		vm->bad = true;
		return 0;
	}
	return offset_check(vm, r);
}

/* Unsigned operands above INT64_MAX become negative here and then fail or not like any other number. */
static int32_t uleb_scaled(struct machine *vm)
{
	return offset_scale(vm, (int64_t)cfi_cursor_uleb(&vm->c));
}

static int32_t sleb_scaled(struct machine *vm)
{
	return offset_scale(vm, cfi_cursor_sleb(&vm->c));
}

/* Rules for registers beyond the return address (vector and x87 registers) are read and dropped. */
static void rule_set(struct machine *vm, uint64_t reg, enum cfi_how how, int64_t arg)
{
	if (reg >= CFI_REGS)
		return;
	vm->now.how[reg] = (uint8_t)how;
	vm->now.arg[reg] = (uint32_t)arg;
}

static void rule_restore(struct machine *vm, uint64_t reg)
{
	if (reg < CFI_REGS)
		rule_set(vm, reg, vm->initial.how[reg], (int32_t)vm->initial.arg[reg]);
}

/* Steps over an expression block and gives its distance from the module's start. */
static uint32_t block_skip(struct machine *vm)
{
	uint64_t at = (uint64_t)(uintptr_t)vm->c.p - vm->m->lo;

	cfi_cursor_skip(&vm->c, cfi_cursor_uleb(&vm->c));
	if (at > UINT32_MAX || at == 0)
		vm->bad = true;
	return (uint32_t)at;
}

static void cfa_reg_set(struct machine *vm, uint64_t reg)
{
	if (reg >= CFI_REGS) {
		vm->bad = true;
		return;
	}
	vm->now.cfa_reg = (uint8_t)reg;
	vm->now.cfa_expr = 0;
}

static void state_push(struct machine *vm)
{
	if (vm->depth == CFI_REMEMBER_MAX) {
		vm->bad = true;
		return;
	}
	vm->remembered[vm->depth++] = vm->now;
}

/* The CFA's rule is restored together with the registers': gcc, gas and every unwinder do so. */
static void state_pop(struct machine *vm)
{
	if (vm->depth == 0) {
		vm->bad = true;
		return;
	}
	vm->now = vm->remembered[--vm->depth];
}

static void cfa_op(struct machine *vm, uint8_t op)
{
	uint64_t reg;

	switch (op) {
	case DW_CFA_def_cfa:
		cfa_reg_set(vm, cfi_cursor_uleb(&vm->c));
		vm->now.cfa_offset = offset_check(vm, (int64_t)cfi_cursor_uleb(&vm->c));
		break;
	case DW_CFA_def_cfa_sf:
		cfa_reg_set(vm, cfi_cursor_uleb(&vm->c));
		vm->now.cfa_offset = sleb_scaled(vm);
		break;
	case DW_CFA_def_cfa_register:
		reg = cfi_cursor_uleb(&vm->c);
		cfa_reg_set(vm, reg);
		break;
	case DW_CFA_def_cfa_offset:
		vm->now.cfa_offset = offset_check(vm, (int64_t)cfi_cursor_uleb(&vm->c));
		break;
	case DW_CFA_def_cfa_offset_sf:
		vm->now.cfa_offset = sleb_scaled(vm);
		break;
	case DW_CFA_def_cfa_expression:
		vm->now.cfa_expr = block_skip(vm);
		break;
	}
}

static void reg_op(struct machine *vm, uint8_t op)
{
	uint64_t reg = cfi_cursor_uleb(&vm->c), other;

	switch (op) {
	case DW_CFA_offset_extended:
		rule_set(vm, reg, CFI_OFFSET, uleb_scaled(vm));
		break;
	case DW_CFA_offset_extended_sf:
		rule_set(vm, reg, CFI_OFFSET, sleb_scaled(vm));
		break;
	case DW_CFA_GNU_negative_offset_extended:
		rule_set(vm, reg, CFI_OFFSET, offset_check(vm, -(int64_t)uleb_scaled(vm)));
		break;
	case DW_CFA_val_offset:
		rule_set(vm, reg, CFI_VAL_OFFSET, uleb_scaled(vm));
		break;
	case DW_CFA_val_offset_sf:
		rule_set(vm, reg, CFI_VAL_OFFSET, sleb_scaled(vm));
		break;
	case DW_CFA_restore_extended:
		rule_restore(vm, reg);
		break;
	case DW_CFA_undefined:
		rule_set(vm, reg, CFI_UNDEFINED, 0);
		break;
	case DW_CFA_same_value:
		rule_set(vm, reg, CFI_SAME, 0);
		break;
	case DW_CFA_register:
		other = cfi_cursor_uleb(&vm->c);
		if (other < CFI_REGS)
			rule_set(vm, reg, CFI_REGISTER, (int64_t)other);
		else
			rule_set(vm, reg, CFI_UNDEFINED, 0); /* kept in a register nobody tracks */
		break;
	case DW_CFA_expression:
		rule_set(vm, reg, CFI_EXPR, block_skip(vm));
		break;
	case DW_CFA_val_expression:
		rule_set(vm, reg, CFI_VAL_EXPR, block_skip(vm));
		break;
	}
}

static void op_execute(struct machine *vm, uint8_t op)
{
	switch (op & 0xc0) {
	case DW_CFA_advance_loc:
		vm->loc += (op & 0x3f) * vm->cie->code_align;
		return;
	case DW_CFA_offset:
		rule_set(vm, op & 0x3f, CFI_OFFSET, uleb_scaled(vm));
		return;
	case DW_CFA_restore:
		rule_restore(vm, op & 0x3f);
		return;
	}
	switch (op) {
	case DW_CFA_nop:
		break;
	case DW_CFA_set_loc:
		if (vm->cie->fde_encoding & DW_EH_PE_indirect)
			vm->bad = true;
		vm->loc = cfi_cursor_encoded(&vm->c, vm->cie->fde_encoding, 0);
		break;
	case DW_CFA_advance_loc1:
		vm->loc += cfi_cursor_uint(&vm->c, 1) * vm->cie->code_align;
		break;
	case DW_CFA_advance_loc2:
		vm->loc += cfi_cursor_uint(&vm->c, 2) * vm->cie->code_align;
		break;
	case DW_CFA_advance_loc4:
		vm->loc += cfi_cursor_uint(&vm->c, 4) * vm->cie->code_align;
		break;
	case DW_CFA_remember_state:
		state_push(vm);
		break;
	case DW_CFA_restore_state:
		state_pop(vm);
		break;
	case DW_CFA_GNU_args_size:
		cfi_cursor_uleb(&vm->c); /* only of interest to landing pads */
		break;
	case DW_CFA_def_cfa:
	case DW_CFA_def_cfa_sf:
	case DW_CFA_def_cfa_register:
	case DW_CFA_def_cfa_offset:
	case DW_CFA_def_cfa_offset_sf:
	case DW_CFA_def_cfa_expression:
		cfa_op(vm, op);
		break;
	case DW_CFA_offset_extended:
	case DW_CFA_restore_extended:
	case DW_CFA_undefined:
	case DW_CFA_same_value:
	case DW_CFA_register:
	case DW_CFA_expression:
	case DW_CFA_offset_extended_sf:
	case DW_CFA_val_offset:
	case DW_CFA_val_offset_sf:
	case DW_CFA_val_expression:
	case DW_CFA_GNU_negative_offset_extended:
		reg_op(vm, op);
		break;
	default:
		vm->bad = true; /* its operands are unknown, so nothing after it can be read */
	}
}

/* Runs one instruction sequence until it ends or moves beyond pc. */
static bool sequence_run(struct machine *vm, struct cfi_cursor program, uint64_t pc)
{
	vm->c = program;
	for (unsigned i = 0; vm->c.p < vm->c.end && vm->loc <= pc; i++) {
		if (i == CFI_PROGRAM_MAX)
			return false;
		op_execute(vm, (uint8_t)cfi_cursor_uint(&vm->c, 1));
		if (vm->bad || vm->c.bad)
			return false;
	}
	return true;
}

/* at: distance from the module's start; the block was walked over once, so it lies inside. */
static const uint8_t *block_open(const struct cfi_module *m, uint32_t at, uint32_t *ret_len)
{
	struct cfi_cursor c = cfi_cursor_at(m, m->lo + at);

	*ret_len = (uint32_t)cfi_cursor_uleb(&c);
	return c.p;
}

static void row_fill(const struct cfi_module *m, const struct state *s, struct cfi_row *ret)
{
	ret->cfa_reg = s->cfa_reg;
	ret->cfa_offset = s->cfa_offset;
	ret->cfa_expr = 0;
	ret->cfa_expr_len = 0;
	if (s->cfa_expr != 0)
		ret->cfa_expr = block_open(m, s->cfa_expr, &ret->cfa_expr_len);
	for (unsigned i = 0; i < CFI_REGS; i++) {
		struct cfi_reg_rule *r = &ret->regs[i];

		r->how = s->how[i];
		r->offset = 0;
		r->expr = 0;
		r->expr_len = 0;
		if (r->how == CFI_EXPR || r->how == CFI_VAL_EXPR)
			r->expr = block_open(m, s->arg[i], &r->expr_len);
		else
			r->offset = (int32_t)s->arg[i];
	}
}

bool cfi_program_run(const struct cfi_module *m, const struct cfi_fde *fde, uint64_t pc, struct cfi_row *ret)
{
	struct machine vm;
	uint64_t ra = fde->cie.ra_column;

	vm.m = m;
	vm.cie = &fde->cie;
	vm.bad = false;
	vm.depth = 0;
	vm.loc = 0;
	vm.now.cfa_reg = NO_REG;
	vm.now.cfa_offset = 0;
	vm.now.cfa_expr = 0;
	for (unsigned i = 0; i < CFI_REGS; i++) {
		vm.now.how[i] = CFI_SAME;
		vm.now.arg[i] = 0;
	}
	vm.initial = vm.now;
	if (!sequence_run(&vm, fde->cie.program, UINT64_MAX))
		return false;
	vm.initial = vm.now;
	vm.depth = 0;
	vm.loc = fde->pc_begin;
	if (!sequence_run(&vm, fde->program, pc))
		return false;
	/* The return address may have another column than its own: then that column's rule finds it, and without a
	 * rule it still is in that register. */
	if (ra != CFI_RA) {
		bool same = vm.now.how[ra] == CFI_SAME;

		vm.now.how[CFI_RA] = same ? CFI_REGISTER : vm.now.how[ra];
		vm.now.arg[CFI_RA] = same ? (uint32_t)ra : vm.now.arg[ra];
	}
	/* Without any CFA there is only one thing a row can say: this is the outermost frame. */
	if (vm.now.cfa_reg == NO_REG && vm.now.cfa_expr == 0 && vm.now.how[CFI_RA] != CFI_UNDEFINED)
		return false;
	row_fill(m, &vm.now, ret);
	return true;
}
