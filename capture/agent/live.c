/* SPDX-License-Identifier: MIT */
/*
 * The live table: address -> (context, size) in eight bytes a block. Heap addresses are found through a two-level
 * directory by page; each page of heap has a small chunk of entries, as many as the page has blocks, in the order of
 * their offsets, grouped by cache line, so neighbours in the heap are neighbours here: one line serves several
 * allocations. Dense where the heap is dense, one word where a page holds one block.
 *
 * Every change is one compare-and-swap on one word. A full chunk is replaced: each of its words gets the frozen bit,
 * whoever meets it builds the same larger copy and tries to swing the page word; so nobody waits for anybody, and a signal
 * handler that interrupts a replacement finishes it.
 */
#include "capture/agent/agent.h"
#include "capture/agent/fast.h"
#include "capture/agent/undo.h"

static const uint16_t capacities[AGENT_CHUNK_CLASSES] = { 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512 };

/* A retired chunk rests for at least one period of some seconds before it is used again: a thread that had read the page word
 * before must have left it by then. Four lists take turns, so no list is both filled and drained. The time is the launcher's
 * heartbeat, for in a sandbox neither clock nor time-stamp counter may be read; without a launcher nothing is used again. */
static uint32_t period(void)
{
	return ATOMIC_LOAD(&agent_run->beat) >> 2;
}

static uint32_t class_for(uint32_t entries)
{
	uint32_t c = 0;

	while (c + 1 < AGENT_CHUNK_CLASSES && capacities[c] < entries)
		c++;
	return c;
}

/* In a retired chunk word 0 holds the next ref, frozen like all its words, so that a late reader turns away. */
static void chunk_retire(uint32_t ref, uint32_t class)
{
	uint64_t *chunk = db_at(ref);
	uint64_t *head = &agent_hot.free_chunks[period() & 3][class];
	uint64_t old;

	do {
		old = ATOMIC_LOAD(head);
		ATOMIC_STORE(&chunk[0], (uint64_t)(uint32_t)old | SILT_DB_ENTRY_FROZEN);
	} while (!atomic_cas64(head, old, ((old >> 32) + 1) << 32 | ref));
}

static uint32_t chunk_reuse(uint32_t class)
{
	uint64_t *head = &agent_hot.free_chunks[(period() + 2) & 3][class];

	for (int attempt = 0; attempt < 16; attempt++) {
		uint64_t old = ATOMIC_ACQUIRE(head);
		uint32_t ref = (uint32_t)old;

		if (!ref)
			return 0;
		if (atomic_cas64(head, old, ((old >> 32) + 1) << 32 | (uint32_t)ATOMIC_LOAD((uint64_t *)db_at(ref))))
			return ref;
	}
	return 0;
}

static uint32_t chunk_new(uint32_t class)
{
	uint32_t ref = chunk_reuse(class);

	if (ref) {
		uint64_t *chunk = db_at(ref);

		for (uint32_t i = 0; i < capacities[class]; i++)
			chunk[i] = 0;
		return ref;
	}
	return db_alloc_small((uint64_t)capacities[class] * 8);
}

static uint32_t home_of(uint64_t entry, uint32_t capacity)
{
	return capacity < GROUP ? 0 : group_home((uint32_t)entry & 0x1ff, capacity);
}

/* Not yet visible to others. */
static void chunk_put(uint64_t *chunk, uint32_t capacity, uint64_t entry)
{
	uint32_t i = home_of(entry, capacity);

	for (uint32_t probe = 0; probe < capacity && chunk[i]; probe++)
		if (++i == capacity)
			i = 0;
	chunk[i] = entry;
}

static uint64_t page_word_of(uint32_t ref, uint32_t class)
{
	return SILT_DB_PAGE_CHUNK | (uint64_t)ref << 16 | capacities[class];
}

