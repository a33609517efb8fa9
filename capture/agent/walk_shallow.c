/* SPDX-License-Identifier: MIT */
/*
 * Shallow stacks. To look for a remembered walk that can be joined costs as much as unwinding some twenty frames: in branches that cannot
 * be foreseen, and in memory, for it takes many walks to be remembered. So where a thread's stacks are shallow and plain they are unwound
 * from the innermost frame out to what they all have in common (main, and what called it), which is kept once.
 */
#include "capture/agent/walk.h"

enum {
	WAIT = 32,	/* after a stack that was not of this kind, so many walks are taken in the other way */
	GROW_TURNS = 256, /* so often the whole stack is unwound: it may have more in common with others by now */
	/* What stacks have in common is cut down to what the one at hand has, too, when more than one of five has less. */
	MISS = 4,
	MISSES_MAX = 32
};

void walk_shallow_forget(struct agent_thread *t)
{
	t->outer.frame = t->outer.end = t->outer_frames;
	t->outer.tail = t->outer_tails;
	t->outer.frame->slot = ~0ull; /* never met */
	t->outer.rules = 0;
	t->outer_nodes = false;
	t->outer_misses = 0;
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

/* It may have more in common with the walk before than all had. */
static bool grow(struct agent_thread *t, const struct walk_memo *m)
{
	uint64_t n;

	if (t->recent == m || t->recent->generation != agent_hot.module_generation)
		return false;
	n = common(&m->list, &t->recent->list);
	if (n <= (uint64_t)(t->outer.end - t->outer.frame))
		return false;
	keep(t, &m->list, n);
	return true;
}

/* m was unwound to its outermost frame: what has it in common with the walks before? False: t->outer is as it was. */
static COLD bool learn(struct agent_thread *t, const struct walk_memo *m)
{
	const struct walk_list *w = &m->list;
	uint64_t inner = (uint64_t)(w->end - w->frame) - 1;

	if (t->outer.end == t->outer.frame)
		keep(t, w, inner < WALK_OUTER ? inner : WALK_OUTER);
	else if (t->shallow_turn % GROW_TURNS == 0)
		return grow(t, m);
	else if ((t->outer_misses += MISS) > MISSES_MAX)
		keep(t, w, common(w, &t->outer));
	else
		return false;
	return true;
}

/* What is known of the context's nodes is kept for those that have t->outer in common, too. */
static COLD void take_nodes(struct agent_thread *t, const struct walk_list *w)
{
	uint64_t n = (uint64_t)(t->outer.end - t->outer.frame);
	const struct walk_frame *from = w->end - n;

	if (!t->outer_fits || from < w->nodes_from)
		return;
	for (uint64_t i = 0; i < n; i++)
		t->outer.frame[i].bits = from[i].bits;
	t->outer_nodes = true;
}

/* m's walk is frames up to f, then the outermost n of t->outer. */
static ALWAYS_INLINE void finish(struct walk_memo *m, const uint64_t *fp, struct walk_frame *f, const struct agent_thread *t, uint64_t n,
				 uint32_t rules)
{
	const uint64_t *key = walk_position_key + n;
	struct walk_list *w = &m->list;
	uint64_t *tail = w->tail + (f - w->frame), sum = n ? t->outer.tail[0] : 0;

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
	while (f > w->frame) /* as walk_sums */
		*--tail = sum += (--f)->pc * *key++;
	m->generation = agent_hot.module_generation;
	m->bp_top = fp[0];
	m->extra_count = 0;
}

static ALWAYS_INLINE struct silt_db_cache_entry *count(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp,
						       const struct stack_use *use)
{
	struct walk_list *w = &m->list;
	uint64_t key = LIKELY(!(w->rules >> 24)) ? stack_key(w->tail[0], (uint32_t)(w->end - w->frame), 0, use) : walk_key(w, use);
	struct silt_db_cache_entry *e = thread_cache_get(t, key, w, use);

	memo_counted(t, m, use, (uint64_t)&fp[1], e);
	if (UNLIKELY(!t->outer_nodes))
		take_nodes(t, w);
	return e;
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

struct silt_db_cache_entry *walk_shallow(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, const struct stack_use *use)
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
		t->outer_misses -= t->outer_misses != 0;
		finish(m, fp, f, t, n, rules | o->rules);
		return count(t, m, fp, use);
	}
	until = ~0ull;
	limit = first + WALK_SHALLOW;
	goto again;
outermost:
	if (CFI_TYPE(rule) != CFI_T_END || !f->pc)
		goto not;
	finish(m, fp, f + 1, t, 0, rules | rule);
	t->outer_fits = learn(t, m);
	return count(t, m, fp, use);
not:
	walk_void(m);
	t->shallow = 0;
	t->shallow_wait = WAIT;
	return NULL;
}

void walk_shallow_judge(struct agent_thread *t, const struct walk_list *w)
{
	if (t->shallow_wait)
		t->shallow_wait--;
	else
		t->shallow = w->end - w->frame < WALK_SHALLOW && w->end != w->frame && !(w->flags | w->uses_bp | w->specials) &&
			     agent_hot.options.max_depth > WALK_SHALLOW;
}
