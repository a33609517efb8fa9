/* SPDX-License-Identifier: MIT */
/*
 * Walks that use rbp depend on more words than their return addresses: on those where an inner frame saved rbp for an outer one. Here all
 * of a walk's words stand in one row, in the order in which they are proven, so that comparing them needs no more steps than there are
 * words, and a walk of which only return addresses changed goes on right behind each.
 */
#include "capture/agent/walk.h"

/* Behind the row: for each word the frame it belongs to, and for each frame which word is its return address. */
static ALWAYS_INLINE uint64_t row_room(const struct walk_memo *m)
{
	return m->capacity < WALK_CHECKS ? m->capacity : WALK_CHECKS;
}

static ALWAYS_INLINE uint8_t *row_frames(const struct walk_memo *m)
{
	return (uint8_t *)(m->words + 2 * row_room(m) + 1);
}

static ALWAYS_INLINE uint8_t *row_words(const struct walk_memo *m)
{
	return row_frames(m) + 2 * row_room(m) + 1;
}

static NOINLINE bool make(struct walk_memo *m)
{
	const struct walk_list *l = &m->list;
	uint64_t n = (uint64_t)(l->end - l->frame), checks = m->checks;
	struct walk_word *w;
	uint8_t *frames, *words;
	uint32_t ref;

	if (n > WALK_CHECKS)
		return false;
	if (!m->words) {
		ref = db_alloc((2 * row_room(m) + 1) * (sizeof(*w) + 1) + row_room(m) + 1);
		if (!ref)
			return false;
		m->words = db_at(ref);
	}
	w = m->words;
	frames = row_frames(m);
	words = row_words(m);
	for (uint64_t i = 0; i < n; i++, checks >>= 1) {
		words[i] = (uint8_t)(w - m->words);
		*frames++ = (uint8_t)i;
		*w++ = (struct walk_word){ l->frame[i].slot, l->frame[i].pc };
		if (checks & 1) {
			*frames++ = (uint8_t)i;
			*w++ = m->saved[i];
		}
	}
	words[n] = (uint8_t)(w - m->words);
	*frames = (uint8_t)n;
	*w = (struct walk_word){ (uint64_t)&walk_closing_word, ~walk_closing_word };
	return m->words_hold = true;
}

bool walk_words(struct walk_memo *m)
{
	return m->words_hold || make(m);
}

/* The first from w on that does not hold: at last the closing one. */
static ALWAYS_INLINE struct walk_word *compare(struct walk_word *w)
{
	for (;; w += 4) {
		if (word_at(w[0].addr) != w[0].value)
			return w;
		if (word_at(w[1].addr) != w[1].value)
			return w + 1;
		if (word_at(w[2].addr) != w[2].value)
			return w + 2;
		if (word_at(w[3].addr) != w[3].value)
			return w + 3;
	}
}

/* The frame that w belongs to; the end for the closing word. */
static ALWAYS_INLINE struct walk_frame *frame_of(const struct walk_memo *m, const struct walk_word *w)
{
	return m->list.frame + row_frames(m)[w - m->words];
}

struct walk_frame *walk_verify_bp(struct walk_memo *m, const uint64_t *fp)
{
	struct walk_frame *f;

	if (m->bp_top != fp[0] && (m->list.frame->bits & WALK_NEEDS_BP))
		return NULL;
	if (!m->words_hold) {
		f = memo_verify(m, m->list.frame);
		if (f == m->list.end && !m->alone) /* it will be met again */
			walk_words(m);
		return f;
	}
	return frame_of(m, compare(m->words));
}

struct walk_frame *walk_words_patch(struct walk_memo *m, struct walk_frame *f)
{
	struct walk_frame *stop = m->list.plain_end, *behind = m->list.frame; /* behind the outermost frame that changed */
	const uint8_t *words = row_words(m);
	struct walk_word *w;
	uint32_t rules = 0;

	while (f < stop) {
		uint64_t i = (uint64_t)(f - m->list.frame), pc = word_at(f->slot);
		uint32_t rule = rule_get(pc);

		w = m->words + words[i];
		if (UNLIKELY((rule ^ f->rule) << 8))
			break;
		if (m->checks >> i & 1 && UNLIKELY(word_at(w[1].addr) != w[1].value))
			break;
		f->pc = w->value = pc;
		f->rule = rule;
		rules |= rule;
		behind = f + 1;
		w = compare(w + 1);
		f = frame_of(m, w);
		if (UNLIKELY(f < behind)) /* its saved word does not hold, by now */
			break;
	}
	m->list.rules |= rules;
	if (m->list.nodes_from < behind)
		m->list.nodes_from = behind;
	if (f == m->list.end)
		walk_sums(&m->list, behind);
	return f;
}