static uint32_t chunk_live(uint64_t word)
{
	const uint64_t *chunk = live_chunk(word);
	uint32_t n = 0, capacity = SILT_DB_PAGE_CAPACITY(word);

	for (uint32_t i = 0; i < capacity; i++)
		n += (ATOMIC_LOAD(&chunk[i]) & ~SILT_DB_ENTRY_FROZEN) > SILT_DB_ENTRY_TOMB;
	return n;
}

/* Freezes a chunk's words, then swings the page word to a copy with room for `extra` more. False: no memory. */
static COLD bool chunk_replace(uint64_t *page, uint64_t word, uint32_t extra)
{
	uint64_t *old = live_chunk(word), *fresh;
	uint32_t capacity = SILT_DB_PAGE_CAPACITY(word), live = 0, class, ref;

	for (uint32_t i = 0; i < capacity; i++) {
		__atomic_fetch_or(&old[i], SILT_DB_ENTRY_FROZEN, __ATOMIC_ACQ_REL);
		live += (old[i] & ~SILT_DB_ENTRY_FROZEN) > SILT_DB_ENTRY_TOMB;
	}
	/* More blocks than a page has places for: only possible when frees were missed. The caller counts it as lost. */
	if (live + extra > capacities[AGENT_CHUNK_CLASSES - 1])
		return false;
	class = class_for(live + extra);
	if (class + 1 < AGENT_CHUNK_CLASSES && capacities[class] - live < extra + (live >> 3))
		class++;
	ref = chunk_new(class);
	if (!ref)
		return false;
	fresh = db_at(ref);
	for (uint32_t i = 0; i < capacity; i++) {
		uint64_t entry = ATOMIC_LOAD(&old[i]) & ~SILT_DB_ENTRY_FROZEN;

		if (entry > SILT_DB_ENTRY_TOMB)
			chunk_put(fresh, capacities[class], entry);
	}
	if (atomic_cas64(page, word, page_word_of(ref, class)))
		chunk_retire(SILT_DB_PAGE_REF(word), class_for(capacity));
	else
		chunk_retire(ref, class);
	return true;
}

/* The page's second block: start with as much room as the page before it came to need, for heaps grow upward. */
static COLD bool chunk_begin(uint64_t *page, bool leads_leaf, uint64_t first, uint64_t second)
{
	uint32_t class = 0, ref;

	if (!leads_leaf) { /* else there is no word before it */
		uint64_t before = ATOMIC_LOAD(page - 1);

		if (before & SILT_DB_PAGE_CHUNK)
			class = class_for(chunk_live(before));
	}
	ref = chunk_new(class);
	if (!ref)
		return false;
	chunk_put(db_at(ref), capacities[class], first);
	chunk_put(db_at(ref), capacities[class], second);
	if (!atomic_cas64(page, first, page_word_of(ref, class)))
		chunk_retire(ref, class);
	return true;
}

static COLD uint32_t leaf_create(uint32_t *root_entry)
{
	uint32_t ref = db_alloc(SILT_DB_LEAF_BYTES);

	db_touch(agent_db()->root_parts, (uint64_t)(root_entry - agent_hot.root) * sizeof(*root_entry) / SILT_DB_PART);
	if (ref && !atomic_cas32(root_entry, 0, ref))
		ref = *root_entry; /* another thread was first; ours stays untouched and costs nothing */
	return ref;
}

/* A page of the heap is about to have its first block. */
static void leaf_touch(uint32_t leaf, uint64_t addr)
{
	uint64_t *words = db_at(leaf);

	db_touch(words + SILT_DB_LEAF_PAGES, (addr >> 12 & (SILT_DB_LEAF_PAGES - 1)) * sizeof(*words) / SILT_DB_PART);
}

/* Whether the page, as it is now, holds exactly this entry. */
static COLD bool page_holds(const uint64_t *page, uint64_t entry)
{
	uint64_t word = ATOMIC_LOAD(page);
	const uint64_t *chunk;

	if (!(word & SILT_DB_PAGE_CHUNK))
		return word == entry;
	chunk = live_chunk(word);
	for (uint32_t i = 0; i < SILT_DB_PAGE_CAPACITY(word); i++)
		if ((ATOMIC_LOAD(&chunk[i]) & ~SILT_DB_ENTRY_FROZEN) == entry)
			return true;
	return false;
}

