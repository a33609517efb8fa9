/* SPDX-License-Identifier: MIT */
/*
 * Is a thread inside the agent, or will it return there? Words on its stack that look like return addresses into the agent are
 * mostly left over from calls that are long done, so where there are any its frames are followed: past such a word, it is
 * known to be dead.
 */
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

static bool stays_inside(const struct silt_head *h, const struct silt_thread_place *p, struct silt_unwind *u,
			 struct silt_stacks *stacks, uint32_t thread)
{
	uint64_t *words;
	size_t n = silt_stacks_read(stacks, thread, p->sp, &words);
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

/* Each stack is read once for both. */
static int leave(struct silt_stop *stop, struct silt_stacks *stacks, struct silt_unwind *u, const struct silt_head *head, silt_addr stub,
		 pid_t *ret_inside, struct silt_error *err)
{
	struct silt_moves moves = { 0 };
	int rc = 0;

	for (uint32_t i = 0; !rc && i < stop->count; i++) {
		const struct silt_stopped_thread *t = &stop->threads[i];
		struct silt_thread_place p;

		if (head && !silt_threads_find(stacks, i, head, SILT_MOVE_OUT, &moves))
			rc = silt_error_set(err, SILT_E_NOMEM, "out of memory");
		if (!rc)
			rc = silt_threads_apply(stop, stacks->survey, &moves, err);
		if (rc || *ret_inside || t->state == SILT_HELD_GONE || !silt_threads_place(stop, t, &p))
			continue;
		if ((stub && p.pc - stub < SILT_STUB_SIZE) || (head && (within(head, p.pc) || stays_inside(head, &p, u, stacks, i))))
			*ret_inside = t->tid;
	}
	silt_vec_free(&moves.items);
	return rc;
}

int silt_threads_leave(struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head, silt_addr stub,
		       pid_t *ret_inside, struct silt_error *err)
{
	struct silt_stacks stacks;
	struct silt_unwind u;
	int rc;

	*ret_inside = 0;
	if (!silt_stacks_open(&stacks, stop, s))
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	rc = silt_unwind_open(&u, s, err);
	if (!rc) {
		rc = leave(stop, &stacks, &u, head, stub, ret_inside, err);
		silt_unwind_close(&u);
	}
	silt_stacks_close(&stacks);
	return rc;
}
