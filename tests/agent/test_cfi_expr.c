/* SPDX-License-Identifier: MIT */
/* Every operation of DWARF expressions that call frame information may hold, and those it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "capture/agent/cfi_internal.h"

#define CFA 0x7000

static uint64_t memory[4] = {0x1122334455667788, 0x99aabbccddeeff00, 0x0123456789abcdef, 42};

/* The words of `memory` are at 0x1000; they may also be read across their borders. */
static bool memory_read(void *arg, uint64_t addr, uint64_t *ret)
{
	(void)arg;
	if (addr < 0x1000 || addr > 0x1000 + sizeof(memory) - 8)
		return false;
	memcpy(ret, (uint8_t *)memory + (addr - 0x1000), 8);
	return true;
}

static bool eval(const char *expr, size_t len, uint64_t *ret)
{
	static const uint64_t cfa = CFA;
	struct cfi_regs regs;

	for (unsigned i = 0; i < CFI_REGS; i++)
		regs.v[i] = 0x1000 + i;
	regs.known = 0x1ffff & ~(1u << 11);
	return cfi_expr_eval((const uint8_t *)expr, (uint32_t)len, &cfa, &regs, memory_read, NULL, ret);
}

#define GIVES(bytes, value)                                        \
	do {                                                       \
		uint64_t got = ~(uint64_t)(value);                 \
		assert_true(eval(bytes, sizeof(bytes) - 1, &got)); \
		assert_int_equal(got, (uint64_t)(value));          \
	} while (0)
#define FAILS(bytes)                                                \
	do {                                                        \
		uint64_t got;                                       \
		assert_false(eval(bytes, sizeof(bytes) - 1, &got)); \
	} while (0)

static void test_constants(void **state)
{
	(void)state;
	GIVES("", CFA);
	GIVES("\x30", 0);
	GIVES("\x4f", 31);
	GIVES("\x08\xfe", 0xfe);
	GIVES("\x09\xfe", -2);
	GIVES("\x0a\xfe\xff", 0xfffe);
	GIVES("\x0b\xfe\xff", -2);
	GIVES("\x0c\xfe\xff\xff\xff", 0xfffffffe);
	GIVES("\x0d\xfe\xff\xff\xff", -2);
	GIVES("\x0e\x01\x02\x03\x04\x05\x06\x07\x08", 0x0807060504030201);
	GIVES("\x0f\xff\xff\xff\xff\xff\xff\xff\xff", -1);
	GIVES("\x03\x01\x02\x03\x04\x05\x06\x07\x08", 0x0807060504030201);
	GIVES("\x10\x80\x02", 256);
	GIVES("\x11\x80\x7e", -256);
	GIVES("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", UINT64_MAX);
	GIVES("\x11\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f", INT64_MIN);
	GIVES("\x11\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", -2); /* padded */
	FAILS("\x08");
	FAILS("\x0e\x01\x02\x03\x04\x05\x06\x07");
	FAILS("\x10\x80");
}

static void test_registers(void **state)
{
	(void)state;
	GIVES("\x70\0", 0x1000);
	GIVES("\x77\x08", 0x100f);
	GIVES("\x76\x78", 0x1006 - 8);
	GIVES("\x80\x01", 0x1011);
	GIVES("\x92\x07\x78", 0x1007 - 8);
	FAILS("\x7b\0");     /* r11 is not known */
	FAILS("\x81\0");     /* no such register */
	FAILS("\x92\x11\0"); /* the same */
}

static void test_stack(void **state)
{
	char full[64];

	(void)state;
	GIVES("\x12\x22", 2 * CFA);
	GIVES("\x31\x13", CFA);
	GIVES("\x31\x14", CFA);
	GIVES("\x31\x32\x15\x02", CFA);
	GIVES("\x31\x32\x15\0", 2);
	GIVES("\x31\x32\x16", 1);
	GIVES("\x31\x32\x16\x1c", 1); /* 2 - 1 */
	GIVES("\x31\x32\x33\x17", 2); /* 1 2 3 -> 3 1 2 */
	GIVES("\x31\x32\x33\x17\x13", 1);
	GIVES("\x31\x32\x33\x17\x13\x13", 3);
	FAILS("\x13"); /* nothing left to give */
	FAILS("\x13\x13");
	FAILS("\x13\x12");
	FAILS("\x14");
	FAILS("\x31\x15\x02");
	FAILS("\x13\x31\x16");
	FAILS("\x31\x17");
	memset(full, 0x31, sizeof(full));
	{
		uint64_t got;

		assert_true(eval(full, 63, &got)); /* the CFA is the 64th */
		assert_false(eval(full, 64, &got));
	}
}

