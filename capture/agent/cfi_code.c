/* SPDX-License-Identifier: MIT */
/* Frames known by their code: the signal trampoline and the loader's start code, where no unwind information exists. */
#include "capture/agent/cfi_internal.h"

/* Where the kernel's rt_sigframe holds the registers, as distances from rsp in the trampoline: there rsp points at the
 * ucontext (its first field, the return address into the trampoline, is popped), uc_mcontext.gregs starts at 40 and is
 * in the order r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip (arch/x86/include/uapi/asm/sigcontext.h). */
static const uint8_t sigframe_offset[CFI_REGS] = {
	144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96, 168,
};

/* DW_OP_breg7 N for each of them, N as two bytes SLEB128; and with a DW_OP_deref for the CFA. */
#define AT_RSP(n) DW_OP_breg0 + CFI_RSP, ((n)&0x7f) | 0x80, (n) >> 7
#define AT_RSP_LEN 3
static const uint8_t sigframe_expr[] = {
	AT_RSP(144), AT_RSP(136), AT_RSP(152), AT_RSP(128), AT_RSP(112), AT_RSP(104),
	AT_RSP(120), AT_RSP(160), AT_RSP(40),  AT_RSP(48),  AT_RSP(56),  AT_RSP(64),
	AT_RSP(72),  AT_RSP(80),  AT_RSP(88),  AT_RSP(96),  AT_RSP(168),
};
static const uint8_t sigframe_cfa_expr[] = {AT_RSP(160), DW_OP_deref};

/* mov $15 (rt_sigreturn) into eax or rax, syscall: byte for byte what debuggers and libgcc look for. */
static const uint8_t trampoline_rax[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
static const uint8_t trampoline_eax[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};

static void sigframe_fill(struct cfi_row *ret)
{
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
}

static bool code_is(const struct cfi_module *m, uint64_t addr, const uint8_t *code, unsigned len)
{
	struct cfi_cursor c = cfi_cursor_at(m, addr);

	for (unsigned i = 0; i < len; i++)
		if ((uint8_t)cfi_cursor_uint(&c, 1) != code[i] || c.bad)
			return false;
	return true;
}

static bool trampoline_row(const struct cfi_module *m, uint64_t pc, struct cfi_row *ret)
{
	/* Nobody calls a trampoline: its "return address" is its first instruction, and callers look up one less. Else
	 * it was interrupted, before its first or its second instruction, the latter 5 or 7 bytes in. */
	static const int8_t distance[] = {-1, 0, 5, 7};

	for (unsigned i = 0; i < sizeof(distance); i++) {
		uint64_t at = pc - (uint64_t)(int64_t)distance[i];
		uint64_t len = 0;

		if (code_is(m, at, trampoline_rax, sizeof(trampoline_rax)))
			len = sizeof(trampoline_rax);
		else if (code_is(m, at, trampoline_eax, sizeof(trampoline_eax)))
			len = sizeof(trampoline_eax);
		if (len == 0 || pc + 1 - at > len)
			continue;
		ret->pc_begin = at - 1;
		ret->pc_end = at + len;
		sigframe_fill(ret);
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

/* What follows the call of _dl_init in ld.so's start code, which no version of glibc describes: lea _dl_fini, %rdx;
 * mov %r13, %rsp; jmp *%r12 (sysdeps/x86_64/dl-machine.h). Constructors run at start end there: it is the outermost
 * frame of the process. The lea's distance is left open. */
static const uint8_t loader_lea[] = {0x48, 0x8d, 0x15};
static const uint8_t loader_jump[] = {0x4c, 0x89, 0xec, 0x41, 0xff, 0xe4};
#define LOADER_LEA_LEN 7

static bool loader_row(const struct cfi_module *m, uint64_t pc, struct cfi_row *ret)
{
	uint64_t at = pc + 1; /* the return address of that call */

	if (!code_is(m, at, loader_lea, sizeof(loader_lea)) ||
	    !code_is(m, at + LOADER_LEA_LEN, loader_jump, sizeof(loader_jump)))
		return false;
	cfi_code_outermost(pc, pc + 1, ret);
	return true;
}

void cfi_code_outermost(uint64_t begin, uint64_t end, struct cfi_row *ret)
{
	ret->pc_begin = begin;
	ret->pc_end = end;
	ret->signal_frame = false;
	ret->cfa_reg = CFI_RSP;
	ret->cfa_offset = 0;
	ret->cfa_expr = 0;
	ret->cfa_expr_len = 0;
	for (unsigned r = 0; r < CFI_REGS; r++) {
		ret->regs[r].how = r == CFI_RA ? CFI_UNDEFINED : CFI_SAME;
		ret->regs[r].offset = 0;
		ret->regs[r].expr = 0;
		ret->regs[r].expr_len = 0;
	}
}

/* Bytes of a call through a register or memory, by its ModRM and SIB bytes (Intel SDM volume 2, 2.1.5); 0: it is none (FF /2). */
static unsigned call_length(uint8_t modrm, uint8_t sib)
{
	unsigned mod = modrm >> 6, rm = modrm & 7, length = 2;

	if ((modrm >> 3 & 7) != 2)
		return 0;
	if (mod == 3)
		return length;
	if (rm == 4)
		length++;
	if (mod == 1)
		return length + 1;
	if (mod == 2 || rm == 5 || (rm == 4 && (sib & 7) == 5))
		return length + 4;
	return length;
}

bool cfi_code_is_called(const struct cfi_module *m, uint64_t addr)
{
	struct cfi_cursor c = cfi_cursor_at(m, addr - 5);

	if (cfi_cursor_uint(&c, 1) == 0xe8 && !c.bad)
		return true;
	for (unsigned length = 2; length <= 7; length++) {
		uint8_t modrm, sib;

		c = cfi_cursor_at(m, addr - length);
		if (cfi_cursor_uint(&c, 1) != 0xff || c.bad)
			continue;
		modrm = (uint8_t)cfi_cursor_uint(&c, 1);
		sib = (uint8_t)cfi_cursor_uint(&c, 1);
		if (call_length(modrm, sib) == length)
			return true;
	}
	return false;
}

bool cfi_code_row(const struct cfi_module *m, uint64_t pc, struct cfi_row *ret)
{
	return trampoline_row(m, pc, ret) || loader_row(m, pc, ret);
}
