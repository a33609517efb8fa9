/* SPDX-License-Identifier: MIT */
/* Steps over hand-made rows, and what of a row fits into 24 bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "capture/agent/cfi.h"

#define STACK 0x7fff0000u

static uint64_t stack[64]; /* at STACK; each word holds its index + 0x1000 */

static bool stack_read(void *arg, uint64_t addr, uint64_t *ret)
{
	(void)arg;
	if (addr < STACK || addr > STACK + sizeof(stack) - 8)
		return false;
	memcpy(ret, (uint8_t *)stack + (addr - STACK), 8);
	return true;
}

static int stack_fill(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i++)
		stack[i] = 0x1000 + i;
	return 0;
}

/* CFA = rsp + 16, return address at CFA - 8. */
static struct cfi_row usual_row(void)
{
	struct cfi_row r;

	memset(&r, 0, sizeof(r));
	r.cfa_reg = CFI_RSP;
	r.cfa_offset = 16;
	r.regs[CFI_RA].how = CFI_OFFSET;
	r.regs[CFI_RA].offset = -8;
	return r;
}

static struct cfi_regs usual_regs(void)
{
	struct cfi_regs r;

	for (unsigned i = 0; i < CFI_REGS; i++)
		r.v[i] = 100 + i;
	r.v[CFI_RSP] = STACK;
	r.v[CFI_RBP] = STACK + 80;
	r.known = 0x1ffff;
	return r;
}

static void expr_set(struct cfi_reg_rule *r, enum cfi_how how, const char *expr, uint32_t len)
{
	r->how = (uint8_t)how;
	r->expr = (const uint8_t *)expr;
	r->expr_len = len;
}

static void cfa_expr_set(struct cfi_row *r, const char *expr, uint32_t len)
{
	r->cfa_expr = (const uint8_t *)expr;
	r->cfa_expr_len = len;
}

static void test_step_rules(void **state)
{
	struct cfi_row row = usual_row();
	struct cfi_regs regs = usual_regs();

	(void)state;
	row.cfa_offset = 48;
	row.regs[3].how = CFI_OFFSET;
	row.regs[3].offset = -16;
	row.regs[12].how = CFI_VAL_OFFSET;
	row.regs[12].offset = 24;
	row.regs[13].how = CFI_REGISTER;
	row.regs[13].offset = 1;
	row.regs[14].how = CFI_UNDEFINED;
	expr_set(&row.regs[15], CFI_EXPR, "\x38\x1c", 2);            /* at CFA - 8 */
	expr_set(&row.regs[0], CFI_VAL_EXPR, "\x77\x08\x06\x22", 4); /* CFA + *(rsp + 8), old rsp */
	expr_set(&row.regs[CFI_RBP], CFI_EXPR, "\x13\x76\0", 3);     /* at old rbp */
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.v[CFI_RSP], STACK + 48);
	assert_int_equal(regs.v[CFI_RA], 0x1005);
	assert_int_equal(regs.v[3], 0x1004);
	assert_int_equal(regs.v[12], STACK + 72);
	assert_int_equal(regs.v[13], 101);
	assert_int_equal(regs.v[15], 0x1005);
	assert_int_equal(regs.v[0], STACK + 48 + 0x1001);
	assert_int_equal(regs.v[CFI_RBP], 0x100a);
	assert_int_equal(regs.v[2], 102);
	assert_int_equal(regs.known, 0x1ffff & ~(1u << 14));
}

static void test_step_fails(void **state)
{
	struct cfi_row row = usual_row();
	struct cfi_regs regs = usual_regs(), before = regs;

	(void)state;
	regs.known &= ~(1u << CFI_RSP);
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	regs = before;
	row.cfa_offset = 0; /* no progress */
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	row.cfa_offset = -8;
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	row.cfa_offset = 65536; /* refused read */
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	row = usual_row();
	row.regs[CFI_RA].how = CFI_SAME;
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	row = usual_row();
	row.cfa_reg = 200;
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	row = usual_row();
	expr_set(&row.regs[CFI_RA], CFI_EXPR, "\x9c", 1);
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	row.regs[CFI_RA].how = CFI_REGISTER;
	row.regs[CFI_RA].offset = 99;
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
	assert_memory_equal(regs.v, before.v, sizeof(regs.v));
	assert_int_equal(regs.known, before.known);
	/* A register nobody may ever ask for does not end the walk. */
	row = usual_row();
	row.regs[3].how = CFI_OFFSET;
	row.regs[3].offset = 65536;
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.known, 0x1ffff & ~(1u << 3));
	/* ... and is missed when a rule asks for it. */
	row.cfa_reg = 3;
	assert_false(cfi_step(&row, &regs, stack_read, NULL));
}

static void test_step_end(void **state)
{
	struct cfi_row row = usual_row();
	struct cfi_regs regs = usual_regs();

	(void)state;
	row.regs[CFI_RA].how = CFI_UNDEFINED;
	row.cfa_reg = 255;
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.v[CFI_RA], 0);
	row = usual_row();
	regs = usual_regs();
	stack[1] = 0;
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.v[CFI_RA], 0);
	stack[1] = 0x1001;
}

