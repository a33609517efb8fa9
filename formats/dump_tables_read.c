/* SPDX-License-Identifier: MIT */
/* Tables of a snapshot from records: the mirror of dump_tables_write.c, believing nothing. */
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "formats/dump_internal.h"

static void out_of_memory(struct dump_tables *t, struct silt_reader *r)
{
	t->no_memory = true;
	silt_reader_fail(r, "the snapshot takes more memory than there is, or than the limit allows");
}

/* The lists that grow outside the arena count against its limit too. */
static bool over_limit(const struct dump_tables *t)
{
	return t->limit && silt_arena_used(t->s->arena) + t->ranges.cap * sizeof(*t->ranges.items) +
				   t->stack_frames.cap * sizeof(*t->stack_frames.items) > t->limit;
}

static const char *get_text(struct dump_tables *t, struct silt_reader *r)
{
	uint64_t n = silt_reader_varint_max(r, silt_limit_default(SILT_LIMIT_STRING_BYTES) + 1,
					    "string longer than the limit");
	const uint8_t *p;
	const char *copy;

	if (!n || !silt_reader_ok(r))
		return NULL;
	p = silt_reader_bytes(r, n - 1);
	if (!p)
		return NULL;
	if (memchr(p, 0, n - 1)) {
		silt_reader_fail(r, "NUL byte inside a string");
		return NULL;
	}
	copy = silt_arena_strndup(t->s->arena, (const char *)p, n - 1);
	if (!copy)
		out_of_memory(t, r);
	return copy;
}

static const char *get_name(struct dump_tables *t, struct silt_reader *r)
{
	const char *name = get_text(t, r);

	if (!name)
		silt_reader_fail(r, "record without its name");
	return name;
}

static bool get_bool(struct silt_reader *r)
{
	return silt_reader_u8(r) & 1;
}

static void get_process(struct dump_tables *t, struct silt_reader *r)
{
	struct silt_process *p = &t->s->process;

	p->pid = silt_reader_varint32(r);
	p->parent_pid = silt_reader_varint32(r);
	p->exe = get_text(t, r);
	p->argv = get_text(t, r);
	p->host = get_text(t, r);
	p->kernel = get_text(t, r);
	p->libc = get_text(t, r);
	p->allocator = get_text(t, r);
	p->method = get_text(t, r);
	p->ending = get_text(t, r);
	p->start_ns = silt_reader_svarint(r);
	p->capture_ns = silt_reader_svarint(r);
	p->pause_ns = silt_reader_varint(r);
	p->session[0] = silt_reader_u64(r);
	p->session[1] = silt_reader_u64(r);
	p->epoch = silt_reader_varint32(r);
	p->sample_bytes = silt_reader_varint(r);
	p->min_size = silt_reader_varint(r);
	p->max_depth = silt_reader_varint32(r);
	p->with_threads = get_bool(r);
}

static void get_range(struct dump_tables *t, struct silt_reader *r)
{
	struct silt_range range;

	range.start = silt_reader_varint(r);
	if (__builtin_add_overflow(range.start, silt_reader_varint(r), &range.end))
		silt_reader_fail(r, "address range past the end of memory");
	range.file_offset = silt_reader_varint(r);
	range.prot = silt_reader_varint32(r);
	if (silt_reader_ok(r) && (t->ranges.count >= UINT32_MAX || over_limit(t) || !silt_vec_push(&t->ranges, range)))
		out_of_memory(t, r);
}

