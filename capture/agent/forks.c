/* SPDX-License-Identifier: MIT */
/*
 * fork by a signal handler that interrupted the agent. Parent and child both go on with what was interrupted: the child, whose
 * agent_hot the kernel has wiped, would do so without it, and in the parent's database. Therefore a fork looks for the agent further
 * out on the stack (rare, so the walk is what it costs: microseconds). When it is there, the child gets a private copy of all as it
 * was; it finishes there what was begun, and takes a database of its own once nothing of the agent is on its stack any more.
 *
 * What the child's handler allocates until then is forgotten.
 */
#include "capture/agent/forks.h"

#include "capture/agent/real.h"
#include "capture/agent/recover.h"
#include "capture/agent/undo.h"

#include <linux/mman.h>

#define ANONYMOUS 0x4022 /* MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE */
#define FIXED 0x10

static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + AGENT_PAGE - 1) & ~(uint64_t)(AGENT_PAGE - 1);
}

/* Copies what has memory, and only that: reading a hole of a shared mapping would fill it. */
static void copy_touched(uint8_t *to, const uint8_t *from, uint64_t size)
{
	uint8_t there[256];

	for (uint64_t at = 0; at < size; at += sizeof(there) * AGENT_PAGE) {
		uint64_t pages = (size - at) / AGENT_PAGE < sizeof(there) ? (size - at) / AGENT_PAGE : sizeof(there);
		bool known = !sys_failed(sys_mincore((void *)(from + at), pages * AGENT_PAGE, there));

		for (uint64_t i = 0; i < pages; i++)
			if (!known || there[i] & 1)
				memcpy(to + at + i * AGENT_PAGE, from + at + i * AGENT_PAGE, AGENT_PAGE);
	}
}

/* All that the agent keeps, as it is now: agent_hot, then the database. Returns its place, or 0. */
static uint8_t *state_copy(uint64_t size)
{
	uint64_t head = whole_pages(sizeof(agent_hot));
	long r = sys_mmap(NULL, head + size, 3, ANONYMOUS, -1, 0);

	if (sys_failed(r))
		return NULL;
	memcpy((void *)r, &agent_hot, sizeof(agent_hot));
	copy_touched((uint8_t *)r + head, agent_hot.slot, size);
	return (uint8_t *)r;
}

/* In the child: the copy takes the place of what it was made from. */
static void state_take(uint8_t *copy, uint64_t size)
{
	uint64_t head = whole_pages(sizeof(agent_hot)), tp = arch_thread_pointer(), mapped;
	const struct agent_hot *was = (const void *)copy;
	uint8_t *window = was->slot;

	mapped = ((const struct silt_db *)(const void *)(copy + head))->mapped;
	sys_mmap(window, mapped, 3, ANONYMOUS | FIXED, -1, 0);
	sys_mremap(copy + head, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, window);
	memcpy(&agent_hot, was, sizeof(agent_hot));
	sys_munmap(copy, head);
	thread_only(tp, thread_get(tp));
	agent_hot.attention = (agent_hot.attention & ~(uint32_t)AGENT_NOTED) | AGENT_FORKED;
	undo_reset();
	agent_undo.refused = SILT_INHERIT_INSIDE;
}

static bool fork_inside(const uint64_t *fp)
{
	return agent_hot.base && !agent_no_syscalls && walk_finds_agent(fp) == WALK_AGENT_THERE;
}

/* A child that has no database yet may fork: its child, too, inherits from the one that has. */
static void fork_before(void)
{
	if (agent_hot.base)
		undo_before_fork();
	else if (agent_asleep())
		undo_stay();
}

static void fork_failed(void)
{
	if (agent_hot.base)
		undo_fork_failed();
	else if (agent_asleep())
		undo_leave();
}

void fork_hidden_before(const uint64_t *fp)
{
	if (!fork_inside(fp))
		fork_before();
}

int fork_with(int (*fork_real)(void), const uint64_t *fp)
{
	uint8_t *copy = NULL;
	uint64_t size = 0, signals;
	int pid;

	if (!fork_inside(fp)) {
		fork_before();
		pid = fork_real();
		if (pid < 0)
			fork_failed();
		return pid;
	}
	sys_signals_block(&signals); /* a handler in the child must find everything in its place */
	size = whole_pages(ATOMIC_LOAD(&agent_db()->used));
	if (size <= ATOMIC_LOAD(&agent_db()->mapped))
		copy = state_copy(size);
	pid = fork_real();
	if (copy && pid == 0)
		state_take(copy, size);
	else if (copy)
		sys_munmap(copy, whole_pages(sizeof(agent_hot)) + size);
	sys_signals_restore(&signals);
	return pid;
}

COLD bool fork_settle(const uint64_t *fp)
{
	/* With threads by now, one of which might be at work: it stays as it is, untracked. */
	if (agent_hot.single_tp != arch_thread_pointer() || walk_finds_agent(fp) != WALK_AGENT_GONE)
		return true;
	memset(&agent_hot, 0, sizeof(agent_hot));
	return agent_start();
}
