/* SPDX-License-Identifier: MIT */
/*
 * Taking a stack. Each thread remembers its last walks: for each frame the stack word its pc was read from. Unwinding is a
 * function of the words read, so:
 *   1. as far as the remembered words still hold the same, from the innermost frame outward, the old walk is exact (one load
 *      and one compare a frame); mostly that is all;
 *   2. where a return address changed but the new one has the same rule (mostly another call in the same function), the next
 *      word is where it was: the walk is patched in place. Each step's address is known without waiting for the one before,
 *      which is what makes this cheap;
 *   3. from where the layout changes, frames are unwound one by one (walk_unwind.c), by rsp alone as long as no frame needs rbp,
 *      until they meet a frame of a remembered walk from which on everything still holds.
 * Words are compared from the innermost frame outward, and an address is only read once all words that lead to it are proven, so
 * nothing is ever read that the program's own return would not read.
 */
#include "capture/agent/walk.h"

/* Patching is given up for a while where it mostly ends after a few frames. */
enum { PATCH_FAR = 4, PATCH_LUCK_MAX = 8, PATCH_LUCK_MIN = -64 };

/* Where f saved rbp still stands what it saved. */
static ALWAYS_INLINE bool saved_holds(const struct walk_memo *m, const struct walk_frame *f)
{
	const struct walk_word *saved = m->saved + (f - m->list.frame);

	return word_at(saved->addr) == saved->value;
}

/* m's `checks` of f, in the lowest bit, and of what lies outward. Of frames beyond the first 64 nothing is known: they are looked at. */
static ALWAYS_INLINE uint64_t checks_from(const struct walk_memo *m, const struct walk_frame *f)
{
	uint64_t i = (uint64_t)(f - m->list.frame);

	if (UNLIKELY(i >= WALK_CHECKS))
		return ~0ull;
	return m->checks >> i | (i ? ~0ull << (WALK_CHECKS - i) : 0);
}

/* From f on, as far as `checks` does not reach. */
static struct walk_frame *verify_far(const struct walk_memo *m, struct walk_frame *f)
{
	for (;; f++) /* the closing frame ends it */
		if (word_at(f->slot) != f->pc || !saved_holds(m, f))
			return f;
}

struct walk_frame *memo_verify(const struct walk_memo *m, struct walk_frame *f)
{
	struct walk_frame *near = m->list.frame + WALK_CHECKS;
	uint64_t checks;

	if (LIKELY(!m->list.uses_bp))
		return walk_verify_plain(f);
	if (UNLIKELY(f >= near))
		return verify_far(m, f);
	/* The bits may reach beyond the closing frame, which ends the walk first. */
	for (checks = m->checks >> (f - m->list.frame); checks; f++) {
		unsigned plain = (unsigned)__builtin_ctzll(checks);
		const struct walk_frame *checked = f + plain;

		f = walk_verify_groups(f, checked);
		for (; f < checked; f++)
			if (word_at(f->slot) != f->pc)
				return f;
		if (word_at(f->slot) != f->pc || !saved_holds(m, f))
			return f;
		checks = checks >> plain >> 1;
	}
	if (LIKELY(m->list.end <= near))
		return walk_verify_plain(f);
	for (; f < near; f++)
		if (word_at(f->slot) != f->pc)
			return f;
	return verify_far(m, f);
}

static bool extras_hold(const struct walk_memo *m)
{
	/* Innermost first: where the stack was switched, what lies further out may be gone. */
	for (uint32_t i = m->extra_count; i-- > 0;)
		if (word_at(m->extra[i].addr) != m->extra[i].value)
			return false;
	return true;
}

bool memo_joins(const struct walk_memo *m, struct walk_frame *f, const struct step *s)
{
	/* A special frame inward of f has left words among the extras that may be gone: rare, so not worth sorting out. */
	if ((f->bits & WALK_INTERRUPTED) != s->interrupted || (m->extra_count && f > m->list.plain_end))
		return false;
	if ((f->bits & WALK_NEEDS_BP) && f->bp != s->bp)
		return false;
	return extras_hold(m) && memo_verify(m, f) == m->list.end;
}

/* So many frames in a row that did not change: those outward of them mostly have not, either. */
enum { PATCH_RUN = 4 };

