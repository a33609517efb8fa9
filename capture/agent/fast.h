/* SPDX-License-Identifier: MIT */
/** The few steps that nearly every allocation and free takes, inlined into the hooks; all else is called. */
#ifndef SILT_CAPTURE_AGENT_FAST_H
#define SILT_CAPTURE_AGENT_FAST_H

#include "capture/agent/agent.h"

static ALWAYS_INLINE uint64_t word_at(uint64_t addr)
{
	return *(const volatile uint64_t *)addr;
}

/** Compares the return addresses from f outward, in groups of four as long as one ends before `limit`. Returns the first frame that does
 *  not hold, or the one behind the last group. */
static ALWAYS_INLINE struct walk_frame *walk_verify_groups(struct walk_frame *f, const struct walk_frame *limit)
{
	for (; !limit || limit - f >= 4; f += 4) {
		if (word_at(f[0].slot) != f[0].pc)
			return f;
		if (word_at(f[1].slot) != f[1].pc)
			return f + 1;
		if (word_at(f[2].slot) != f[2].pc)
			return f + 2;
		if (word_at(f[3].slot) != f[3].pc)
			return f + 3;
	}
	return f;
}

/** The same without a limit: at last the closing frame does not hold. */
static ALWAYS_INLINE struct walk_frame *walk_verify_plain(struct walk_frame *f)
{
	return walk_verify_groups(f, NULL);
}

static ALWAYS_INLINE struct walk_memo *walk_memo(const struct agent_thread *t, const uint64_t *fp)
{
	return &t->memos[((uint64_t)fp + fp[1]) * t->memo_multiplier >> 32 & t->memo_mask];
}

/** The cache entry of m's walk, where the stack of the hook whose frame is fp (rbp) is that one, and depends on return addresses alone;
 *  else NULL, and *stuck is as walk_changed takes it. t->busy is set by the caller, and cleared by it once it has counted. The caller has
 *  seen that no modules changed. use: WALK_USE. */
static ALWAYS_INLINE struct silt_db_cache_entry *walk_same(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp,
							   uint64_t use, struct walk_frame **stuck)
{
	*stuck = NULL;
	if (UNLIKELY(m->first != (uint64_t)&fp[1] || m->stamp != agent_hot.module_generation + use))
		return NULL;
	*stuck = walk_verify_plain(m->list.frame);
	if (*stuck != m->list.end || UNLIKELY(m->last->hash != m->last_key))
		return NULL;
	t->recent = m;
	return m->last;
}

/** The same for any stack, where walk_same gave NULL. Returns NULL when nothing is to be recorded. */
static ALWAYS_INLINE struct silt_db_cache_entry *walk_other(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp,
							    uint64_t use, struct walk_frame *stuck)
{
	if (m->first_bp == (uint64_t)&fp[1] && LIKELY(m->stamp == agent_hot.module_generation + use)) {
		stuck = walk_verify_bp(m, fp);
		if (stuck == m->list.end && LIKELY(m->last->hash == m->last_key)) {
			t->recent = m;
			return m->last;
		}
	}
	return walk_again(t, m, fp, use, stuck);
}

/* Compare and swap in the live table. */
static ALWAYS_INLINE bool live_cas(uint64_t *p, uint64_t expected, uint64_t desired)
{
	uint64_t single = agent_single(), tp = arch_thread_pointer();

	if (UNLIKELY(single && single != tp))
		thread_many(); /* a thread nobody told us of */
	return LIKELY(single == tp) ? arch_cas64_local(p, expected, desired) : atomic_cas64(p, expected, desired);
}

static ALWAYS_INLINE uint64_t *live_chunk(uint64_t word)
{
	return db_at(SILT_DB_PAGE_REF(word));
}

/** An entry for the block at addr was put into a chunk that was replaced at that moment: sees to it that the table has it. */
void live_keep(const uint64_t *page, uint64_t *place, uint64_t entry, uint64_t addr);

