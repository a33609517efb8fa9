/* SPDX-License-Identifier: MIT */
/*
 * Taking a stack. Each thread remembers its last walks: for each frame the stack word its pc was read from. Unwinding is a
 * function of the words read, so:
 *   1. as far as the remembered words still hold the same, from the innermost frame outward, the old walk is exact (one load
 *      and one compare a frame); mostly that is all;
 *   2. where a return address changed but the new one has the same rule (mostly another call in the same function), the next
 *      word is where it was: the walk is patched in place. Each step's address is known without waiting for the one before,
 *      which is what makes this cheap;
 *   3. from where the layout changes, frames are unwound one by one, by rsp alone as long as no frame needs rbp, until they meet
 *      a frame of the remembered walk from which on everything still holds.
 * Words are compared from the innermost frame outward, and an address is only read once all words that lead to it are proven, so
 * nothing is ever read that the program's own return would not read.
 *
 * A stack's hash is the sum of its return addresses, each multiplied by a random constant for its distance from the innermost
 * frame (multilinear hashing, Carter and Wegman 1979): no step waits for another.
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

/* What walks of modules loaded where others had been, and of signal frames, add to their hash. */
static COLD uint64_t hash_rare(const struct walk_list *w)
{
	uint64_t hash = 0;

	for (const struct walk_frame *f = w->frame; f < w->end; f++)
		hash += ((uint64_t)(f->rule >> 24) << 48 | (f->bits & WALK_INTERRUPTED) << 30) * position_key[f - w->frame];
	return hash;
}

static void walk_hash(struct walk_list *w)
{
	const uint64_t *key = position_key;
	uint64_t hash = 0;
	uint32_t rules = 0;

	for (const struct walk_frame *f = w->frame; f < w->end; f++) {
		hash += f->pc * *key++;
		rules |= f->rule;
	}
	w->hash = hash;
	w->rules = rules;
}

/* The finished hash of a walk whose frames' sum stands in it. */
static uint64_t walk_key(const struct walk_list *w, const struct stack_use *use)
{
	uint64_t hash = w->hash;

	if (UNLIKELY(w->specials || w->rules >> 24))
		hash += hash_rare(w);
	return stack_key(hash, (uint32_t)(w->end - w->frame), w->flags, use);
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
	/* Innermost first: where the stack was switched, what lies further out may be gone. */
	for (uint32_t i = m->extra_count; i-- > 0;)
		if (word_at(m->extra[i].addr) != m->extra[i].value)
			return false;
	return true;
}

/* Goes on from f outward, taking changed return addresses over where the layout stays. Returns the end when the memo is exact
 * again, else the first frame that it could not take over; what lies outward of that is as it was. Only frames before
 * plain_end may change; the others must be the same to the letter. */
static struct walk_frame *memo_patch(struct walk_memo *m, struct walk_frame *f)
{
	const struct walk_frame *stop = m->list.plain_end;
	struct walk_frame *behind = m->list.frame; /* behind the outermost frame that changed */
	bool check = m->list.uses_bp != 0;

	for (; f < stop; f++) {
		uint64_t pc = word_at(f->slot);
		uint32_t rule = rule_get(pc);

		if (UNLIKELY((rule ^ f->rule) << 8) || (check && (f->bits & WALK_CHECK) && word_at(saved_bp_at(f)) != f[1].bp))
			break;
		behind = pc != f->pc ? f + 1 : behind;
		f->pc = pc;
		f->rule = rule;
	}
	if (m->list.nodes_from < behind)
		m->list.nodes_from = behind;
	if (f < stop)
		return f;
	walk_hash(&m->list);
	return memo_verify(m, f);
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

enum step_result { STEP_ON, STEP_END, STEP_NO_CFI, STEP_BROKEN, STEP_GENERIC, STEP_NEEDS_BP };

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
		/* A crash handler may run because this very register was wild. */
		return agent_no_syscalls || readable(s->sp) ? STEP_ON : STEP_BROKEN;
	case CFI_T_END:
		return STEP_END;
	case CFI_T_GENERIC:
		return STEP_GENERIC;
	default:
		return STEP_NO_CFI;
	}
}

/* One frame outward with the compact rule. */
static ALWAYS_INLINE enum step_result step_out(struct step *s, uint32_t rule, bool with_bp)
{
	uint32_t type = CFI_TYPE(rule);
	uint64_t cfa;

	if (!with_bp && type != CFI_T_RSP)
		return type == CFI_T_END ? STEP_END : type == CFI_T_NONE ? STEP_NO_CFI : STEP_NEEDS_BP;

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
	if (with_bp && CFI_RBP_AT(rule))
		s->bp = word_at(cfa - 8 * (uint64_t)CFI_RBP_AT(rule));
	s->slot = cfa - 8;
	s->sp = cfa;
	s->interrupted = false;
	return STEP_ON;
}

