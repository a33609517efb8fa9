/* SPDX-License-Identifier: MIT */
/*
 * Shallow stacks. To look for a remembered walk that can be joined costs as much as unwinding some twenty frames: in branches that cannot
 * be foreseen, and in memory, for it takes many walks to be remembered. So where a thread's stacks are shallow and plain they are unwound
 * from the innermost frame out to what they all have in common (main, and what called it), which is kept once.
 *
 * Where a memo's walk was such a one, the next that comes upon the memo mostly has as many frames, and the same outer ones: the same
 * shape. walk_again tries that first. It needs to know nothing but where it ends, so one loop reads the return addresses, writes them
 * into their places, and sums them up. All else about the walk stands already, or is worked out when somebody asks (walk_shape_leave).
 */
#include "capture/agent/walk.h"

enum {
	WAIT = 32,	/* after a stack that was not of this kind, so many walks are taken in the other way */
	/* So often the whole stack is unwound: it may have more in common with others by now. Less often where that does not last. */
	GROW_PAUSE = 256,
	GROW_PAUSE_MAX = 65536,
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
	t->shape += t->shape != ~0u ? 1 : 2; /* 0 is no shape */
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
	if (n <= (uint64_t)(t->outer.end - t->outer.frame)) {
		t->grow_pause = t->grow_pause / 2 > GROW_PAUSE ? t->grow_pause / 2 : GROW_PAUSE;
		return false;
	}
	keep(t, &m->list, n);
	return true;
}

static void cut(struct agent_thread *t, const struct walk_list *w)
{
	t->grow_pause = t->grow_pause < GROW_PAUSE_MAX ? t->grow_pause * 4 : GROW_PAUSE_MAX;
	keep(t, w, common(w, &t->outer));
}

/* Counts a walk that did not end with t->outer; each of the others takes one off. */
static uint32_t missed(struct agent_thread *t)
{
	uint32_t turn = t->shallow_turn - (uint32_t)t->grow_left, fits = turn - t->outer_missed;

	t->outer_missed = turn;
	t->outer_misses = (t->outer_misses > fits ? t->outer_misses - fits : 0) + MISS;
	return t->outer_misses;
}

/* m was unwound to its outermost frame: what has it in common with the walks before? False: t->outer is as it was. */
static COLD bool learn(struct agent_thread *t, const struct walk_memo *m, bool whole)
{
	const struct walk_list *w = &m->list;
	uint64_t inner = (uint64_t)(w->end - w->frame) - 1;

	if (t->outer.end == t->outer.frame)
		keep(t, w, inner < WALK_OUTER ? inner : WALK_OUTER);
	else if (whole)
		return grow(t, m);
	else if (missed(t) > MISSES_MAX)
		cut(t, w);
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
	t->shape += t->shape != ~0u ? 1 : 2;
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
	m->words_hold = false;
}

static ALWAYS_INLINE struct silt_db_cache_entry *count(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp,
						       const struct stack_use *use)
{
	struct walk_list *w = &m->list;
	struct silt_db_cache_entry *e = thread_cache_get(t, walk_key(w, use), w, use);

	memo_counted(t, m, use, (uint64_t)&fp[1], e);
	if (UNLIKELY(!t->outer_nodes))
		take_nodes(t, w);
	return e;
}

/* From now on m is walked in the short way, as long as it ends with the same outer frames. Its list's rules and sums, and what is known
 * of its inner frames' nodes, are not written down any more. rules: of its frames up to `behind`. */
static void shape_enter(const struct agent_thread *t, struct walk_memo *m, struct walk_frame *behind, uint32_t rules,
			const struct stack_use *use)
{
	struct walk_list *w = &m->list;
	uint64_t total = (uint64_t)(w->end - w->frame);

	/* A frame of 64 KiB or more is never followed there. And an empty entry of the rule table must not lead to the outer frames. */
	if (behind == w->frame || behind == w->end || CFI_OFF(rules) >> 13 || !(behind->pc >> 16))
		return;
	m->again = (struct walk_again){
		.behind = behind,
		.until = behind->slot,
		.base = t->outer.tail[0] + stack_rest((uint32_t)total, 0, use),
		.rules = t->outer.rules,
		.nodes_from = t->outer_nodes ? behind : w->end,
	};
	for (struct walk_frame *f = w->frame; f < behind; f++)
		f->key = walk_position_key[--total];
	m->shape = t->shape;
}

