/* SPDX-License-Identifier: MIT */
/* Snapshots made up by a seed, comparison of snapshots, and dumps held in memory files. */
#include "samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

const struct sample_shape sample_small = {3, 12, 8, 6, 9, 3, 5, 2, 40, HEAP_GLIBC};

uint64_t sample_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Numbers of all magnitudes. */
static uint64_t wild(uint64_t *x)
{
	uint64_t v = sample_random(x);

	return v >> sample_random(x) % 64;
}

static uint32_t wild32(uint64_t *x)
{
	return (uint32_t)(wild(x) >> 32 ^ wild(x));
}

static const char *text(struct silt_snapshot *s, uint64_t *x, bool may_be_null)
{
	char buffer[200];
	size_t n = sample_random(x) % (sizeof(buffer) - 1), i;

	if (may_be_null && sample_random(x) % 4 == 0)
		return NULL;
	for (i = 0; i < n; i++)
		buffer[i] = (char)(1 + sample_random(x) % 255);
	buffer[n] = '\0';
	return silt_snapshot_string(s, buffer);
}

static void fill_process(struct silt_snapshot *s, uint64_t *x)
{
	struct silt_process *p = &s->process;

	p->pid = wild32(x);
	p->parent_pid = wild32(x);
	p->exe = text(s, x, true);
	p->argv = text(s, x, true);
	p->host = text(s, x, true);
	p->kernel = text(s, x, true);
	p->libc = text(s, x, true);
	p->allocator = text(s, x, true);
	p->method = text(s, x, true);
	p->ending = text(s, x, true);
	p->start_ns = (int64_t)wild(x);
	p->capture_ns = -(int64_t)(wild(x) >> 1);
	p->pause_ns = wild(x);
	p->session[0] = sample_random(x);
	p->session[1] = sample_random(x);
	p->epoch = wild32(x);
	p->sample_bytes = wild(x);
	p->min_size = wild(x);
	p->max_depth = wild32(x);
	p->with_threads = sample_random(x) & 1;
}

static void fill_modules(struct silt_snapshot *s, uint64_t *x, uint32_t n)
{
	uint32_t i, k, used = 0;

	s->modules = silt_snapshot_array(s, n, sizeof(*s->modules));
	s->ranges = silt_snapshot_array(s, (uint64_t)n * 5, sizeof(*s->ranges));
	s->module_count = n;
	for (i = 0; i < n; i++) {
		struct silt_module *m = &s->modules[i];
		uint8_t id[64];

		m->path = text(s, x, false);
		m->build_id_len = sample_random(x) % 3 ? (uint32_t)(sample_random(x) % 65) : 0;
		for (k = 0; k < m->build_id_len; k++)
			id[k] = (uint8_t)sample_random(x);
		if (m->build_id_len) {
			uint8_t *copy = silt_snapshot_array(s, m->build_id_len, 1);

			memcpy(copy, id, m->build_id_len);
			m->build_id = copy;
		}
		m->range_first = used;
		m->range_count = (uint32_t)(sample_random(x) % 6);
		used += m->range_count;
		m->bias = wild(x);
		m->generation = wild32(x);
		m->unloaded = sample_random(x) & 1;
	}
	for (i = 0; i < used; i++) {
		struct silt_range *r = &s->ranges[i];

		r->start = wild(x) >> 1;
		r->end = r->start + (wild(x) >> 1);
		r->file_offset = wild(x);
		r->prot = (uint32_t)(sample_random(x) % 8);
	}
	s->range_count = used;
}

/* Stacks with common outer ends, as real ones have. */
static void fill_stacks(struct silt_snapshot *s, uint64_t *x, const struct sample_shape *shape)
{
	uint32_t i, k, used = 0;

	s->frames = silt_snapshot_array(s, shape->frames, sizeof(*s->frames));
	s->frame_count = shape->frames;
	for (i = 0; i < shape->frames; i++) {
		s->frames[i].module = s->module_count && sample_random(x) % 5 ? sample_random(x) % s->module_count : SILT_NONE;
		s->frames[i].flags = sample_random(x) & 1;
		s->frames[i].offset = wild(x);
	}
	s->stacks = silt_snapshot_array(s, shape->stacks, sizeof(*s->stacks));
	s->stack_frames = silt_snapshot_array(s, (uint64_t)shape->stacks * shape->max_depth, sizeof(*s->stack_frames));
	s->stack_count = shape->stacks;
	for (i = 0; i < shape->stacks; i++) {
		struct silt_stack *st = &s->stacks[i];
		uint32_t shared = 0;

		st->frame_first = used;
		st->frame_count = shape->frames ? (uint32_t)(sample_random(x) % (shape->max_depth + 1)) : 0;
		st->flags = (uint32_t)(sample_random(x) % 32);
		for (k = 0; k < st->frame_count; k++)
			s->stack_frames[used + k] = (uint32_t)(sample_random(x) % shape->frames);
		if (i && st->frame_count && s->stacks[i - 1].frame_count) {
			shared = (uint32_t)(sample_random(x) % st->frame_count);
			if (shared > s->stacks[i - 1].frame_count)
				shared = s->stacks[i - 1].frame_count;
		}
		if (shared)
			memcpy(s->stack_frames + used + st->frame_count - shared, s->stack_frames + used - shared,
			       shared * sizeof(*s->stack_frames));
		used += st->frame_count;
	}
	s->stack_frame_count = used;
}

