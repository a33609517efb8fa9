/* SPDX-License-Identifier: MIT */
/** What differs between processors: one block per architecture. */
#ifndef SILT_CAPTURE_AGENT_ARCH_H
#define SILT_CAPTURE_AGENT_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#if !defined(__x86_64__)
#error "the agent knows x86-64 only so far: give arch.h this architecture's block"
#endif

static inline long arch_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long arch_syscall3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

/* System V ABI x86-64, section 3.4.6 of the TLS document: %fs:0 holds the thread pointer itself. */
static inline uint64_t arch_thread_pointer(void)
{
	uint64_t tp;

	__asm__("mov %%fs:0, %0" : "=r"(tp));
	return tp;
}

/* Compare-and-swap that is atomic against signals and interrupts of this thread only: no lock prefix. For processes with
 * one thread. */
static inline bool arch_cas64_local(uint64_t *p, uint64_t expected, uint64_t desired)
{
	bool ok;

	__asm__ volatile("cmpxchgq %3, %1"
			 : "=@ccz"(ok), "+m"(*p), "+a"(expected)
			 : "r"(desired)
			 : "memory");
	return ok;
}

static inline bool arch_cas32_local(uint32_t *p, uint32_t expected, uint32_t desired)
{
	bool ok;

	__asm__ volatile("cmpxchgl %3, %1"
			 : "=@ccz"(ok), "+m"(*p), "+a"(expected)
			 : "r"(desired)
			 : "memory");
	return ok;
}

/* The same for adding; they return what was there. */
static inline uint64_t arch_add64_local(uint64_t *p, uint64_t v)
{
	__asm__ volatile("xaddq %0, %1" : "+r"(v), "+m"(*p) : : "memory");
	return v;
}

static inline uint32_t arch_add32_local(uint32_t *p, uint32_t v)
{
	__asm__ volatile("xaddl %0, %1" : "+r"(v), "+m"(*p) : : "memory");
	return v;
}

/* The low 16 bits at addr + add, and of table[i], of words that others may be writing. Not left to the compiler, which works an
 * address out first where it is of use for something else as well: then the value comes a cycle later. */
static inline uint64_t arch_load16(uint64_t addr, uint64_t add)
{
	uint64_t v;

	__asm__ volatile("movzwl (%1,%2), %k0" : "=r"(v) : "r"(addr), "r"(add));
	return v;
}

static inline uint64_t arch_load16_of(const uint64_t *table, uint64_t i)
{
	uint64_t v;

	__asm__ volatile("movzwl (%1,%2,8), %k0" : "=r"(v) : "r"(table), "r"(i));
	return v;
}

/** Loads what the compiler may know to be another value. */
static inline uint64_t arch_load64(const uint64_t *p)
{
	uint64_t v;

	__asm__ volatile("movq %1, %0" : "=r"(v) : "m"(*p));
	return v;
}

static inline void arch_pause(void)
{
	__asm__ volatile("pause");
}

/* Offsets in the ucontext_t that rsp points at when a signal handler has returned to __restore_rt
 * (kernel: arch/x86/include/uapi/asm/sigcontext.h, struct sigcontext behind uc_flags, uc_link, uc_stack). */
enum { ARCH_UC_RBP = 120, ARCH_UC_RSP = 160, ARCH_UC_RIP = 168 };

#endif
