/* SPDX-License-Identifier: MIT */
/* DWARF expressions as far as call frame information may use them (DWARF 5 sections 2.5 and 6.4.2). */
#include "capture/agent/cfi_internal.h"

#define STACK_MAX 64
/* Enough for any expression met in practice by two orders of magnitude; ends loops made with DW_OP_skip. */
#define OPS_MAX 1000

enum {
	DW_OP_addr = 0x03,
	DW_OP_const1u = 0x08,
	DW_OP_const1s = 0x09,
	DW_OP_const2u = 0x0a,
	DW_OP_const2s = 0x0b,
	DW_OP_const4u = 0x0c,
	DW_OP_const4s = 0x0d,
	DW_OP_const8u = 0x0e,
	DW_OP_const8s = 0x0f,
	DW_OP_constu = 0x10,
	DW_OP_consts = 0x11,
	DW_OP_dup = 0x12,
	DW_OP_drop = 0x13,
	DW_OP_over = 0x14,
	DW_OP_pick = 0x15,
	DW_OP_swap = 0x16,
	DW_OP_rot = 0x17,
	DW_OP_abs = 0x19,
	DW_OP_and = 0x1a,
	DW_OP_div = 0x1b,
	DW_OP_minus = 0x1c,
	DW_OP_mod = 0x1d,
	DW_OP_mul = 0x1e,
	DW_OP_neg = 0x1f,
	DW_OP_not = 0x20,
	DW_OP_or = 0x21,
	DW_OP_plus = 0x22,
	DW_OP_plus_uconst = 0x23,
	DW_OP_shl = 0x24,
	DW_OP_shr = 0x25,
	DW_OP_shra = 0x26,
	DW_OP_xor = 0x27,
	DW_OP_bra = 0x28,
	DW_OP_eq = 0x29,
	DW_OP_ge = 0x2a,
	DW_OP_gt = 0x2b,
	DW_OP_le = 0x2c,
	DW_OP_lt = 0x2d,
	DW_OP_ne = 0x2e,
	DW_OP_skip = 0x2f,
	DW_OP_lit0 = 0x30,
	DW_OP_lit31 = 0x4f,
	DW_OP_breg31 = 0x8f,
	DW_OP_bregx = 0x92,
	DW_OP_deref_size = 0x94,
	DW_OP_nop = 0x96,
};

struct eval {
	struct cfi_cursor c;
	const uint8_t *start;
	const struct cfi_regs *regs;
	cfi_read_fn read;
	void *read_arg;
	uint64_t stack[STACK_MAX];
	unsigned n;
	bool bad;
};

static void push(struct eval *e, uint64_t v)
{
	if (e->n == STACK_MAX)
		e->bad = true;
	else
		e->stack[e->n++] = v;
}

static uint64_t pop(struct eval *e)
{
	if (e->n == 0) {
		e->bad = true;
		return 0;
	}
	return e->stack[--e->n];
}

/* The entry `index` below the top. */
static uint64_t peek(struct eval *e, unsigned index)
{
	if (index >= e->n) {
		e->bad = true;
		return 0;
	}
	return e->stack[e->n - 1 - index];
}

static void push_reg(struct eval *e, uint64_t reg, int64_t offset)
{
	if (reg >= CFI_REGS || !(e->regs->known >> reg & 1))
		e->bad = true;
	else
		push(e, e->regs->v[reg] + (uint64_t)offset);
}

/* Reads whole words: a part of a word comes from the aligned word around it, which lies in the same page, unless the
 * part crosses its end. */
static void deref(struct eval *e, unsigned size)
{
	uint64_t addr = pop(e), base = addr, v;

	if (size == 0 || size > 8) {
		e->bad = true;
		return;
	}
	if (size < 8 && (addr & 7) + size <= 8)
		base = addr & ~(uint64_t)7;
	if (e->bad || !e->read(e->read_arg, base, &v)) {
		e->bad = true;
		return;
	}
	v >>= 8 * (addr - base);
	if (size < 8)
		v &= ((uint64_t)1 << 8 * size) - 1;
	push(e, v);
}

static void jump(struct eval *e, int16_t distance)
{
	int64_t at = e->c.p - e->start + distance;

	if (at < 0 || at > e->c.end - e->start)
		e->bad = true;
	else
		e->c.p = e->start + at;
}

/* Comparisons and division are signed, modulo is not; shifts by the word size or more shift everything out. */
static uint64_t binary(struct eval *e, uint8_t op, uint64_t a, uint64_t b)
{
	int64_t sa = (int64_t)a, sb = (int64_t)b;

	switch (op) {
	case DW_OP_and:
		return a & b;
	case DW_OP_div:
		if (b == 0)
			break;
		return sb == -1 ? -a : (uint64_t)(sa / sb); /* INT64_MIN / -1 would trap */
	case DW_OP_minus:
		return a - b;
	case DW_OP_mod:
		if (b == 0)
			break;
		return a % b;
	case DW_OP_mul:
		return a * b;
	case DW_OP_or:
		return a | b;
	case DW_OP_plus:
		return a + b;
	case DW_OP_shl:
		return b < 64 ? a << b : 0;
	case DW_OP_shr:
		return b < 64 ? a >> b : 0;
	case DW_OP_shra:
		return (uint64_t)(sa >> (b < 63 ? b : 63));
	case DW_OP_xor:
		return a ^ b;
	case DW_OP_eq:
		return a == b;
	case DW_OP_ge:
		return sa >= sb;
	case DW_OP_gt:
		return sa > sb;
	case DW_OP_le:
		return sa <= sb;
	case DW_OP_lt:
		return sa < sb;
	case DW_OP_ne:
		return a != b;
	}
	e->bad = true;
	return 0;
}

