/* SPDX-License-Identifier: MIT */
/*
 * Taking a stack. Each thread remembers its last walk: for each frame the stack word its pc was read from. Unwinding is a
 * function of the words read, so:
 *   1. where every remembered word still holds the same, the old stack is exact (one load and one compare a frame);
 *   2. where a return address changed but the new one has the same rule (mostly another call in the same function), the
 *      next word is where it was: the walk is patched in place. Each step's address is known without waiting for the one
 *      before, which is what makes this cheap;
 *   3. else frames are unwound one by one until they meet the remembered walk again.
 * Words are compared from the innermost frame outward, and an address is only read once all words that lead to it are
 * proven, so nothing is ever read that the program's own return would not read.
 *
 * A stack's hash is the sum of one part per frame, each multiplied by a constant for its distance from the outermost frame:
 * a changed frame costs one subtraction and one addition, in any order.
 */
#include "capture/agent/agent.h"
#include "capture/agent/cfi.h"
#include "capture/agent/fast.h"

#define FRAME_SUSPICIOUS (1ull << 20) /* a larger frame is looked at with care before its words are read */

static uint64_t position_key[SILT_DB_MAX_DEPTH];

void walk_setup(void)
{
	uint64_t x = 0x243f6a8885a308d3ull; /* digits of pi: any fixed value does, dumps do not depend on it */

	for (uint32_t i = 0; i < SILT_DB_MAX_DEPTH; i++) { /* splitmix64 */
		uint64_t z = (x += RULE_MUL);

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		position_key[i] = (z ^ z >> 31) | 1;
	}
}

static uint64_t walk_hash(const struct walk_list *w)
{
	const uint64_t *key = position_key;
	uint64_t hash = 0;

	for (const struct walk_frame *f = w->frame; f < w->end; f++) {
		uint64_t x = f->pc * RULE_MUL ^ (f->rule & 0xff000000u);

		hash += (x ^ x >> 29) * *key++;
	}
	if (w->specials)
		for (const struct walk_frame *f = w->frame; f < w->end; f++)
			if (f->bits & WALK_INTERRUPTED)
				hash += position_key[f - w->frame] << 1;
	return hash;
}

/* Where frame f saved its caller's rbp. */
static ALWAYS_INLINE uint64_t saved_bp_at(const struct walk_frame *f)
{
	return f[1].slot + 8 - 8 * (uint64_t)CFI_RBP_AT(f->rule);
}

/* Compares the remembered words from f outward: the first frame that does not hold, or the end. */
static struct walk_frame *memo_verify(const struct walk_memo *m, struct walk_frame *f)
{
	if (LIKELY(!m->list.uses_bp))
		return walk_verify_plain(f, m->list.end);
	for (; f < m->list.end; f++) {
		if (word_at(f->slot) != f->pc)
			break;
		if ((f->bits & WALK_CHECK) && word_at(saved_bp_at(f)) != f[1].bp)
			break;
	}
	return f;
}

static bool extras_hold(const struct walk_memo *m)
{
	for (uint32_t i = 0; i < m->extra_count; i++)
		if (word_at(m->extra[i].addr) != m->extra[i].value)
			return false;
	return true;
}

/* Goes on from f outward, taking changed return addresses over where the layout stays. True: the memo is exact again. False: it
 * cannot go on somewhere; what it patched is consistent all the same (each frame with its own rule). Only frames before
 * plain_end may change; the others must be the same to the letter. */
static bool memo_patch(struct walk_memo *m, struct walk_frame *f)
{
	const struct walk_frame *stop = m->list.plain_end;
	bool check = m->list.uses_bp != 0;

	for (; f < stop; f++) {
		uint64_t pc = word_at(f->slot);
		uint32_t rule = rule_get(pc);

		if (UNLIKELY((rule ^ f->rule) << 8))
			return false;
		f->pc = pc;
		f->rule = rule;
		if (check && (f->bits & WALK_CHECK) && word_at(saved_bp_at(f)) != f[1].bp)
			return false;
	}
	return memo_verify(m, f) == m->list.end && extras_hold(m);
}

/* Is a far jump of the stack pointer real? Only asked where a frame seems larger than a megabyte. */
static bool readable(uint64_t addr)
{
	uint64_t word;

	return !agent_no_syscalls && sys_peek(addr, &word);
}

struct step {
	uint64_t slot, sp, bp;
	bool interrupted;
};