/* An entry was put into a chunk that was replaced at that moment: true when the copy has it (or the page has it in any other way);
 * else the entry is taken back, for the chunk had come to serve another page. */
static COLD bool live_kept(const uint64_t *page, uint64_t *place, uint64_t entry)
{
	if (page_holds(page, entry))
		return true;
	live_cas(place, entry, SILT_DB_ENTRY_TOMB);
	return false;
}

enum insert_result { INSERT_DONE, INSERT_AGAIN, INSERT_FULL };

static enum insert_result insert_into(uint64_t *page, uint64_t word, uint64_t entry)
{
	uint64_t *chunk = live_chunk(word);
	uint32_t capacity = SILT_DB_PAGE_CAPACITY(word);
	uint32_t i = home_of(entry, capacity);

	for (uint32_t probe = 0; probe < capacity; probe++) {
		uint64_t v = ATOMIC_LOAD(&chunk[i]);

		if (LIKELY(v <= SILT_DB_ENTRY_TOMB)) {
			if (UNLIKELY(!live_cas(&chunk[i], v, entry)))
				return INSERT_AGAIN;
			return LIKELY(ATOMIC_LOAD(page) == word) || live_kept(page, &chunk[i], entry) ? INSERT_DONE :
													   INSERT_AGAIN;
		}
		if (UNLIKELY(v & SILT_DB_ENTRY_FROZEN))
			return INSERT_FULL;
		if (++i == capacity)
			i = 0;
	}
	return INSERT_FULL;
}

void live_insert(uint64_t addr, uint64_t size, uint32_t context)
{
	uint64_t gone;

	if (UNLIKELY(addr & 7 || addr >> 47)) {
		side_insert_odd(addr, size, context);
		return;
	}
	if (UNLIKELY(agent_hot.inherited)) /* a block of before whose free was under way when we came */
		live_remove(addr, &gone);
	if (UNLIKELY(size >= SILT_DB_SIZE_HUGE)) {
		side_insert(addr, size, context, false);
		size = SILT_DB_SIZE_HUGE;
	}
	undo_note(SILT_CHANGE_LIVE, addr, size, context);
	live_put(addr, (uint64_t)context << 9 | size << 33);
}

COLD void live_keep(const uint64_t *page, uint64_t *place, uint64_t entry, uint64_t addr)
{
	if (!live_kept(page, place, entry))
		live_insert(addr, SILT_DB_ENTRY_SIZE(entry), SILT_DB_ENTRY_CONTEXT(entry));
}

void live_put(uint64_t addr, uint64_t entry)
{
	uint32_t *root_entry = &agent_hot.root[addr >> 30];
	uint32_t leaf = ATOMIC_LOAD(root_entry);
	uint64_t *page;

	entry |= (addr & 4095) >> 3;
	if (UNLIKELY(!leaf) && !(leaf = leaf_create(root_entry))) {
		agent_lost(SILT_LOST_BLOCKS);
		return;
	}
	page = (uint64_t *)db_at(leaf) + (addr >> 12 & (SILT_DB_LEAF_PAGES - 1));
	/* Every round that fails means another thread got something done: the bound is never met in practice. */
	for (uint32_t attempt = 0; attempt < 100000; attempt++) {
		uint64_t word = ATOMIC_LOAD(page);
		enum insert_result r;

		if (LIKELY(word & SILT_DB_PAGE_CHUNK)) {
			r = insert_into(page, word, entry);
			if (LIKELY(r == INSERT_DONE))
				return;
			if (r == INSERT_FULL && !chunk_replace(page, word, 1))
				break;
		} else if (!word) {
			leaf_touch(leaf, addr);
			if (live_cas(page, 0, entry))
				return;
		} else if (!chunk_begin(page, (addr >> 12 & (SILT_DB_LEAF_PAGES - 1)) == 0, word, entry)) {
			break;
		} else if (page_holds(page, entry)) {
			return;
		}
	}
	agent_lost(SILT_LOST_BLOCKS);
}

