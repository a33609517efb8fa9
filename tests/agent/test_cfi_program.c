/* SPDX-License-Identifier: MIT */
/* Finding FDEs in every layout of the sections, and every call frame instruction, on sections written here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "capture/agent/cfi_internal.h"
#include "tests/agent/cfi_builder.h"

#define PCREL4 (DW_EH_PE_pcrel | DW_EH_PE_sdata4)
#define PCREL8 (DW_EH_PE_pcrel | DW_EH_PE_sdata8)
#define TABLE4 (DW_EH_PE_datarel | DW_EH_PE_sdata4)

static struct cfi_builder b;
static struct cfi_row row;

/* Three functions of 16 bytes at 0, 16 and 48 from `base`, whose CFA offsets are 16, 24 and 32. */
static struct cfi_module three_functions_at(uint64_t base, uint8_t ptr_encoding, uint8_t table_encoding, bool table)
{
	static const unsigned start[3] = {0, 16, 48};
	uint64_t pcs[3];
	size_t fdes[3], cie;

	cfi_builder_init(&b);
	cie = cfi_builder_usual_cie(&b);
	for (unsigned i = 0; i < 3; i++) {
		pcs[i] = base + start[i];
		fdes[i] = cfi_builder_fde(&b, cie, "zR", PCREL4, pcs[i], 16);
		cfi_builder_uint(&b, 0x0e, 1);
		cfi_builder_uleb(&b, 16 + 8 * i);
		cfi_builder_end(&b);
	}
	return cfi_builder_finish(&b, ptr_encoding, table_encoding, pcs, fdes, table ? 3 : 0);
}

static struct cfi_module three_functions(uint8_t ptr_encoding, uint8_t table_encoding, bool table)
{
	return three_functions_at(CFI_BUILDER_PC(&b, 0), ptr_encoding, table_encoding, table);
}

static void three_functions_check(const struct cfi_module *m)
{
	static const struct {
		unsigned pc;
		int offset; /* 0: nothing there */
	} cases[] = {{0, 16}, {15, 16}, {16, 24}, {31, 24}, {32, 0},
		     {47, 0}, {48, 32}, {63, 32}, {64, 0},  {1000, 0}};

	assert_false(cfi_find_row(m, CFI_BUILDER_PC(&b, -1), &row));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(cfi_find_row(m, CFI_BUILDER_PC(&b, cases[i].pc), &row), cases[i].offset != 0);
		if (!cases[i].offset)
			continue;
		assert_int_equal(row.cfa_offset, cases[i].offset);
		assert_int_equal(row.cfa_reg, CFI_RSP);
		assert_int_equal(row.pc_begin, CFI_BUILDER_PC(&b, cases[i].pc & ~15u));
		assert_int_equal(row.pc_end, row.pc_begin + 16);
		assert_int_equal(row.regs[CFI_RA].how, CFI_OFFSET);
		assert_int_equal(row.regs[CFI_RA].offset, -8);
		assert_false(row.signal_frame);
	}
}

static void test_tables(void **state)
{
	/* Not udata4: it cannot reach back to FDEs in front of the header. */
	static const uint8_t encodings[] = {TABLE4,
					    DW_EH_PE_datarel | DW_EH_PE_sdata8,
					    DW_EH_PE_datarel | DW_EH_PE_udata8,
					    DW_EH_PE_datarel | DW_EH_PE_absptr,
					    DW_EH_PE_absptr,
					    DW_EH_PE_sdata8};

	(void)state;
	for (size_t i = 0; i < sizeof(encodings); i++) {
		struct cfi_module m = three_functions(PCREL4, encodings[i], true);

		three_functions_check(&m);
	}
}

static void test_no_table(void **state)
{
	static const uint8_t ptr[] = {
		PCREL4,          PCREL8,          TABLE4,           DW_EH_PE_datarel | DW_EH_PE_sdata8,
		DW_EH_PE_absptr, DW_EH_PE_udata8, DW_EH_PE_aligned, DW_EH_PE_uleb128,
		DW_EH_PE_sleb128};
	struct cfi_module m;

	(void)state;
	for (size_t i = 0; i < sizeof(ptr); i++) {
		m = three_functions(ptr[i], DW_EH_PE_omit, false);
		three_functions_check(&m);
	}
	/* A table of an encoding that cannot be indexed is passed over. */
	m = three_functions(PCREL4, DW_EH_PE_datarel | DW_EH_PE_sleb128, true);
	three_functions_check(&m);
	m = three_functions(PCREL4, PCREL4, true);
	three_functions_check(&m);
}