enum step_result { STEP_ON, STEP_END, STEP_NO_CFI, STEP_BROKEN, STEP_GENERIC };

static COLD bool far_sane(uint64_t cfa)
{
	return readable(cfa - 8) && readable(cfa - 128);
}

static ALWAYS_INLINE bool next_sane(uint64_t sp, uint64_t cfa)
{
	if (UNLIKELY(cfa <= sp || (cfa & 7)))
		return false;
	return LIKELY(cfa - sp < FRAME_SUSPICIOUS) || far_sane(cfa);
}

/* One frame outward where the rule is neither of the two plain ones. */
static COLD enum step_result step_special(struct step *s, uint32_t rule)
{
	uint64_t cfa;

	switch (CFI_TYPE(rule)) {
	case CFI_T_RBP_DEREF:
		if (!next_sane(s->sp - 8, s->bp))
			return STEP_BROKEN;
		cfa = word_at(s->bp - 8 * (uint64_t)CFI_OFF(rule));
		if (!next_sane(s->sp, cfa))
			return STEP_BROKEN;
		s->bp = word_at(s->bp);
		s->slot = cfa - 8;
		s->sp = cfa;
		s->interrupted = false;
		return STEP_ON;
	case CFI_T_SIGNAL:
		s->bp = word_at(s->sp + ARCH_UC_RBP);
		s->slot = s->sp + ARCH_UC_RIP;
		s->sp = word_at(s->sp + ARCH_UC_RSP);
		s->interrupted = true;
		return STEP_ON;
	case CFI_T_END:
		return STEP_END;
	case CFI_T_GENERIC:
		return STEP_GENERIC;
	default:
		return STEP_NO_CFI;
	}
}

/* One frame outward with the compact rule. */
static ALWAYS_INLINE enum step_result step_out(struct step *s, uint32_t rule)
{
	uint32_t type = CFI_TYPE(rule);
	uint64_t cfa;

	/* The offset in bytes is the rule's bits 3..16 where they stand. */
	if (LIKELY(type == CFI_T_RSP)) {
		cfa = s->sp + (rule & 0x1fff8); /* grows by 8 bytes to 128 KiB: sane by itself */
	} else if (LIKELY(type == CFI_T_RBP)) {
		cfa = s->bp + (rule & 0x1fff8);
		if (UNLIKELY(!next_sane(s->sp, cfa)))
			return STEP_BROKEN;
	} else {
		return step_special(s, rule);
	}
	if (CFI_RBP_AT(rule))
		s->bp = word_at(cfa - 8 * (uint64_t)CFI_RBP_AT(rule));
	s->slot = cfa - 8;
	s->sp = cfa;
	s->interrupted = false;
	return STEP_ON;
}

/* Can the remembered walk be joined at f, where the frame read its pc from the same word? */
static NOINLINE bool memo_joins(struct walk_memo *m, struct walk_frame *f, const struct step *s)
{
	struct walk_frame *stuck;

	/* A special frame inward of f has left words among the extras that may be gone: rare, so not worth sorting out. */
	if ((f->bits & WALK_INTERRUPTED) != s->interrupted || (m->extra_count && f > m->list.plain_end))
		return false;
	if ((f->bits & WALK_NEEDS_BP) && f->bp != s->bp)
		return false;
	if (!extras_hold(m))
		return false;
	stuck = memo_verify(m, f);
	return stuck == m->list.end || memo_patch(m, stuck);
}

static COLD void unwind_ended(struct walk_list *w, enum step_result r, uint32_t depth, const uint64_t *fp)
{
	if (r == STEP_NO_CFI)
		w->flags |= SILT_DB_STACK_NO_CFI;
	else if (r == STEP_BROKEN)
		w->flags |= SILT_DB_STACK_BROKEN;
	else if (r == STEP_GENERIC)
		walk_with_registers(w, depth, fp);
}

/* Unwinds frame by frame into w, innermost first. With a memo: stops where the remembered walk goes on, and returns that frame;
 * NULL: went all the way. Leaves w->end without the closing frame. */
static struct walk_frame *unwind(struct walk_list *w, uint32_t depth, const uint64_t *fp, struct walk_memo *m)
{
	static struct walk_frame none = { .slot = UINT64_MAX };
	struct step s = { .slot = (uint64_t)&fp[1], .sp = (uint64_t)&fp[2], .bp = fp[0] };
	struct walk_frame *f = w->frame, *end = f + depth, *join = m ? m->list.frame : &none;
	uint32_t uses_bp = 0, specials = 0;
	enum step_result r = STEP_ON;