static void test_step_stack_switch(void **state)
{
	struct cfi_row row = usual_row();
	struct cfi_regs regs = usual_regs();

	(void)state;
	/* rbp holds the other stack's pointer, rsp is above it. */
	row.cfa_reg = CFI_RBP;
	regs.v[CFI_RBP] = STACK;
	regs.v[CFI_RSP] = STACK + 65536;
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.v[CFI_RSP], STACK + 16);
	regs = usual_regs();
	regs.v[CFI_RBP] = STACK;
	regs.v[CFI_RSP] = STACK + 16; /* a few bytes back: damage */
	assert_false(cfi_step(&row, &regs, stack_read, NULL));

	/* A rule for rsp itself. */
	row = usual_row();
	row.regs[CFI_RSP].how = CFI_OFFSET;
	row.regs[CFI_RSP].offset = -16;
	regs = usual_regs();
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.v[CFI_RSP], 0x1000);

	/* A signal frame on an alternate stack above the interrupted one. */
	row = usual_row();
	row.signal_frame = true;
	row.cfa_offset = 48;
	expr_set(&row.regs[CFI_RSP], CFI_EXPR, "\x77\x08", 2);
	regs = usual_regs();
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.v[CFI_RSP], 0x1001);
}

static void compact_check(const struct cfi_row *row, unsigned type, unsigned off, unsigned rbp_at)
{
	uint32_t c = cfi_compact(row);

	assert_int_equal(CFI_TYPE(c), type);
	assert_int_equal(CFI_OFF(c), off);
	assert_int_equal(CFI_RBP_AT(c), rbp_at);
	assert_int_equal(c >> 24, 0);
}

static void test_compact_plain(void **state)
{
	struct cfi_row row = usual_row();

	(void)state;
	compact_check(&row, CFI_T_RSP, 2, 0);
	row.cfa_reg = CFI_RBP;
	row.regs[CFI_RBP].how = CFI_OFFSET;
	row.regs[CFI_RBP].offset = -16;
	compact_check(&row, CFI_T_RBP, 2, 2);
	row.regs[CFI_RBP].offset = -127 * 8;
	row.cfa_offset = 0x3fff * 8;
	compact_check(&row, CFI_T_RBP, 0x3fff, 127);
	row.regs[3].how = CFI_UNDEFINED; /* other registers do not matter */
	row.regs[CFI_RBP].how = CFI_UNDEFINED;
	compact_check(&row, CFI_T_RBP, 0x3fff, 0);
	row.regs[CFI_RA].how = CFI_UNDEFINED;
	compact_check(&row, CFI_T_END, 0, 0);
}

static void test_compact_generic(void **state)
{
	struct cfi_row row = usual_row();

	(void)state;
	row.cfa_offset = 12;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row.cfa_offset = 0x4000 * 8;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row.cfa_offset = 0;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row = usual_row();
	row.cfa_reg = 10;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row = usual_row();
	row.regs[CFI_RA].offset = -16;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row.regs[CFI_RA].how = CFI_REGISTER;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row = usual_row();
	row.regs[CFI_RSP].how = CFI_VAL_OFFSET;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	for (int offset = -128 * 8; offset <= 8; offset += 8 * 128 + 8) {
		row = usual_row();
		row.regs[CFI_RBP].how = CFI_OFFSET;
		row.regs[CFI_RBP].offset = offset;
		compact_check(&row, CFI_T_GENERIC, 0, 0);
	}
	row.regs[CFI_RBP].how = CFI_REGISTER;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row = usual_row();
	row.signal_frame = true;
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	row = usual_row(); /* a procedure linkage table */
	cfa_expr_set(&row, "\x77\x08\x80\0\x3f\x1a\x3b\x2a\x33\x24\x22", 11);
	compact_check(&row, CFI_T_GENERIC, 0, 0);
}

static void test_compact_realigned(void **state)
{
	struct cfi_row row = usual_row();
	struct cfi_regs regs = usual_regs();

	(void)state;
	cfa_expr_set(&row, "\x76\x78\x06", 3);
	compact_check(&row, CFI_T_GENERIC, 0, 0); /* rbp must be at rbp */
	expr_set(&row.regs[CFI_RBP], CFI_EXPR, "\x76\0", 2);
	compact_check(&row, CFI_T_RBP_DEREF, 1, 0);
	stack[9] = STACK + 160;
	assert_true(cfi_step(&row, &regs, stack_read, NULL));
	assert_int_equal(regs.v[CFI_RSP], STACK + 160);
	assert_int_equal(regs.v[CFI_RBP], 0x100a);
	assert_int_equal(regs.v[CFI_RA], 0x1013);
	stack[9] = 0x1009;
	cfa_expr_set(&row, "\x76\xb0\x7f\x06", 4);
	compact_check(&row, CFI_T_RBP_DEREF, 10, 0);
	cfa_expr_set(&row, "\x76\x7c\x06", 3);
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	cfa_expr_set(&row, "\x76\x08\x06", 3);
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	cfa_expr_set(&row, "\x76\x78\x06\x96", 4);
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	cfa_expr_set(&row, "\x77\x78\x06", 3);
	compact_check(&row, CFI_T_GENERIC, 0, 0);
	cfa_expr_set(&row, "\x76\x78\x06", 3);
	expr_set(&row.regs[CFI_RBP], CFI_EXPR, "\x76\x08", 2);
	compact_check(&row, CFI_T_GENERIC, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_step_rules),        cmocka_unit_test(test_step_fails),
		cmocka_unit_test(test_step_end),          cmocka_unit_test(test_step_stack_switch),
		cmocka_unit_test(test_compact_plain),     cmocka_unit_test(test_compact_generic),
		cmocka_unit_test(test_compact_realigned),
	};

	return cmocka_run_group_tests(tests, stack_fill, NULL);
}
