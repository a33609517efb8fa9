/* SPDX-License-Identifier: MIT */
/*
 * Unwinding frame by frame with the compact rules, outward until a remembered walk goes on the same way.
 *
 * Each step waits for the one before: the return address at the slot gives the rule, the rule the next slot. The loop for plain
 * frames therefore keeps everything else off that chain (two loads and an addition a frame), and has hardly a branch
 * that cannot be foreseen, for a branch that went wrong costs as much as three frames.
 */
#include "capture/agent/walk.h"

#define FRAME_SUSPICIOUS (1ull << 20) /* a larger frame is looked at with care before its words are read */

/* Looks for the remembered walk after 2, 4, 8, 16, 32, 64, 96... new frames; or first where the walk before met its own, for each look
 * costs as much as four frames, and what programs have in common mostly begins at the same place. */
enum { LOOK_FIRST = 2, LOOK_APART = 32, LOOK_ATTEMPTS = 2 };
/* One walk in so many is looked for from the beginning: perhaps it is met further in by now. */
enum { LOOK_EARLY = 8 };

struct look {
	const struct walk_memo *memo;
	struct walk_frame *from; /* frames inward of here are behind the new walk already */
	struct walk_frame *limit; /* the new walk has no more room */
	struct walk_frame *next; /* to be looked at this frame... */
	uint64_t next_slot; /* ...or that which is read from here or further out */
	uint32_t attempts;
};

static void look_start(struct look *l, struct walk_frame *out, uint64_t room, const struct walk_memo *from, struct walk_frame *join,
		       struct walk_meeting *met)
{
	*l = (struct look){ .memo = from, .from = join, .limit = out + room, .next = out + LOOK_FIRST, .next_slot = ~0ull };
	/* Not on another stack than that of the walk before. */
	if (from && met && met->slot >= join->slot && met->slot <= from->list.end[-1].slot && ++met->turn % LOOK_EARLY) {
		l->next_slot = met->slot;
		l->next = l->limit;
	}
	if (l->next > l->limit)
		l->next = l->limit;
}

/* After f, the last of count new frames, nothing was found. */
static void look_later(struct look *l, struct walk_frame *f, uint64_t count)
{
	l->next_slot = ~0ull;
	l->next = f + (count < LOOK_APART ? count : LOOK_APART); /* the walk so far is doubled, at first */
	if (l->next > l->limit)
		l->next = l->limit;
}

/* The remembered frame behind the one that is equal to f, when from there on the remembered walk holds; else NULL. s is what f was left
 * to. */
static struct walk_frame *look_for(struct look *l, const struct walk_frame *f, const struct step *s, bool with_bp)
{
	struct walk_frame *at = l->from;

	/* The last one not outward of f. Without branches, for none of them could be foreseen. */
	for (uint64_t n = (uint64_t)(l->memo->list.end - at), half; n > 1; n -= half) {
		half = n / 2;
		at = at[half].slot <= f->slot ? at + half : at;
	}
	l->from = at;
	if (LIKELY((at->slot ^ f->slot) | (at->pc ^ f->pc)) || at + 1 >= l->memo->list.end || at[1].slot != s->slot)
		return NULL;
	if ((with_bp || !(at[1].bits & WALK_NEEDS_BP)) && memo_joins(l->memo, at + 1, s))
		return at + 1;
	if (++l->attempts == LOOK_ATTEMPTS)
		l->memo = NULL;
	return NULL;
}

/* ---- beside the walk before ---- */

/* Where unwinding stands beside the old walk. */
struct beside {
	const struct walk_memo *memo;
	struct walk_frame *old; /* the innermost of its frames that may still be met */
};

/* The new walk's last frame is f, and it goes on as s says. Returns the old frame behind the one that is equal to f, where the old walk
 * holds from there on; else NULL, and what will not be met any more is passed over. Sets *need_bp
 * where rbp is not known and would have to be. */
static ALWAYS_INLINE struct walk_frame *beside_meet(struct beside *b, const struct walk_frame *f, const struct step *s, bool with_bp,
						    bool *need_bp)
{
	struct walk_frame *old = b->old, *end = b->memo->list.end, *stuck;

	while (old < end && old->slot < f->slot)
		old++;
	b->old = old;
	if (old->slot != f->slot || old->pc != f->pc || old + 1 >= end || old[1].slot != s->slot)
		return NULL;
	if (UNLIKELY(old[1].bits & WALK_NEEDS_BP)) {
		if (!with_bp) {
			*need_bp = true;
			return NULL;
		}
		if (old[1].bp != s->bp)
			return NULL;
	}
	stuck = memo_verify(b->memo, old + 1);
	if (LIKELY(stuck == end))
		return old + 1;
	b->old = stuck + 1; /* at most the end */
	return NULL;
}