static void fill_contexts(struct silt_snapshot *s, uint64_t *x, const struct sample_shape *shape)
{
	uint32_t i;

	s->threads = silt_snapshot_array(s, shape->threads, sizeof(*s->threads));
	s->thread_count = shape->threads;
	for (i = 0; i < shape->threads; i++) {
		s->threads[i].tid = wild32(x);
		s->threads[i].name = text(s, x, true);
		s->threads[i].exited = sample_random(x) & 1;
	}
	s->contexts = silt_snapshot_array(s, shape->contexts, sizeof(*s->contexts));
	s->context_count = shape->contexts;
	for (i = 0; i < shape->contexts; i++) {
		struct silt_context *c = &s->contexts[i];

		c->stack = (uint32_t)(sample_random(x) % shape->stacks);
		c->epoch = wild32(x);
		c->thread = shape->threads && sample_random(x) % 3 ? sample_random(x) % shape->threads : SILT_NONE;
		c->kind = (uint32_t)(sample_random(x) % 3);
		c->live_count = wild(x);
		c->live_bytes = wild(x);
		c->alloc_count = wild(x); /* may be less than live: the format keeps what it is given */
		c->alloc_bytes = wild(x);
	}
}

static void fill_lists(struct silt_snapshot *s, uint64_t *x, const struct sample_shape *shape)
{
	uint32_t i;

	s->regions = silt_snapshot_array(s, shape->regions, sizeof(*s->regions));
	s->region_count = shape->regions;
	for (i = 0; i < shape->regions; i++) {
		struct silt_region *r = &s->regions[i];

		r->start = wild(x) >> 1;
		r->end = r->start + (wild(x) >> 1);
		r->file_offset = wild(x);
		r->prot = wild32(x);
		r->shared = sample_random(x) & 1;
		r->dev_major = wild32(x);
		r->dev_minor = wild32(x);
		r->inode = wild(x);
		r->name = i && sample_random(x) & 1 ? s->regions[i - 1].name : text(s, x, true);
	}
	s->marks = silt_snapshot_array(s, shape->notes, sizeof(*s->marks));
	s->mark_count = shape->notes;
	for (i = 0; i < shape->notes; i++) {
		s->marks[i].name = text(s, x, false);
		s->marks[i].time_ns = (int64_t)wild(x);
		s->marks[i].epoch = wild32(x);
		s->marks[i].tid = wild32(x);
		assert_int_equal(silt_snapshot_counter(s, text(s, x, false), wild(x), NULL), 0);
		assert_int_equal(silt_snapshot_note(s, NULL, "note %u of %u", i, shape->notes), 0);
	}
	/* Every third context has a type, the last one among them. */
	s->types = silt_snapshot_array(s, shape->contexts / 3 + 1, sizeof(*s->types));
	for (i = 2; i < shape->contexts; i += 3) {
		struct silt_type *t = &s->types[s->type_count++];

		t->context = i;
		t->module = i % 2 && shape->modules ? (uint32_t)(sample_random(x) % shape->modules) : SILT_NONE;
		t->offset = wild(x);
		t->name = text(s, x, true);
	}
}

static uint64_t block_size(uint64_t *x, int heap, uint32_t context)
{
	switch (heap) {
	case HEAP_CLASSES:
		return 8 + context * 2654435761u % 500;
	case HEAP_WILD:
		return wild(x);
	case HEAP_UNIFORM:
		return 16 + sample_random(x) % 256;
	case HEAP_SAME:
		return 24;
	default:
		return 1 + sample_random(x) % 300;
	}
}