static void constant_op(struct eval *e, uint8_t op)
{
	switch (op) {
	case DW_OP_const1u:
		push(e, cfi_cursor_uint(&e->c, 1));
		break;
	case DW_OP_const1s:
		push(e, (uint64_t)(int8_t)cfi_cursor_uint(&e->c, 1));
		break;
	case DW_OP_const2u:
		push(e, cfi_cursor_uint(&e->c, 2));
		break;
	case DW_OP_const2s:
		push(e, (uint64_t)(int16_t)cfi_cursor_uint(&e->c, 2));
		break;
	case DW_OP_const4u:
		push(e, cfi_cursor_uint(&e->c, 4));
		break;
	case DW_OP_const4s:
		push(e, (uint64_t)(int32_t)cfi_cursor_uint(&e->c, 4));
		break;
	case DW_OP_constu:
		push(e, cfi_cursor_uleb(&e->c));
		break;
	case DW_OP_consts:
		push(e, (uint64_t)cfi_cursor_sleb(&e->c));
		break;
	default: /* DW_OP_addr, const8u, const8s */
		push(e, cfi_cursor_uint(&e->c, 8));
	}
}

static void stack_op(struct eval *e, uint8_t op)
{
	uint64_t a, b, c;

	switch (op) {
	case DW_OP_dup:
		push(e, peek(e, 0));
		break;
	case DW_OP_drop:
		pop(e);
		break;
	case DW_OP_over:
		push(e, peek(e, 1));
		break;
	case DW_OP_pick:
		push(e, peek(e, (unsigned)cfi_cursor_uint(&e->c, 1)));
		break;
	case DW_OP_swap:
		a = pop(e);
		b = pop(e);
		push(e, a);
		push(e, b);
		break;
	case DW_OP_rot: /* the top becomes the third */
		a = pop(e);
		b = pop(e);
		c = pop(e);
		push(e, a);
		push(e, c);
		push(e, b);
		break;
	}
}

/* True when the operation takes one value and gives one. */
static bool unary_op(struct eval *e, uint8_t op)
{
	uint64_t a;

	switch (op) {
	case DW_OP_abs:
		a = pop(e);
		push(e, (int64_t)a < 0 ? -a : a);
		return true;
	case DW_OP_neg:
		push(e, -pop(e));
		return true;
	case DW_OP_not:
		push(e, ~pop(e));
		return true;
	case DW_OP_plus_uconst:
		a = pop(e);
		push(e, a + cfi_cursor_uleb(&e->c));
		return true;
	case DW_OP_deref:
		deref(e, 8);
		return true;
	case DW_OP_deref_size:
		deref(e, (unsigned)cfi_cursor_uint(&e->c, 1));
		return true;
	default:
		return false;
	}
}

/* Refused: register and composite locations (no address), call_frame_cfa (circular), fbreg, calls, types, thread
 * storage, other address spaces. */
static void op_execute(struct eval *e, uint8_t op)
{
	uint64_t a, b;
	int16_t distance;

	if (op >= DW_OP_lit0 && op <= DW_OP_lit31) {
		push(e, op - DW_OP_lit0);
	} else if (op >= DW_OP_breg0 && op <= DW_OP_breg31) {
		push_reg(e, op - DW_OP_breg0, cfi_cursor_sleb(&e->c));
	} else if (op == DW_OP_bregx) {
		a = cfi_cursor_uleb(&e->c);
		push_reg(e, a, cfi_cursor_sleb(&e->c));
	} else if (op == DW_OP_addr || (op >= DW_OP_const1u && op <= DW_OP_consts)) {
		constant_op(e, op);
	} else if (op >= DW_OP_dup && op <= DW_OP_rot) {
		stack_op(e, op);
	} else if (op == DW_OP_skip) {
		distance = (int16_t)cfi_cursor_uint(&e->c, 2);
		jump(e, distance);
	} else if (op == DW_OP_bra) {
		distance = (int16_t)cfi_cursor_uint(&e->c, 2);
		if (pop(e) != 0)
			jump(e, distance);
	} else if (op != DW_OP_nop && !unary_op(e, op)) {
		b = pop(e);
		a = pop(e);
		push(e, binary(e, op, a, b));
	}
}

bool cfi_expr_eval(const uint8_t *expr, uint32_t len, const uint64_t *cfa, const struct cfi_regs *regs,
		   cfi_read_fn read, void *arg, uint64_t *ret)
{
	struct eval e;

	e.c.p = e.start = expr;
	e.c.end = expr + len;
	e.c.bad = false;
	e.regs = regs;
	e.read = read;
	e.read_arg = arg;
	e.n = 0;
	e.bad = false;
	if (cfa)
		push(&e, *cfa);
	for (unsigned i = 0; e.c.p < e.c.end; i++) {
		if (i == OPS_MAX)
			return false;
		op_execute(&e, (uint8_t)cfi_cursor_uint(&e.c, 1));
		if (e.bad || e.c.bad)
			return false;
	}
	*ret = pop(&e);
	return !e.bad;
}

bool cfi_expr_is_breg(const uint8_t *expr, uint32_t len, unsigned reg, bool with_deref, int64_t *ret_offset)
{
	struct cfi_cursor c = {expr, expr, false};
	int64_t offset;

	if (len == 0) /* also a row without an expression, whose pointer is NULL */
		return false;
	c.end += len;
	if (cfi_cursor_uint(&c, 1) != DW_OP_breg0 + reg)
		return false;
	offset = cfi_cursor_sleb(&c);
	if (with_deref && cfi_cursor_uint(&c, 1) != DW_OP_deref)
		return false;
	if (c.bad || c.p != c.end)
		return false;
	*ret_offset = offset;
	return true;
}