	w->flags = 0;
	for (;;) {
		uint64_t pc;
		uint32_t rule;

		while (join->slot < s.slot)
			join++;
		if (UNLIKELY(join->slot == s.slot)) {
			if (memo_joins(m, join, &s))
				break;
			join = &none;
		}
		pc = word_at(s.slot);
		if (UNLIKELY(f == end || !pc)) {
			if (pc)
				w->flags |= SILT_DB_STACK_DEPTH;
			join = NULL;
			break;
		}
		rule = rule_get(pc | (s.interrupted ? RULE_EXACT : 0));
		f->slot = s.slot;
		f->pc = pc;
		f->bp = s.bp;
		f->rule = rule;
		f->bits = s.interrupted; /* WALK_INTERRUPTED is 1 */
		f++;
		specials |= s.interrupted;
		r = step_out(&s, rule);
		if (UNLIKELY(r != STEP_ON)) {
			join = NULL;
			break;
		}
		uses_bp |= CFI_TYPE(rule) ^ CFI_T_RSP; /* not for the outermost frame: nothing leaves it */
		specials |= CFI_TYPE(rule) > CFI_T_RBP;
	}
	w->end = f;
	w->uses_bp = uses_bp;
	w->specials = specials;
	if (UNLIKELY(r != STEP_ON))
		unwind_ended(w, r, depth, fp);
	return join;
}

/* Words beside the return addresses that special frames read. False: no room to remember them. */
static bool extra_add(struct walk_memo *m, uint64_t addr)
{
	if (m->extra_count == AGENT_EXTRA_MAX)
		return false;
	m->extra[m->extra_count].addr = addr;
	m->extra[m->extra_count].value = word_at(addr);
	m->extra_count++;
	return true;
}

static bool special_add(struct walk_memo *m, const struct walk_frame *f)
{
	uint64_t sp = f->slot + 8; /* the frame inward of the trampoline returned to it */

	if (CFI_TYPE(f->rule) == CFI_T_SIGNAL)
		return extra_add(m, sp + ARCH_UC_RSP) && extra_add(m, sp + ARCH_UC_RBP);
	return extra_add(m, f->bp - 8 * (uint64_t)CFI_OFF(f->rule)) && extra_add(m, f->bp);
}

/* Finds out, from the outermost frame inward, where rbp matters, and collects what special frames read. False: the walk
 * cannot be remembered. */
static COLD bool memo_study(struct walk_memo *m)
{
	struct walk_list *w = &m->list;
	bool outer_needs = false;

	m->extra_count = 0;
	w->plain_end = w->end - 1;
	for (struct walk_frame *f = w->end; f-- > w->frame;) {
		uint32_t type = CFI_TYPE(f->rule), bits = f->bits & WALK_INTERRUPTED;
		bool plain = type == CFI_T_RSP || type == CFI_T_RBP;

		if (type == CFI_T_GENERIC)
			return false;
		if (plain && outer_needs && CFI_RBP_AT(f->rule))
			bits |= WALK_CHECK;
		outer_needs = type == CFI_T_RBP || type == CFI_T_RBP_DEREF ||
			      (type == CFI_T_RSP && outer_needs && !CFI_RBP_AT(f->rule));
		f->bits = bits | (outer_needs ? WALK_NEEDS_BP : 0);
		if (bits & WALK_INTERRUPTED)
			w->plain_end = f;
		if (type == CFI_T_SIGNAL || type == CFI_T_RBP_DEREF) {
			w->plain_end = f;
			if (!special_add(m, f))
				return false;
		}
	}
	return true;
}

static void memo_void(struct walk_memo *m)
{
	m->list.end = m->list.frame;
	m->list.frame->slot = 0; /* matches no stack */
	m->list.frame[1].slot = UINT64_MAX;
	m->extra_count = 0;
}

static COLD void unwind_anew(struct agent_thread *t, const uint64_t *fp)
{
	unwind(&t->spare, agent_hot.options.max_depth, fp, NULL);
}