/* Goes on from f outward, taking changed return addresses over where the layout stays. Returns the end when the memo is exact
 * again, else the first frame that it could not take over; what lies outward of that is as it was. Only frames before
 * plain_end may change; the others must be the same to the letter. */
static ALWAYS_INLINE struct walk_frame *patch(struct walk_memo *m, struct walk_frame *f, bool uses_bp)
{
	struct walk_frame *stop = m->list.plain_end, *behind = m->list.frame; /* behind the outermost frame that changed */
	uint32_t rules = 0;

	while (f < stop) {
		struct walk_frame *from = f, *until = f + PATCH_RUN < stop ? f + PATCH_RUN : stop;
		uint64_t checks = uses_bp ? checks_from(m, f) : 0;

		for (; f < until; f++, checks >>= 1) {
			uint64_t pc = word_at(f->slot);
			uint32_t rule = rule_get(pc);

			if (UNLIKELY((rule ^ f->rule) << 8) || (UNLIKELY(checks & 1) && !saved_holds(m, f)))
				goto stuck;
			behind = pc != f->pc ? f + 1 : behind;
			f->pc = pc;
			f->rule = rule;
			rules |= rule;
		}
		if (UNLIKELY(behind <= from))
			f = memo_verify(m, f);
	}
stuck:
	m->list.rules |= rules;
	if (m->list.nodes_from < behind)
		m->list.nodes_from = behind;
	if (f < stop)
		return f;
	walk_sums(&m->list, behind);
	return memo_verify(m, f);
}

static struct walk_frame *memo_patch(struct walk_memo *m, struct walk_frame *f)
{
	if (LIKELY(!m->list.uses_bp))
		return patch(m, f, false);
	return LIKELY(walk_words(m)) ? walk_words_patch(m, f) : patch(m, f, true);
}

/* A remembered walk's frames from join on come to stand at dest in m's, with their sums. They may overlap. */
static void tail_move(struct walk_list *w, struct walk_frame *dest, const struct walk_list *from, const struct walk_frame *join,
		      uint64_t n)
{
	uint64_t *to_sum = w->tail + (dest - w->frame);
	const uint64_t *sum = from->tail + (join - from->frame);

	if (dest <= join || w != from) {
		for (uint64_t i = 0; i < n; i++) {
			dest[i] = join[i];
			to_sum[i] = sum[i];
		}
		to_sum[n] = 0;
	} else {
		to_sum[n] = 0;
		for (uint64_t i = n; i-- > 0;) {
			dest[i] = join[i];
			to_sum[i] = sum[i];
		}
	}
}

/* The same of what is said of saved rbp, and m's `checks`. */
static void saved_move(struct walk_memo *m, const struct walk_frame *dest, const struct walk_memo *from, const struct walk_frame *join,
		       uint64_t n)
{
	int64_t here = dest - m->list.frame, there = join - from->list.frame;
	struct walk_word *to = m->saved + here;
	const struct walk_word *old = from->saved + there;

	m->checks = from->list.uses_bp ? walk_checks_moved(from->checks, here - there) : 0;
	if (!from->list.uses_bp) {
		for (uint64_t i = 0; i < n; i++)
			to[i] = WALK_WORD_NONE;
	} else if (to <= old || m != from) {
		for (uint64_t i = 0; i < n; i++)
			to[i] = old[i];
	} else {
		for (uint64_t i = n; i-- > 0;)
			to[i] = old[i];
	}
}

/* Behind m's first `held` frames come the fresh ones of u, unless they stand there, then those of `from` where u joined it. False:
 * too many, for m or for a walk cut off at the limit: that is the innermost frames, as many as allowed, so joining must not change
 * their number. */
