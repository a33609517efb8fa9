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

#define LAYOUT(rule) ((rule) & 0xffffffu)
/* A frame larger than this is looked at with care before its words are read. */
#define FRAME_SUSPICIOUS (1ull << 20)

static uint64_t position_key[SILT_DB_MAX_DEPTH + 8];

void walk_setup(void)
{
	uint64_t x = 0x243f6a8885a308d3ull; /* digits of pi: any fixed value does, dumps do not depend on it */

	for (uint32_t i = 0; i < SILT_DB_MAX_DEPTH + 8; i++) { /* splitmix64 */
		uint64_t z = (x += RULE_MUL);

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		position_key[i] = (z ^ z >> 31) | 1;
	}
}

uint64_t walk_part(uint64_t pcword, uint32_t index)
{
	uint64_t x = pcword * 0xff51afd7ed558ccdull;

	return (x ^ x >> 33) * position_key[index];
}

static ALWAYS_INLINE uint64_t word_at(uint64_t addr)
{
	return *(const volatile uint64_t *)addr;
}

/* Where frame i of the memo saved its caller's rbp. */
static ALWAYS_INLINE uint64_t saved_bp_at(const struct walk_memo *m, uint32_t i)
{
	return m->slot[i - 1] + 8 - 8 * (uint64_t)CFI_RBP_AT(m->rule[i]);
}

/* Number of outer frames from index `from` - 1 down that still hold; 0: all of them. Returns the index + 1 of the first that
 * does not. */
static ALWAYS_INLINE uint32_t memo_verify(const struct walk_memo *m, uint32_t from)
{
	uint32_t j = from;

	if (LIKELY(!m->check_count)) {
		const uint64_t *slot = m->slot, *pc = m->pc;

		while (j >= 4) {
			if (word_at(slot[j - 1]) != pc[j - 1])
				return j;
			if (word_at(slot[j - 2]) != pc[j - 2])
				return j - 1;
			if (word_at(slot[j - 3]) != pc[j - 3])
				return j - 2;
			if (word_at(slot[j - 4]) != pc[j - 4])
				return j - 3;
			j -= 4;
		}
		while (j && word_at(slot[j - 1]) == pc[j - 1])
			j--;
		return j;
	}
	for (; j; j--) {
		if (word_at(m->slot[j - 1]) != m->pc[j - 1])
			return j;
		if ((m->bits[j - 1] & WALK_CHECK) && word_at(saved_bp_at(m, j - 1)) != m->bp[j - 2])
			return j;
	}
	return 0;
}

static bool extras_hold(const struct walk_memo *m)
{
	for (uint32_t i = 0; i < m->extra_count; i++)
		if (word_at(m->extra[i].addr) != m->extra[i].value)
			return false;
	return true;
}

/* Goes on from frame j - 1 outward, taking changed return addresses over where the layout stays. True: the memo is exact
 * again. False: it holds from the returned index on inward only; *ret_stuck is the first frame that differs. */