/* Walks into the spare list and makes it the memo. False: it can only be used this once, from t->spare. */
static bool memo_rebuild(struct agent_thread *t, const uint64_t *fp)
{
	struct walk_memo *m = &t->memo;
	uint32_t depth = agent_hot.options.max_depth;
	struct walk_list old = m->list;
	struct walk_frame *join = NULL;

	if (LIKELY(old.end != old.frame && m->generation == agent_hot.module_generation)) {
		join = unwind(&t->spare, depth, fp, m);
		if (join) {
			uint64_t total = (uint64_t)(t->spare.end - t->spare.frame) + (uint64_t)(old.end - join);

			/* A cut-off walk is the innermost frames, as many as allowed: joining must not change their number. */
			if (UNLIKELY(total > depth || ((old.flags & SILT_DB_STACK_DEPTH) && total != depth))) {
				join = NULL;
				unwind_anew(t, fp);
			}
		}
	} else {
		unwind_anew(t, fp);
	}
	if (join) {
		struct walk_frame *to = t->spare.end;

		for (const struct walk_frame *f = join; f < old.end; f++)
			*to++ = *f;
		t->spare.end = to;
		t->spare.flags = old.flags;
		t->spare.uses_bp |= old.uses_bp;
		t->spare.specials |= old.specials;
	}
	t->spare.end->slot = UINT64_MAX;
	m->generation = agent_hot.module_generation;
	m->bp_top = fp[0];
	m->list = t->spare;
	t->spare = old;
	m->list.plain_end = m->list.end - 1;
	m->extra_count = 0;
	m->careful = m->list.uses_bp | m->list.specials;
	if (LIKELY(!m->careful && m->list.end != m->list.frame) || (m->list.end != m->list.frame && memo_study(m)))
		return true;
	old = m->list;
	m->list = t->spare;
	t->spare = old;
	memo_void(m);
	return false;
}

static struct silt_db_cache_entry *count(struct agent_thread *t, const struct walk_list *w, const struct stack_use *use)
{
	return thread_cache_get(t, stack_key(walk_hash(w), (uint32_t)(w->end - w->frame), w->flags, use), w, use);
}

static struct stack_use use_now(const struct agent_thread *t, uint32_t kind, uint32_t epoch)
{
	return (struct stack_use){ kind, agent_hot.options.flags & SILT_DB_THREADS ? t->index : 0, epoch };
}

COLD uint32_t walk_interrupting(struct agent_thread *t, const uint64_t *fp, uint32_t kind)
{
	struct stack_use use = use_now(t, kind, ATOMIC_LOAD(&agent_db()->epoch));
	struct walk_list *w = &t->nested_list;
	uint32_t context;

	if (t->nested) {
		agent_lost(SILT_LOST_CONTEXTS);
		return SILT_DB_CONTEXT_OVERFLOW;
	}
	t->nested = 1;
	agent_lost(SILT_LOST_NESTED);
	unwind(w, agent_hot.options.max_depth, fp, NULL);
	context = stack_intern(stack_key(walk_hash(w), (uint32_t)(w->end - w->frame), w->flags, &use), w, &use);
	t->nested = 0;
	return context;
}

/* The first frame that no longer holds; the end when all do; NULL when nothing remembered applies. */
static struct walk_frame *memo_compare(const struct walk_memo *m, const uint64_t *fp)
{
	const struct walk_frame *f = m->list.frame;

	if (f->slot != (uint64_t)&fp[1] || m->generation != agent_hot.module_generation)
		return NULL;
	if (m->bp_top != fp[0] && (f->bits & WALK_NEEDS_BP))
		return NULL;
	if (!extras_hold(m))
		return NULL;
	return memo_verify(m, m->list.frame);
}

struct silt_db_cache_entry *walk_changed(struct agent_thread *t, const uint64_t *fp, uint32_t kind, uint32_t epoch)
{
	struct stack_use use = use_now(t, kind, epoch);
	struct walk_memo *m = &t->memo;
	struct walk_frame *stuck;
	struct silt_db_cache_entry *e;

	if (UNLIKELY(agent_hot.modules_changed))
		module_refresh();
	stuck = memo_compare(m, fp);
	if (stuck == m->list.end && t->last && t->last_epoch == epoch && t->last_kind == kind)
		return t->last;
	if ((stuck && (stuck == m->list.end || memo_patch(m, stuck))) || memo_rebuild(t, fp))
		e = count(t, &m->list, &use);
	else
		e = count(t, &t->spare, &use);
	t->last = e;
	t->last_epoch = epoch;
	t->last_kind = kind;
	return e;
}