static void get_module(struct dump_tables *t, uint64_t i, struct silt_reader *r)
{
	struct silt_module *m = &t->s->modules[i];
	uint64_t ranges, k;
	const uint8_t *id;
	uint8_t *copy;

	m->path = get_name(t, r);
	m->build_id_len = (uint32_t)silt_reader_varint_max(r, SILT_BUILD_ID_MAX, "build-id longer than possible");
	id = silt_reader_bytes(r, m->build_id_len);
	if (id && m->build_id_len) {
		copy = silt_arena_alloc(t->s->arena, m->build_id_len);
		if (!copy)
			out_of_memory(t, r);
		else
			memcpy(copy, id, m->build_id_len);
		m->build_id = copy;
	}
	m->bias = silt_reader_varint(r);
	m->generation = silt_reader_varint32(r);
	m->unloaded = get_bool(r);
	ranges = silt_reader_count(r, 4);
	m->range_first = (uint32_t)t->ranges.count;
	for (k = 0; k < ranges && silt_reader_ok(r); k++)
		get_range(t, r);
	m->range_count = (uint32_t)(t->ranges.count - m->range_first);
}

/* A number coded as its difference to the one before. */
static uint32_t get_step(struct silt_reader *r, uint32_t before)
{
	uint64_t sum = before + (uint64_t)silt_reader_svarint(r);

	if (sum <= UINT32_MAX)
		return (uint32_t)sum;
	silt_reader_fail(r, "number of more than 32 bits");
	return 0;
}

static void get_frame(struct dump_tables *t, uint64_t i, const struct silt_frame *before, struct silt_reader *r)
{
	struct silt_frame *f = &t->s->frames[i];

	f->module = get_step(r, before->module + 1) - 1;
	f->flags = silt_reader_varint32(r);
	f->offset = before->offset + (uint64_t)silt_reader_svarint(r);
}

/* *left: frames that this chunk's stacks may still have. */
static void get_stack(struct dump_tables *t, uint64_t i, const struct silt_stack *before, uint64_t *left,
		      struct silt_reader *r)
{
	struct silt_stack *st = &t->s->stacks[i];
	uint32_t shared, own, k, last = 0;
	uint32_t *f;

	st->flags = silt_reader_varint32(r);
	st->frame_count = (uint32_t)silt_reader_varint_max(r, *left, "more frames than a chunk may have");
	shared = silt_reader_varint32(r);
	if (!silt_reader_ok(r))
		return;
	if (shared > st->frame_count || shared > before->frame_count) {
		silt_reader_fail(r, "stack sharing more frames than there are");
		return;
	}
	own = st->frame_count - shared;
	if (own > silt_reader_left(r)) {
		silt_reader_fail(r, "stack of more frames than the bytes left can hold");
		return;
	}
	*left -= st->frame_count;
	if (t->stack_frames.count > UINT32_MAX - st->frame_count || over_limit(t) ||
	    !silt_vec_reserve(&t->stack_frames, t->stack_frames.count + st->frame_count + 1)) {
		out_of_memory(t, r);
		return;
	}
	st->frame_first = (uint32_t)t->stack_frames.count;
	f = t->stack_frames.items + st->frame_first;
	for (k = 0; k < own; k++)
		f[k] = last = get_step(r, last);
	if (shared)
		memcpy(f + own, t->stack_frames.items + before->frame_first + (before->frame_count - shared),
		       shared * sizeof(*f));
	t->stack_frames.count += st->frame_count;
}

static void get_thread(struct dump_tables *t, uint64_t i, struct silt_reader *r)
{
	t->s->threads[i].tid = silt_reader_varint32(r);
	t->s->threads[i].name = get_text(t, r);
	t->s->threads[i].exited = get_bool(r);
}

static void get_context(struct dump_tables *t, uint64_t i, const struct silt_context *before, struct silt_reader *r)
{
	struct silt_context *c = &t->s->contexts[i];

	c->stack = get_step(r, before->stack);
	c->epoch = get_step(r, before->epoch);
	c->thread = silt_reader_varint32(r) - 1;
	c->kind = (uint32_t)silt_reader_varint_max(r, SILT_KIND_POOL, "unknown kind of allocation");
	c->live_count = silt_reader_varint(r);
	c->live_bytes = silt_reader_varint(r);
	c->alloc_count = c->live_count + (uint64_t)silt_reader_svarint(r);
	c->alloc_bytes = c->live_bytes + (uint64_t)silt_reader_svarint(r);
}