/* One frame outward, from its return address at *slot, noted in f. Returns its rule. */
static ALWAYS_INLINE uint32_t step_plain(struct walk_frame *f, uint64_t *slot)
{
	uint64_t i = *(const volatile uint16_t *)*slot; /* the pc's low bits */
	uint64_t next = *slot + arch_load16_of(agent_rules, i); /* read by itself, it is had a cycle sooner */
	uint64_t word = ATOMIC_LOAD(&agent_rules[i]), pc = word_at(*slot);
	uint32_t rule = (uint32_t)word;

	f->slot = *slot;
	f->pc = pc;
	if (LIKELY((word >> 32 == pc >> 16) & (next - *slot == (word & 0xffff))) && LIKELY(CFI_TYPE(word) == CFI_T_RSP && word)) {
		*slot = next;
	} else {
		rule = rule_get(pc);
		*slot += rule & 0x1fff8;
	}
	f->rule_bits = rule;
	return rule;
}

/* The frame of f, the last, cannot be left by rsp alone. Returns behind the last frame. */
static ALWAYS_INLINE struct walk_frame *plain_ends(struct unwound *u, struct walk_frame *f, uint32_t rule)
{
	if (!f->pc) /* some threads and coroutines begin with a return address of 0: the frame before was the last */
		return f;
	if (CFI_TYPE(rule) == CFI_T_NONE)
		u->flags = SILT_DB_STACK_NO_CFI;
	else
		u->need_bp = CFI_TYPE(rule) != CFI_T_END;
	return f + 1;
}

void unwind_plain(struct unwound *u, struct walk_frame *out, uint64_t room, uint64_t slot, const struct walk_memo *from,
		  struct walk_frame *join, struct walk_meeting *met)
{
	struct walk_frame *f = out;
	struct look look;
	uint32_t rules = 0, rule;

	*u = (struct unwound){ .join = NULL };
	look_start(&look, out, room, from, join, met);
	for (;;) {
		uint64_t here = slot;

		rule = step_plain(f, &slot);
		rules |= rule;
		if (UNLIKELY(CFI_TYPE(rule) != CFI_T_RSP)) {
			f = plain_ends(u, f, rule);
			break;
		}
		f++;
		if (UNLIKELY((f == look.next) | (here >= look.next_slot))) {
			struct step s = { .slot = slot };

			if (look.memo && (u->join = look_for(&look, f - 1, &s, false)))
				break;
			if (f == look.limit) {
				if (word_at(slot))
					u->flags = SILT_DB_STACK_DEPTH;
				break;
			}
			look_later(&look, f, (uint64_t)(f - out));
		}
	}
	met->slot = u->join ? u->join[-1].slot : 0;
	u->end = f;
	u->rules = rules;
}

void unwind_plain_beside(struct unwound *u, struct walk_frame *out, uint64_t room, uint64_t slot, const struct walk_memo *m)
{
	struct walk_frame *f = out;
	struct beside b = { m, m->list.frame };
	uint32_t rules = 0, rule;

	*u = (struct unwound){ .join = NULL };
	while (f < out + room && !u->join && !u->need_bp) {
		struct step s;

		rule = step_plain(f, &slot);
		rules |= rule;
		if (UNLIKELY(CFI_TYPE(rule) != CFI_T_RSP)) {
			f = plain_ends(u, f, rule);
			break;
		}
		f++;
		s.slot = slot;
		u->join = beside_meet(&b, f - 1, &s, false, &u->need_bp);
	}
	u->end = f;
	u->rules = rules;
}