/* A group is the eight entries of one cache line. A block's home group is chosen by its offset in the page; it stands
 * anywhere in it, or, when that was full, in one of the next. Chunks of fewer entries are one short group. The masks below have
 * two bits for each entry; all eight are looked at together, because a branch on where an entry stands cannot be predicted. */
#define GROUP 8u

typedef int group_i32 __attribute__((vector_size(16)));
typedef short group_i16 __attribute__((vector_size(16)));
typedef char group_i8 __attribute__((vector_size(16)));
typedef float group_f32 __attribute__((vector_size(16)));

/* The low halves of four entries: offset and most of the context. */
static ALWAYS_INLINE group_i32 group_low(const uint64_t *entries)
{
	const group_f32 *p = (const group_f32 *)(const void *)entries;

	return (group_i32)__builtin_ia32_shufps(p[0], p[1], 0x88);
}

static ALWAYS_INLINE uint32_t group_mask(group_i32 a, group_i32 b)
{
	group_i16 words = __builtin_ia32_packssdw128(a, b);

	return (uint32_t)__builtin_ia32_pmovmskb128((group_i8)words);
}

/* The first entry that a mask, not 0, tells of. */
static ALWAYS_INLINE uint64_t *group_first(uint64_t *group, uint64_t mask)
{
	return (uint64_t *)(void *)((uint8_t *)group + 4 * (uint64_t)__builtin_ctzll(mask));
}

/* Entries that may have this offset; the caller looks again, for empty ones read as offset 0 or 1. */
static ALWAYS_INLINE uint32_t group_match(const uint64_t *group, uint32_t offset)
{
	int o = (int)offset << 23;
	group_i32 want = { o, o, o, o };

	return group_mask(__builtin_ia32_pslldi128(group_low(group), 23) == want,
			  __builtin_ia32_pslldi128(group_low(group + 4), 23) == want);
}

/* Entries that seem empty or removed. */
static ALWAYS_INLINE uint32_t group_room(const uint64_t *group)
{
	group_i32 zero = { 0, 0, 0, 0 };

	return group_mask(__builtin_ia32_psrldi128(group_low(group), 1) == zero,
			  __builtin_ia32_psrldi128(group_low(group + 4), 1) == zero);
}

static ALWAYS_INLINE uint32_t group_home(uint32_t offset, uint32_t capacity)
{
	return (offset * (capacity / GROUP) >> 9) * GROUP;
}

/* Where an address has its place. */
struct live_place {
	uint64_t *page;  /* its word */
	uint64_t word;   /* what that held */
	uint64_t *group; /* its home */
};

/** Finds the place of an address below 2^47. False: nothing on its page was ever recorded, or it does not have groups. */
static ALWAYS_INLINE bool live_find(uint64_t addr, struct live_place *ret)
{
	uint32_t leaf = ATOMIC_LOAD(&agent_hot.root[addr >> 30]), room;
	uint64_t word;

	if (UNLIKELY(!leaf))
		return false;
	ret->page = (uint64_t *)db_at(leaf) + (addr >> 12 & (SILT_DB_LEAF_PAGES - 1));
	word = ATOMIC_LOAD(ret->page);
	room = (uint32_t)word & (0xffffu & ~(GROUP - 1)); /* what its groups hold; a short group at the end is nobody's home */
	if (UNLIKELY((int64_t)word >= 0 || !room)) /* the sign is SILT_DB_PAGE_CHUNK */
		return false;
	ret->word = word;
	/* As live_chunk and group_home; capacities are far below 1 << 11, so shifting makes the ref a number of bytes. */
	ret->group = (uint64_t *)(void *)(agent_hot.slot + (word << 1 >> 12) + (((addr & 4095) >> 3) * room >> 12 << 6));
	return true;
}