/* What was not written down. */
COLD void walk_shape_leave(struct walk_memo *m)
{
	m->shape = 0;
	m->list.rules = (uint32_t)m->again.rules;
	for (struct walk_frame *f = m->list.frame; f < m->again.behind; f++) {
		f->bits = 0;
		m->list.rules |= f->rule;
	}
	m->list.nodes_from = m->again.nodes_from;
	walk_sums(&m->list, m->again.behind);
}

/* One frame outward, from its return address at *slot, noted in f. False: its rule is not of the plain kind; *ret_rule. */
static ALWAYS_INLINE bool step(struct walk_frame *f, uint64_t *slot, uint32_t *ret_rule)
{
	uint64_t pc = word_at(*slot);
	uint32_t rule = rule_get(pc);

	f->slot = *slot;
	f->pc = pc;
	f->rule_bits = *ret_rule = rule;
	*slot += rule & 0x1fff8;
	return CFI_TYPE(rule) == CFI_T_RSP;
}

struct silt_db_cache_entry *walk_shallow(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, const struct stack_use *use)
{
	const struct walk_list *o = &t->outer;
	struct walk_frame *f, *limit, *first;
	uint64_t slot = (uint64_t)&fp[1], until, n;
	uint32_t rules = 0, rule;
	bool whole;

	if (UNLIKELY(m->capacity < WALK_SHALLOW) && !memo_reserve(m, WALK_SHALLOW))
		goto not;
	if (UNLIKELY(o->end != o->frame && t->outer_generation != agent_hot.module_generation))
		walk_shallow_forget(t);
	n = (uint64_t)(o->end - o->frame);
	f = first = m->list.frame;
	whole = t->grow_left <= 0;
	if (UNLIKELY(whole)) {
		t->grow_pause = t->grow_pause ? t->grow_pause : GROW_PAUSE;
		t->grow_left = (int32_t)t->grow_pause;
		t->shallow_turn += t->grow_pause;
	}
	until = LIKELY(!whole) ? o->frame->slot : ~0ull;
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
		finish(m, fp, f, t, n, rules | o->rules);
		shape_enter(t, m, f, rules, use);
		return count(t, m, fp, use);
	}
	until = ~0ull;
	limit = first + WALK_SHALLOW;
	goto again;
outermost:
	if (CFI_TYPE(rule) != CFI_T_END || !f->pc)
		goto not;
	finish(m, fp, f + 1, t, 0, rules | rule);
	t->outer_fits = learn(t, m, whole);
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

/* Are frames expected to lie where they lay (see follow)? While they do so more often than four times of five; else that is tried now and
 * then. */
enum { EVEN_LUCK_MAX = 8, EVEN_MISS = 4, EVEN_PAUSE = 1024 };

/* The stack of the hook whose frame is fp into m's inner frames. False: they do not lead to the outer ones, or not plainly.
 * Each frame's slot waits for the one before, by two loads and an addition; all else is done beside that. */
static ALWAYS_INLINE bool follow(struct walk_memo *m, const uint64_t *fp, uint64_t *sum, uint64_t *rules)
{
	struct walk_frame *f = m->list.frame, *behind = m->again.behind;
	uint64_t slot = (uint64_t)&fp[1], add = 0;

	do {
		uint64_t i = arch_load16(slot, add), word, pc;

		slot += add;
		add = arch_load16_of(agent_rules, i); /* as in unwind_plain */
		word = ATOMIC_LOAD(&agent_rules[i]);
		pc = word_at(slot);
		f->slot = slot;
		f->pc = pc;
		if (UNLIKELY((word ^ pc << 16) & RULE_PLAIN) || UNLIKELY((uint16_t)word != (uint16_t)add)) {
			word = rule_get(pc);
			add = (uint16_t)word;
			if (word & 0x10007)
				return false;
		}
		f->rule = (uint32_t)word;
		*rules |= word;
		*sum += pc * f->key;
	} while (++f != behind);
	return slot + add == m->again.until;
}

/* The same where the frames are expected to lie where they lay, as they mostly do where functions' frames are of the same size: then no
 * slot waits for another. False as well when they do not. By itself: as a part of what it is called from it made the other way slower. */
static NOINLINE bool follow_even(struct walk_memo *m, const uint64_t *fp, uint64_t *ret_sum, uint64_t *ret_rules)
{
	struct walk_frame *f = m->list.frame, *behind = m->again.behind;
	uint64_t next = (uint64_t)&fp[1], sum = m->again.base, rules = m->again.rules;

	do {
		uint64_t slot, pc, word;

		if (UNLIKELY(f->slot != next))
			return false;
		slot = arch_load64(&f->slot); /* not `next`, for which it would have to wait */
		pc = word_at(slot);
		word = ATOMIC_LOAD(&agent_rules[pc & 0xffff]);
		f->pc = pc;
		if (UNLIKELY((word ^ pc << 16) & RULE_PLAIN)) {
			word = rule_get(pc);
			if (word & 0x10007)
				return false;
		}
		f->rule = (uint32_t)word;
		next = slot + (uint16_t)word;
		rules |= word;
		sum += pc * f->key;
	} while (++f != behind);
	*ret_sum = sum;
	*ret_rules = rules;
	return next == m->again.until;
}