/* Does the remembered walk hold from f on? Its pc has been compared. */
static NOINLINE bool memo_joins(const struct walk_memo *m, struct walk_frame *f, const struct step *s)
{
	/* A special frame inward of f has left words among the extras that may be gone: rare, so not worth sorting out. */
	if ((f->bits & WALK_INTERRUPTED) != s->interrupted || (m->extra_count && f > m->list.plain_end))
		return false;
	if ((f->bits & WALK_NEEDS_BP) && f->bp != s->bp)
		return false;
	return extras_hold(m) && memo_verify(m, f) == m->list.end;
}

static COLD void unwind_ended(struct walk_list *w, enum step_result r, uint32_t depth, const uint64_t *fp)
{
	if (r == STEP_NO_CFI)
		w->flags |= SILT_DB_STACK_NO_CFI;
	else if (r == STEP_BROKEN)
		w->flags |= SILT_DB_STACK_BROKEN;
	else if (r == STEP_GENERIC) {
		walk_with_registers(w, depth, fp);
		walk_hash(w);
		w->nodes_from = w->end;
	}
}

/* Unwinds frame by frame into w, from w->end and s on. join: a frame of the memo, or one with slot UINT64_MAX. Returns the memo's
 * frame from which on the rest is as remembered; NULL: went all the way. *ret_need_bp: rsp alone was not enough. Leaves w->end
 * without the closing frame. */
static ALWAYS_INLINE struct walk_frame *unwind_from(struct walk_list *w, struct step s, uint32_t depth, const uint64_t *fp,
						    const struct walk_memo *m, struct walk_frame *join, bool with_bp,
						    bool *ret_need_bp)
{
	static struct walk_frame none = { .slot = UINT64_MAX };
	struct walk_frame *f = w->end, *end = w->frame + depth;
	uint32_t uses_bp = 0, specials = 0, attempts = 0, until_look = 1, looks = 0, rules = w->rules, rule;
	const uint64_t *key = &position_key[f - w->frame];
	uint64_t hash = w->hash, pc;
	enum step_result r = STEP_ON;

	for (;;) {
		pc = word_at(s.slot);
		/* Once in step with the remembered walk, every frame outward is: so looking at each would be waste. */
		if (--until_look == 0) {
			until_look = ++looks < 3 ? 1 : 4;
			while (join->slot < s.slot)
				join++;
			if (join->slot == s.slot && join->pc == pc) {
				if ((with_bp || !(join->bits & WALK_NEEDS_BP)) && memo_joins(m, join, &s))
					break;
				if (++attempts == 2)
					join = &none;
			}
		}
		if (UNLIKELY(f == end)) {
			if (pc)
				w->flags |= SILT_DB_STACK_DEPTH;
			join = NULL;
			break;
		}
		rule = rule_get(with_bp && s.interrupted ? pc | RULE_EXACT : pc);
		f->slot = s.slot;
		f->pc = pc;
		if (with_bp)
			f->bp = s.bp;
		f->rule = rule;
		f->bits = with_bp ? s.interrupted : 0; /* WALK_INTERRUPTED is 1 */
		f++;
		hash += pc * *key++;
		rules |= rule;
		if (with_bp)
			specials |= s.interrupted;
		r = step_out(&s, rule, with_bp);
		if (UNLIKELY(r != STEP_ON)) {
			join = NULL;
			if (!pc) { /* some threads and coroutines begin with a return address of 0: the frame before was the last */
				f--;
				r = STEP_END;
			}
			break;
		}
		if (with_bp) {
			uses_bp |= CFI_TYPE(rule) ^ CFI_T_RSP; /* not for the outermost frame: nothing leaves it */
			specials |= CFI_TYPE(rule) > CFI_T_RBP;
		}
	}
	w->end = f;
	w->nodes_from = f;
	w->hash = hash;
	w->rules = rules;
	w->uses_bp = uses_bp;
	w->specials = specials;
	*ret_need_bp = r == STEP_NEEDS_BP;
	if (UNLIKELY(r > STEP_END))
		unwind_ended(w, r, depth, fp);
	return join;
}

