/* SPDX-License-Identifier: MIT */
/*
 * The side table: blocks that do not fit an entry of the live table (over a gigabyte, oddly aligned ones) and the
 * program's own anonymous mappings. The lower half is dense and searched in order (there are few, and each costs a system
 * call or a gigabyte anyway); the upper half is hashed by address for pools.
 */
#include "capture/agent/agent.h"
#include "capture/agent/undo.h"

#define DENSE SILT_DB_SIDE_DENSE
#define HASH_PROBES 64u
#define KEY_EMPTY 0ull
#define KEY_REMOVED 1ull

struct silt_db_side *side_table(void)
{
	return db_at(agent_db()->side_ref);
}

static bool side_claim(struct silt_db_side *s)
{
	uint64_t key = ATOMIC_LOAD(&s->key);

	return key <= KEY_REMOVED && atomic_cas64(&s->key, key, SILT_DB_SIDE_BUSY);
}

static uint32_t change_at(const struct silt_db_side *s, bool mapping)
{
	return s - side_table() >= DENSE ? SILT_CHANGE_ODD : mapping ? SILT_CHANGE_MAP : SILT_CHANGE_SIDE;
}

static void side_fill(struct silt_db_side *s, uint64_t addr, uint64_t size, uint32_t context, bool mapping)
{
	undo_note(change_at(s, mapping), addr, size, context);
	s->size = size;
	s->context = context;
	s->mapping = mapping;
	ATOMIC_RELEASE(&s->key, addr);
}

void side_insert(uint64_t addr, uint64_t size, uint32_t context, bool mapping)
{
	struct silt_db_side *table = side_table();

	for (uint32_t i = 0; i < DENSE; i++) {
		uint32_t high;

		if (!side_claim(&table[i]))
			continue;
		high = ATOMIC_LOAD(&agent_db()->side_high);
		while (high <= i && !atomic_cas32(&agent_db()->side_high, high, i + 1))
			high = ATOMIC_LOAD(&agent_db()->side_high);
		side_fill(&table[i], addr, size, context, mapping);
		return;
	}
	agent_lost(SILT_LOST_MAPPINGS);
}

static uint32_t side_take(struct silt_db_side *s, uint64_t addr, uint64_t *ret_size)
{
	uint32_t context;

	if (ATOMIC_ACQUIRE(&s->key) != addr)
		return 0;
	undo_note(SILT_CHANGE_WAS | change_at(s, s->mapping), addr, s->size, s->context);
	if (!atomic_cas64(&s->key, addr, SILT_DB_SIDE_BUSY | addr))
		return 0;
	context = s->context;
	*ret_size = s->size;
	ATOMIC_RELEASE(&s->key, KEY_REMOVED);
	return context;
}

uint32_t side_remove(uint64_t addr, uint64_t *ret_size)
{
	struct silt_db_side *table = side_table();
	uint32_t high = ATOMIC_LOAD(&agent_db()->side_high);

	for (uint32_t i = 0; i < high; i++) {
		uint32_t context = side_take(&table[i], addr, ret_size);

		if (context)
			return context;
	}
	return 0;
}

static uint32_t hash_home(uint64_t addr)
{
	return (uint32_t)(addr * RULE_MUL >> 40);
}

void side_insert_odd(uint64_t addr, uint64_t size, uint32_t context)
{
	struct silt_db_side *half = side_table() + DENSE;

	ATOMIC_STORE(&agent_hot.side_odd, 1);
	for (uint32_t i = 0; i < HASH_PROBES; i++) {
		struct silt_db_side *s = &half[(hash_home(addr) + i) & (DENSE - 1)];

		db_touch(agent_db()->side_parts, (uint64_t)(s - half) * sizeof(*s) / SILT_DB_PART);
		if (side_claim(s)) {
			side_fill(s, addr, size, context, false);
			return;
		}
	}
	agent_lost(SILT_LOST_BLOCKS);
}

uint32_t side_remove_odd(uint64_t addr, uint64_t *ret_size)
{
	struct silt_db_side *half = side_table() + DENSE;

	for (uint32_t i = 0; i < HASH_PROBES; i++) {
		struct silt_db_side *s = &half[(hash_home(addr) + i) & (DENSE - 1)];
		uint32_t context;

		if (ATOMIC_LOAD(&s->key) == KEY_EMPTY)
			return 0;
		context = side_take(s, addr, ret_size);
		if (context)
			return context;
	}
	return 0;
}

void side_remove_odd_range(uint64_t lo, uint64_t hi)
{
	struct silt_db_side *half = side_table() + DENSE;

	for (uint32_t i = 0; ATOMIC_LOAD(&agent_hot.side_odd) && i < DENSE; i++) {
		uint64_t addr = ATOMIC_LOAD(&half[i].key), size;

		if (addr >= lo && addr < hi)
			side_take(&half[i], addr, &size);
	}
}

uint32_t side_cut(uint64_t lo, uint64_t hi, struct side_piece *ret_taken, uint32_t max)
{
	struct silt_db_side *table = side_table();
	uint32_t high = ATOMIC_LOAD(&agent_db()->side_high), taken = 0;

	for (uint32_t i = 0; i < high; i++) {
		struct silt_db_side *s = &table[i];
		uint64_t start = ATOMIC_ACQUIRE(&s->key), end, size;
		uint32_t context;

		if (start <= KEY_REMOVED || start & SILT_DB_SIDE_BUSY || start >= hi || !s->mapping)
			continue;
		end = start + s->size;
		if (end <= lo)
			continue;
		context = side_take(s, start, &size);
		if (!context)
			continue;
		end = start + size;
		if (start < lo)
			side_insert(start, lo - start, context, true);
		if (end > hi)
			side_insert(hi, end - hi, context, true);
		if (taken < max) {
			ret_taken[taken].addr = start < lo ? lo : start;
			ret_taken[taken].size = (end > hi ? hi : end) - ret_taken[taken].addr;
			ret_taken[taken].context = context;
		}
		taken++;
	}
	return taken;
}

bool side_has(uint64_t addr)
{
	struct silt_db_side *table = side_table();
	uint32_t high = ATOMIC_LOAD(&agent_db()->side_high);

	for (uint32_t i = 0; i < high; i++) {
		uint64_t start = ATOMIC_ACQUIRE(&table[i].key);

		if (start > KEY_REMOVED && start <= addr && table[i].mapping && addr - start < table[i].size)
			return true;
	}
	return false;
}

void side_undo(const struct silt_db_undo *u)
{
	struct silt_db_side *table = side_table();
	uint32_t change = u->change & ~(uint32_t)SILT_CHANGE_WAS, high = ATOMIC_LOAD(&agent_db()->side_high);
	bool was = u->change & SILT_CHANGE_WAS;
	uint64_t size;

	if (change == SILT_CHANGE_ODD) {
		side_remove_odd(u->addr, &size);
		if (was)
			side_insert_odd(u->addr, u->size, u->context);
		return;
	}
	for (uint32_t i = 0; i < high; i++)
		if (table[i].key == u->addr && table[i].mapping == (change == SILT_CHANGE_MAP))
			side_take(&table[i], u->addr, &size);
	if (was)
		side_insert(u->addr, u->size, u->context, change == SILT_CHANGE_MAP);
}