static bool memo_patch(struct walk_memo *m, uint32_t j)
{
	uint64_t hash = m->hash;

	while (j-- > 0) {
		uint64_t pc = word_at(m->slot[j]);
		uint32_t rule, type;
		uint64_t part;

		if (j < m->special_top) {
			m->hash = hash;
			return memo_verify(m, j + 1) == 0 && extras_hold(m);
		}
		rule = rule_get(pc & SILT_DB_PC_MASK);
		type = CFI_TYPE(rule);
		if (UNLIKELY(LAYOUT(rule) != LAYOUT(m->rule[j])) || (type != CFI_T_RSP && type != CFI_T_RBP && pc != m->pc[j]))
			break;
		if ((m->bits[j] & WALK_CHECK) && word_at(saved_bp_at(m, j)) != m->bp[j - 1])
			break;
		part = walk_part(walk_pcword(pc, rule, false), j);
		hash += part - m->part[j];
		m->part[j] = part;
		m->pc[j] = pc;
		m->rule[j] = rule;
		if (j == 0) {
			m->hash = hash;
			return true;
		}
	}
	m->hash = hash;
	return j == UINT32_MAX;
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

static bool next_sane(uint64_t sp, uint64_t cfa)
{
	if (UNLIKELY(cfa <= sp || (cfa & 7)))
		return false;
	return LIKELY(cfa - sp < FRAME_SUSPICIOUS) || (readable(cfa - 8) && readable(cfa - 128));
}

/* One frame outward with the compact rule. */
static ALWAYS_INLINE enum step_result step_out(struct step *s, uint32_t rule)
{
	uint64_t cfa, bp = s->bp;

	switch (CFI_TYPE(rule)) {
	case CFI_T_RSP:
		cfa = s->sp + 8 * (uint64_t)CFI_OFF(rule);
		break;
	case CFI_T_RBP:
		cfa = s->bp + 8 * (uint64_t)CFI_OFF(rule);
		break;
	case CFI_T_RBP_DEREF:
		if (!next_sane(s->sp - 8, s->bp))
			return STEP_BROKEN;
		cfa = word_at(s->bp - 8 * (uint64_t)CFI_OFF(rule));
		bp = word_at(s->bp);
		break;
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
	if (!next_sane(s->sp, cfa))
		return STEP_BROKEN;
	if (CFI_RBP_AT(rule))
		bp = word_at(cfa - 8 * (uint64_t)CFI_RBP_AT(rule));
	s->slot = cfa - 8;
	s->sp = cfa;
	s->bp = bp;
	s->interrupted = false;
	return STEP_ON;
}

/* Can the remembered walk be joined at index i, where the frame read its pc from the same word? */
static bool memo_joins(struct walk_memo *m, uint32_t i, const struct step *s)
{
	bool interrupted = m->bits[i] & WALK_INTERRUPTED;
	uint32_t stuck;

	if (interrupted != s->interrupted || i < m->special_top)
		return false;
	if ((m->bits[i] & WALK_NEEDS_BP) && m->bp[i] != s->bp)
		return false;
	if (!extras_hold(m))
		return false;
	stuck = memo_verify(m, i + 1);
	return stuck == 0 || memo_patch(m, stuck);
}

/* Unwinds frame by frame into w. With a memo: stops where the remembered walk goes on, and returns that index + 1; 0: went
 * all the way. */
static uint32_t unwind(struct walk_scratch *w, uint32_t depth, const uint64_t *fp, struct walk_memo *m)
{
	struct step s = { .slot = (uint64_t)&fp[1], .sp = (uint64_t)&fp[2], .bp = fp[0] };
	uint32_t i = m ? m->n : 0;

	w->n = 0;
	w->flags = 0;
	for (;;) {
		uint64_t pc;
		uint32_t rule, n = w->n;
		enum step_result r;

		while (i && m->slot[i - 1] < s.slot)
			i--;
		if (i && m->slot[i - 1] == s.slot) {
			if (memo_joins(m, i - 1, &s))
				return i;
			i = 0;
		}
		pc = word_at(s.slot);
		if (!pc)
			return 0;
		if (n == depth) {
			w->flags |= SILT_DB_STACK_DEPTH;
			return 0;
		}
		rule = rule_get((pc & SILT_DB_PC_MASK) | (s.interrupted ? RULE_EXACT : 0));
		w->slot[n] = s.slot;
		w->pc[n] = pc;
		w->bp[n] = s.bp;
		w->rule[n] = rule;
		w->interrupted[n] = s.interrupted;
		w->n = n + 1;
		r = step_out(&s, rule);
		if (LIKELY(r == STEP_ON))
			continue;
		if (r == STEP_NO_CFI)
			w->flags |= SILT_DB_STACK_NO_CFI;
		else if (r == STEP_BROKEN)
			w->flags |= SILT_DB_STACK_BROKEN;
		else if (r == STEP_GENERIC)
			walk_with_registers(w, depth, fp);
		return 0;
	}
}

/* Words beside the return addresses that special frames read. False: no room to remember them. */
static bool extra_add(struct walk_memo *m, uint32_t frame, uint64_t addr)
{
	if (m->extra_count == AGENT_EXTRA_MAX)
		return false;
	m->extra[m->extra_count].addr = addr;
	m->extra[m->extra_count].value = word_at(addr);
	m->extra[m->extra_count].frame = frame;
	m->extra_count++;
	return true;
}

static bool special_add(struct walk_memo *m, uint32_t i, uint64_t sp)
{
	uint32_t rule = m->rule[i];

	m->special_top = i + 1;
	if (CFI_TYPE(rule) == CFI_T_SIGNAL)
		return extra_add(m, i, sp + ARCH_UC_RSP) && extra_add(m, i, sp + ARCH_UC_RBP);
	return extra_add(m, i, m->bp[i] - 8 * (uint64_t)CFI_OFF(rule)) && extra_add(m, i, m->bp[i]);
}

/* Drops the remembered frames from index `keep` on inward. */
static void memo_cut(struct walk_memo *m, uint32_t keep)
{
	for (uint32_t i = keep; i < m->n; i++) {
		m->hash -= m->part[i];
		m->check_count -= (m->bits[i] & WALK_CHECK) != 0;
	}
	while (m->extra_count && m->extra[m->extra_count - 1].frame >= keep)
		m->extra_count--;
	if (m->special_top > keep)
		m->special_top = m->extra_count ? m->extra[m->extra_count - 1].frame + 1 : 0;
	m->n = keep;
}

/* Puts the scratch's frames on top of the memo's. False: the memo cannot express them; it is void then. */
static bool memo_push(struct walk_memo *m, const struct walk_scratch *w)
{
	uint32_t check_count = m->check_count;
	uint64_t hash = m->hash;

	for (uint32_t k = w->n, i = m->n; k-- > 0; i++) {
		uint32_t rule = w->rule[k], type = CFI_TYPE(rule);
		bool outer_needs = i && (m->bits[i - 1] & WALK_NEEDS_BP);
		uint8_t bits = w->interrupted[k] ? WALK_INTERRUPTED : 0;

		m->slot[i] = w->slot[k];
		m->pc[i] = w->pc[k];
		m->bp[i] = w->bp[k];
		m->rule[i] = rule;
		if (type == CFI_T_RBP || type == CFI_T_RBP_DEREF)
			bits |= WALK_NEEDS_BP;
		if ((type == CFI_T_RSP || type == CFI_T_RBP) && outer_needs) {
			if (CFI_RBP_AT(rule)) {
				bits |= WALK_CHECK;
				check_count++;
			} else {
				bits |= WALK_NEEDS_BP;
			}
		}
		m->bits[i] = bits;
		m->part[i] = walk_part(walk_pcword(w->pc[k], rule, w->interrupted[k]), i);
		hash += m->part[i];
		if (UNLIKELY(type == CFI_T_SIGNAL || type == CFI_T_RBP_DEREF || type == CFI_T_GENERIC)) {
			/* The frame inward of the trampoline returned to it: its sp is the word after its return address. */
			if (type == CFI_T_GENERIC || !special_add(m, i, m->slot[i] + 8)) {
				m->n = 0;
				return false;
			}
		}
	}
	m->hash = hash;
	m->check_count = check_count;
	m->n += w->n;
	return true;
}

static void memo_reset(struct walk_memo *m)
{
	m->n = 0;
	m->hash = 0;
	m->check_count = 0;
	m->special_top = 0;
	m->extra_count = 0;
	m->flags = 0;
}

/* The walk is in w, or in the memo when one could be kept. */
static bool memo_rebuild(struct agent_thread *t, const uint64_t *fp)
{
	struct walk_memo *m = &t->memo;
	struct walk_scratch *w = &t->scratch;
	uint32_t depth = agent_hot.options.max_depth, joined = 0;

	if (m->n && m->generation == agent_hot.module_generation) {
		joined = unwind(w, depth, fp, m);
		/* A cut-off walk is the innermost frames, as many as allowed: joining must not change their number. */
		if (joined && (joined + w->n > depth || ((m->flags & SILT_DB_STACK_DEPTH) && joined + w->n != depth))) {
			joined = 0;
			unwind(w, depth, fp, NULL);
		}
	} else {
		unwind(w, depth, fp, NULL);
	}
	m->generation = agent_hot.module_generation;
	if (joined)
		memo_cut(m, joined);
	else {
		memo_reset(m);
		m->flags = w->flags;
	}
	m->bp_top = fp[0];
	return memo_push(m, w);
}

static struct silt_db_cache_entry *count_memo(struct agent_thread *t, uint32_t kind, uint32_t thread, uint32_t epoch)
{
	struct walk_memo *m = &t->memo;
	struct stack_source s = { m->n, m->flags, kind, thread, m->pc, m->rule, m->bits, 1 };

	return thread_cache_get(t, stack_key(m->hash, m->n, m->flags, kind, thread, epoch), &s, epoch);
}

static uint64_t scratch_hash(const struct walk_scratch *w)
{
	uint64_t hash = 0;

	for (uint32_t i = 0; i < w->n; i++)
		hash += walk_part(walk_pcword(w->pc[i], w->rule[i], w->interrupted[i]), w->n - 1 - i);
	return hash;
}

static struct stack_source scratch_source(const struct walk_scratch *w, uint32_t kind, uint32_t thread)
{
	uint32_t last = w->n ? w->n - 1 : 0;

	return (struct stack_source){ w->n, w->flags, kind, thread, w->pc + last, w->rule + last, w->interrupted + last, -1 };
}

/* A signal handler that came while this thread was inside the agent: nothing remembered is touched. */
static COLD uint32_t walk_nested(struct agent_thread *t, const uint64_t *fp, uint32_t kind, uint32_t thread, uint32_t epoch)
{
	struct walk_scratch *w = &t->nested_scratch;
	struct stack_source s;
	uint64_t key;

	agent_lost(SILT_LOST_NESTED);
	unwind(w, agent_hot.options.max_depth, fp, NULL);
	s = scratch_source(w, kind, thread);
	key = stack_key(scratch_hash(w), w->n, w->flags, kind, thread, epoch);
	return stack_intern(key, &s, epoch);
}

struct silt_db_cache_entry *walk_context(struct agent_thread *t, const uint64_t *fp, uint32_t kind, uint32_t *ret_context)
{
	struct walk_memo *m = &t->memo;
	uint32_t epoch = ATOMIC_LOAD(&agent_db()->epoch);
	uint32_t thread = agent_hot.options.flags & SILT_DB_THREADS ? t->index : 0;
	struct silt_db_cache_entry *e;
	uint32_t n, stuck;

	if (UNLIKELY(t->busy)) {
		if (t->nested) {
			*ret_context = SILT_DB_CONTEXT_OVERFLOW;
			agent_lost(SILT_LOST_CONTEXTS);
			return NULL;
		}
		t->nested = 1;
		*ret_context = walk_nested(t, fp, kind, thread, epoch);
		t->nested = 0;
		return NULL;
	}
	t->busy = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (UNLIKELY(agent_hot.modules_changed))
		module_refresh();
	n = m->n;
	if (LIKELY(n && m->slot[n - 1] == (uint64_t)&fp[1] && m->generation == agent_hot.module_generation &&
		   (m->bp_top == fp[0] || !(m->bits[n - 1] & WALK_NEEDS_BP)) && extras_hold(m))) {
		stuck = memo_verify(m, n);
		if (LIKELY(stuck == 0)) {
			e = t->last;
			if (LIKELY(e && t->last_epoch == epoch && t->last_kind == kind))
				return e;
			e = count_memo(t, kind, thread, epoch);
			goto remember;
		}
		if (memo_patch(m, stuck)) {
			e = count_memo(t, kind, thread, epoch);
			goto remember;
		}
	}
	if (memo_rebuild(t, fp)) {
		e = count_memo(t, kind, thread, epoch);
	} else {
		struct stack_source s = scratch_source(&t->scratch, kind, thread);

		e = thread_cache_get(t, stack_key(scratch_hash(&t->scratch), s.n, s.flags, kind, thread, epoch), &s, epoch);
	}
remember:
	t->last = e;
	t->last_epoch = epoch;
	t->last_kind = kind;
	return e;
}
