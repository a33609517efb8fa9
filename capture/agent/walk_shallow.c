/* SPDX-License-Identifier: MIT */
/*
 * Shallow stacks. To look for a remembered walk that can be joined costs as much as unwinding some twenty frames: in branches that cannot
 * be foreseen, and in memory, for it takes many walks to be remembered. So where a thread's stacks are shallow and plain they are unwound
 * from the innermost frame out to what they all have in common (main, and what called it), which is kept once.
 */
#include "capture/agent/walk.h"

enum {
	WAIT = 32,	/* after a stack that was not of this kind, so many walks are taken in the other way */
	GROW_TURNS = 256 /* so often the whole stack is unwound: it may have more in common with others by now */
};

void walk_shallow_forget(struct agent_thread *t)
{
	t->outer.frame = t->outer.end = t->outer_frames;
	t->outer.tail = t->outer_tails;
	t->outer.frame->slot = ~0ull; /* never met */
	t->outer.rules = 0;
	t->outer_nodes = false;
	t->shallow_steps = 0;
}

/* How many of their outermost frames are the same. */
static uint64_t common(const struct walk_list *a, const struct walk_list *b)
{
	const struct walk_frame *x = a->end, *y = b->end;

	while (x > a->frame && y > b->frame && a->end - x < WALK_OUTER && x[-1].slot == y[-1].slot && x[-1].pc == y[-1].pc)
		x--, y--;
	return (uint64_t)(a->end - x);
}

static void keep(struct agent_thread *t, const struct walk_list *w, uint64_t n)
{
	struct walk_list *o = &t->outer;
	const struct walk_frame *from = w->end - n;
	const uint64_t *sum = w->tail + (from - w->frame);

	walk_shallow_forget(t);
	if (!n)
		return;
	for (uint64_t i = 0; i < n; i++) {
		o->frame[i] = (struct walk_frame){ .slot = from[i].slot, .pc = from[i].pc, .rule_bits = from[i].rule };
		o->tail[i] = sum[i];
		o->rules |= from[i].rule;
	}
	o->tail[n] = 0;
	o->end = o->frame + n;
	walk_close(o);
	t->outer_generation = agent_hot.module_generation;
}

/* m was unwound to its outermost frame: what has it in common with the walks before? False: t->outer is as it was. */
static COLD bool learn(struct agent_thread *t, const struct walk_memo *m)
{
	const struct walk_list *w = &m->list, *recent = &t->recent->list;
	uint64_t inner = (uint64_t)(w->end - w->frame) - 1;

	if (t->outer.end == t->outer.frame)
		keep(t, w, inner < WALK_OUTER ? inner : WALK_OUTER);
	else if (t->shallow_turn % GROW_TURNS)
		keep(t, w, common(w, &t->outer));
	else if (recent != w && t->recent->generation == agent_hot.module_generation)
		keep(t, w, common(w, recent));
	else
		return false;
	return true;
}

/* m's walk is frames up to f, then the outermost n of t->outer. */
static ALWAYS_INLINE void finish(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, struct walk_frame *f, uint64_t n,
				 uint32_t rules)
{
	struct walk_list *w = &m->list;
	uint64_t *tail = w->tail + (f - w->frame);

	for (uint64_t i = 0; i < n; i++) {
		f[i] = t->outer.frame[i];
		tail[i] = t->outer.tail[i];
	}
	tail[n] = 0;
	w->end = f + n;
	w->nodes_from = n && t->outer_nodes ? f : w->end;
	w->plain_end = w->end - 1;
	w->flags = w->uses_bp = w->specials = 0;
	w->rules = rules;
	walk_close(w);
	walk_sums(w, f);
	m->generation = agent_hot.module_generation;
	m->bp_top = fp[0];
	m->extra_count = 0;
}

/* One frame outward, from its return address at *slot, noted in f. False: its rule is not of the plain kind; *ret_rule. */
static ALWAYS_INLINE bool step(struct walk_frame *f, uint64_t *slot, uint32_t *ret_rule)
{
	/* As in unwind_plain. */
	uint64_t word = ATOMIC_LOAD(&agent_rules[*(const volatile uint16_t *)*slot]), pc = word_at(*slot);

	f->slot = *slot;
	f->pc = pc;
	if (UNLIKELY(word >> 32 != pc >> 16))
		word = rule_get(pc);
	f->rule_bits = *ret_rule = (uint32_t)word;
	if (UNLIKELY((word & 0x10007) != CFI_T_RSP)) {
		*slot += word & 0x1fff8;
		return CFI_TYPE((uint32_t)word) == CFI_T_RSP;
	}
	*slot += (word & 0xffff) - CFI_T_RSP;
	return true;
}

bool walk_shallow(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp)
{
	const struct walk_list *o = &t->outer;
	struct walk_frame *f, *limit, *first;
	uint64_t slot = (uint64_t)&fp[1], until, n;
	uint32_t rules = 0, rule;

	if (UNLIKELY(m->capacity < WALK_SHALLOW) && !memo_reserve(m, WALK_SHALLOW))
		goto not;
	if (UNLIKELY(o->end != o->frame && t->outer_generation != agent_hot.module_generation))
		walk_shallow_forget(t);
	n = (uint64_t)(o->end - o->frame);
	f = first = m->list.frame;
	until = LIKELY(++t->shallow_turn % GROW_TURNS) ? o->frame->slot : ~0ull;
	limit = f + WALK_SHALLOW - (until != ~0ull ? n : 0);
	/* As many frames as last time: a loop that is counted ends without waiting for the last slot, and what comes behind it is begun
	 * while the frames are still being followed. */
	for (uint32_t i = t->shallow_steps; i; i--, f++, rules |= rule)
		if (UNLIKELY(!step(f, &slot, &rule)))
			goto outermost;
	while (UNLIKELY(slot > until) && f > first)
		slot = (--f)->slot;
again:
	for (; UNLIKELY(slot < until); f++, rules |= rule) {
		if (UNLIKELY(f >= limit))
			goto not;
		if (UNLIKELY(!step(f, &slot, &rule)))
			goto outermost;
	}
	if (LIKELY(slot == until && walk_verify_plain(o->frame) == o->end)) {
		t->shallow_steps = (uint32_t)(f - first);
		t->outer_fits = true;
		finish(t, m, fp, f, n, rules | o->rules);
		return true;
	}
	until = ~0ull;
	limit = first + WALK_SHALLOW;
	goto again;
outermost:
	if (CFI_TYPE(rule) != CFI_T_END || !f->pc)
		goto not;
	finish(t, m, fp, f + 1, 0, rules | rule);
	t->outer_fits = learn(t, m);
	return true;
not:
	walk_void(m);
	t->shallow = 0;
	t->shallow_wait = WAIT;
	return false;
}

void walk_shallow_counted(struct agent_thread *t, const struct walk_memo *m)
{
	uint64_t n = (uint64_t)(t->outer.end - t->outer.frame);
	const struct walk_frame *from = m->list.end - n;

	if (LIKELY(t->outer_nodes) || !t->outer_fits || from < m->list.nodes_from)
		return;
	for (uint64_t i = 0; i < n; i++)
		t->outer.frame[i].bits = from[i].bits;
	t->outer_nodes = true;
}

void walk_shallow_judge(struct agent_thread *t, const struct walk_list *w)
{
	if (t->shallow_wait)
		t->shallow_wait--;
	else
		t->shallow = w->end - w->frame < WALK_SHALLOW && w->end != w->frame && !(w->flags | w->uses_bp | w->specials) &&
			     agent_hot.options.max_depth > WALK_SHALLOW;
}