static bool memo_splice(struct walk_memo *m, uint64_t held, const struct unwound *u, const struct walk_frame *fresh,
			const struct walk_memo *from)
{
	struct walk_list *w = &m->list;
	uint64_t count = (uint64_t)(u->end - fresh), outer = 0, nodes = 0;
	uint32_t depth = agent_hot.options.max_depth, rules = held ? w->rules : 0;
	uint32_t uses_bp = u->uses_bp | (held ? w->uses_bp : 0);
	uint32_t flags = u->flags, specials = u->specials;
	struct walk_frame *dest = w->frame + held + count;

	if (u->join) {
		const struct walk_list *o = &from->list;

		outer = (uint64_t)(o->end - u->join);
		if (held + count + outer > depth || ((o->flags & SILT_DB_STACK_DEPTH) && held + count + outer != depth))
			return false;
		if (held + count + outer > m->capacity)
			return false;
		nodes = o->nodes_from > u->join ? (uint64_t)(o->nodes_from - u->join) : 0;
		flags = o->flags;
		rules |= o->rules;
		uses_bp |= o->uses_bp;
		specials |= o->specials;
		if (uses_bp)
			saved_move(m, dest, from, u->join, outer);
		if (dest != u->join)
			tail_move(w, dest, o, u->join, outer);
	} else {
		w->tail[held + count] = 0;
	}
	if (fresh != w->frame + held)
		walk_copy_fresh(w->frame + held, fresh, count);
	w->end = dest + outer;
	w->nodes_from = dest + nodes;
	w->flags = flags;
	w->rules = rules | u->rules;
	w->uses_bp = uses_bp;
	w->specials = specials;
	walk_close(w);
	walk_sums(w, dest);
	return true;
}

/* rbp where m's frames up to `until` have led to; noted in them, for outer frames may need it that did not. */
static uint64_t bp_follow(struct walk_memo *m, const struct walk_frame *until, uint64_t bp)
{
	for (struct walk_frame *f = m->list.frame; f < until; f++) {
		f->bp = bp;
		if (CFI_RBP_AT(f->rule))
			bp = word_at(saved_bp_at(f));
	}
	return bp;
}

/* Walks from behind m's first `held` frames outward until `from` goes on the same way. False: the whole must be unwound anew. */
static bool walk_on(struct agent_thread *t, struct walk_memo *m, uint64_t held, const struct walk_memo *from, const uint64_t *fp,
		    struct unwound *u)
{
	struct step s = { .slot = held ? m->list.frame[held].slot : (uint64_t)&fp[1] };
	/* What may be joined must not be written over. */
	struct walk_frame *fresh = from == m ? t->spare : m->list.frame + held;
	struct walk_frame *join = from == m ? m->list.frame + held : from->list.frame;
	uint64_t depth = agent_hot.options.max_depth, room = (m->capacity < depth ? m->capacity : depth) - held;

	if (LIKELY(!t->with_bp)) {
		unwind_plain(u, fresh, room, s.slot, from, join, &t->met);
		t->with_bp = u->need_bp ? WALKS_WITH_BP : 0;
	}
	if (UNLIKELY(t->with_bp)) {
		t->with_bp--;
		s.sp = s.slot + 8;
		s.bp = bp_follow(m, m->list.frame + held, fp[0]);
		unwind_with_bp(u, fresh, room, s, from, join, &t->met);
	}
	if (UNLIKELY(u->generic || ((u->flags & SILT_DB_STACK_DEPTH) && held + room < depth)))
		return false;
	return memo_splice(m, held, u, fresh, from);
}

/* Unwinds everything. False: no memory to remember it. */
static COLD bool walk_anew(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp)
{
	struct walk_list *w = &t->anew_list, *to = &m->list;
	uint64_t n;

	unwind_anew(w, fp);
	n = (uint64_t)(w->end - w->frame);
	if (!memo_reserve(m, (uint32_t)n))
		return false;
	walk_copy_fresh(to->frame, w->frame, n);
	for (uint64_t i = 0; i <= n; i++)
		to->tail[i] = w->tail[i];
	to->end = to->nodes_from = to->frame + n;
	to->flags = w->flags;
	to->uses_bp = w->uses_bp;
	to->specials = w->specials;
	to->rules = w->rules;
	walk_close(to);
	return true;
}

enum rebuilt { REBUILT, REBUILT_ONCE, REBUILT_IN_ANEW };

/* Is a of the same stack as b, which is not empty, and of the same time? */
static bool memo_akin(const struct walk_memo *a, const struct walk_memo *b)
{
	return a->list.end != a->list.frame && a->generation == b->generation && a->list.end[-1].slot == b->list.end[-1].slot;
}

/* Makes m the walk of now. stuck: m's first frame that does not hold; NULL: nothing of m does. REBUILT_ONCE: it must not be
 * remembered; REBUILT_IN_ANEW: and it stands in t->anew_list. */
