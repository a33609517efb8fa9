/* SPDX-License-Identifier: MIT */
/* Walking the heap at the moment of attaching. The blocks go into a part of the database's file that no process uses, where the
 * agent reads them. */
#include "capture/before.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22 /* Linux 5.14; older ones refuse both */
#define MADV_POPULATE_WRITE 23
#endif

#include "capture/agent/attach.h"
#include "capture/agent/trace_db.h"
#include "capture/copy_internal.h"
#include "capture/settle.h"
#include "capture/target/process.h"
#include "capture/untracked.h"

/* The last slot's part of the file: an attached process has the first, and children that it forks meanwhile the next ones. */
#define BLOCKS_AT (SILT_DB_SLOT_OFFSET + (SILT_DB_SLOTS - 1) * SILT_DB_SLOT_SIZE)
#define ROOM_MIN (1ull << 16) /* blocks: what the agent needs for a walk of its own is small */
#define ENTRY_USUAL 12u	      /* bytes of the live table for a block, with what its chunks leave empty */
#define EXPECT_MAX (64ull << 20) /* bytes of it readied on a guess: what is too much stays for later blocks */
#define ROOM_MAX (SILT_DB_SLOT_SIZE / sizeof(struct silt_agent_block))

static void find_heap(struct silt_before *b)
{
	struct silt_heap_target target = { .maps = &b->maps, .modules = &b->modules, .pid = b->pid, .exact = true };

	silt_heap_process_init(&b->process, b->pid);
	target.reader = silt_heap_process_reader(&b->process);
	if (silt_maps_read(b->pid, &b->maps, NULL) || silt_modules_collect(&b->maps, b->pid, &b->modules, NULL) ||
	    silt_heap_open(&target, &b->heap, NULL))
		b->heap = NULL;
}

static void forget_heap(struct silt_before *b)
{
	silt_heap_destroy(b->heap);
	b->heap = NULL;
	silt_heap_process_deinit(&b->process);
	silt_modules_deinit(&b->modules);
	silt_maps_deinit(&b->maps);
}

void silt_before_open(struct silt_before *b, pid_t pid)
{
	struct silt_target_status st;

	memset(b, 0, sizeof(*b));
	b->pid = pid;
	b->was_stopped = silt_target_status(pid, &st, NULL) || st.state == 'T';
	b->db_fd = -1;
	find_heap(b);
}

void silt_before_close(struct silt_before *b)
{
	if (b->blocks)
		munmap(b->blocks, b->room * sizeof(*b->blocks));
	if (b->db_fd >= 0 && b->room)
		fallocate(b->db_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)BLOCKS_AT,
			  (off_t)(b->room * sizeof(*b->blocks)));
	forget_heap(b);
	free(b->threads);
	silt_maps_deinit(&b->at_stop);
	memset(b, 0, sizeof(*b));
	b->db_fd = -1;
}

static bool make_room(struct silt_before *b, uint64_t need)
{
	uint64_t room = b->room ? b->room : ROOM_MIN;
	void *p;

	while (room < need)
		room *= 2;
	if (room == b->room)
		return true;
	if (room > ROOM_MAX)
		return false;
	if (b->blocks)
		p = mremap(b->blocks, b->room * sizeof(*b->blocks), room * sizeof(*b->blocks), MREMAP_MAYMOVE);
	else
		p = mmap(NULL, room * sizeof(*b->blocks), PROT_READ | PROT_WRITE, MAP_SHARED, b->db_fd, (off_t)BLOCKS_AT);
	if (p == MAP_FAILED)
		return false;
	b->blocks = p;
	b->room = room;
	return true;
}

/* Zeroed pages of the file, where the agent's next pieces will come from: in the stop it need only map them. */
static void ready_table(struct silt_before *b)
{
	uint64_t used, from;
	void *p;

	if (silt_slot_used(b->db_fd, 0, &used, NULL))
		return;
	from = SILT_DB_SLOT_OFFSET + (used & ~4095ull);
	p = mmap(NULL, b->expected + 8192, PROT_READ, MAP_SHARED, b->db_fd, (off_t)from);
	if (p == MAP_FAILED)
		return;
	madvise(p, b->expected + 8192, MADV_POPULATE_READ);
	munmap(p, b->expected + 8192);
}

void silt_before_ready(struct silt_before *b, int db_fd)
{
	b->db_fd = db_fd;
	if (!b->heap || !silt_heap_walkable(b->heap) || !make_room(b, ROOM_MIN))
		return;
	madvise(b->blocks, b->room * sizeof(*b->blocks), MADV_POPULATE_WRITE);
	b->expected = silt_heap_block_guess(b->heap, &b->maps) * ENTRY_USUAL;
	if (b->expected > EXPECT_MAX)
		b->expected = EXPECT_MAX;
	ready_table(b);
}

