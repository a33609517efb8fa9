/* SPDX-License-Identifier: MIT */
/*
 * Is a thread inside the agent, or will it return there? Words on its stack that look like return addresses into the agent are
 * mostly left over from calls that are long done, so where there are any its frames are followed: past such a word, it is
 * known to be dead.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture/attach/attach_internal.h"
#include "capture/attach/unwind.h"

static bool within(const struct silt_head *h, silt_addr pc)
{
	if (pc - h->image < h->image_size)
		return true;
	for (uint32_t i = 0; i < h->island_count; i++)
		if (pc - h->islands[i].addr < h->islands[i].size)
			return true;
	return false;
}

struct search {
	const struct silt_head *head;
	silt_addr last; /* the outermost word in question; 0: the end of the walk is */
	bool found;
};

static bool visit(void *data, silt_addr pc, silt_addr sp)
{
	struct search *s = data;

	s->found = within(s->head, pc);
	return !s->found && (!s->last || sp <= s->last);
}

static bool stays_inside(const struct silt_head *h, const struct silt_thread_place *p, struct silt_unwind *u, uint64_t *words,
			 const struct silt_survey *s)
{
	size_t n = silt_threads_stack(s, p->sp, words);
	struct search search = { .head = h };
	silt_addr last = 0;
	bool handler = false, whole;

	for (size_t i = 0; i < n; i++) {
		if (within(h, words[i]))
			last = (p->sp & ~7ull) + i * 8;
		handler |= i + 2 < n && silt_threads_is_frame(words + i);
	}
	if (!last && !handler)
		return false;
	/* The frame of a signal handler may lead to another stack, so all of its frames count. */
	search.last = handler ? 0 : last;
	whole = silt_unwind_walk(u, &p->regs, p->settable, visit, &search);
	return search.found || (!whole && last);
}

pid_t silt_threads_inside(const struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head, silt_addr stub)
{
	uint64_t *words = malloc(SILT_STACK_LOOK);
	struct silt_unwind u;
	pid_t found = 0;

	if (!words || silt_unwind_open(&u, s, NULL)) {
		free(words);
		return stop->pid;
	}
	for (uint32_t i = 0; !found && i < stop->count; i++) {
		const struct silt_stopped_thread *t = &stop->threads[i];
		struct silt_thread_place p;

		if (t->state == SILT_HELD_GONE || !silt_threads_place(stop, t, &p))
			continue;
		if ((stub && p.pc - stub < SILT_STUB_SIZE) || (head && (within(head, p.pc) || stays_inside(head, &p, &u, words, s))))
			found = t->tid;
	}
	silt_unwind_close(&u);
	free(words);
	return found;
}