static void test_arithmetic(void **state)
{
	(void)state;
	GIVES("\x09\xfb\x19", 5);
	GIVES("\x35\x19", 5);
	GIVES("\x3f\x3a\x1a", 10);
	GIVES("\x09\xf9\x32\x1b", -3); /* signed */
	GIVES("\x11\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f\x09\xff\x1b", INT64_MIN);
	FAILS("\x31\x30\x1b");
	GIVES("\x35\x37\x1c", -2);
	GIVES("\x09\xff\x3a\x1d", UINT64_MAX % 10); /* unsigned */
	FAILS("\x31\x30\x1d");
	GIVES("\x35\x09\xfd\x1e", -15);
	GIVES("\x35\x1f", -5);
	GIVES("\x35\x20", ~5ull);
	GIVES("\x35\x3a\x21", 15);
	GIVES("\x35\x3a\x22", 15);
	GIVES("\x23\x90\x01", CFA + 144);
	GIVES("\x35\x3a\x27", 15);
	GIVES("\x37\x3f\x27", 8);
	GIVES("\x31\x34\x24", 16);
	GIVES("\x31\x08\x40\x24", 0);
	GIVES("\x09\xf0\x34\x25", 0x0fffffffffffffff);
	GIVES("\x09\xf0\x08\x40\x25", 0);
	GIVES("\x09\xf0\x32\x26", -4);
	GIVES("\x09\xf0\x08\x64\x26", -1);
	GIVES("\x96", CFA);
}

static void test_comparisons(void **state)
{
	(void)state;
	GIVES("\x09\xff\x31\x2d", 1); /* -1 < 1: signed */
	GIVES("\x31\x31\x2d", 0);
	GIVES("\x31\x31\x2c", 1);
	GIVES("\x31\x09\xff\x2c", 0);
	GIVES("\x31\x09\xff\x2b", 1);
	GIVES("\x31\x31\x2b", 0);
	GIVES("\x31\x31\x2a", 1);
	GIVES("\x09\xff\x31\x2a", 0);
	GIVES("\x31\x31\x29", 1);
	GIVES("\x31\x32\x29", 0);
	GIVES("\x31\x32\x2e", 1);
	GIVES("\x31\x31\x2e", 0);
}

static void test_jumps(void **state)
{
	(void)state;
	GIVES("\x35\x2f\x01\0\x36", 5);
	GIVES("\x35\x31\x28\x01\0\x36", 5);
	GIVES("\x35\x30\x28\x01\0\x36", 6);
	/* 5 + 4 + 3 + 2 + 1: sum, n; while n: over += n--, kept as "sum n" */
	GIVES("\x30\x35\x12\x17\x22\x16\x31\x1c\x12\x28\xf6\xff\x13", 15);
	FAILS("\x2f\x01\0");           /* behind the end */
	FAILS("\x2f\xfc\xff");         /* before the start */
	FAILS("\x2f\xfd\xff");         /* for ever */
	FAILS("\x31\x12\x28\xfc\xff"); /* for ever, and growing */
}

static void test_memory(void **state)
{
	(void)state;
	GIVES("\x70\0\x06", 0x1122334455667788);
	GIVES("\x70\x08\x06", 0x99aabbccddeeff00);
	GIVES("\x70\0\x94\x01", 0x88);
	GIVES("\x70\x01\x94\x02", 0x6677);
	GIVES("\x70\x04\x94\x04", 0x11223344);
	GIVES("\x70\x06\x94\x04", 0xff001122); /* across two words */
	GIVES("\x70\0\x94\x08", 0x1122334455667788);
	GIVES("\x70\x1f\x94\x01", 0); /* the last byte, whose own word would reach out */
	FAILS("\x70\0\x94\0");
	FAILS("\x70\0\x94\x09");
	FAILS("\x70\x20\x06");
	FAILS("\x30\x06");
}

static void test_refused(void **state)
{
	/* xderef, reg0, regx, fbreg, piece, xderef_size, push_object_address, call2, form_tls_address,
	 * call_frame_cfa, bit_piece, implicit_value, stack_value, entry_value, GNU_push_tls_address, unused ones */
	static const uint8_t ops[] = {0x18, 0x50, 0x6f, 0x90, 0x91, 0x93, 0x95, 0x97, 0x98, 0x9b, 0x9c,
				      0x9d, 0x9e, 0x9f, 0xa3, 0xe0, 0xff, 0x00, 0x01, 0x02, 0x04, 0x07};

	(void)state;
	for (size_t i = 0; i < sizeof(ops); i++) {
		char expr[] = {0x31, 0x32, (char)ops[i], 0, 0};
		uint64_t got;

		assert_false(eval(expr, sizeof(expr), &got));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constants),   cmocka_unit_test(test_registers),
		cmocka_unit_test(test_stack),       cmocka_unit_test(test_arithmetic),
		cmocka_unit_test(test_comparisons), cmocka_unit_test(test_jumps),
		cmocka_unit_test(test_memory),      cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
