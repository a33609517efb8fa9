/* SPDX-License-Identifier: MIT */
/* Noting changes of the tables for forked children: see undo.h. */
#include "capture/agent/undo.h"

#include "capture/agent/inherit.h"

#define MADV_REMOVE 9
#define KEEP (64ull << 10) /* bytes of the ring not worth giving back */

struct agent_undo agent_undo;

/* Those that have waited in vain may have ended long ago. */
static void forks_forget(void)
{
	uint64_t *forks = &agent_run->slots[agent_undo.slot].forks, old = ATOMIC_LOAD(forks);

	while (old >> 16 == (agent_undo.serial & 0xffffffffffffull) && !atomic_cas64(forks, old, old & ~0xffffull))
		old = ATOMIC_LOAD(forks);
}

/* Of the children that wait for this process's tables, one more or fewer: as long as the slot is still its own. */
static void forks_change(int by)
{
	uint64_t *forks = &agent_run->slots[agent_undo.slot].forks, old;

	do {
		old = ATOMIC_LOAD(forks);
		if (old >> 16 != (agent_undo.serial & 0xffffffffffffull) || SILT_DB_FORKS(old) == (by < 0 ? 0 : 0xffff))
			return;
	} while (!atomic_cas64(forks, old, old + (uint64_t)(int64_t)by));
}

/* Children forked before change number i was begun must do without. */
static void undo_lose(uint64_t i)
{
	uint64_t *lost = &agent_db()->undo_lost, old = ATOMIC_LOAD(lost);

	while (old <= i && !atomic_cas64(lost, old, i + 1))
		old = ATOMIC_LOAD(lost);
}

static bool is_needed(uint64_t i)
{
	return (int64_t)(i - ATOMIC_LOAD(&agent_undo.last)) < (int64_t)SILT_DB_UNDO_ENTRIES &&
	       SILT_DB_FORKS(ATOMIC_LOAD(&agent_run->slots[agent_undo.slot].forks));
}

static bool lock_take(void)
{
	return atomic_cas32(&agent_undo.lock, 0, 1);
}

/* It is held for a few instructions, with signals blocked, but by a thread that may not be running. Nobody wakes us: it is rare. */
static bool lock_wait(void)
{
	const int64_t moment[2] = { 0, 200000 };

	for (int i = 0; i < 250; i++) {
		if (lock_take())
			return true;
		sys_futex(&agent_undo.lock, 0 /* FUTEX_WAIT */, 1, moment);
	}
	return false;
}

/* Gives the ring's memory back when so many of its places were used. */
static void ring_release(uint64_t used)
{
	uint64_t from = ((uint64_t)db_at(agent_db()->undo_ref) + AGENT_PAGE - 1) & ~(uint64_t)(AGENT_PAGE - 1);
	uint64_t whole = (SILT_DB_UNDO_ENTRIES * sizeof(struct silt_db_undo) - AGENT_PAGE) & ~(uint64_t)(AGENT_PAGE - 1);

	if (used * sizeof(struct silt_db_undo) > KEEP)
		sys_madvise((void *)from, whole, MADV_REMOVE);
}

/* Nobody waits any more, or for longer than can be remembered. */
static COLD void undo_close(void)
{
	uint64_t signals, i, single;

	sys_signals_block(&signals);
	if (lock_take()) {
		if (agent_undo.open && !is_needed(ATOMIC_LOAD(&agent_undo.next))) {
			ATOMIC_STORE(&agent_undo.open, 0);
			i = ATOMIC_ADD(&agent_undo.next, 1);
			undo_lose(i);
			forks_forget();
			__atomic_fetch_and(&agent_hot.attention, ~(uint32_t)AGENT_NOTED, __ATOMIC_SEQ_CST);
			single = agent_hot.single_kept;
			ATOMIC_RELEASE(&agent_hot.single_tp, single);
			ring_release(i - agent_undo.last);
		}
		ATOMIC_RELEASE(&agent_undo.lock, 0);
	}
	sys_signals_restore(&signals);
}

/* The place in the ring, marked as being written; NULL: a later change has it by now. */
static struct silt_db_undo *undo_claim(uint64_t i)
{
	struct silt_db_undo *u = (struct silt_db_undo *)db_at(agent_db()->undo_ref) + (i & (SILT_DB_UNDO_ENTRIES - 1));
	uint64_t old = ATOMIC_LOAD(&u->seq);

	return !(old & SILT_DB_UNDO_BUSY) && old <= i && atomic_cas64(&u->seq, old, SILT_DB_UNDO_BUSY | (i + 1)) ? u : NULL;
}

COLD void undo_note_slow(uint32_t change, uint64_t addr, uint64_t size, uint32_t context)
{
	uint64_t i = ATOMIC_ADD(&agent_undo.next, 1), *high = &agent_db()->undo_high, old;
	struct silt_db_undo *u;

	if (UNLIKELY(!is_needed(i))) {
		undo_lose(i);
		if (!agent_no_syscalls)
			undo_close();
		return;
	}
	u = undo_claim(i);
	if (!u) {
		undo_lose(i);
		return;
	}
	u->addr = addr;
	u->size = size;
	u->context = context;
	u->change = change;
	ATOMIC_RELEASE(&u->seq, i + 1);
	old = ATOMIC_LOAD(high);
	while (old <= i && !atomic_cas64(high, old, i + 1))
		old = ATOMIC_LOAD(high);
}

static bool ring_make(void)
{
	struct silt_db *db = agent_db();

	if (!db->undo_ref)
		db->undo_ref = db_alloc(SILT_DB_UNDO_ENTRIES * sizeof(struct silt_db_undo));
	return db->undo_ref != 0;
}

static enum silt_db_inherit undo_open(void)
{
	bool ok = true;

	if (!lock_wait())
		return SILT_INHERIT_CHANGED;
	ATOMIC_STORE(&agent_undo.last, ATOMIC_LOAD(&agent_undo.next));
	if (!agent_undo.open)
		ok = ring_make();
	if (ok) {
		forks_change(1);
		if (!agent_undo.open) {
			agent_hot.single_kept = agent_hot.single_tp;
			ATOMIC_RELEASE(&agent_undo.open, 1);
			agent_hot.single_tp = AGENT_NOBODY;
			__atomic_fetch_or(&agent_hot.attention, AGENT_NOTED, __ATOMIC_SEQ_CST);
		}
	}
	ATOMIC_RELEASE(&agent_undo.lock, 0);
	return ok ? SILT_INHERIT_NONE : SILT_INHERIT_MEMORY;
}

void undo_before_fork(void)
{
	uint64_t signals;

	if (agent_hot.options.flags & SILT_DB_NO_FOLLOW || agent_no_syscalls)
		return;
	agent_undo.refused = inherit_refused();
	if (agent_undo.refused)
		return;
	agent_undo.unsure = agent_hot.inherited || agent_single() != arch_thread_pointer();
	sys_signals_block(&signals);
	agent_undo.refused = undo_open();
	sys_signals_restore(&signals);
}

void undo_end(void)
{
	for (int i = 0; agent_undo.open && i < 1000; i++) {
		forks_forget();
		undo_close();
	}
}

void undo_fork_failed(void)
{
	if (!agent_undo.refused && agent_undo.open)
		forks_change(-1);
}

void undo_leave(void)
{
	if (agent_undo.open && !agent_undo.refused)
		forks_change(-1);
}

void undo_stay(void)
{
	if (agent_undo.open && !agent_undo.refused)
		forks_change(1);
}

void undo_reset(void)
{
	memset(&agent_undo, 0, sizeof(agent_undo));
}