static bool enter_plain(const struct silt_agent_block *b)
{
	return !(b->addr & 7) && !(b->addr >> 47) && b->size < SILT_DB_SIZE_HUGE;
}

/* The blocks of one page, ascending, into a chunk made to measure: their homes ascend as well, so each goes to its home or right behind
 * the one before, without looking. False: the common way must do it. */
static bool enter_page(const struct silt_agent_block *b, uint32_t n, uint32_t context)
{
	uint32_t *root_entry = &agent_hot.root[b->addr >> 30];
	uint32_t leaf = ATOMIC_LOAD(root_entry), class = class_for(n), capacity = capacities[class], next = 0, ref;
	uint64_t *page, *chunk;

	if (n < 2 || n > capacities[AGENT_CHUNK_CLASSES - 1] || (!leaf && !(leaf = leaf_create(root_entry))))
		return false;
	page = (uint64_t *)db_at(leaf) + (b->addr >> 12 & (SILT_DB_LEAF_PAGES - 1));
	if (ATOMIC_LOAD(page) || !(ref = chunk_new(class)))
		return false;
	chunk = db_at(ref);
	leaf_touch(leaf, b->addr);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t entry = (b[i].addr & 4095) >> 3 | (uint64_t)context << 9 | b[i].size << 33;
		uint32_t at = home_of(entry, capacity);

		at = at > next ? at : next;
		if (UNLIKELY(at == capacity)) { /* around */
			chunk_put(chunk, capacity, entry);
			continue;
		}
		chunk[at] = entry;
		next = at + 1;
	}
	ATOMIC_RELEASE(page, page_word_of(ref, class));
	return true;
}

bool live_enter_page(uint64_t addr, const uint64_t *entries, uint32_t capacity, uint32_t n)
{
	uint32_t *root_entry = &agent_hot.root[addr >> 30];
	uint32_t leaf = ATOMIC_LOAD(root_entry), class, ref;
	uint64_t *page, *chunk;

	if (!leaf && !(leaf = leaf_create(root_entry)))
		return false;
	page = (uint64_t *)db_at(leaf) + (addr >> 12 & (SILT_DB_LEAF_PAGES - 1));
	leaf_touch(leaf, addr);
	if (capacity == 1) {
		ATOMIC_RELEASE(page, entries[0]);
		return true;
	}
	class = class_for(capacity);
	if (capacities[class] != capacity || n * 2 < capacity) /* a small one serves as well */
		class = class_for(n + (n >> 3));
	ref = chunk_new(class);
	if (!ref)
		return false;
	chunk = db_at(ref);
	if (capacities[class] == capacity)
		memcpy(chunk, entries, capacity * sizeof(*chunk));
	for (uint32_t i = 0; capacities[class] != capacity && i < capacity; i++)
		if (entries[i] > SILT_DB_ENTRY_TOMB)
			chunk_put(chunk, capacities[class], entries[i]);
	ATOMIC_RELEASE(page, page_word_of(ref, class));
	return true;
}

uint64_t live_enter_all(const struct silt_agent_block *b, uint64_t count, uint64_t min_size, uint32_t context)
{
	uint64_t entered = 0;

	for (uint64_t i = 0, end; i < count; i = end) {
		bool plain = true;

		for (end = i; end < count && end - i < 512 && b[end].addr >> 12 == b[i].addr >> 12; end++)
			plain &= enter_plain(&b[end]) && b[end].size >= min_size && (end == i || b[end].addr > b[end - 1].addr);
		if (plain && enter_page(&b[i], (uint32_t)(end - i), context)) {
			entered += end - i;
			continue;
		}
		for (uint64_t k = i; k < end; k++) {
			if (b[k].addr & 7 || b[k].addr >> 47 || b[k].size < min_size)
				continue;
			live_insert(b[k].addr, b[k].size, context);
			entered++;
		}
	}
	return entered;
}