/* Bytes from a block to the next. */
static uint64_t block_step(uint64_t *x, int heap, uint64_t size)
{
	uint64_t step = (size + 23) & ~15ull;

	switch (heap) {
	case HEAP_CLASSES:
		step = size <= 8 ? 8 : 1ull << (64 - __builtin_clzll(size - 1));
		return sample_random(x) % 10 ? step : step * (2 + sample_random(x) % 5);
	case HEAP_WILD:
		return sample_random(x) % 8 ? wild(x) >> 40 : wild(x) >> 22;
	case HEAP_GLIBC:
		if (sample_random(x) % 10 == 0)
			return step + 16 * (sample_random(x) % 100);
		/* fall through */
	default:
		return step < 32 ? 32 : step;
	}
}

static void fill_blocks(struct silt_snapshot *s, uint64_t *x, const struct sample_shape *shape)
{
	struct silt_blocks *b = &s->blocks;
	uint64_t addr = shape->heap == HEAP_WILD ? wild(x) >> 20 : 0x555555560010ull, i;

	b->count = shape->blocks;
	b->addr = silt_snapshot_array(s, b->count, sizeof(*b->addr));
	b->size = silt_snapshot_array(s, b->count, sizeof(*b->size));
	b->context = silt_snapshot_array(s, b->count, sizeof(*b->context));
	assert_non_null(b->context);
	s->has_blocks = true;
	for (i = 0; i < b->count; i++) {
		b->addr[i] = addr;
		b->context[i] = shape->heap == HEAP_SAME ? 0 : (uint32_t)(sample_random(x) % shape->contexts);
		b->size[i] = block_size(x, shape->heap, b->context[i]);
		addr += block_step(x, shape->heap, b->size[i]);
	}
}

struct silt_snapshot *sample_snapshot(uint64_t seed, const struct sample_shape *shape)
{
	struct silt_snapshot *s = silt_snapshot_create();
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	assert_non_null(s);
	fill_process(s, &x);
	fill_modules(s, &x, shape->modules);
	fill_stacks(s, &x, shape);
	fill_contexts(s, &x, shape);
	fill_lists(s, &x, shape);
	if (shape->contexts)
		fill_blocks(s, &x, shape);
	silt_snapshot_total(s);
	return s;
}

/* ---- comparison ---- */

static void same_text(const char *a, const char *b)
{
	if (a && b)
		assert_string_equal(a, b);
	else
		assert_true(!a && !b);
}

static void same_process(const struct silt_process *a, const struct silt_process *b)
{
	same_text(a->exe, b->exe);
	same_text(a->argv, b->argv);
	same_text(a->host, b->host);
	same_text(a->kernel, b->kernel);
	same_text(a->libc, b->libc);
	same_text(a->allocator, b->allocator);
	same_text(a->method, b->method);
	same_text(a->ending, b->ending);
	assert_int_equal(a->pid, b->pid);
	assert_int_equal(a->parent_pid, b->parent_pid);
	assert_true(a->start_ns == b->start_ns && a->capture_ns == b->capture_ns && a->pause_ns == b->pause_ns);
	assert_memory_equal(a->session, b->session, sizeof(a->session));
	assert_int_equal(a->epoch, b->epoch);
	assert_true(a->sample_bytes == b->sample_bytes && a->min_size == b->min_size);
	assert_int_equal(a->max_depth, b->max_depth);
	assert_int_equal(a->with_threads, b->with_threads);
}

static void same_modules(const struct silt_snapshot *a, const struct silt_snapshot *b)
{
	uint32_t i, k;

	assert_int_equal(a->module_count, b->module_count);
	for (i = 0; i < a->module_count; i++) {
		const struct silt_module *m = &a->modules[i], *n = &b->modules[i];

		same_text(m->path, n->path);
		assert_int_equal(m->build_id_len, n->build_id_len);
		if (m->build_id_len)
			assert_memory_equal(m->build_id, n->build_id, m->build_id_len);
		assert_true(m->bias == n->bias && m->generation == n->generation && m->unloaded == n->unloaded);
		assert_int_equal(m->range_count, n->range_count);
		for (k = 0; k < m->range_count; k++) {
			const struct silt_range *r = &a->ranges[m->range_first + k], *q = &b->ranges[n->range_first + k];

			assert_true(r->start == q->start && r->end == q->end);
			assert_true(r->file_offset == q->file_offset && r->prot == q->prot);
		}
	}
}

static void same_stacks(const struct silt_snapshot *a, const struct silt_snapshot *b)
{
	uint32_t i;

	assert_int_equal(a->frame_count, b->frame_count);
	if (a->frame_count)
		assert_memory_equal(a->frames, b->frames, a->frame_count * sizeof(*a->frames));
	assert_int_equal(a->stack_count, b->stack_count);
	for (i = 0; i < a->stack_count; i++) {
		const struct silt_stack *m = &a->stacks[i], *n = &b->stacks[i];

		assert_int_equal(m->flags, n->flags);
		assert_int_equal(m->frame_count, n->frame_count);
		if (m->frame_count)
			assert_memory_equal(a->stack_frames + m->frame_first, b->stack_frames + n->frame_first,
					    m->frame_count * sizeof(*a->stack_frames));
	}
}

