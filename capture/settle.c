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
#define ALONE_ROUNDS_MAX 400u   /* where there are no others */
#define ALONE_NS 40000000ull
#define INSTANT_NS 20000l       /* what a thread runs in one round, at least */
#define STOP_NS 200000000ull    /* what stopping it again may take */
#define STACK_WORDS 48u         /* looked through for return addresses into the allocator */
#define FUNCTION_MAX 16384u     /* bytes of code of memcpy and its like, at most */

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

static bool any_in_allocator(const struct silt_heap *heap, const uint64_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (silt_heap_in_allocator(heap, words[i]))
			return true;
	return false;
}

/* The allocator's frames lie near the top of the stack of what it called; but so may words left over from earlier calls. */
static bool was_called(pid_t pid, const struct silt_heap *heap, const struct at *at)
{
	uint64_t words[STACK_WORDS];

	return any_in_allocator(heap, words, read_words(pid, at->sp, words, sizeof(words)));
}

/* Is there a call in front of ret? What it calls; 0: an address that is computed. */
static bool call_before(pid_t pid, silt_addr ret, silt_addr *ret_target)
{
	uint8_t code[8] = { 0 };
	int32_t offset;

	*ret_target = 0;
	if (!read_words(pid, ret - 8, code, 8))
		return false;
	if (code[3] == 0xe8) {
		memcpy(&offset, code + 4, 4);
		*ret_target = ret + (uint64_t)(int64_t)offset;
		return true;
	}
	/* ff /2: a register, or memory with an offset of 4, 1 or no bytes. */
	return (code[2] == 0xff && (code[3] & 0x38) == 0x10) || (code[5] == 0xff && (code[6] & 0x38) == 0x10) ||
	       (code[6] == 0xff && (code[7] & 0x38) == 0x10);
}

/* Where a jump by way of a pointer (PLT) leads to; from itself when it is none. */
static silt_addr jump_target(pid_t pid, silt_addr from)
{
	uint8_t code[16] = { 0 };
	uint64_t slot;
	int32_t offset;
	size_t at;

	if (read_words(pid, from, code, 16) < 2)
		return from;
	at = code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e ? 4 : 0; /* endbr64 */
	at += code[at] == 0xf2;						     /* bnd */
	if (code[at] != 0xff || code[at + 1] != 0x25)
		return from;
	memcpy(&offset, code + at + 2, 4);
	return read_words(pid, from + at + 6 + (uint64_t)(int64_t)offset, &slot, 8) ? slot : from;
}

/* Does word return to behind a call of the function in which pc lies? Stacks also hold pointers, and places that were not written since
 * an earlier call. */
static bool is_caller(pid_t pid, const struct silt_heap *heap, silt_addr word, silt_addr pc)
{
	silt_addr target;

	if (!call_before(pid, word, &target))
		return false;
	if (!target || pc - target < 16)
		return true;
	/* Left by a jump: to the function it ends with, or by that to the one which sets errno. */
	if (silt_heap_in_calls(heap, target) || (silt_heap_in_calls(heap, pc) && silt_heap_in_allocator(heap, target)))
		return true;
	target = jump_target(pid, target);
	return pc - target < FUNCTION_MAX || silt_heap_in_calls(heap, target);
}

/*
 * Where the allocator takes no lock, a thread may stand in what it has called in program code, too: in memcpy, between a block's new
 * place and the end of its old one; before or behind the instruction by which memory is mapped; in what gives that a name. A call frame
 * is known by the call in front of its return address: musl has no call frame information.
 */
static bool was_called_for_sure(pid_t pid, const struct silt_heap *heap, const struct at *at)
{
	uint64_t words[STACK_WORDS];
	size_t n = read_words(pid, at->sp, words, sizeof(words));
	silt_addr pc = at->pc;

	if (!any_in_allocator(heap, words, n))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!is_caller(pid, heap, words[i], pc))
			continue;
		if (silt_heap_in_allocator(heap, words[i]))
			return true;
		pc = words[i];
	}
	return false;
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
		return silt_heap_in_allocator(heap, at->pc) || was_called(pid, heap, at);
	case ~0ull:
		return silt_heap_in_allocator(heap, at->pc) || (locked && was_called(pid, heap, at)) ||
		       was_called_for_sure(pid, heap, at);
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
	uint64_t start = silt_now_ns(), most = stop->count == 1 ? ALONE_NS : SETTLE_NS;
	unsigned rounds = stop->count == 1 ? ALONE_ROUNDS_MAX : ROUNDS_MAX;

	for (unsigned i = 0; i < rounds && silt_now_ns() - start < most; i++)
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
