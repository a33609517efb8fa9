/* SPDX-License-Identifier: MIT */
/*
 * One walk alone. Where a thread's stack is another one nearly each time, and too many to be remembered, what it has in common with the
 * one just before is most of it all the same. So the thread keeps that one: it is unwound from the innermost frame outward beside the old
 * walk until they meet. The outer frames stay where they are, with all that is known of them, and the new inner ones are put before them:
 * the walk lies at the end of its room, and begins where it has to.
 *
 * Which way is cheaper cannot be told beforehand. Threads begin with memos, and change over where many walks must be put together anew in
 * spite of them; now and then they try again.
 */
#include "capture/agent/walk.h"

enum {
	FRAMES = 128, /* room at first, of which half is for inner frames that come and go */
	/* Memos are judged after so many walks that were not as remembered: too many put together anew are one of so many. */
	JUDGED_AFTER = 8192,
	ANEW_SHARE = 3,
	/* After so many walks they get another try. */
	TRY_AFTER = 1 << 20,
	LUCK_MAX = 1024,
};

/* m begins where its room does. */
static void home(struct walk_memo *m)
{
	m->list.frame = m->base;
	m->saved = (struct walk_word *)(void *)(m->list.frame + m->capacity + 1);
	m->list.tail = (uint64_t *)(void *)(m->saved + m->capacity + 1);
	m->before = 0;
	walk_void(m);
}

static bool make(struct agent_thread *t)
{
	uint32_t ref = db_alloc(sizeof(struct walk_memo));
	struct walk_memo *m = ref ? db_at(ref) : NULL;

	if (!m || !memo_reserve(m, FRAMES))
		return false;
	m->alone = true;
	IN_ORDER();
	t->stay = m;
	return true;
}

void walk_stay_judge(struct agent_thread *t)
{
	bool better = t->stay_anew > JUDGED_AFTER / ANEW_SHARE;

	t->stay_turn = JUDGED_AFTER;
	t->stay_anew = 0;
	if (!better || (!t->stay && !make(t)))
		return;
	home(t->stay);
	t->stay_turn = TRY_AFTER;
	t->stay_luck = LUCK_MAX;
	t->many_mask = t->memo_mask;
	IN_ORDER(); /* from here on walk_stay_end puts right whatever a handler that jumps away leaves */
	t->many = t->memos;
	IN_ORDER();
	t->memo_mask = 0; /* never more than there are */
	IN_ORDER();
	t->memos = t->stay;
}

void walk_stay_end(struct agent_thread *t)
{
	if (!t->many)
		return;
	t->memo_mask = 0;
	IN_ORDER();
	t->memos = t->many;
	IN_ORDER();
	t->memo_mask = t->many_mask;
	t->recent = t->memos;
	t->stay_turn = JUDGED_AFTER;
	t->stay_anew = 0;
	IN_ORDER();
	t->many = NULL;
}

/* The walk comes to lie as far out as there is room. */
static void move_out(struct walk_memo *m)
{
	struct walk_list *w = &m->list;
	uint64_t n = (uint64_t)(w->end - w->frame), by = m->capacity - m->before - n;
	uint64_t nodes = (uint64_t)(w->nodes_from - w->frame);

	for (uint64_t i = n + 1; i-- > 0;) {
		w->frame[i + by] = w->frame[i];
		w->tail[i + by] = w->tail[i];
		m->saved[i + by] = m->saved[i];
	}
	m->before += (uint16_t)by;
	w->frame += by;
	w->tail += by;
	m->saved += by;
	w->end += by;
	w->nodes_from = w->frame + nodes;
}

/* What u found comes to stand before the frames it joined. False: too many for m, or for a walk that is cut off at the limit. */
static bool put(struct walk_memo *m, struct unwound *u, const struct walk_frame *fresh)
{
	struct walk_list *w = &m->list;
	uint64_t count = (uint64_t)(u->end - fresh), outer = (uint64_t)(w->end - u->join), inner = (uint64_t)(u->join - w->frame);
	uint32_t depth = agent_hot.options.max_depth;
	int64_t by = (int64_t)inner - (int64_t)count; /* so many frames fewer */

	if (count + outer > depth || ((w->flags & SILT_DB_STACK_DEPTH) && count + outer != depth) || count + outer > m->capacity)
		return false;
	if (UNLIKELY(by < -(int64_t)m->before)) {
		move_out(m);
		u->join = w->frame + inner;
	}
	if (u->uses_bp && !w->uses_bp) {
		m->checks = 0;
		for (uint64_t i = inner; i < inner + outer; i++)
			m->saved[i] = WALK_WORD_NONE;
	}
	w->frame += by;
	w->tail += by;
	m->saved += by;
	m->before = (uint16_t)(m->before + by);
	m->checks = walk_checks_moved(m->checks, -by);
	walk_copy_fresh(w->frame, fresh, count);
	if (w->nodes_from < u->join)
		w->nodes_from = u->join;
	w->rules |= u->rules;
	w->uses_bp |= u->uses_bp;
	walk_sums(w, u->join);
	return true;
}

static void unwind(struct agent_thread *t, struct unwound *u, const struct walk_memo *m, const uint64_t *fp)
{
	uint64_t depth = agent_hot.options.max_depth, room = m->capacity < depth ? m->capacity : depth;
	struct step s = { .slot = (uint64_t)&fp[1], .sp = (uint64_t)&fp[2], .bp = fp[0] };

	if (LIKELY(!t->with_bp)) {
		unwind_plain_beside(u, t->spare, room, s.slot, m);
		t->with_bp = u->need_bp ? WALKS_WITH_BP : 0;
	}
	if (UNLIKELY(t->with_bp)) {
		t->with_bp--;
		unwind_with_bp_beside(u, t->spare, room, s, m);
	}
}

bool walk_stay(struct agent_thread *t, const uint64_t *fp)
{
	struct walk_memo *m = t->stay;
	struct unwound u;

	m->first = m->first_bp = 0;
	if (LIKELY(m->list.end != m->list.frame && m->generation == agent_hot.module_generation && !m->list.specials)) {
		unwind(t, &u, m, fp);
		if (LIKELY(u.join && !u.specials) && LIKELY(put(m, &u, t->spare))) {
			m->bp_top = fp[0];
			m->list.plain_end = m->list.end - 1;
			if (m->list.uses_bp)
				study_bp(m, u.join); /* what is known of the joined frames stands */
			t->stay_luck += t->stay_luck < LUCK_MAX;
			return true;
		}
	}
	t->stay_luck -= WALK_STAY_MISS;
	home(m);
	t->recent = m;
	return false;
}
