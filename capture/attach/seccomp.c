/* SPDX-License-Identifier: MIT */
/* Classic BPF programs on struct seccomp_data (seccomp(2), linux/filter.h, linux/seccomp.h). */
#include "capture/attach/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define FILTERS_MAX 1024

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

struct need {
	const char *name;
	int number;
	uint64_t args[6];
	bool detaching;
};

/* What attach.c and the agent's start (agent/life.c, memory.c, attach_enter.S) call; addresses and descriptors are but examples. */
static const struct need needs[] = {
	{ "munmap", SYS_munmap, { 0x7f0000000000, 4096 }, true },
	{ "close", SYS_close, { 3 }, true },
	{ "memfd_create", SYS_memfd_create, { 0x7f0000000000, MFD_CLOEXEC }, false },
	{ "mmap", SYS_mmap, { 0x7f0000000000, 4096, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, 3 }, false },
	{ "mmap", SYS_mmap, { 0x7f0000000000, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_NORESERVE, 3 }, false },
	{ "mmap", SYS_mmap, { 0x7f0000000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, UINT64_MAX }, false },
	{ "mmap", SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 3 }, false },
	{ "mprotect", SYS_mprotect, { 0x7f0000000000, 4096, PROT_READ | PROT_EXEC }, false },
	{ "mprotect", SYS_mprotect, { 0x7f0000000000, 4096, PROT_READ }, false },
	{ "mremap", SYS_mremap, { 0x7f0000000000, 4096, 8192 }, false },
	{ "madvise", SYS_madvise, { 0x7f0000000000, 4096, MADV_WIPEONFORK }, false },
	{ "madvise", SYS_madvise, { 0x7f0000000000, 4096, MADV_DONTDUMP }, false },
	{ "rt_sigprocmask", SYS_rt_sigprocmask, { SIG_SETMASK, 0x7f0000000000, 0x7f0000000000, 8 }, false },
	{ "getpid", SYS_getpid, { 0 }, false },
	{ "getppid", SYS_getppid, { 0 }, false },
	{ "clock_gettime", SYS_clock_gettime, { 0, 0x7f0000000000 }, false },
	{ "getrandom", SYS_getrandom, { 0x7f0000000000, 16, 1 }, false },
	{ "futex", SYS_futex, { 0x7f0000000000, 1, 1 }, false },
};

struct machine {
	uint32_t a, x, mem[BPF_MEMWORDS];
	struct seccomp_data data;
};

static uint32_t operate(uint16_t op, uint32_t a, uint32_t v)
{
	switch (op) {
	case BPF_ADD:
		return a + v;
	case BPF_SUB:
		return a - v;
	case BPF_MUL:
		return a * v;
	case BPF_DIV:
		return v ? a / v : 0;
	case BPF_AND:
		return a & v;
	case BPF_OR:
		return a | v;
	case BPF_XOR:
		return a ^ v;
	case BPF_LSH:
		return v < 32 ? a << v : 0;
	case BPF_RSH:
		return v < 32 ? a >> v : 0;
	default:
		return (uint32_t)-(int32_t)a;
	}
}

static bool holds(uint16_t op, uint32_t a, uint32_t v)
{
	return op == BPF_JEQ ? a == v : op == BPF_JGT ? a > v : op == BPF_JGE ? a >= v : (a & v) != 0;
}

static uint32_t load(const struct machine *m, const struct sock_filter *i)
{
	uint32_t word = 0;

	switch (BPF_MODE(i->code)) {
	case BPF_ABS:
		if (i->k <= sizeof(m->data) - 4)
			memcpy(&word, (const uint8_t *)&m->data + i->k, 4);
		return word;
	case BPF_LEN:
		return sizeof(m->data);
	case BPF_MEM:
		return m->mem[i->k % BPF_MEMWORDS];
	default:
		return i->k;
	}
}

/* The kernel has checked the program: jumps lead forward and inside. */
static uint32_t run(const struct sock_filter *code, size_t count, const struct seccomp_data *data)
{
	struct machine m = { .data = *data };

	for (size_t pc = 0; pc < count; pc++) {
		const struct sock_filter *i = &code[pc];
		uint32_t v = BPF_SRC(i->code) == BPF_X ? m.x : i->k;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			m.a = load(&m, i);
			break;
		case BPF_LDX:
			m.x = load(&m, i);
			break;
		case BPF_ST:
			m.mem[i->k % BPF_MEMWORDS] = m.a;
			break;
		case BPF_STX:
			m.mem[i->k % BPF_MEMWORDS] = m.x;
			break;
		case BPF_ALU:
			m.a = operate(BPF_OP(i->code), m.a, v);
			break;
		case BPF_JMP:
			pc += BPF_OP(i->code) == BPF_JA ? i->k : holds(BPF_OP(i->code), m.a, v) ? i->jt : i->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
		default:
			if (BPF_MISCOP(i->code) == BPF_TAX)
				m.x = m.a;
			else
				m.a = m.x;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

static const char *refused_by(const struct sock_filter *code, size_t count, silt_addr at, bool detaching)
{
	for (size_t i = 0; i < SILT_ARRAY_LEN(needs); i++) {
		struct seccomp_data data = { .nr = needs[i].number, .arch = AUDIT_ARCH_X86_64, .instruction_pointer = at };
		uint32_t action;

		if (detaching && !needs[i].detaching)
			continue;
		for (int k = 0; k < 6; k++)
			data.args[k] = needs[i].args[k];
		action = run(code, count, &data) & SECCOMP_RET_ACTION_FULL;
		if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG)
			return needs[i].name;
	}
	return NULL;
}

int silt_seccomp_check(pid_t pid, pid_t tid, silt_addr at, bool detaching, struct silt_error *err)
{
	struct sock_filter *code = malloc(BPF_MAXINSNS * sizeof(*code));
	const char *name = NULL;
	int rc = code ? 0 : silt_error_set(err, SILT_E_NOMEM, "out of memory");

	for (long i = 0; !rc && !name && i < FILTERS_MAX; i++) {
		long n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, i, NULL);

		if (n < 0 && errno == ENOENT)
			break;
		if (n > 0 && n <= BPF_MAXINSNS)
			n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, i, code);
		if (n <= 0 || n > BPF_MAXINSNS)
			rc = silt_error_set(err, SILT_E_UNSUPPORTED,
					    "process %d runs under a seccomp filter that cannot be read (%s), so silt cannot know whether "
					    "it would survive; try as root",
					    pid, strerror(errno));
		else
			name = refused_by(code, (size_t)n, at, detaching);
	}
	if (!rc && name)
		rc = silt_error_set(err, SILT_E_UNSUPPORTED,
				    "process %d runs under a seccomp filter that forbids %s, which silt needs: nothing was changed", pid,
				    name);
	free(code);
	return rc;
}