static void get_region(struct dump_tables *t, uint64_t i, const struct silt_region *before, struct silt_reader *r)
{
	struct silt_region *g = &t->s->regions[i];
	const char *name;

	g->start = before->end + (uint64_t)silt_reader_svarint(r);
	if (__builtin_add_overflow(g->start, silt_reader_varint(r), &g->end))
		silt_reader_fail(r, "region past the end of memory");
	g->file_offset = silt_reader_varint(r);
	g->prot = silt_reader_varint32(r);
	g->shared = get_bool(r);
	g->dev_major = silt_reader_varint32(r);
	g->dev_minor = silt_reader_varint32(r);
	g->inode = silt_reader_varint(r);
	name = get_text(t, r);
	if (name && t->last_name && !strcmp(name, t->last_name))
		name = t->last_name;
	g->name = name;
	t->last_name = name;
}

static void get_mark(struct dump_tables *t, uint64_t i, struct silt_reader *r)
{
	struct silt_mark *m = &t->s->marks[i];

	m->name = get_name(t, r);
	m->time_ns = silt_reader_svarint(r);
	m->epoch = silt_reader_varint32(r);
	m->tid = silt_reader_varint32(r);
}

static void get_type(struct dump_tables *t, uint64_t i, const struct silt_type *before, struct silt_reader *r)
{
	struct silt_type *y = &t->s->types[i];

	if (__builtin_add_overflow(before->context, silt_reader_varint32(r), &y->context))
		silt_reader_fail(r, "context of a type that cannot be");
	y->module = silt_reader_varint32(r) - 1;
	y->offset = silt_reader_varint(r);
	y->name = get_text(t, r);
}

static void get_counter(struct dump_tables *t, uint64_t i, struct silt_reader *r)
{
	t->s->counters[i].name = get_name(t, r);
	t->s->counters[i].value = silt_reader_varint(r);
}

static void get_record(struct dump_tables *t, enum dump_section section, uint64_t i, bool fresh, uint64_t *left,
		       struct silt_reader *r)
{
	static const struct silt_frame no_frame = {SILT_NONE, 0, 0};
	static const struct silt_stack no_stack;
	static const struct silt_context no_context;
	static const struct silt_region no_region;
	static const struct silt_type no_type;
	struct silt_snapshot *s = t->s;

	switch (section) {
	case DUMP_PROCESS:
		get_process(t, r);
		return;
	case DUMP_MODULES:
		get_module(t, i, r);
		return;
	case DUMP_FRAMES:
		get_frame(t, i, fresh ? &no_frame : &s->frames[i - 1], r);
		return;
	case DUMP_STACKS:
		get_stack(t, i, fresh ? &no_stack : &s->stacks[i - 1], left, r);
		return;
	case DUMP_THREADS:
		get_thread(t, i, r);
		return;
	case DUMP_CONTEXTS:
		get_context(t, i, fresh ? &no_context : &s->contexts[i - 1], r);
		return;
	case DUMP_REGIONS:
		get_region(t, i, fresh ? &no_region : &s->regions[i - 1], r);
		return;
	case DUMP_MARKS:
		get_mark(t, i, r);
		return;
	case DUMP_COUNTERS:
		get_counter(t, i, r);
		return;
	case DUMP_NOTES:
		s->notes[i] = get_name(t, r);
		return;
	case DUMP_TYPES:
		get_type(t, i, fresh ? &no_type : &s->types[i - 1], r);
		return;
	default:
		silt_reader_fail(r, "section that holds no table");
	}
}

void dump_table_decode(struct dump_tables *t, enum dump_section section, uint64_t first, uint32_t count,
		       struct silt_reader *r)
{
	uint64_t left = DUMP_CHUNK_STACK_FRAMES;
	size_t ranges = t->ranges.count, frames = t->stack_frames.count;
	uint32_t n;