static void test_no_eh_frame(void **state)
{
	struct cfi_module m = three_functions(DW_EH_PE_omit, DW_EH_PE_omit, false);

	(void)state;
	assert_false(cfi_find_row(&m, CFI_BUILDER_PC(&b, 0), &row));
	m = three_functions(PCREL4, TABLE4, true);
	b.mem[m.eh_frame_hdr - b.mem] = 2; /* version */
	assert_false(cfi_find_row(&m, CFI_BUILDER_PC(&b, 0), &row));
	m.eh_frame_hdr = NULL;
	assert_false(cfi_find_row(&m, CFI_BUILDER_PC(&b, 0), &row));
}

/* Whether a function with this CIE is found, with the one rule its FDE adds (CFA offset 40). */
static bool cie_accepted(unsigned version, const char *augmentation, uint8_t encoding)
{
	struct cfi_module m;
	size_t cie, fde;
	uint64_t pc;

	cfi_builder_init(&b);
	cie = cfi_builder_cie(&b, version, augmentation, encoding);
	cfi_builder_bytes(&b, "\x0c\x07\x08\x90\x01", 5);
	cfi_builder_end(&b);
	pc = CFI_BUILDER_PC(&b, 0);
	fde = cfi_builder_fde(&b, cie, augmentation, encoding, pc, 16);
	cfi_builder_bytes(&b, "\x0e\x28", 2);
	cfi_builder_end(&b);
	m = cfi_builder_finish(&b, PCREL4, TABLE4, &pc, &fde, 1);
	if (!cfi_find_row(&m, pc + 3, &row))
		return false;
	assert_int_equal(row.cfa_offset, 40);
	assert_int_equal(row.regs[CFI_RA].offset, -8);
	return true;
}

static void test_cies(void **state)
{
	(void)state;
	assert_true(cie_accepted(1, "zR", PCREL4));
	assert_true(cie_accepted(3, "zR", PCREL4));
	assert_true(cie_accepted(4, "zR", PCREL4));
	assert_true(cie_accepted(1, "zR", PCREL8));
	assert_true(cie_accepted(1, "zR", DW_EH_PE_absptr));
	assert_true(cie_accepted(1, "zR", DW_EH_PE_uleb128));
	assert_true(cie_accepted(1, "zPLR", PCREL4));
	assert_false(row.signal_frame);
	assert_true(cie_accepted(1, "zRS", PCREL4));
	assert_true(row.signal_frame);
	assert_true(cie_accepted(1, "zRB", PCREL4));
	assert_true(cie_accepted(1, "z", DW_EH_PE_absptr));
	assert_true(cie_accepted(1, "", DW_EH_PE_absptr));
	assert_true(cie_accepted(1, "zRX", PCREL4)); /* unknown letters after what matters */
	assert_true(cie_accepted(1, "zPLRSB", PCREL4));

	assert_false(cie_accepted(2, "zR", PCREL4));
	assert_false(cie_accepted(5, "zR", PCREL4));
	assert_false(cie_accepted(1, "eh", DW_EH_PE_absptr));
	assert_false(cie_accepted(1, "R", PCREL4));
	assert_false(cie_accepted(1, "zR", DW_EH_PE_datarel | DW_EH_PE_sdata4));
	assert_false(cie_accepted(1, "zR", DW_EH_PE_indirect | PCREL4));
	assert_false(cie_accepted(1, "zRXXXXXXXXXXXXXXXXXXXXXXXXXXXX", PCREL4));
}

static void test_extended_length(void **state)
{
	struct cfi_module m;
	size_t cie, fde;
	uint64_t pc;

	(void)state;
	cfi_builder_init(&b);
	cie = cfi_builder_usual_cie(&b);
	pc = CFI_BUILDER_PC(&b, 0);
	fde = b.n;
	cfi_builder_uint(&b, 0xffffffff, 4);
	cfi_builder_uint(&b, 16, 8);
	cfi_builder_uint(&b, b.n - cie, 4);
	cfi_builder_encoded(&b, PCREL4, pc, 0);
	cfi_builder_uint(&b, 16, 4);
	cfi_builder_bytes(&b, "\0\x0e\x30\0", 4);
	m = cfi_builder_finish(&b, PCREL4, TABLE4, &pc, &fde, 1);
	assert_true(cfi_find_row(&m, pc, &row));
	assert_int_equal(row.cfa_offset, 48);
	m = cfi_builder_finish(&b, PCREL4, DW_EH_PE_omit, NULL, NULL, 0);
	assert_true(cfi_find_row(&m, pc, &row));
}

