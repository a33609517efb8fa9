/* SPDX-License-Identifier: MIT */
/** What the parts of the stack walk share: remembering and joining (walk.c), unwinding (walk_unwind.c), bookkeeping (walk_study.c). */
#ifndef SILT_CAPTURE_AGENT_WALK_H
#define SILT_CAPTURE_AGENT_WALK_H

#include "capture/agent/agent.h"
#include "capture/agent/cfi.h"
#include "capture/agent/fast.h"

/* Where a walk stands: a frame's return address lies at slot; sp and bp are rsp and rbp in that frame. */
struct step {
	uint64_t slot, sp, bp;
	bool interrupted; /* the pc at slot is exact, not a return address */
};

/* What unwinding found, from where it began. */
struct unwound {
	struct walk_frame *end;  /* behind the last new frame */
	struct walk_frame *join; /* the remembered frame from which on all is as it was; NULL: went all the way */
	uint32_t flags, uses_bp, specials, rules; /* as in struct walk_list, of the new frames */
	bool need_bp; /* rsp alone was not enough */
	bool generic; /* nor rsp and rbp */
};

/** Unwinds from slot outward by rsp alone, into out, at most `room` frames; looks in `from` from `join` on for where it goes on
 *  as remembered. met: where that was in the walk before, and then in this one. */
void unwind_plain(struct unwound *u, struct walk_frame *out, uint64_t room, uint64_t slot, const struct walk_memo *from,
		  struct walk_frame *join, struct walk_meeting *met);
/** The same with rsp and rbp, through signal frames too. from NULL: nothing to look in; then met may be NULL. */
void unwind_with_bp(struct unwound *u, struct walk_frame *out, uint64_t room, struct step s, const struct walk_memo *from,
		    struct walk_frame *join, struct walk_meeting *met);
/** The same two, until m's walk is met and holds from there on, looked at beside each frame. u->join stays NULL where there is a frame of
 *  another kind, or no more room; and where unwind_plain_beside says need_bp. */
void unwind_plain_beside(struct unwound *u, struct walk_frame *out, uint64_t room, uint64_t slot, const struct walk_memo *m);
void unwind_with_bp_beside(struct unwound *u, struct walk_frame *out, uint64_t room, struct step s, const struct walk_memo *m);
/** The whole walk of the hook whose frame is fp into w, nothing remembered. */
void unwind_anew(struct walk_list *w, const uint64_t *fp);

/** Does the remembered walk hold from f on? Its pc has been compared. */
bool memo_joins(const struct walk_memo *m, struct walk_frame *f, const struct step *s);
/** Compares the remembered words from f outward: the first frame that does not hold, or the end. */
struct walk_frame *memo_verify(const struct walk_memo *m, struct walk_frame *f);

/** Where t->shallow says that stacks are shallow: m becomes the walk of the hook whose frame is fp. Returns its cache entry; NULL: this
 *  one is not of that kind, and m is void. */
struct silt_db_cache_entry *walk_shallow(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, const struct stack_use *use);
void walk_shape_leave(struct walk_memo *m);
/** m is about to be changed in another way, or to be read from: its sums are seen to. */
static ALWAYS_INLINE void memo_settle(struct walk_memo *m)
{
	if (UNLIKELY(m->shape))
		walk_shape_leave(m);
}
/** m's walk was counted in e, for `use`; first: as in struct walk_memo. */
static ALWAYS_INLINE void memo_counted(struct agent_thread *t, struct walk_memo *m, const struct stack_use *use, uint64_t first,
				       struct silt_db_cache_entry *e)
{
	t->recent = m;
	m->last = e;
	m->last_key = e->hash;
	m->stamp = agent_hot.module_generation + WALK_USE(use->kind, use->epoch);
	m->first = m->list.uses_bp ? 0 : first;
	m->first_bp = m->list.uses_bp ? first : 0;
}
/** What contexts are told apart by, beside their stacks, now. */
static ALWAYS_INLINE struct stack_use use_now(const struct agent_thread *t, uint64_t use)
{
	return (struct stack_use){ WALK_USE_KIND(use), agent_hot.options.flags & SILT_DB_THREADS ? t->index : 0, (uint32_t)use };
}
/** A walk was taken in another way: will the next ones be shallow? */
void walk_shallow_judge(struct agent_thread *t, const struct walk_list *w);
/** Also the beginning. */
void walk_shallow_forget(struct agent_thread *t);

