/* SPDX-License-Identifier: MIT */
/* Where stopped threads stand: out of bytes that change, and out of memory that goes. */
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "base/io.h"
#include "capture/attach/attach_internal.h"

bool silt_threads_place(const struct silt_stop *stop, const struct silt_stopped_thread *t, struct silt_thread_place *ret)
{
	uint64_t call;

	memset(ret, 0, sizeof(*ret));
	if (t->state == SILT_HELD_STOPPED && t->has_regs) {
		ret->regs = t->regs;
		ret->sp = ret->regs.rsp;
		ret->pc = ret->regs.rip;
		ret->settable = true;
		return true;
	}
	if (!silt_stop_asleep_place(stop->pid, t->tid, &call, &ret->sp, &ret->pc))
		return false;
	ret->regs.rsp = ret->sp;
	ret->regs.rip = ret->pc;
	ret->regs.orig_rax = call;
	return true;
}

#define BATCH SILT_STACKS_BATCH
#define BATCH_EACH (SILT_STACKS_BYTES / BATCH) /* most threads that wait use less of their stack */

/* Bytes from sp to the end of the memory that holds it, as far as they are looked at. */
static size_t stack_size(const struct silt_survey *s, uint64_t sp)
{
	uint32_t low = 0, high = s->maps.count;

	while (low < high) { /* with thousands of threads there are thousands of regions, and everybody waits */
		uint32_t middle = low + (high - low) / 2;

		if (s->maps.regions[middle].end <= sp)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == s->maps.count || s->maps.regions[low].start > sp)
		return 65536;
	return s->maps.regions[low].end - sp < SILT_STACK_LOOK ? s->maps.regions[low].end - sp : SILT_STACK_LOOK;
}

bool silt_stacks_open(struct silt_stacks *r, const struct silt_stop *stop, const struct silt_survey *s)
{
	memset(r, 0, sizeof(*r));
	r->stop = stop;
	r->survey = s;
	r->words = malloc(SILT_STACK_LOOK);
	r->batch = malloc(SILT_STACKS_BYTES);
	if (r->words && r->batch)
		return true;
	silt_stacks_close(r);
	return false;
}

void silt_stacks_close(struct silt_stacks *r)
{
	free(r->words);
	free(r->batch);
	r->words = r->batch = NULL;
}

/* One system call for the stacks of many threads, from number `first` on. What it does not bring is read one by one. */
static void read_batch(struct silt_stacks *r, uint32_t first)
{
	struct iovec local[BATCH], remote[BATCH];
	uint32_t of[BATCH], n = 0;
	ssize_t got;

	memset(r->have, 0, sizeof(r->have));
	r->first = first;
	r->end = first + BATCH;
	for (uint32_t i = 0; i < BATCH && first + i < r->stop->count; i++) {
		const struct silt_stopped_thread *t = &r->stop->threads[first + i];
		uint64_t sp = t->regs.rsp & ~7ull;
		size_t size;

		if (t->state != SILT_HELD_STOPPED || !t->has_regs || (size = stack_size(r->survey, sp)) > BATCH_EACH)
			continue;
		local[n] = (struct iovec){ (uint8_t *)r->batch + i * BATCH_EACH, size };
		remote[n] = (struct iovec){ (void *)(uintptr_t)sp, size };
		of[n++] = i;
	}
	got = n ? process_vm_readv(r->survey->pid, local, n, remote, n, 0) : 0;
	for (uint32_t k = 0; k < n && got >= (ssize_t)local[k].iov_len; got -= (ssize_t)local[k].iov_len, k++)
		r->have[of[k]] = local[k].iov_len;
}