static void same_contexts(const struct silt_snapshot *a, const struct silt_snapshot *b)
{
	uint32_t i;

	assert_int_equal(a->thread_count, b->thread_count);
	for (i = 0; i < a->thread_count; i++) {
		assert_int_equal(a->threads[i].tid, b->threads[i].tid);
		assert_int_equal(a->threads[i].exited, b->threads[i].exited);
		same_text(a->threads[i].name, b->threads[i].name);
	}
	assert_int_equal(a->context_count, b->context_count);
	if (a->context_count)
		assert_memory_equal(a->contexts, b->contexts, a->context_count * sizeof(*a->contexts));
	assert_true(a->total_count == b->total_count && a->total_bytes == b->total_bytes);
}

static void same_lists(const struct silt_snapshot *a, const struct silt_snapshot *b)
{
	uint32_t i;

	assert_int_equal(a->region_count, b->region_count);
	for (i = 0; i < a->region_count; i++) {
		const struct silt_region *r = &a->regions[i], *q = &b->regions[i];

		assert_true(r->start == q->start && r->end == q->end && r->file_offset == q->file_offset);
		assert_true(r->prot == q->prot && r->shared == q->shared && r->inode == q->inode);
		assert_true(r->dev_major == q->dev_major && r->dev_minor == q->dev_minor);
		same_text(r->name, q->name);
	}
	assert_int_equal(a->mark_count, b->mark_count);
	for (i = 0; i < a->mark_count; i++) {
		same_text(a->marks[i].name, b->marks[i].name);
		assert_true(a->marks[i].time_ns == b->marks[i].time_ns);
		assert_int_equal(a->marks[i].epoch, b->marks[i].epoch);
		assert_int_equal(a->marks[i].tid, b->marks[i].tid);
	}
	assert_int_equal(a->counter_count, b->counter_count);
	for (i = 0; i < a->counter_count; i++) {
		same_text(a->counters[i].name, b->counters[i].name);
		assert_true(a->counters[i].value == b->counters[i].value);
	}
	assert_int_equal(a->note_count, b->note_count);
	for (i = 0; i < a->note_count; i++)
		same_text(a->notes[i], b->notes[i]);
	assert_int_equal(a->type_count, b->type_count);
	for (i = 0; i < a->type_count; i++) {
		assert_int_equal(a->types[i].context, b->types[i].context);
		assert_int_equal(a->types[i].module, b->types[i].module);
		assert_true(a->types[i].offset == b->types[i].offset);
		same_text(a->types[i].name, b->types[i].name);
	}
}

void sample_assert_equal(const struct silt_snapshot *a, const struct silt_snapshot *b, bool blocks)
{
	same_process(&a->process, &b->process);
	same_modules(a, b);
	same_stacks(a, b);
	same_contexts(a, b);
	same_lists(a, b);
	assert_int_equal(a->has_blocks, b->has_blocks);
	if (!blocks)
		return;
	assert_true(a->blocks.count == b->blocks.count);
	if (!a->blocks.count)
		return;
	assert_memory_equal(a->blocks.addr, b->blocks.addr, a->blocks.count * sizeof(*a->blocks.addr));
	assert_memory_equal(a->blocks.size, b->blocks.size, a->blocks.count * sizeof(*a->blocks.size));
	assert_memory_equal(a->blocks.context, b->blocks.context, a->blocks.count * sizeof(*a->blocks.context));
}

/* ---- memory files ---- */

void sample_file_open(struct sample_file *f)
{
	f->fd = memfd_create("silt-test", MFD_CLOEXEC);
	assert_true(f->fd >= 0);
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
}

void sample_file_close(struct sample_file *f)
{
	close(f->fd);
}

void sample_file_set(struct sample_file *f, const void *data, size_t size)
{
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
	assert_int_equal(silt_write_all(f->fd, "memory file", data, size, NULL), 0);
}

uint8_t *sample_file_get(const struct sample_file *f, size_t *ret_size)
{
	uint8_t *data;

	assert_int_equal(silt_read_file(f->path, UINT32_MAX, &data, ret_size, NULL), 0);
	return data;
}

void sample_file_dump(struct sample_file *f, const struct silt_snapshot *s, int level, unsigned threads)
{
	struct silt_write_options o = {level, threads};
	struct silt_error e = {0};

	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
	if (silt_dump_write_fd(f->fd, "memory file", s, &o, &e))
		fail_msg("%s", e.msg);
}