/* Is that worth a try? */
static ALWAYS_INLINE bool even_promises(struct agent_thread *t)
{
	if (t->even_luck >= 0)
		return true;
	t->even_luck++;
	return false;
}

static ALWAYS_INLINE void even_learn(struct agent_thread *t, bool even)
{
	if (LIKELY(even))
		t->even_luck += t->even_luck < EVEN_LUCK_MAX;
	else
		t->even_luck = t->even_luck < EVEN_MISS ? -EVEN_PAUSE : t->even_luck - EVEN_MISS;
}

/* m was counted for something else. */
static COLD void again_for(const struct agent_thread *t, struct walk_memo *m, uint64_t what)
{
	struct stack_use use = use_now(t, what);

	m->again.base = t->outer.tail[0] + stack_rest((uint32_t)(m->list.end - m->list.frame), 0, &use);
}

/* The entry for a stack that is new to the thread's cache, or whose hash needs more than the sum. */
static COLD struct silt_db_cache_entry *again_get(struct agent_thread *t, struct walk_memo *m, uint64_t what)
{
	struct stack_use use = use_now(t, what);
	struct silt_db_cache_entry *e;
	uint32_t shape = m->shape;

	walk_shape_leave(m);
	e = thread_cache_get(t, walk_key(&m->list, &use), &m->list, &use);
	t->outer_fits = true;
	if (!t->outer_nodes)
		take_nodes(t, &m->list);
	m->shape = shape;
	return e;
}

static ALWAYS_INLINE struct silt_db_cache_entry *again(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, uint64_t use,
						       struct walk_frame *stuck)
{
	uint64_t stamp = agent_hot.module_generation + use, sum, rules, even_sum, even_rules;
	struct silt_db_cache_entry *e = NULL;
	bool even = false;

	if (UNLIKELY(m->shape != t->shape) || UNLIKELY(--t->grow_left <= 0) ||
	    (UNLIKELY(fp[1] != m->list.frame->pc) && agent_skips(fp[1])))
		return walk_changed(t, m, fp, use, stuck);
	if (UNLIKELY(m->stamp != stamp)) {
		/* Where it is the same this was looked at when it came to be. */
		if (t->outer_generation != agent_hot.module_generation)
			return walk_changed(t, m, fp, use, stuck);
		again_for(t, m, use);
	}
	if (even_promises(t)) {
		even = follow_even(m, fp, &even_sum, &even_rules);
		even_learn(t, even);
		sum = even_sum;
		rules = even_rules;
	}
	if (!even) {
		sum = m->again.base;
		rules = m->again.rules;
		even = follow(m, fp, &sum, &rules);
	}
	if (UNLIKELY(!even) || UNLIKELY(walk_verify_plain(m->again.behind) != m->list.end)) {
		walk_void(m);
		return walk_changed(t, m, fp, use, NULL);
	}
	if (LIKELY(!((uint32_t)rules >> 24)))
		e = thread_cache_look(t, stack_key(sum, 0));
	if (UNLIKELY(!e))
		e = again_get(t, m, use);
	t->recent = m;
	m->last = e;
	m->last_key = e->hash;
	m->stamp = stamp;
	m->first = (uint64_t)&fp[1]; /* first_bp is 0 */
	return e;
}

struct silt_db_cache_entry *walk_again(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, uint64_t use,
				       struct walk_frame *stuck)
{
	return again(t, m, fp, use, stuck);
}

NOINLINE void agent_record_changed(uint64_t addr, uint64_t size, const uint64_t *fp, struct agent_thread *t, struct walk_memo *m,
				   struct walk_frame *stuck, const struct live_place *at)
{
	uint64_t use = WALK_USE(0, ATOMIC_LOAD(&agent_db()->epoch));
	struct silt_db_cache_entry *e = LIKELY(m->shape) ? again(t, m, fp, use, stuck) : walk_other(t, m, fp, use, stuck);

	if (LIKELY(e != NULL))
		live_insert_at(at, agent_hot.single_tp == arch_thread_pointer(), addr, size, record_count(t, e, size));
	else
		t->busy = 0;
}