/** As live_insert, at what live_find(addr) gave. size is below SILT_DB_SIZE_HUGE. */
static ALWAYS_INLINE void live_insert_at(const struct live_place *at, bool single, uint64_t addr, uint64_t size, uint32_t context)
{
	uint64_t entry = (addr & 4095) >> 3 | (uint64_t)context << 9 | size << 33;
	uint32_t room = group_room(at->group);

	if (LIKELY(room && !(agent_hot.inherited && group_match(at->group, (addr & 4095) >> 3)))) {
		uint64_t *place = group_first(at->group, room), v = ATOMIC_LOAD(place);

		if (UNLIKELY(v > SILT_DB_ENTRY_TOMB))
			goto slow;
		if (LIKELY(single)) {
			if (UNLIKELY(!arch_cas64_local(place, v, entry)))
				goto slow;
		} else if (!atomic_cas64(place, v, entry)) {
			goto slow;
		}
		if (UNLIKELY(ATOMIC_LOAD(at->page) != at->word))
			live_keep(at->page, place, entry, addr);
		return;
	}
slow:
	live_insert(addr, size, context);
}

/** Takes the block out in the common way. False: live_remove must be asked. Calls nothing. */
static ALWAYS_INLINE bool live_remove_fast(uint64_t addr)
{
	uint32_t offset = (addr & 4095) >> 3, match;
	struct live_place at;
	uint64_t *place, v, single;

	if (UNLIKELY(addr >> 47))
		return false;
	if (UNLIKELY(!live_find(addr, &at)))
		return false;
	match = group_match(at.group, offset);
	if (UNLIKELY(!match))
		return false;
	place = group_first(at.group, match);
	v = ATOMIC_LOAD(place);
	/* Signed: neither empty, removed nor frozen. */
	if (UNLIKELY((int64_t)v <= 0x1ff || SILT_DB_ENTRY_SIZE(v) == SILT_DB_SIZE_HUGE))
		return false;
	single = agent_hot.single_tp;
	if (LIKELY(single == arch_thread_pointer()))
		return arch_cas64_local(place, v, SILT_DB_ENTRY_TOMB);
	return !single && atomic_cas64(place, v, SILT_DB_ENTRY_TOMB);
}

/** Counts an allocation in the context e of t, which is busy, and ends that. Returns the context's number. */
static ALWAYS_INLINE uint32_t record_count(struct agent_thread *t, struct silt_db_cache_entry *e, uint64_t size)
{
	uint32_t context = e->context;

	e->alloc_count++;
	e->alloc_bytes += size;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	t->busy = 0;
	return context;
}

/* What both ways below have in common. No value is needed behind any of its calls, so that none need be saved: what is called does the
 * whole rest. */
static ALWAYS_INLINE void record_in(struct agent_thread *t, bool single, uint64_t addr, uint64_t size, const uint64_t *fp)
{
	struct silt_db_cache_entry *e;
	struct walk_memo *m;
	struct walk_frame *stuck;
	struct live_place at;

	if (UNLIKELY(t->busy | agent_hot.attention) || UNLIKELY(addr & 0xffff800000000007ull || size >= SILT_DB_SIZE_HUGE) ||
	    UNLIKELY(!live_find(addr, &at))) {
		agent_record_slow(addr, size, fp, 0);
		return;
	}
	__builtin_prefetch(at.group, 1);
	t->busy = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	m = walk_memo(t, fp);
	e = walk_same(t, m, fp, WALK_USE(0, ATOMIC_LOAD(&agent_db()->epoch)), &stuck);
	if (UNLIKELY(!e)) {
		struct live_place there = at; /* what has an address is not kept in registers */

		agent_record_changed(addr, size, fp, t, m, stuck, &there);
		return;
	}
	__asm__("" : "+r"(addr)); /* what was worked out of it would have to be kept in a register that must be saved */
	live_insert_at(&at, single, addr, size, record_count(t, e, size));
}

/** As agent_record, inlined. */
static ALWAYS_INLINE void record_fast(uint64_t addr, uint64_t size, const uint64_t *fp)
{
	if (LIKELY(agent_hot.single_tp == arch_thread_pointer()))
		record_in(agent_hot.single_thread, true, addr, size, fp);
	else
		agent_record(addr, size, fp);
}

#endif