/* Runs the instructions for a function at PC 0 of 64 KiB and looks up PC at. */
static bool run_at(const void *program, size_t size, uint64_t at)
{
	struct cfi_module m;
	size_t cie, fde;
	uint64_t pc;

	cfi_builder_init(&b);
	cie = cfi_builder_usual_cie(&b);
	pc = CFI_BUILDER_PC(&b, 0);
	fde = cfi_builder_fde(&b, cie, "zR", PCREL4, pc, 65536);
	cfi_builder_bytes(&b, program, size);
	cfi_builder_end(&b);
	m = cfi_builder_finish(&b, PCREL4, TABLE4, &pc, &fde, 1);
	return cfi_find_row(&m, pc + at, &row);
}

#define RUN(at, bytes) run_at(bytes, sizeof(bytes) - 1, at)

static void test_advance(void **state)
{
	/* CFA offset 8; 16 from 5, 24 from 5 + 200, 32 from 205 + 1000, 40 from 1205 + 50000 */
	static const char program[] = "\x45\x0e\x10\x02\xc8\x0e\x18\x03\xe8\x03\x0e\x20\x04\x50\xc3\0\0\x0e\x28";
	static const struct {
		uint64_t pc;
		int offset;
	} cases[] = {{0, 8},     {4, 8},     {5, 16},     {204, 16},   {205, 24},
		     {1204, 24}, {1205, 32}, {51204, 32}, {51205, 40}, {65535, 40}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(RUN(cases[i].pc, program));
		assert_int_equal(row.cfa_offset, cases[i].offset);
	}
	/* Damage behind the pc does not matter, damage before it does. */
	assert_true(RUN(4, "\x45\x3f"));
	assert_false(RUN(5, "\x45\x3f"));
}

static void test_set_loc(void **state)
{
	struct cfi_module m;
	size_t cie, fde;
	uint64_t pc;

	(void)state;
	cfi_builder_init(&b);
	cie = cfi_builder_usual_cie(&b);
	pc = CFI_BUILDER_PC(&b, 0);
	fde = cfi_builder_fde(&b, cie, "zR", PCREL4, pc, 100);
	cfi_builder_uint(&b, 0x01, 1);
	cfi_builder_encoded(&b, PCREL4, pc + 50, 0);
	cfi_builder_bytes(&b, "\x0e\x10", 2);
	cfi_builder_end(&b);
	m = cfi_builder_finish(&b, PCREL4, TABLE4, &pc, &fde, 1);
	assert_true(cfi_find_row(&m, pc + 49, &row));
	assert_int_equal(row.cfa_offset, 8);
	assert_true(cfi_find_row(&m, pc + 50, &row));
	assert_int_equal(row.cfa_offset, 16);
}

static void test_cfa_rules(void **state)
{
	(void)state;
	assert_true(RUN(0, "\x0c\x06\x10")); /* def_cfa */
	assert_int_equal(row.cfa_reg, CFI_RBP);
	assert_int_equal(row.cfa_offset, 16);
	assert_true(RUN(0, "\x0d\x0a")); /* def_cfa_register keeps the offset */
	assert_int_equal(row.cfa_reg, 10);
	assert_int_equal(row.cfa_offset, 8);
	assert_true(RUN(0, "\x12\x06\x7e")); /* def_cfa_sf: -2 * -8 */
	assert_int_equal(row.cfa_reg, CFI_RBP);
	assert_int_equal(row.cfa_offset, 16);
	assert_true(RUN(0, "\x13\x02")); /* def_cfa_offset_sf: 2 * -8 */
	assert_int_equal(row.cfa_offset, -16);
	assert_true(RUN(0, "\x0f\x03\x77\x08\x06")); /* def_cfa_expression */
	assert_non_null(row.cfa_expr);
	assert_int_equal(row.cfa_expr_len, 3);
	assert_memory_equal(row.cfa_expr, "\x77\x08\x06", 3);
	assert_true(RUN(0, "\x0f\x01\x30\x0c\x07\x20")); /* and back */
	assert_null(row.cfa_expr);
	assert_int_equal(row.cfa_offset, 32);
	assert_true(RUN(0, "\x0c\x86\x80\x80\0\x90\x80\0")); /* padded LEB128 */
	assert_int_equal(row.cfa_reg, CFI_RBP);
	assert_int_equal(row.cfa_offset, 16);
	assert_false(RUN(0, "\x0d\x11"));                          /* no such register */
	assert_false(RUN(0, "\x0e\xff\xff\xff\xff\xff\x0f"));      /* offset out of range */
	assert_false(RUN(0, "\x0f\xff\x7f\x30"));                  /* block longer than the section */
	assert_false(RUN(0, "\x0e\x88\x80\x80\x80\x80\x80\x80\x80" /* padded beyond all reason */
			    "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\0"));
}

