/* SPDX-License-Identifier: MIT */
/** The few steps that nearly every allocation and free takes, inlined into the hooks; all else is called. */
#ifndef SILT_CAPTURE_AGENT_FAST_H
#define SILT_CAPTURE_AGENT_FAST_H

#include "capture/agent/agent.h"

static ALWAYS_INLINE uint64_t word_at(uint64_t addr)
{
	return *(const volatile uint64_t *)addr;
}

/** Compares the return addresses from f outward; returns the first frame that does not hold, or end. */
static ALWAYS_INLINE struct walk_frame *walk_verify_plain(struct walk_frame *f, const struct walk_frame *end)
{
	for (; end - f >= 4; f += 4) {
		if (word_at(f[0].slot) != f[0].pc)
			return f;
		if (word_at(f[1].slot) != f[1].pc)
			return f + 1;
		if (word_at(f[2].slot) != f[2].pc)
			return f + 2;
		if (word_at(f[3].slot) != f[3].pc)
			return f + 3;
	}
	while (f < end && word_at(f->slot) == f->pc)
		f++;
	return f;
}

/** The cache entry for the stack of a hook whose frame is fp (rbp). t->busy is set by the caller, and cleared by it once it
 *  has counted. */
static ALWAYS_INLINE struct silt_db_cache_entry *walk_context(struct agent_thread *t, const uint64_t *fp, uint32_t kind)
{
	struct walk_memo *m = &t->memo;
	uint32_t epoch = ATOMIC_LOAD(&agent_db()->epoch);

	if (LIKELY(m->list.frame->slot == (uint64_t)&fp[1] && !m->careful && !agent_hot.modules_changed &&
		   m->generation == agent_hot.module_generation && t->last_epoch == epoch && t->last_kind == kind) &&
	    walk_verify_plain(m->list.frame, m->list.end) == m->list.end)
		return t->last;
	return walk_changed(t, fp, kind, epoch);
}

/* Compare and swap in the live table. */
static ALWAYS_INLINE bool live_cas(uint64_t *p, uint64_t expected, uint64_t desired)
{
	if (LIKELY(agent_hot.single_tp == arch_thread_pointer()))
		return arch_cas64_local(p, expected, desired);
	return atomic_cas64(p, expected, desired);
}

static ALWAYS_INLINE uint64_t *live_chunk(uint64_t word)
{
	return db_at(SILT_DB_PAGE_REF(word));
}

/** The word of the page that holds addr, or NULL when nothing near it was ever recorded. */
static ALWAYS_INLINE uint64_t *live_page(uint64_t addr)
{
	uint32_t leaf;

	if (UNLIKELY(addr >> 47))
		return NULL;
	leaf = ATOMIC_LOAD(&agent_hot.root[addr >> 30]);
	return LIKELY(leaf) ? (uint64_t *)db_at(leaf) + (addr >> 12 & (SILT_DB_LEAF_PAGES - 1)) : NULL;
}

/** For an entry put into a chunk that was replaced at that moment: true when the copy has it (or the page has it in any other
 *  way); else the entry is taken back, for the chunk had come to serve another page. */
bool live_kept(const uint64_t *page, uint64_t *place, uint64_t entry);

/** As live_insert. */
static ALWAYS_INLINE void live_insert_fast(uint64_t addr, uint64_t size, uint32_t context)
{
	uint64_t *page = live_page(addr);

	if (LIKELY(page && size < SILT_DB_SIZE_HUGE)) {
		uint64_t word = ATOMIC_LOAD(page), entry = (addr & 4095) >> 3 | (uint64_t)context << 9 | size << 33;

		if (LIKELY(word & SILT_DB_PAGE_CHUNK)) {
			uint64_t *place = live_chunk(word) + (((addr & 4095) >> 3) * SILT_DB_PAGE_CAPACITY(word) >> 9);
			uint64_t v = ATOMIC_LOAD(place);

			if (LIKELY(v <= SILT_DB_ENTRY_TOMB && live_cas(place, v, entry))) {
				if (LIKELY(ATOMIC_LOAD(page) == word) || live_kept(page, place, entry))
					return;
			}
		}
	}
	live_insert(addr, size, context);
}

/** As live_remove, for those who need not know what it was. */
static ALWAYS_INLINE void live_remove_fast(uint64_t addr)
{
	uint64_t *page = live_page(addr), size;

	if (LIKELY(page != NULL)) {
		uint64_t word = ATOMIC_LOAD(page), offset = (addr & 4095) >> 3;

		if (LIKELY(word & SILT_DB_PAGE_CHUNK)) {
			uint64_t *place = live_chunk(word) + (offset * SILT_DB_PAGE_CAPACITY(word) >> 9);
			uint64_t v = ATOMIC_LOAD(place);

			/* The signed comparisons leave out frozen entries, the second one huge sizes too. */
			if (LIKELY((v & 0x1ff) == offset && (int64_t)v > 0x1ff && SILT_DB_ENTRY_SIZE(v) != SILT_DB_SIZE_HUGE) &&
			    live_cas(place, v, SILT_DB_ENTRY_TOMB))
				return;
		} else if (!word) {
			return;
		}
		live_remove(addr, &size);
	}
}

#endif