size_t silt_stacks_read(struct silt_stacks *r, uint32_t thread, uint64_t sp, uint64_t **ret)
{
	ssize_t n;

	if (thread < r->first || thread >= r->end)
		read_batch(r, thread);
	if (r->have[thread - r->first]) {
		*ret = r->batch + (thread - r->first) * (BATCH_EACH / 8);
		return r->have[thread - r->first] / 8;
	}
	*ret = r->words;
	n = pread(r->survey->mem, r->words, stack_size(r->survey, sp & ~7ull), (off_t)(sp & ~7ull));
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

static bool add_move(struct silt_moves *m, uint32_t thread, silt_addr at, silt_addr to)
{
	return silt_vec_push(&m->items, ((struct silt_move_item){ thread, at, to }));
}

/* An interrupted system call begins again two bytes before the pc (see arch_do_signal_or_restart). */
static silt_addr moved_pc(const struct silt_thread_place *p, const struct silt_head *h, enum silt_move how)
{
	silt_addr to = moved(h, p->pc, how);

	if (!to && (int64_t)p->regs.orig_rax >= 0 && (to = moved(h, p->pc - 2, how)))
		to += 2;
	return to;
}

bool silt_threads_find(struct silt_stacks *stacks, uint32_t thread, const struct silt_head *h, enum silt_move how, struct silt_moves *ret)
{
	const struct silt_stopped_thread *t = &stacks->stop->threads[thread];
	struct silt_thread_place p;
	uint64_t *words;
	silt_addr to;
	size_t n;

	if (t->state == SILT_HELD_GONE || !silt_threads_place(stacks->stop, t, &p))
		return true;
	to = moved_pc(&p, h, how);
	if (to && !add_move(ret, thread, 0, to))
		return false;
	/* Signal handlers return to where a frame on the stack says. */
	n = silt_stacks_read(stacks, thread, p.sp, &words);
	for (size_t i = 0; i + 2 < n; i++) {
		to = silt_threads_is_frame(words + i) ? moved(h, words[i], how) : 0;
		if (to && !add_move(ret, thread, (p.sp & ~7ull) + i * 8, to))
			return false;
		if (to)
			words[i] = to;
	}
	return true;
}

static int move_pc(struct silt_stopped_thread *t, silt_addr to, struct silt_error *err)
{
	struct iovec iov = { &t->regs, sizeof(t->regs) };

	if (t->state != SILT_HELD_STOPPED || !t->has_regs)
		return silt_error_set(err, SILT_E_LIMIT, "thread %d stands where the code is to change, and cannot be stopped", t->tid);
	t->regs.rip = to;
	if (ptrace(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, &iov))
		return silt_error_os(err, errno, "cannot set the registers of thread %d", t->tid);
	return 0;
}

int silt_threads_apply(struct silt_stop *stop, const struct silt_survey *s, struct silt_moves *m, struct silt_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < m->items.count && !rc; i++) {
		struct silt_move_item *item = &m->items.items[i];

		if (!item->at)
			rc = move_pc(&stop->threads[item->thread], item->to, err);
		else if (pwrite(s->mem, &item->to, 8, (off_t)item->at) != 8)
			rc = silt_error_os(err, errno, "cannot write to the stack of a thread");
	}
	m->items.count = 0;
	return rc;
}

/* ---- while a thread of the target is at work ---- */

static void *find_all(void *arg)
{
	struct silt_finder *f = arg;
	struct silt_stacks stacks;

	f->fine = silt_stacks_open(&stacks, f->stop, f->survey);
	if (!f->fine)
		return NULL;
	for (uint32_t i = 0; f->fine && i < f->stop->count; i++)
		if (i != f->except)
			f->fine = silt_threads_find(&stacks, i, f->head, SILT_MOVE_IN, &f->moves);
	silt_stacks_close(&stacks);
	return NULL;
}

void silt_finder_begin(struct silt_finder *f, const struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head,
		       uint32_t except)
{
	*f = (struct silt_finder){ .stop = stop, .survey = s, .head = head, .except = except };
	f->running = !pthread_create(&f->thread, NULL, find_all, f);
}

bool silt_finder_end(struct silt_finder *f)
{
	struct silt_stacks stacks;

	if (f->running)
		pthread_join(f->thread, NULL);
	else
		find_all(f);
	if (!f->fine || f->except >= f->stop->count)
		return f->fine;
	if (!silt_stacks_open(&stacks, f->stop, f->survey))
		return false;
	f->fine = silt_threads_find(&stacks, f->except, f->head, SILT_MOVE_IN, &f->moves);
	silt_stacks_close(&stacks);
	return f->fine;
}

void silt_finder_free(struct silt_finder *f)
{
	silt_vec_free(&f->moves.items);
}
