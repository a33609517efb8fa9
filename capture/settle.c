/* SPDX-License-Identifier: MIT */
/*
 * Bringing threads out of malloc.
 *
 * Letting a busy process run on and stopping it again finds it inside malloc just as often: where threads do little else,
 * always. Here those outside stay where they are, so that with every round fewer are left.
 */
#include "capture/settle.h"

#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"

#define ROUNDS_MAX 60u
#define SETTLE_NS 15000000ull   /* all rounds: the others stand still meanwhile */
#define INSTANT_NS 20000l       /* what a thread runs in one round, at least */
#define STOP_NS 200000000ull    /* what stopping it again may take */
#define STACK_WORDS 48u         /* looked through for return addresses into the allocator */
#define LEAF_WORDS 8u           /* the same, of a function that does little more than a system call */

#if defined(__x86_64__)

struct at {
	silt_addr pc, sp;
	uint64_t call; /* the system call it is in; ~0: none */
};

static bool where(const struct silt_stopped_thread *t, struct at *ret)
{
	*ret = (struct at){ .pc = t->regs.rip, .sp = t->regs.rsp, .call = t->regs.orig_rax };
	return t->state == SILT_HELD_STOPPED && t->has_regs;
}

static size_t read_words(pid_t pid, silt_addr at, void *words, size_t size)
{
	struct iovec local = { words, size }, remote = { (void *)(uintptr_t)at, size };
	ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	return n > 0 ? (size_t)n / 8 : 0;
}

/* The allocator's frames lie near the top of the stack of what it called; but so may words left over from earlier calls. */
static bool was_called(pid_t pid, const struct silt_heap *heap, const struct at *at, size_t look)
{
	uint64_t words[STACK_WORDS];
	size_t n = read_words(pid, at->sp, words, look * 8);

	for (size_t i = 0; i < n; i++)
		if (silt_heap_in_allocator(heap, words[i]))
			return true;
	return false;
}

/* Where the allocator takes no lock, a thread may stand in what it has called in program code, too: in memcpy, between a block's new
 * place and the end of its old one; behind (or before) the instruction by which memory is mapped. Such functions make no frames
 * of their own, or small ones in the case of system calls. */
static bool was_called_by_leaf(pid_t pid, const struct silt_heap *heap, const struct at *at)
{
	uint64_t code = 0;

	if (was_called(pid, heap, at, 1))
		return true;
	read_words(pid, at->pc - 8, &code, 8);
	return code >> 48 == 0x050f && was_called(pid, heap, at, LEAF_WORDS); /* syscall */
}

static bool is_inside(pid_t pid, const struct silt_heap *heap, const struct at *at, bool locked)
{
	switch (at->call) {
	case SYS_brk:
	case SYS_mmap:
	case SYS_munmap:
	case SYS_mremap:
	case SYS_mprotect:
	case SYS_madvise:
		return silt_heap_in_allocator(heap, at->pc) || was_called(pid, heap, at, STACK_WORDS);
	case ~0ull:
		return silt_heap_in_allocator(heap, at->pc) || (locked && was_called(pid, heap, at, STACK_WORDS)) ||
		       was_called_by_leaf(pid, heap, at);
	default:
		return false; /* one that waits for a lock has none */
	}
}

bool silt_settle_needed(pid_t pid, const struct silt_heap *heap, const struct silt_heap_thread *threads, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct at at = { threads[i].pc, threads[i].sp, threads[i].call };

		if (at.sp && is_inside(pid, heap, &at, false))
			return true;
	}
	return false;
}

/* Waits for the stop that was asked for. What does not come in time is left to silt_stop_release. */
static void stop_again(struct silt_stopped_thread *t)
{
	uint64_t start = silt_now_ns();
	siginfo_t si;

	if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0))
		return;
	do {
		si.si_pid = 0;
		/* Looking first: the status of one that ended may belong to another part of this program. */
		if (waitid(P_PID, (id_t)t->tid, &si, WSTOPPED | WEXITED | __WALL | WNOHANG | WNOWAIT))
			return;
		if (si.si_pid && si.si_code != CLD_STOPPED && si.si_code != CLD_TRAPPED)
			return;
		if (si.si_pid) {
			t->signal = si.si_status >> 8 ? 0 : si.si_status & 0x7f;
			t->state = SILT_HELD_STOPPED;
			waitid(P_PID, (id_t)t->tid, &si, WSTOPPED | __WALL | WNOHANG);
			silt_stop_read_registers(t);
			return;
		}
		/* It needs the processor that a busy wait would take. */
		nanosleep(&(struct timespec){ 0, INSTANT_NS }, NULL);
	} while (silt_now_ns() - start < STOP_NS);
}

static bool run_inside(struct silt_stop *stop, struct silt_heap *heap, struct silt_heap_thread *threads)
{
	bool locked = silt_heap_busy(heap, NULL, 0), any = false;
	struct at at;

	for (uint32_t i = 0; i < stop->count; i++) {
		struct silt_stopped_thread *t = &stop->threads[i];

		/* One with a signal waiting would take it on the way. */
		if (t->signal || !where(t, &at) ||
		    !is_inside(stop->pid, heap, &at, locked) || ptrace(PTRACE_CONT, t->tid, 0, 0))
			continue;
		t->state = SILT_HELD_SEIZED;
		any = true;
	}
	if (!any)
		return false;
	nanosleep(&(struct timespec){ 0, INSTANT_NS }, NULL);
	for (uint32_t i = 0; i < stop->count; i++)
		if (stop->threads[i].state == SILT_HELD_SEIZED)
			stop_again(&stop->threads[i]);
	for (uint32_t i = 0; i < stop->count; i++)
		if (where(&stop->threads[i], &at))
			threads[i].pc = at.pc;
	return true;
}

/* One that was let run and has not stopped again in time, or sleeps too deeply to be stopped. */
static bool any_left(const struct silt_stop *stop, const struct silt_heap *heap, const struct silt_heap_thread *threads)
{
	for (uint32_t i = 0; i < stop->count; i++) {
		struct at at = { threads[i].pc, threads[i].sp, threads[i].call };

		if (stop->threads[i].state == SILT_HELD_SEIZED ||
		    (stop->threads[i].state == SILT_HELD_ASLEEP && at.sp && is_inside(stop->pid, heap, &at, false)))
			return true;
	}
	return false;
}

bool silt_settle(struct silt_stop *stop, struct silt_heap *heap, struct silt_heap_thread *threads)
{
	uint64_t start = silt_now_ns();

	for (unsigned i = 0; i < ROUNDS_MAX && silt_now_ns() - start < SETTLE_NS; i++)
		if (!run_inside(stop, heap, threads))
			return !any_left(stop, heap, threads) && !silt_heap_busy(heap, threads, stop->count);
	return false;
}

#else

bool silt_settle_needed(pid_t pid, const struct silt_heap *heap, const struct silt_heap_thread *threads, uint32_t count)
{
	(void)pid, (void)heap, (void)threads, (void)count;
	return false;
}

bool silt_settle(struct silt_stop *stop, struct silt_heap *heap, struct silt_heap_thread *threads)
{
	return !silt_heap_busy(heap, threads, stop->count);
}

#endif