	for (n = 0; n < count && silt_reader_ok(r); n++)
		get_record(t, section, first + n, !n, &left, r);
	if (silt_reader_ok(r) && silt_reader_left(r))
		silt_reader_fail(r, "bytes after the last record");
	if (!silt_reader_ok(r)) {
		t->ranges.count = ranges;
		t->stack_frames.count = frames;
	}
}

bool dump_table_allocate(struct dump_tables *t, enum dump_section section, uint64_t count)
{
	struct silt_snapshot *s = t->s;

	if (count >= UINT32_MAX)
		return false;
	switch (section) {
	case DUMP_MODULES:
		s->modules = silt_snapshot_array(s, count, sizeof(*s->modules));
		s->module_count = (uint32_t)count;
		return s->modules;
	case DUMP_FRAMES:
		s->frames = silt_snapshot_array(s, count, sizeof(*s->frames));
		s->frame_count = (uint32_t)count;
		return s->frames;
	case DUMP_STACKS:
		s->stacks = silt_snapshot_array(s, count, sizeof(*s->stacks));
		s->stack_count = (uint32_t)count;
		return s->stacks;
	case DUMP_THREADS:
		s->threads = silt_snapshot_array(s, count, sizeof(*s->threads));
		s->thread_count = (uint32_t)count;
		return s->threads;
	case DUMP_CONTEXTS:
		s->contexts = silt_snapshot_array(s, count, sizeof(*s->contexts));
		s->context_count = (uint32_t)count;
		return s->contexts;
	case DUMP_REGIONS:
		s->regions = silt_snapshot_array(s, count, sizeof(*s->regions));
		s->region_count = (uint32_t)count;
		return s->regions;
	case DUMP_MARKS:
		s->marks = silt_snapshot_array(s, count, sizeof(*s->marks));
		s->mark_count = (uint32_t)count;
		return s->marks;
	case DUMP_COUNTERS:
		s->counters = silt_snapshot_array(s, count, sizeof(*s->counters));
		s->counter_count = (uint32_t)count;
		return s->counters;
	case DUMP_NOTES:
		s->notes = silt_snapshot_array(s, count, sizeof(*s->notes));
		s->note_count = (uint32_t)count;
		return s->notes;
	case DUMP_TYPES:
		s->types = silt_snapshot_array(s, count, sizeof(*s->types));
		s->type_count = (uint32_t)count;
		return s->types;
	default:
		return true;
	}
}

void dump_table_lose(struct dump_tables *t, enum dump_section section, uint64_t first, uint64_t count)
{
	static const struct silt_frame frame = {SILT_NONE, 0, 0};
	static const struct silt_stack stack = {0, 0, SILT_STACK_BROKEN};
	static const struct silt_context context = {SILT_NONE, 0, SILT_NONE, SILT_KIND_HEAP, 0, 0, 0, 0};
	static const struct silt_module module = {.path = "[lost]"};
	struct silt_snapshot *s = t->s;
	uint64_t i;

	for (i = first; i < first + count; i++) {
		switch (section) {
		case DUMP_PROCESS:
			memset(&s->process, 0, sizeof(s->process));
			s->process.exe = "[lost]";
			break;
		case DUMP_MODULES:
			s->modules[i] = module;
			break;
		case DUMP_FRAMES:
			s->frames[i] = frame;
			break;
		case DUMP_STACKS:
			s->stacks[i] = stack;
			break;
		case DUMP_THREADS:
			memset(&s->threads[i], 0, sizeof(s->threads[i]));
			break;
		case DUMP_CONTEXTS:
			s->contexts[i] = context;
			break;
		case DUMP_REGIONS: /* these and the types are taken out at the end: nothing refers to them by number */
			s->regions[i].start = 1;
			s->regions[i].end = 0;
			break;
		case DUMP_MARKS:
			s->marks[i].name = NULL;
			break;
		case DUMP_COUNTERS:
			s->counters[i].name = NULL;
			break;
		case DUMP_NOTES:
			s->notes[i] = NULL;
			break;
		case DUMP_TYPES:
			s->types[i].context = SILT_NONE;
			break;
		default:
			break;
		}
	}
}