static bool busy(void *data, struct silt_stop *stop, bool insist)
{
	struct silt_before *b = data;
	struct silt_heap_thread *threads = b->heap ? silt_untracked_threads(stop) : NULL;
	bool is = threads && (silt_heap_busy(b->heap, threads, stop->count) || silt_settle_needed(b->pid, b->heap, threads, stop->count));

	/* Threads of a process that was stopped (Ctrl-Z) must not run. */
	if (is && insist && !b->was_stopped)
		is = !silt_settle(stop, b->heap, threads);
	free(b->threads);
	b->threads = threads;
	return is;
}

static int take_blocks(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct silt_before *b = data;

	if (!make_room(b, b->count + count))
		return SILT_E_NOMEM;
	for (size_t i = 0; i < count; i++)
		b->blocks[b->count + i] = (struct silt_agent_block){ blocks[i].addr, blocks[i].size };
	b->count += count;
	return 0;
}

/* Behind each other, as struct silt_agent_attach says. */
static int put_plan(struct silt_before *b, const struct silt_heap_plan *plan, struct silt_attach_blocks *ret)
{
	struct silt_agent_stretch *stretches;
	uint64_t *words;
	uint64_t bytes = plan->stretch_count * sizeof(*stretches) + plan->free_count * sizeof(*words);

	if (!make_room(b, plan->block_count + bytes / sizeof(*b->blocks) + 1))
		return SILT_E_NOMEM;
	for (size_t i = 0; i < plan->block_count; i++)
		b->blocks[i] = (struct silt_agent_block){ plan->blocks[i].addr, plan->blocks[i].size };
	stretches = (struct silt_agent_stretch *)(void *)(b->blocks + plan->block_count);
	for (size_t i = 0; i < plan->stretch_count; i++)
		stretches[i] = (struct silt_agent_stretch){ plan->stretches[i].start, plan->stretches[i].end, plan->stretches[i].top,
							    plan->stretches[i].main };
	words = (uint64_t *)(void *)(stretches + plan->stretch_count);
	if (plan->free_count)
		memcpy(words, plan->free, plan->free_count * sizeof(*words));
	*ret = (struct silt_attach_blocks){ BLOCKS_AT, plan->block_count, plan->stretch_count, plan->free_count,
					    b->expected > plan->block_count * ENTRY_USUAL ? b->expected : plan->block_count * ENTRY_USUAL };
	return 0;
}

static int find_blocks(struct silt_before *b, const struct silt_heap_thread *threads, uint32_t count, bool all,
		       struct silt_attach_blocks *ret, struct silt_error *err)
{
	struct silt_heap_plan plan;
	int rc = all || b->outside ? SILT_E_UNSUPPORTED : silt_heap_plan(b->heap, &b->at_stop, threads, count, &plan, err);

	if (!rc)
		return put_plan(b, &plan, ret);
	if (rc != SILT_E_UNSUPPORTED)
		return rc;
	b->count = 0;
	rc = silt_heap_walk(b->heap, &b->at_stop, threads, count, take_blocks, b, err);
	*ret = (struct silt_attach_blocks){ BLOCKS_AT, b->count, 0, 0, b->count * ENTRY_USUAL };
	return rc;
}

static int walk(void *data, const struct silt_stop *stop, bool all, struct silt_attach_blocks *ret, struct silt_error *err)
{
	struct silt_before *b = data;
	int rc;

	if (b->heap && !silt_heap_walkable(b->heap)) { /* a young process had no heap yet when it was looked for */
		forget_heap(b);
		find_heap(b);
	}
	if (!b->heap || !silt_heap_walkable(b->heap))
		return SILT_E_UNSUPPORTED;
	if (!b->threads)
		b->threads = silt_untracked_threads(stop);
	silt_maps_deinit(&b->at_stop);
	rc = silt_maps_read(b->pid, &b->at_stop, err);
	if (!rc)
		rc = find_blocks(b, b->threads, b->threads ? stop->count : 0, all, ret, err);
	return rc;
}

struct silt_attach_walk silt_before_walk(struct silt_before *b)
{
	return (struct silt_attach_walk){ b, busy, walk };
}

void silt_before_note(const struct silt_before *b, char *buf, size_t size)
{
	buf[0] = '\0';
	if (b->heap && !silt_heap_walkable(b->heap))
		snprintf(buf, size, "the heap of %.100s cannot be walked", silt_heap_allocator(b->heap));
	else if (b->heap && silt_heap_problem_count(b->heap))
		snprintf(buf, size, "%s", silt_heap_problem(b->heap, 0));
}