static enum rebuilt memo_rebuild(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, struct walk_frame *stuck)
{
	/* Its outer frames are the likeliest to hold; and while it is not m, new frames can be put where they belong. */
	const struct walk_memo *from = t->recent;
	const struct walk_frame *from_end;
	struct walk_frame *studied;
	struct unwound u;
	uint64_t held = 0;

	m->words_hold = false;
	if (stuck && stuck > m->list.frame && stuck <= m->list.plain_end && !m->list.specials) {
		held = (uint64_t)(stuck - m->list.frame);
		if (!memo_akin(from, m))
			from = m;
	}
	from_end = from->list.end;
	if (LIKELY(m->capacity && from_end != from->list.frame && from->generation == agent_hot.module_generation) &&
	    LIKELY(walk_on(t, m, held, from, fp, &u))) {
		studied = m->list.end - (u.join ? from_end - u.join : 0);
	} else {
		if (!walk_anew(t, m, fp)) {
			walk_void(m);
			return REBUILT_IN_ANEW;
		}
		studied = m->list.end;
	}
	m->generation = agent_hot.module_generation;
	m->bp_top = fp[0];
	m->list.plain_end = m->list.end - 1;
	m->extra_count = 0;
	if (LIKELY(!(m->list.uses_bp | m->list.specials)))
		return LIKELY(m->list.end != m->list.frame) ? REBUILT : REBUILT_ONCE;
	study_bp(m, studied); /* the joined frames' bits stand */
	return m->list.end != m->list.frame && (LIKELY(!m->list.specials) || study_specials(m)) ? REBUILT : REBUILT_ONCE;
}

static struct silt_db_cache_entry *count(struct agent_thread *t, struct walk_list *w, const struct stack_use *use)
{
	return thread_cache_get(t, walk_key(w, use), w, use);
}

COLD uint32_t walk_interrupting(struct agent_thread *t, const uint64_t *fp, uint32_t kind)
{
	struct stack_use use = use_now(t, WALK_USE(kind, ATOMIC_LOAD(&agent_db()->epoch)));
	struct walk_list *w = &t->nested_list;
	uint32_t context;

	if (t->nested) {
		agent_lost(SILT_LOST_CONTEXTS);
		return SILT_DB_CONTEXT_OVERFLOW;
	}
	t->nested = 1;
	agent_lost(SILT_LOST_NESTED);
	unwind_anew(w, fp);
	context = stack_intern(NULL, walk_key(w, &use), w, &use);
	t->nested = 0;
	return context;
}

/* The first frame that no longer holds; the end when all do; NULL when nothing remembered applies. */
static struct walk_frame *memo_compare(const struct walk_memo *m, const uint64_t *fp)
{
	const struct walk_frame *f = m->list.frame;

	if (m->list.end == f || f->slot != (uint64_t)&fp[1] || m->generation != agent_hot.module_generation)
		return NULL;
	if (m->bp_top != fp[0] && (f->bits & WALK_NEEDS_BP))
		return NULL;
	if (!extras_hold(m))
		return NULL;
	return memo_verify(m, m->list.frame);
}

/* Is patching worth a try? Where it was given up it gets one now and then. */
static bool patch_promises(struct agent_thread *t)
{
	if (LIKELY(t->patch_luck >= 0))
		return true;
	t->patch_luck++;
	return false;
}

static void patch_learn(struct agent_thread *t, int64_t frames)
{
	if (frames >= PATCH_FAR)
		t->patch_luck = t->patch_luck < PATCH_LUCK_MAX ? t->patch_luck + 1 : PATCH_LUCK_MAX;
	else if (--t->patch_luck < 0)
		t->patch_luck = PATCH_LUCK_MIN;
}

/* Threads numbered from here on get no more memos: what many threads do matters less, and they would take much memory. */
enum { REBUILDS_FOR_MORE = 256, MEMOS_MORE_THREADS = 64, REBUILDS_FOR_SHIFT = 8192 };