static void reg_check(unsigned reg, enum cfi_how how, int32_t offset)
{
	assert_int_equal(row.regs[reg].how, how);
	assert_int_equal(row.regs[reg].offset, offset);
}

static void test_reg_rules(void **state)
{
	(void)state;
	assert_true(RUN(0, "\x83\x02")); /* offset */
	reg_check(3, CFI_OFFSET, -16);
	reg_check(CFI_RA, CFI_OFFSET, -8);
	reg_check(CFI_RBP, CFI_SAME, 0);
	assert_true(RUN(0, "\x05\x0c\x81\x01")); /* offset_extended */
	reg_check(12, CFI_OFFSET, -1032);
	assert_true(RUN(0, "\x11\x0c\x7f")); /* offset_extended_sf */
	reg_check(12, CFI_OFFSET, 8);
	assert_true(RUN(0, "\x2f\x0c\x03")); /* GNU_negative_offset_extended */
	reg_check(12, CFI_OFFSET, 24);
	assert_true(RUN(0, "\x14\x07\x02")); /* val_offset */
	reg_check(7, CFI_VAL_OFFSET, -16);
	assert_true(RUN(0, "\x15\x07\x7e")); /* val_offset_sf */
	reg_check(7, CFI_VAL_OFFSET, 16);
	assert_true(RUN(0, "\x07\x10")); /* undefined */
	reg_check(CFI_RA, CFI_UNDEFINED, 0);
	assert_true(RUN(0, "\x08\x10")); /* same_value */
	reg_check(CFI_RA, CFI_SAME, 0);
	assert_true(RUN(0, "\x09\x10\x05")); /* register */
	reg_check(CFI_RA, CFI_REGISTER, 5);
	assert_true(RUN(0, "\x09\x03\x20")); /* in an xmm register: lost */
	reg_check(3, CFI_UNDEFINED, 0);
	assert_true(RUN(0, "\x10\x06\x02\x76\0")); /* expression */
	assert_int_equal(row.regs[CFI_RBP].how, CFI_EXPR);
	assert_int_equal(row.regs[CFI_RBP].expr_len, 2);
	assert_memory_equal(row.regs[CFI_RBP].expr, "\x76\0", 2);
	assert_true(RUN(0, "\x16\x03\x01\x30")); /* val_expression */
	assert_int_equal(row.regs[3].how, CFI_VAL_EXPR);
	assert_int_equal(row.regs[3].expr_len, 1);
	assert_true(RUN(0, "\x83\x02\xc3")); /* restore: to what the CIE says */
	reg_check(3, CFI_SAME, 0);
	assert_true(RUN(0, "\x07\x10\x06\x10")); /* restore_extended */
	reg_check(CFI_RA, CFI_OFFSET, -8);
	assert_true(RUN(0, "\x10\x10\x02\x76\0\xd0"));
	reg_check(CFI_RA, CFI_OFFSET, -8);
	assert_true(RUN(0, "\x05\x21\x02\x07\x40\x08\x11\xe1\x06\x30")); /* vector registers: read and dropped */
	for (unsigned i = 0; i < CFI_RA; i++)
		reg_check(i, CFI_SAME, 0);
	assert_true(RUN(0, "\x2e\x81\x01\x83\x02\0\0\0")); /* GNU_args_size is skipped */
	reg_check(3, CFI_OFFSET, -16);
	assert_false(RUN(0, "\x2d")); /* GNU_window_save, aarch64's negate_ra_state */
	assert_false(RUN(0, "\x17"));
}