static NOINLINE struct walk_frame *unwind_by_sp(struct walk_list *w, const struct step *s, uint32_t depth, const uint64_t *fp,
						const struct walk_memo *m, struct walk_frame *join, bool *ret_need_bp)
{
	return unwind_from(w, *s, depth, fp, m, join, false, ret_need_bp);
}

static NOINLINE struct walk_frame *unwind_with_bp(struct walk_list *w, const struct step *s, uint32_t depth, const uint64_t *fp,
						  const struct walk_memo *m, struct walk_frame *join)
{
	bool unused;

	return unwind_from(w, *s, depth, fp, m, join, true, &unused);
}

/* The whole walk, nothing remembered. */
static COLD void unwind_anew(struct walk_list *w, const uint64_t *fp)
{
	struct step s = { .slot = (uint64_t)&fp[1], .sp = (uint64_t)&fp[2], .bp = fp[0] };
	struct walk_frame none = { .slot = UINT64_MAX };

	w->end = w->frame;
	w->flags = 0;
	w->hash = 0;
	w->rules = 0;
	unwind_with_bp(w, &s, agent_hot.options.max_depth, fp, NULL, &none);
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

/* Finds out where rbp matters, for the frames inward of `from`, going inward: what an outer frame needs, an inner one saves. */
static void study_bp(struct walk_list *w, struct walk_frame *from)
{
	uint32_t needs = from < w->end ? from->bits & WALK_NEEDS_BP : 0;

	for (struct walk_frame *f = from; f-- > w->frame;) {
		uint32_t type = CFI_TYPE(f->rule), saves = CFI_RBP_AT(f->rule) ? WALK_CHECK : 0;
		uint32_t check = needs ? saves : 0;

		needs = type == CFI_T_RBP || type == CFI_T_RBP_DEREF ? WALK_NEEDS_BP : type == CFI_T_RSP && !saves ? needs : 0;
		f->bits = (f->bits & ~(uint32_t)(WALK_CHECK | WALK_NEEDS_BP)) | check | needs;
	}
}

/* Collects what special frames read. False: the walk cannot be remembered. */
static COLD bool study_specials(struct walk_memo *m)
{
	struct walk_list *w = &m->list;

	for (struct walk_frame *f = w->end; f-- > w->frame;) {
		uint32_t type = CFI_TYPE(f->rule);

		if (type == CFI_T_GENERIC)
			return false;
		if (f->bits & WALK_INTERRUPTED)
			w->plain_end = f;
		if (type == CFI_T_SIGNAL || type == CFI_T_RBP_DEREF) {
			w->plain_end = f;
			f->bits &= ~(uint32_t)WALK_CHECK; /* what these read of rbp is among the extras */
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

/* The frames inward of `until` hold: they begin the new walk. Finds rbp anew, for outer frames may need it that did not. */
static struct step head_copy(struct walk_list *to, const struct walk_list *from, const struct walk_frame *until, const uint64_t *fp,
			     bool with_bp)
{
	struct step s = { .bp = fp[0] };
	struct walk_frame *out = to->frame;
	const uint64_t *key = position_key;

	to->hash = 0;
	to->rules = 0;
	for (const struct walk_frame *f = from->frame; f < until; f++, out++) {
		*out = *f;
		out->bits = 0;
		to->hash += f->pc * *key++;
		to->rules |= f->rule;
		if (with_bp) {
			out->bp = s.bp;
			if (CFI_RBP_AT(f->rule))
				s.bp = word_at(saved_bp_at(f));
		}
	}
	to->end = out;
	to->flags = 0;
	s.slot = until->slot;
	s.sp = s.slot + 8;
	return s;
}

static void tail_copy(struct walk_list *to, const struct walk_list *from, const struct walk_frame *join)
{
	struct walk_frame *out = to->end;
	const uint64_t *key = &position_key[out - to->frame];
	uint64_t hash = to->hash;

	to->nodes_from = out + (from->nodes_from > join ? from->nodes_from - join : 0);
	for (const struct walk_frame *f = join; f < from->end; f++) {
		*out++ = *f;
		hash += f->pc * *key++;
		to->rules |= f->rule;
	}
	to->end = out;
	to->hash = hash;
	to->flags = from->flags;
	to->uses_bp |= from->uses_bp;
	to->specials |= from->specials;
}

/* A walk joined from two: is it what unwinding all of it would have given? A cut-off walk is the innermost frames, as many as
 * allowed, so joining must not change their number. */
static bool join_fits(const struct walk_list *head, const struct walk_list *from, const struct walk_frame *join, uint32_t depth)
{
	uint64_t total = (uint64_t)(head->end - head->frame) + (uint64_t)(from->end - join);

	return total <= depth && (!(from->flags & SILT_DB_STACK_DEPTH) || total == depth);
}

/* Walks on from the frame `stuck` of the memo `from` (NULL: from the start) into the spare list, until that memo joins. Returns
 * where; NULL: went all the way. */
static struct walk_frame *walk_on(struct agent_thread *t, const struct walk_memo *from, struct walk_frame *stuck, const uint64_t *fp)
{
	struct step s, start = { .slot = (uint64_t)&fp[1], .sp = (uint64_t)&fp[2], .bp = fp[0] };
	struct walk_frame *begin = stuck ? stuck : from->list.frame, *join = NULL;
	uint32_t depth = agent_hot.options.max_depth;
	struct walk_list *w = &t->spare;
	bool need_bp = t->with_bp;

	if (!need_bp) {
		s = head_copy(w, &from->list, begin, fp, false);
		join = unwind_by_sp(w, stuck ? &s : &start, depth, fp, from, begin, &need_bp);
		t->with_bp = need_bp;
	}
	if (need_bp) {
		s = head_copy(w, &from->list, begin, fp, true);
		join = unwind_with_bp(w, stuck ? &s : &start, depth, fp, from, begin);
		w->uses_bp |= from->list.uses_bp; /* the head may hold such frames */
	}
	if (join && join_fits(w, &from->list, join, depth)) {
		tail_copy(w, &from->list, join);
		return join;
	}
	if (join)
		unwind_anew(w, fp);
	return NULL;
}

/* Walks into the spare list and makes that the memo m. stuck: m's first frame that does not hold; NULL: nothing of m does. False:
 * the walk can only be used this once, from t->spare. */
static bool memo_rebuild(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, struct walk_frame *stuck)
{
	const struct walk_memo *from = m;
	struct walk_list *w = &t->spare, old;
	struct walk_frame *join = NULL, *studied;

	if (stuck && (stuck < m->list.frame + 2 || stuck > m->list.plain_end || m->list.specials))
		stuck = NULL;
	if (!stuck)
		from = t->recent; /* its outer frames are the likeliest to hold */
	if (LIKELY(from->list.end != from->list.frame && from->generation == agent_hot.module_generation))
		join = walk_on(t, from, stuck, fp);
	else
		unwind_anew(w, fp);
	studied = join ? w->end - (from->list.end - join) : w->end; /* the joined frames' bits stand */
	w->end->slot = UINT64_MAX;
	old = m->list;
	m->list = *w;
	*w = old;
	m->generation = agent_hot.module_generation;
	m->bp_top = fp[0];
	m->list.plain_end = m->list.end - 1;
	m->extra_count = 0;
	m->careful = m->list.uses_bp | m->list.specials;
	if (m->careful)
		study_bp(&m->list, studied);
	if (LIKELY(m->list.end != m->list.frame) && (LIKELY(!m->list.specials) || study_specials(m)))
		return true;
	old = m->list;
	m->list = *w;
	*w = old;
	memo_void(m);
	return false;
}

static struct silt_db_cache_entry *count(struct agent_thread *t, struct walk_list *w, const struct stack_use *use)
{
	return thread_cache_get(t, walk_key(w, use), w, use);
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
	unwind_anew(w, fp);
	context = stack_intern(walk_key(w, &use), w, &use);
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

struct silt_db_cache_entry *walk_changed(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, uint32_t kind,
					 uint32_t epoch)
{
	struct stack_use use = use_now(t, kind, epoch);
	struct walk_frame *stuck;
	struct silt_db_cache_entry *e;

	if (UNLIKELY(agent_skips(fp[1])))
		return NULL;
	if (UNLIKELY(agent_hot.attention & AGENT_MODULES_CHANGED))
		module_refresh();
	stuck = memo_compare(m, fp);
	if (stuck && stuck == m->list.end && m->last_use == WALK_USE(kind, epoch) && m->last->hash == m->last_key) {
		t->recent = m;
		return m->last;
	}
	if (stuck && stuck != m->list.end)
		stuck = memo_patch(m, stuck);
	if ((stuck && stuck == m->list.end) || memo_rebuild(t, m, fp, stuck))
		e = count(t, &m->list, &use);
	else
		e = count(t, &t->spare, &use);
	t->recent = m;
	m->last = e;
	m->last_key = e->hash;
	m->last_use = WALK_USE(kind, epoch);
	return e;
}