/** Sees to it that m's words stand in a row (walk_words.c). False: it has very many frames, or there is no memory. */
bool walk_words(struct walk_memo *m);
/** Where they do: goes on from f outward, taking changed return addresses over where the layout stays. Returns the end when m is
 *  exact again, else the first frame that could not be taken over; what lies outward of that is as it was. */
struct walk_frame *walk_words_patch(struct walk_memo *m, struct walk_frame *f);

/** So much a walk of which the kept one was of no use takes off stay_luck; each of the others gives 1. */
enum { WALK_STAY_MISS = 8 };
/** While t keeps one walk alone: makes that the one of the hook whose frame is fp. False: it has nothing in common with it that could be
 *  used, and is void, its room whole. */
bool walk_stay(struct agent_thread *t, const uint64_t *fp);
/** t's memos are judged: from now on it may keep one walk alone. */
void walk_stay_judge(struct agent_thread *t);
/** t goes back to its memos. */
void walk_stay_end(struct agent_thread *t);

/** Makes room for so many frames; what m held is lost when it had less. False: no memory, m is as before. */
bool memo_reserve(struct walk_memo *m, uint32_t frames);

/** Copies frames just written: word by word as they were, for a wider load must wait until its parts have left the store buffer. */
static ALWAYS_INLINE void walk_copy_fresh(struct walk_frame *to, const struct walk_frame *from, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		to[i].slot = *(const volatile uint64_t *)&from[i].slot;
		to[i].pc = *(const volatile uint64_t *)&from[i].pc;
		to[i].bp = *(const volatile uint64_t *)&from[i].bp;
		to[i].rule_bits = *(const volatile uint64_t *)&from[i].rule_bits;
	}
}

/** Ends a walk at its `end`. */
static inline void walk_close(struct walk_list *w)
{
	w->end->slot = (uint64_t)&walk_closing_word;
	w->end->pc = ~walk_closing_word;
}
/** By which return addresses are multiplied, from the outermost frame inward. */
extern uint64_t walk_position_key[SILT_DB_MAX_DEPTH];
/** Sums up w's return addresses for its hash; from `behind` outward the sums stand already. */
void walk_sums(struct walk_list *w, const struct walk_frame *behind);
/** Holds always. */
#define WALK_WORD_NONE ((struct walk_word){ (uint64_t)&walk_closing_word, walk_closing_word })
/** Frames that struct walk_memo's `checks` speaks of. */
#define WALK_CHECKS 64
/** `checks`, where frames have come to stand `by` places further out. */
static ALWAYS_INLINE uint64_t walk_checks_moved(uint64_t checks, int64_t by)
{
	if (by >= 0)
		return by < WALK_CHECKS ? checks << by : 0;
	/* Of what stood beyond them nothing is known: a bit set for nothing does no harm. */
	return -by < WALK_CHECKS ? checks >> -by | ~0ull << (WALK_CHECKS + by) : ~0ull;
}
/** Where a walk needed rbp, this many of the next are unwound with it from the start. */
enum { WALKS_WITH_BP = 32 };
/** Finds out where rbp matters, for the frames inward of `from`. */
void study_bp(struct walk_memo *m, struct walk_frame *from);
/** Collects what special frames read. False: the walk cannot be remembered. */
bool study_specials(struct walk_memo *m);

/** Where frame f saved its caller's rbp. */
static ALWAYS_INLINE uint64_t saved_bp_at(const struct walk_frame *f)
{
	return f[1].slot + 8 - 8 * (uint64_t)CFI_RBP_AT(f->rule);
}

#endif
