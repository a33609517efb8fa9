/* SPDX-License-Identifier: MIT */
/* Where stopped threads stand: out of bytes that change, and out of memory that goes. */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "base/io.h"
#include "capture/attach/attach_internal.h"

/* By ptrace, or for one that sleeps too deeply to be stopped by /proc ("number arguments sp pc"). */
bool silt_threads_place(const struct silt_stop *stop, const struct silt_stopped_thread *t, struct silt_thread_place *ret)
{
	struct iovec iov = { &ret->regs, sizeof(ret->regs) };
	char path[80], *last;
	uint8_t *text;
	size_t size;

	memset(ret, 0, sizeof(*ret));
	if (t->state == SILT_HELD_STOPPED && !ptrace(PTRACE_GETREGSET, t->tid, NT_PRSTATUS, &iov)) {
		ret->sp = ret->regs.rsp;
		ret->pc = ret->regs.rip;
		ret->settable = true;
		return true;
	}
	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", stop->pid, t->tid);
	if (silt_read_file(path, 4096, &text, &size, NULL))
		return false;
	last = strrchr((char *)text, ' ');
	if (last) {
		ret->pc = strtoull(last, NULL, 16);
		*last = '\0';
		last = strrchr((char *)text, ' ');
		ret->sp = last ? strtoull(last, NULL, 16) : 0;
	}
	free(text);
	ret->regs.rsp = ret->sp;
	ret->regs.rip = ret->pc;
	return ret->sp != 0;
}

size_t silt_threads_stack(const struct silt_survey *s, uint64_t sp, uint64_t *words)
{
	uint32_t low = 0, high = s->maps.count;
	size_t size = 65536;
	ssize_t n;

	sp &= ~7ull;
	while (low < high) { /* with thousands of threads there are thousands of regions, and everybody waits */
		uint32_t middle = low + (high - low) / 2;

		if (s->maps.regions[middle].end <= sp)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < s->maps.count && s->maps.regions[low].start <= sp)
		size = s->maps.regions[low].end - sp < SILT_STACK_LOOK ? s->maps.regions[low].end - sp : SILT_STACK_LOOK;
	n = pread(s->mem, words, size, (off_t)sp);
	return n > 0 ? (size_t)n / 8 : 0;
}

/* struct sigcontext: rip, eflags, then cs and ss, which are the same in every 64-bit process. */
bool silt_threads_is_frame(const uint64_t words[3])
{
	return (words[2] & 0xffff) == 0x33 && words[2] >> 48 == 0x2b;
}

/* The new place of an address, or 0: it may stay. */
static silt_addr moved_in(const struct silt_head *h, silt_addr pc)
{
	for (uint32_t i = 0; i < h->site_count; i++) {
		const struct silt_moved *m = &h->sites[i].moved;

		if (pc <= m->at || pc >= m->at + m->size)
			continue;
		for (uint32_t k = 0; k < m->count; k++)
			if (m->at + m->from[k] == pc)
				return h->sites[i].trampoline + m->to[k];
	}
	return 0;
}

static silt_addr moved_out(const struct silt_head *h, silt_addr pc)
{
	for (uint32_t i = 0; i < h->site_count; i++) {
		const struct silt_site *s = &h->sites[i];
		const struct silt_moved *m = &s->moved;

		if (s->bridge && pc == s->bridge)
			return m->at;
		if (pc < s->trampoline || pc >= s->trampoline + m->out_size)
			continue;
		for (uint32_t k = 0; k < m->count; k++)
			if (s->trampoline + m->to[k] == pc)
				return m->at + m->from[k];
		if (pc == s->trampoline + m->out_size - SILT_JUMP_SIZE)
			return m->at + m->size;
	}
	return 0;
}

static silt_addr moved(const struct silt_head *h, silt_addr pc, enum silt_move how)
{
	return how == SILT_MOVE_IN ? moved_in(h, pc) : moved_out(h, pc);
}

/* An interrupted system call begins again two bytes before the pc (see arch_do_signal_or_restart). */
static int move_pc(const struct silt_stopped_thread *t, struct silt_thread_place *p, const struct silt_head *h, enum silt_move how,
		   struct silt_error *err)
{
	struct iovec iov = { &p->regs, sizeof(p->regs) };
	silt_addr to = moved(h, p->pc, how);

	if (!to && (int64_t)p->regs.orig_rax >= 0 && (to = moved(h, p->pc - 2, how)))
		to += 2;
	if (!to)
		return 0;
	if (!p->settable)
		return silt_error_set(err, SILT_E_LIMIT, "thread %d stands where the code is to change, and cannot be stopped", t->tid);
	p->regs.rip = to;
	if (ptrace(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, &iov))
		return silt_error_os(err, errno, "cannot set the registers of thread %d", t->tid);
	return 0;
}

/* Signal handlers return to where a frame on the stack says. */
static int move_frames(const struct silt_survey *s, uint64_t sp, const struct silt_head *h, enum silt_move how, uint64_t *words,
		       struct silt_error *err)
{
	size_t n = silt_threads_stack(s, sp, words);

	for (size_t i = 0; i + 2 < n; i++) {
		silt_addr to = silt_threads_is_frame(words + i) ? moved(h, words[i], how) : 0;

		if (to && pwrite(s->mem, &to, 8, (off_t)((sp & ~7ull) + i * 8)) != 8)
			return silt_error_os(err, errno, "cannot write to the stack of a thread");
	}
	return 0;
}

int silt_threads_move(const struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head,
		      enum silt_move how, struct silt_error *err)
{
	uint64_t *words = malloc(SILT_STACK_LOOK);
	int rc = words ? 0 : silt_error_set(err, SILT_E_NOMEM, "out of memory");

	for (uint32_t i = 0; !rc && i < stop->count; i++) {
		const struct silt_stopped_thread *t = &stop->threads[i];
		struct silt_thread_place p;

		if (t->state == SILT_HELD_GONE || !silt_threads_place(stop, t, &p))
			continue;
		rc = move_pc(t, &p, head, how, err);
		if (!rc)
			rc = move_frames(s, p.sp, head, how, words, err);
	}
	free(words);
	return rc;
}