static void test_remember(void **state)
{
	char program[4 * CFI_REMEMBER_MAX + 8];
	size_t n = 0;

	(void)state;
	assert_true(RUN(0, "\x0a\x0e\x20\x83\x02\x41\x0b"));
	assert_int_equal(row.cfa_offset, 32);
	reg_check(3, CFI_OFFSET, -16);
	assert_true(RUN(1, "\x0a\x0e\x20\x83\x02\x41\x0b"));
	assert_int_equal(row.cfa_offset, 8);
	reg_check(3, CFI_SAME, 0);
	assert_true(RUN(0, "\x0a\x0f\x01\x30\x0b")); /* out of an expression */
	assert_null(row.cfa_expr);
	assert_false(RUN(0, "\x0b"));

	for (unsigned i = 0; i < CFI_REMEMBER_MAX; i++) {
		program[n++] = 0x0a;
		program[n++] = 0x0e;
		program[n++] = (char)(16 + i);
	}
	assert_true(run_at(program, n, 0));
	assert_int_equal(row.cfa_offset, 16 + CFI_REMEMBER_MAX - 1);
	for (unsigned i = 0; i < CFI_REMEMBER_MAX; i++) {
		program[n++] = 0x0b;
		assert_true(run_at(program, n, 0));
		assert_int_equal(row.cfa_offset, i == CFI_REMEMBER_MAX - 1 ? 8 : 16 + CFI_REMEMBER_MAX - 2 - i);
	}
	n = 0;
	for (unsigned i = 0; i <= CFI_REMEMBER_MAX; i++)
		program[n++] = 0x0a;
	assert_false(run_at(program, n, 0));
}

/* A return address in a column of its own register. */
static void test_return_column(void **state)
{
	struct cfi_module m;
	size_t cie, fde;
	uint64_t pc;

	(void)state;
	for (unsigned saved = 0; saved < 2; saved++) {
		cfi_builder_init(&b);
		cie = cfi_builder_cie(&b, 1, "zR", PCREL4);
		b.mem[14] = 11; /* r11 holds the return address */
		cfi_builder_bytes(&b, "\x0c\x07\x00", 3);
		cfi_builder_end(&b);
		pc = CFI_BUILDER_PC(&b, 0);
		fde = cfi_builder_fde(&b, cie, "zR", PCREL4, pc, 16);
		if (saved)
			cfi_builder_bytes(&b, "\x8b\x03", 2);
		cfi_builder_end(&b);
		m = cfi_builder_finish(&b, PCREL4, TABLE4, &pc, &fde, 1);
		assert_true(cfi_find_row(&m, pc, &row));
		if (saved)
			reg_check(CFI_RA, CFI_OFFSET, -24);
		else
			reg_check(CFI_RA, CFI_REGISTER, 11);
	}
}

/* A trampoline without unwind information, as in musl. */
static void test_trampoline(void **state)
{
	static const uint8_t rax[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05},
			     eax[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};
	static uint8_t code[64];
	struct cfi_module m = {.lo = (uint64_t)(uintptr_t)code, .hi = (uint64_t)(uintptr_t)code + sizeof(code)};

	(void)state;
	assert_false(cfi_find_row(&m, m.lo + 15, &row));
	memcpy(code + 16, rax, sizeof(rax));
	assert_true(cfi_find_row(&m, m.lo + 15, &row)); /* its "return address" less one */
	assert_true(row.signal_frame);
	assert_int_equal(CFI_TYPE(cfi_compact(&row)), CFI_T_SIGNAL);
	assert_true(cfi_find_row(&m, m.lo + 16, &row));
	assert_true(cfi_find_row(&m, m.lo + 23, &row)); /* interrupted before the system call */
	assert_int_equal(row.pc_begin, m.lo + 15);
	assert_int_equal(row.pc_end, m.lo + 25);
	assert_false(cfi_find_row(&m, m.lo + 17, &row));
	assert_false(cfi_find_row(&m, m.lo + 14, &row));
	assert_false(cfi_find_row(&m, m.lo + 25, &row));
	memset(code, 0, sizeof(code));
	memcpy(code + sizeof(code) - sizeof(eax), eax, sizeof(eax));
	assert_true(cfi_find_row(&m, m.hi - sizeof(eax), &row));
	assert_true(cfi_find_row(&m, m.hi - sizeof(eax) + 5, &row));
	assert_false(cfi_find_row(&m, m.hi - sizeof(eax) + 7, &row));
	m.hi--;
	assert_false(cfi_find_row(&m, m.hi + 1 - sizeof(eax), &row));
	assert_false(cfi_find_row(&m, UINT64_MAX, &row));
}

