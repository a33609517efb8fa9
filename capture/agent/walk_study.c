/* SPDX-License-Identifier: MIT */
/*
 * What is worked out about a walk once it stands: its hash, and which words beside the return addresses it depends on.
 *
 * A stack's hash is the sum of its return addresses, each multiplied by a random constant for its distance from the outermost
 * frame (multilinear hashing, Carter and Wegman 1979). The sums from each frame outward are kept, so where only inner frames
 * changed only those are summed again.
 */
#include "capture/agent/walk.h"

/* Most stacks are shallower. */
enum { MEMO_FRAMES = 32 };

uint64_t walk_position_key[SILT_DB_MAX_DEPTH];

const uint64_t walk_closing_word = 0;

void walk_void(struct walk_memo *m)
{
	m->first = m->first_bp = 0;
	m->list.end = m->list.frame;
	m->extra_count = 0;
	m->shape = 0;
	m->words_hold = false;
}

void walk_uncount(struct agent_thread *t)
{
	for (uint64_t i = 0; i <= t->memo_mask; i++)
		t->memos[i].stamp = 0;
	for (uint64_t i = 0; t->many && i <= t->many_mask; i++)
		t->many[i].stamp = 0;
	if (t->stay)
		t->stay->stamp = 0;
}

void walk_forget(struct agent_thread *t)
{
	walk_stay_end(t); /* what was kept alone begins from nothing when it is kept again */
	for (uint64_t i = 0; i <= t->memo_mask; i++)
		walk_void(&t->memos[i]);
	t->recent = t->memos;
	walk_shallow_forget(t);
}

bool walk_memos(struct agent_thread *t, uint32_t n)
{
	uint32_t ref = db_alloc(n * sizeof(struct walk_memo));

	if (!ref)
		return false;
	t->memo_mask = 0; /* never more than there are, wherever a handler jumps away from here */
	IN_ORDER();
	t->memos = db_at(ref);
	t->recent = t->memos;
	IN_ORDER();
	t->memo_mask = n - 1;
	return true;
}

bool memo_reserve(struct walk_memo *m, uint32_t frames)
{
	uint32_t n = m->capacity ? m->capacity : MEMO_FRAMES, ref;

	while (n < frames)
		n *= 2;
	if (n == m->capacity)
		return true;
	ref = db_alloc((n + 1) * (sizeof(struct walk_frame) + sizeof(struct walk_word) + sizeof(uint64_t)));
	if (!ref)
		return false;
	m->capacity = 0; /* none in between: a handler may jump away from here */
	IN_ORDER();
	m->list.frame = m->base = db_at(ref);
	m->before = 0;
	m->saved = (struct walk_word *)(void *)(m->list.frame + n + 1);
	m->list.tail = (uint64_t *)(void *)(m->saved + n + 1);
	m->words = NULL;
	walk_void(m);
	IN_ORDER();
	m->capacity = (uint16_t)n;
	return true;
}

void walk_setup(void)
{
	uint64_t x = 0x243f6a8885a308d3ull; /* digits of pi: any fixed value does, dumps do not depend on it */

	for (uint32_t i = 0; i < SILT_DB_MAX_DEPTH; i++) { /* splitmix64 */
		uint64_t z = (x += RULE_MUL);

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		walk_position_key[i] = (z ^ z >> 31) | 1;
	}
}

void walk_sums(struct walk_list *w, const struct walk_frame *behind)
{
	uint64_t n = (uint64_t)(w->end - w->frame), i = (uint64_t)(behind - w->frame), sum;

	i = (i + 7) & ~7ull; /* a few too many do no harm, and the loop's length is easier foreseen */
	if (i > n)
		i = n;
	sum = w->tail[i];
	for (const uint64_t *key = walk_position_key + (n - i); i-- > 0; key++)
		w->tail[i] = sum += w->frame[i].pc * *key;
}

/* What walks of modules loaded where others had been, and of signal frames, add to their hash. */
static COLD uint64_t hash_rare(const struct walk_list *w)
{
	const uint64_t *key = walk_position_key;
	uint64_t hash = 0;

	for (const struct walk_frame *f = w->end; f-- > w->frame;)
		hash += ((uint64_t)(f->rule >> 24) << 48 | (f->bits & WALK_INTERRUPTED) << 30) * *key++;
	return hash;
}

uint64_t walk_key(const struct walk_list *w, const struct stack_use *use)
{
	uint64_t hash = w->tail[0];

	if (UNLIKELY(w->specials || w->rules >> 24))
		hash += hash_rare(w);
	return stack_key(hash, stack_rest((uint32_t)(w->end - w->frame), w->flags, use));
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

/* Going inward: what an outer frame needs, an inner one saves. */
void study_bp(struct walk_memo *m, struct walk_frame *from)
{
	struct walk_list *w = &m->list;
	struct walk_word *saved = m->saved + (from - w->frame);
	uint32_t needs = from < w->end ? from->bits & WALK_NEEDS_BP : 0;
	uint64_t studied = (uint64_t)(from - w->frame), checks = studied < WALK_CHECKS ? m->checks >> studied : 0;

	for (struct walk_frame *f = from; f-- > w->frame;) {
		uint32_t type = CFI_TYPE(f->rule), saves = CFI_RBP_AT(f->rule) ? WALK_CHECK : 0;
		uint32_t check = needs ? saves : 0;

		saved--;
		if ((f->rule & CFI_COMPACT) == CFI_FRAME_POINTER && needs) { /* the rest, in short */
			f->bits |= WALK_CHECK | WALK_NEEDS_BP;
			*saved = (struct walk_word){ f[1].slot - 8, f[1].bp };
			checks = checks << 1 | 1;
			continue;
		}
		needs = type == CFI_T_RBP || type == CFI_T_RBP_DEREF ? WALK_NEEDS_BP : type == CFI_T_RSP && !saves ? needs : 0;
		f->bits = (f->bits & ~(uint32_t)(WALK_CHECK | WALK_NEEDS_BP)) | check | needs;
		*saved = check ? (struct walk_word){ saved_bp_at(f), f[1].bp } : WALK_WORD_NONE;
		checks = checks << 1 | (check != 0);
	}
	m->checks = checks; /* shifted in from the outermost on: those of frames beyond the first 64 are gone */
}

COLD bool study_specials(struct walk_memo *m)
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
			m->saved[f - w->frame] = WALK_WORD_NONE;
			if (!special_add(m, f))
				return false;
		}
	}
	return true;
}
