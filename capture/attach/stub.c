/* SPDX-License-Identifier: MIT */
/* syscall; mov $value, register for all that the call may change; jmp to where the thread stood; names. Flags come back with the
 * system call. */
#include <string.h>
#include <sys/syscall.h>

#include "capture/agent/attach.h"
#include "capture/agent/trace_db.h"
#include "capture/attach/inject.h"

/* Error codes of interrupted system calls that are inside the kernel until the thread leaves it (include/linux/errno.h). */
enum { RESTART_SYS = -512, RESTART_NOINTR = -513, RESTART_NOHAND = -514, RESTART_BLOCK = -516 };

enum { STUB_AGENT_NAME = 108, STUB_DB_NAME = 124, STUB_END = 136, STUB_MAGIC_AT = SILT_STUB_SIZE - 8 };

silt_addr silt_inject_agent_name(const struct silt_inject *in)
{
	return in->stub + STUB_AGENT_NAME;
}

silt_addr silt_inject_db_name(const struct silt_inject *in)
{
	return in->stub + STUB_DB_NAME;
}

static bool restarts(const struct user_regs_struct *r)
{
	int64_t v = (int64_t)r->rax;

	return (int64_t)r->orig_rax >= 0 &&
	       (v == RESTART_SYS || v == RESTART_NOINTR || v == RESTART_NOHAND || v == RESTART_BLOCK);
}

static uint8_t *put_mov(uint8_t *p, uint8_t rex, uint8_t opcode, uint64_t value)
{
	p[0] = rex;
	p[1] = opcode;
	memcpy(p + 2, &value, 8);
	return p + 10;
}

void silt_stub_build(const struct user_regs_struct *r, uint8_t stub[SILT_STUB_SIZE])
{
	uint64_t magic = SILT_STUB_MAGIC, rax = r->rax, rip = r->rip;
	uint8_t *p = stub;

	if (restarts(r)) { /* as arch_do_signal_or_restart of arch/x86/kernel/signal.c does */
		rip -= 2;
		rax = (int64_t)r->rax == RESTART_BLOCK ? SYS_restart_syscall : r->orig_rax;
	}
	memset(stub, 0xcc, SILT_STUB_SIZE);
	*p++ = 0x0f;
	*p++ = 0x05;
	p = put_mov(p, 0x48, 0xbf, r->rdi);
	p = put_mov(p, 0x48, 0xbe, r->rsi);
	p = put_mov(p, 0x48, 0xba, r->rdx);
	p = put_mov(p, 0x49, 0xba, r->r10);
	p = put_mov(p, 0x49, 0xb8, r->r8);
	p = put_mov(p, 0x49, 0xb9, r->r9);
	p = put_mov(p, 0x48, 0xb9, r->rcx);
	p = put_mov(p, 0x49, 0xbb, r->r11);
	p = put_mov(p, 0x48, 0xb8, rax);
	memcpy(p, "\xff\x25\0\0\0\0", 6);
	memcpy(p + 6, &rip, 8);
	memcpy(stub + STUB_AGENT_NAME, SILT_AGENT_IMAGE_NAME, sizeof(SILT_AGENT_IMAGE_NAME));
	memcpy(stub + STUB_DB_NAME, SILT_DB_NAME, sizeof(SILT_DB_NAME));
	memcpy(stub + STUB_MAGIC_AT, &magic, 8);
}

_Static_assert(2 + 9 * 10 + 6 + 8 <= STUB_AGENT_NAME && STUB_AGENT_NAME + sizeof(SILT_AGENT_IMAGE_NAME) <= STUB_DB_NAME &&
		       STUB_DB_NAME + sizeof(SILT_DB_NAME) <= STUB_END && STUB_END <= STUB_MAGIC_AT,
	       "the stub's parts overlap");