/* Two walks that alternate may have come upon the same memo, and change it every time. */
static COLD void memos_shuffle(struct agent_thread *t)
{
	uint32_t before = t->rebuilds_next;

	t->rebuilds_next = before ? t->rebuilds / REBUILDS_FOR_SHIFT * REBUILDS_FOR_SHIFT + REBUILDS_FOR_SHIFT : REBUILDS_FOR_MORE;
	if (before > REBUILDS_FOR_MORE)
		t->memo_multiplier *= RULE_MUL;
	else if (before && t->index <= MEMOS_MORE_THREADS && t->memo_mask < WALK_MEMOS_MORE - 1)
		walk_memos(t, WALK_MEMOS_MORE);
}

static struct silt_db_cache_entry *memo_use(struct agent_thread *t, struct walk_memo *m, const struct stack_use *use, uint64_t first)
{
	struct silt_db_cache_entry *e = count(t, &m->list, use);

	memo_counted(t, m, use, m->list.specials ? 0 : first, e);
	return e;
}

/* m is the walk of the hook whose frame is fp: counts it. */
static ALWAYS_INLINE struct silt_db_cache_entry *memo_done(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp,
							   const struct stack_use *use, enum rebuilt how)
{
	struct silt_db_cache_entry *e;

	walk_shallow_judge(t, how == REBUILT_IN_ANEW ? &t->anew_list : &m->list);
	if (LIKELY(how == REBUILT))
		return memo_use(t, m, use, (uint64_t)&fp[1]);
	e = count(t, how == REBUILT_ONCE ? &m->list : &t->anew_list, use);
	walk_void(m);
	return e;
}

/* The same where t keeps one walk alone. NULL: it does no longer. */
static NOINLINE struct silt_db_cache_entry *stay_use(struct agent_thread *t, const uint64_t *fp, const struct stack_use *use)
{
	struct walk_memo *m = t->stay;
	enum rebuilt how = REBUILT;

	if (UNLIKELY(t->shallow)) /* so was the one before; if others are, too, there is a cheaper way */
		t->stay_luck -= WALK_STAY_MISS;
	if (UNLIKELY(t->stay_luck <= 0) || UNLIKELY(--t->stay_turn <= 0)) {
		walk_stay_end(t);
		return NULL;
	}
	if (UNLIKELY(!walk_stay(t, fp))) {
		how = memo_rebuild(t, m, fp, NULL);
		if (m->list.specials) /* these are not joined: memos serve better */
			t->stay_luck = 0;
	}
	return memo_done(t, m, fp, use, how);
}

struct silt_db_cache_entry *walk_changed(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, uint64_t what,
					 struct walk_frame *stuck)
{
	struct stack_use use = use_now(t, what);
	struct walk_frame *end;
	struct silt_db_cache_entry *e;
	enum rebuilt how = REBUILT;

	if (UNLIKELY(agent_skips(fp[1])))
		return NULL;
	if (UNLIKELY(agent_hot.attention & AGENT_MODULES_CHANGED)) {
		module_refresh();
		stuck = NULL;
	}
	if (!t->many && !t->shallow && UNLIKELY(--t->stay_turn <= 0))
		walk_stay_judge(t);
	if (t->many) {
		e = stay_use(t, fp, &use);
		if (LIKELY(e))
			return e;
		m = walk_memo(t, fp);
		stuck = NULL;
	}
	memo_settle(m);
	if (!stuck)
		stuck = memo_compare(m, fp);
	end = m->list.end;
	if (stuck && stuck == end && m->stamp == agent_hot.module_generation + what && m->last->hash == m->last_key) {
		t->recent = m;
		return m->last;
	}
	m->first = m->first_bp = 0;
	if (stuck && stuck != end && !t->shallow && patch_promises(t)) {
		struct walk_frame *began = stuck;

		stuck = memo_patch(m, began);
		patch_learn(t, stuck - began);
	}
	if (!stuck || stuck != end) {
		if (UNLIKELY(++t->rebuilds >= t->rebuilds_next)) {
			memos_shuffle(t);
			m = walk_memo(t, fp);
			memo_settle(m);
			m->first = m->first_bp = 0;
			stuck = NULL;
		}
		if (LIKELY(t->shallow)) {
			e = walk_shallow(t, m, fp, &use);
			if (LIKELY(e))
				return e;
			stuck = NULL;
		}
		memo_settle(t->recent);
		t->stay_anew++;
		how = memo_rebuild(t, m, fp, stuck);
	}
	return memo_done(t, m, fp, &use, how);
}