static void note_removal(uint64_t addr, uint64_t entry)
{
	undo_note(SILT_CHANGE_LIVE | SILT_CHANGE_WAS, addr, SILT_DB_ENTRY_SIZE(entry), SILT_DB_ENTRY_CONTEXT(entry));
}

uint32_t live_remove(uint64_t addr, uint64_t *ret_size)
{
	uint64_t entry = live_take(addr);

	if (UNLIKELY(!entry))
		return addr & 7 || addr >> 47 ? side_remove_odd(addr, ret_size) : 0;
	*ret_size = SILT_DB_ENTRY_SIZE(entry);
	if (UNLIKELY(*ret_size == SILT_DB_SIZE_HUGE))
		side_remove(addr, ret_size);
	return SILT_DB_ENTRY_CONTEXT(entry);
}

uint64_t live_take(uint64_t addr)
{
	uint32_t leaf;
	uint64_t offset = (addr & 4095) >> 3;
	uint64_t *page;

	if (UNLIKELY(addr & 7 || addr >> 47))
		return 0;
	leaf = ATOMIC_LOAD(&agent_hot.root[addr >> 30]);
	if (UNLIKELY(!leaf))
		return 0;
	page = (uint64_t *)db_at(leaf) + (addr >> 12 & (SILT_DB_LEAF_PAGES - 1));
	for (uint32_t attempt = 0; attempt < 100000; attempt++) {
		uint64_t word = ATOMIC_LOAD(page);
		uint64_t *chunk;
		uint32_t capacity, i;

		if (LIKELY(word & SILT_DB_PAGE_CHUNK)) {
			uint64_t v = 0;
			uint32_t probe;

			chunk = live_chunk(word);
			capacity = SILT_DB_PAGE_CAPACITY(word);
			i = home_of(offset, capacity);
			for (probe = 0; probe < capacity; probe++) {
				v = ATOMIC_LOAD(&chunk[i]);
				if (LIKELY((v & 0x1ff) == offset && v > 0x1ff))
					break;
				if (!v)
					return 0;
				if (++i == capacity)
					i = 0;
			}
			if (probe == capacity)
				return 0;
			if (UNLIKELY(v & SILT_DB_ENTRY_FROZEN)) {
				if (!chunk_replace(page, word, 0)) {
					agent_lost(SILT_LOST_BLOCKS);
					return 0;
				}
				continue;
			}
			note_removal(addr, v);
			if (LIKELY(live_cas(&chunk[i], v, SILT_DB_ENTRY_TOMB)))
				return v;
		} else {
			if ((word & 0x1ff) != offset || !word)
				return 0;
			note_removal(addr, word);
			if (live_cas(page, word, 0))
				return word;
		}
	}
	return 0;
}

void live_remove_range(uint64_t lo, uint64_t hi)
{
	uint64_t size, addr = lo & ~4095ull, next;

	side_remove_odd_range(lo, hi);
	for (; addr < hi && !(addr >> 47); addr = next) {
		uint32_t leaf = ATOMIC_LOAD(&agent_hot.root[addr >> 30]), capacity = 1;
		uint64_t word;
		const uint64_t *entries = &word;

		next = leaf ? addr + 4096 : (addr | ((1ull << 30) - 1)) + 1;
		if (!leaf)
			continue;
		word = ATOMIC_LOAD((uint64_t *)db_at(leaf) + (addr >> 12 & (SILT_DB_LEAF_PAGES - 1)));
		if (word & SILT_DB_PAGE_CHUNK) {
			capacity = SILT_DB_PAGE_CAPACITY(word);
			entries = live_chunk(word);
		}
		for (uint32_t i = 0; i < capacity; i++) {
			uint64_t v = ATOMIC_LOAD(&entries[i]) & ~SILT_DB_ENTRY_FROZEN, block = addr + SILT_DB_ENTRY_OFFSET(v);

			if (v > SILT_DB_ENTRY_TOMB && block >= lo && block < hi)
				live_remove(block, &size);
		}
	}
}