/* glibc's loader after the call of _dl_init. */
static void test_loader_start(void **state)
{
	static const uint8_t code[32] = {0xe8, 0, 0, 0,    0,    0x48, 0x8d, 0x15, 1,
					 2,    3, 4, 0x4c, 0x89, 0xec, 0x41, 0xff, 0xe4};
	struct cfi_module m = {.lo = (uint64_t)(uintptr_t)code, .hi = (uint64_t)(uintptr_t)code + sizeof(code)};

	(void)state;
	assert_true(cfi_find_row(&m, m.lo + 4, &row));
	assert_int_equal(CFI_TYPE(cfi_compact(&row)), CFI_T_END);
	for (unsigned i = 0; i < sizeof(code); i++)
		assert_int_equal(cfi_find_row(&m, m.lo + i, &row), i == 4);
}

/* The bottom of a coroutine's stack: the address of a function, with nothing in front of it that could have called. */
static void test_planted_return(void **state)
{
	static const struct {
		uint8_t length, bytes[7];
		bool called;
	} fronts[] = {
		{5, {0xe8, 1, 2, 3, 4}, true},		       /* call rel32 */
		{2, {0xff, 0xd0}, true},		       /* call *%rax */
		{2, {0xff, 0xe0}, false},		       /* jmp *%rax */
		{2, {0xff, 0x14}, false},		       /* cut short: it has an SIB byte */
		{3, {0xff, 0x14, 0x24}, true},		       /* call *(%rsp) */
		{3, {0xff, 0x50, 0x18}, true},		       /* call *0x18(%rax) */
		{4, {0xff, 0x54, 0x24, 0x08}, true},	       /* call *8(%rsp) */
		{6, {0xff, 0x15, 1, 2, 3, 4}, true},	       /* call *x(%rip) */
		{6, {0xff, 0x90, 1, 2, 3, 4}, true},	       /* call *x(%rax) */
		{7, {0xff, 0x94, 0x24, 1, 2, 3, 4}, true},     /* call *x(%rsp) */
		{7, {0xff, 0x14, 0x25, 1, 2, 3, 4}, true},     /* call *x */
		{7, {0x0f, 0x1f, 0x80, 0, 0, 0, 0}, false},    /* nopl */
	};
	uint8_t *second = b.mem + CFI_BUILDER_SIZE - 256, *third = second + 32;
	struct cfi_module m = three_functions_at((uint64_t)(uintptr_t)second - 16, PCREL4, TABLE4, true);

	(void)state;
	m.hi = m.lo + CFI_BUILDER_SIZE; /* the code lies behind the tables */
	for (size_t i = 0; i < sizeof(fronts) / sizeof(*fronts); i++) {
		memset(third - 16, 0x90, 16);
		memcpy(third - fronts[i].length, fronts[i].bytes, fronts[i].length);
		/* In front of the third function is a gap. */
		assert_int_equal(cfi_find_return_row(&m, (uint64_t)(uintptr_t)third, &row), !fronts[i].called);
		if (!fronts[i].called)
			assert_int_equal(CFI_TYPE(cfi_compact(&row)), CFI_T_END);
	}
	/* In front of the second lies the first: what it calls last returns, if ever, to the second's first instruction. */
	memset(second - 16, 0x90, 16);
	assert_true(cfi_find_return_row(&m, (uint64_t)(uintptr_t)second, &row));
	assert_int_equal(CFI_TYPE(cfi_compact(&row)), CFI_T_END);
	memcpy(second - 2, "\xff\xd0", 2);
	assert_true(cfi_find_return_row(&m, (uint64_t)(uintptr_t)second, &row));
	assert_int_equal(row.cfa_offset, 16);
	/* Anywhere else it is the row of the byte before. */
	assert_true(cfi_find_return_row(&m, (uint64_t)(uintptr_t)second + 1, &row));
	assert_int_equal(row.cfa_offset, 24);
	assert_false(cfi_find_return_row(&m, (uint64_t)(uintptr_t)third + 17, &row));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),          cmocka_unit_test(test_no_table),
		cmocka_unit_test(test_no_eh_frame),     cmocka_unit_test(test_cies),
		cmocka_unit_test(test_extended_length), cmocka_unit_test(test_advance),
		cmocka_unit_test(test_set_loc),         cmocka_unit_test(test_cfa_rules),
		cmocka_unit_test(test_reg_rules),       cmocka_unit_test(test_remember),
		cmocka_unit_test(test_return_column),   cmocka_unit_test(test_trampoline),
		cmocka_unit_test(test_loader_start),    cmocka_unit_test(test_planted_return),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
