/* SPDX-License-Identifier: MIT */
/* Putting a thread's record in order that was left in the middle of a change: see recover.h. */
#include "capture/agent/recover.h"
#include "capture/agent/walk.h"

/* An entry without a context was just being filled. The reader must see the cache that the thread uses. */
static void cache_repair(struct agent_thread *t)
{
	uint32_t ref = (uint32_t)(((uint64_t)t->cache - (uint64_t)agent_hot.slot) / SILT_DB_UNIT);

	for (uint32_t i = 0; i <= t->cache_mask; i++)
		if (!t->cache[i].context)
			t->cache[i].hash = 0;
	ATOMIC_RELEASE(&t->shared->cache_size, 0);
	ATOMIC_RELEASE(&t->shared->cache_ref, ref);
	ATOMIC_RELEASE(&t->shared->cache_size, t->cache_mask + 1);
}

COLD bool thread_recover(struct agent_thread *t, const uint64_t *fp)
{
	if (walk_finds_agent(fp) != WALK_AGENT_GONE)
		return false;
	walk_forget(t);
	cache_repair(t);
	module_lock_abandon();
	t->nested = 0;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	t->busy = 0;
	return true;
}
