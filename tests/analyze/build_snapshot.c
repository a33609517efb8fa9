/* SPDX-License-Identifier: MIT */
/* Snapshots built in memory for tests. */
#include "build_snapshot.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM = 4096 };

static void *array(struct silt_snapshot *s, uint64_t n, size_t size)
{
	void *p = silt_snapshot_array(s, n, size);

	if (!p)
		abort();
	return p;
}

struct silt_snapshot *build_snapshot(void)
{
	struct silt_snapshot *s = silt_snapshot_create();

	if (!s)
		abort();
	s->modules = array(s, ROOM, sizeof(*s->modules));
	s->frames = array(s, ROOM, sizeof(*s->frames));
	s->stack_frames = array(s, ROOM * 8, sizeof(*s->stack_frames));
	s->stacks = array(s, ROOM, sizeof(*s->stacks));
	s->contexts = array(s, ROOM, sizeof(*s->contexts));
	s->threads = array(s, ROOM, sizeof(*s->threads));
	s->blocks.addr = array(s, ROOM, sizeof(*s->blocks.addr));
	s->blocks.size = array(s, ROOM, sizeof(*s->blocks.size));
	s->blocks.context = array(s, ROOM, sizeof(*s->blocks.context));
	s->process.pid = 100;
	s->process.exe = "/bin/app";
	s->process.argv = "app --fast";
	s->process.method = "test";
	s->process.session[0] = 1;
	s->process.session[1] = 2;
	s->process.epoch = 1;
	s->process.start_ns = 1700000000000000000;
	s->process.capture_ns = 1700000012345000000;
	return s;
}

uint32_t build_module(struct silt_snapshot *s, const char *path, uint8_t build)
{
	struct silt_module *m = &s->modules[s->module_count];

	m->path = silt_snapshot_string(s, path);
	if (build) {
		uint8_t *id = array(s, 20, 1);

		memset(id, build, 20);
		m->build_id = id;
		m->build_id_len = 20;
	}
	return s->module_count++;
}

uint32_t build_frame(struct silt_snapshot *s, uint32_t module, uint64_t offset)
{
	s->frames[s->frame_count] = (struct silt_frame){ .module = module, .offset = offset };
	return s->frame_count++;
}

uint32_t build_stack(struct silt_snapshot *s, uint32_t flags, const uint32_t *frames, uint32_t count)
{
	struct silt_stack *st = &s->stacks[s->stack_count];

	st->frame_first = s->stack_frame_count;
	st->frame_count = count;
	st->flags = flags;
	if (count > 0)
		memcpy(s->stack_frames + s->stack_frame_count, frames, count * sizeof(*frames));
	s->stack_frame_count += count;
	return s->stack_count++;
}

uint32_t build_context(struct silt_snapshot *s, uint32_t stack, uint64_t live_bytes, uint64_t live_count,
		       uint64_t freed_bytes, uint64_t freed_count)
{
	struct silt_context *c = &s->contexts[s->context_count];

	c->stack = stack;
	c->epoch = 1;
	c->thread = SILT_NONE;
	c->live_bytes = live_bytes;
	c->live_count = live_count;
	c->alloc_bytes = live_bytes + freed_bytes;
	c->alloc_count = live_count + freed_count;
	s->total_bytes += live_bytes;
	s->total_count += live_count;
	return s->context_count++;
}

uint32_t build_thread(struct silt_snapshot *s, uint32_t tid, const char *name)
{
	s->threads[s->thread_count] = (struct silt_thread){ .tid = tid, .name = silt_snapshot_string(s, name) };
	return s->thread_count++;
}

void build_block(struct silt_snapshot *s, uint64_t addr, uint64_t size, uint32_t context)
{
	s->blocks.addr[s->blocks.count] = addr;
	s->blocks.size[s->blocks.count] = size;
	s->blocks.context[s->blocks.count++] = context;
	s->has_blocks = true;
}