/* Is a far jump of the stack pointer real? Only asked where a frame seems larger than a megabyte. */
static bool readable(uint64_t addr)
{
	uint64_t word;

	return !agent_no_syscalls && sys_peek(addr, &word);
}

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
static ALWAYS_INLINE enum step_result step_out(struct step *s, uint32_t rule)
{
	uint64_t cfa;

	/* Where code keeps frame pointers. By itself, for then the next slot does not wait for the rule, only the branch does. */
	if ((rule & CFI_COMPACT) == CFI_FRAME_POINTER) {
		cfa = s->bp + 16;
		if (UNLIKELY(!next_sane(s->sp, cfa)))
			return STEP_BROKEN;
		s->bp = word_at(cfa - 16);
		s->slot = cfa - 8;
		s->sp = cfa;
		s->interrupted = false;
		return STEP_ON;
	}
	/* The offset in bytes is the rule's bits 3..16 where they stand. */
	if (LIKELY(CFI_TYPE(rule) == CFI_T_RSP)) {
		cfa = s->sp + (rule & 0x1fff8); /* grows by 8 bytes to 128 KiB: sane by itself */
	} else if (LIKELY(CFI_TYPE(rule) == CFI_T_RBP)) {
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

/* One frame outward with rsp and rbp, noted in f. */
static ALWAYS_INLINE enum step_result step_with_bp(struct unwound *u, struct walk_frame *f, struct step *s)
{
	uint64_t pc = word_at(s->slot);
	uint32_t rule = rule_get(s->interrupted ? pc | RULE_EXACT : pc);
	enum step_result r;

	f->slot = s->slot;
	f->pc = pc;
	f->bp = s->bp;
	f->rule_bits = rule | (uint64_t)s->interrupted << 32; /* WALK_INTERRUPTED is 1 */
	u->rules |= rule;
	u->specials |= s->interrupted;
	r = step_out(s, rule);
	if (UNLIKELY(r != STEP_ON))
		return r;
	u->uses_bp |= CFI_TYPE(rule) ^ CFI_T_RSP; /* not for the outermost frame: nothing leaves it */
	u->specials |= CFI_TYPE(rule) > CFI_T_RBP;
	return r;
}

/* f, the last frame, was not left for another. Returns behind the last frame. */
static ALWAYS_INLINE struct walk_frame *ends_with_bp(struct unwound *u, struct walk_frame *f, enum step_result r)
{
	if (!f->pc) /* as in unwind_plain */
		return f;
	if (r == STEP_NO_CFI)
		u->flags = SILT_DB_STACK_NO_CFI;
	else if (r == STEP_BROKEN)
		u->flags = SILT_DB_STACK_BROKEN;
	else
		u->generic = r == STEP_GENERIC;
	return f + 1;
}

void unwind_with_bp(struct unwound *ret, struct walk_frame *out, uint64_t room, struct step s, const struct walk_memo *from,
		    struct walk_frame *join, struct walk_meeting *met)
{
	struct unwound u = { .join = NULL };
	struct walk_frame *f = out;
	struct look look;

	look_start(&look, out, room, from, join, met);
	for (;;) {
		enum step_result r = step_with_bp(&u, f, &s);

		if (UNLIKELY(r != STEP_ON)) {
			f = ends_with_bp(&u, f, r);
			break;
		}
		f++;
		if (UNLIKELY((f == look.next) | (f[-1].slot >= look.next_slot))) {
			if (look.memo && (u.join = look_for(&look, f - 1, &s, true)))
				break;
			if (f == look.limit) {
				if (word_at(s.slot))
					u.flags = SILT_DB_STACK_DEPTH;
				break;
			}
			look_later(&look, f, (uint64_t)(f - out));
		}
	}
	if (met)
		met->slot = u.join ? u.join[-1].slot : 0;
	u.end = f;
	*ret = u;
}

void unwind_with_bp_beside(struct unwound *ret, struct walk_frame *out, uint64_t room, struct step s, const struct walk_memo *m)
{
	struct unwound u = { .join = NULL };
	struct walk_frame *f = out;
	struct beside b = { m, m->list.frame };

	while (f < out + room && !u.join) {
		enum step_result r = step_with_bp(&u, f, &s);

		if (UNLIKELY(r != STEP_ON)) {
			f = ends_with_bp(&u, f, r);
			break;
		}
		f++;
		if (UNLIKELY(u.specials)) /* these are not told apart here */
			break;
		u.join = beside_meet(&b, f - 1, &s, true, NULL);
	}
	u.end = f;
	*ret = u;
}

COLD void unwind_anew(struct walk_list *w, const uint64_t *fp)
{
	struct step s = { .slot = (uint64_t)&fp[1], .sp = (uint64_t)&fp[2], .bp = fp[0] };
	struct unwound u;

	unwind_with_bp(&u, w->frame, agent_hot.options.max_depth, s, NULL, NULL, NULL);
	w->end = u.end;
	w->flags = u.flags;
	w->uses_bp = u.uses_bp;
	w->specials = u.specials;
	w->rules = u.rules;
	if (u.generic) {
		walk_with_registers(w, agent_hot.options.max_depth, fp);
		for (const struct walk_frame *f = w->frame; f < w->end; f++)
			w->rules |= f->rule;
	}
	walk_close(w);
	w->nodes_from = w->end;
	w->tail[w->end - w->frame] = 0;
	walk_sums(w, w->end);
}
