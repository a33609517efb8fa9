/* SPDX-License-Identifier: MIT */
/* The program's own words to silt: silt.h's functions. */
#include "capture/agent/real.h"

#define KIND_POOL 2u
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1

static struct silt_db_mark *mark_write(const char *name, bool capture)
{
	uint32_t i = ATOMIC_ADD(&agent_run->mark_next, 1) % SILT_DB_RUN_MARKS;
	struct silt_db_mark *m = &agent_run->marks[i];
	int64_t ts[2] = { 0, 0 };

	ATOMIC_RELEASE(&m->state, 1);
	m->slot = agent_db()->slot;
	m->tid = agent_no_syscalls ? 0 : (uint32_t)sys_gettid();
	m->epoch = ATOMIC_LOAD(&agent_db()->epoch);
	if (!agent_no_syscalls)
		sys_clock_gettime(0, ts);
	m->time_ns = ts[0] * 1000000000 + ts[1];
	m->done = 0;
	m->capture = capture;
	str_copy(m->name, sizeof(m->name), name ? name : "");
	ATOMIC_RELEASE(&m->state, 2);
	return m;
}

EXPORT void silt_agent_mark(const char *name)
{
	if (agent_ready())
		mark_write(name, false);
}

EXPORT void silt_agent_capture(const char *name)
{
	struct silt_db_mark *m;
	int64_t wait[2] = { 0, 100000000 };

	if (!agent_ready())
		return;
	m = mark_write(name, true);
	ATOMIC_ADD(&agent_run->wake, 1);
	if (agent_no_syscalls)
		return;
	sys_futex(&agent_run->wake, FUTEX_WAKE, 1, NULL);
	for (int i = 0; i < 50 && !ATOMIC_ACQUIRE(&m->done); i++)
		sys_futex(&m->done, FUTEX_WAIT, 0, wait);
}

static uint64_t pool_place(const void *p)
{
	uint64_t addr = (uint64_t)p;

	return addr & 7 ? addr : addr ^ AGENT_POOL_BIT;
}

EXPORT void silt_agent_alloc(void *p, size_t size)
{
	uint64_t before;

	if (!p || !agent_ready())
		return;
	live_remove(pool_place(p), &before); /* a pool emptied as a whole, without a word for each block */
	agent_record_kind(pool_place(p), size, FRAME, KIND_POOL);
}

EXPORT void silt_agent_free(void *p)
{
	uint64_t size;

	if (p && agent_ready())
		live_remove(pool_place(p), &size);
}
