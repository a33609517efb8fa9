/* SPDX-License-Identifier: MIT */
/* Tables of a snapshot as records: one small function per section. dump_tables_read.c mirrors it. */
#include <string.h>

#include "base/limits.h"
#include "formats/dump_internal.h"

/* 0: no text; else length + 1 and the bytes. What is longer than any reader accepts is cut. */
static void put_text(struct silt_writer *w, const char *text)
{
	size_t len, limit = silt_limit_default(SILT_LIMIT_STRING_BYTES);

	if (!text) {
		silt_writer_varint(w, 0);
		return;
	}
	len = strlen(text);
	if (len > limit)
		len = limit;
	silt_writer_varint(w, len + 1);
	silt_writer_bytes(w, text, len);
}

static void put_process(const struct silt_snapshot *s, uint64_t i, struct silt_writer *w)
{
	const struct silt_process *p = &s->process;

	(void)i;
	silt_writer_varint(w, p->pid);
	silt_writer_varint(w, p->parent_pid);
	put_text(w, p->exe);
	put_text(w, p->argv);
	put_text(w, p->host);
	put_text(w, p->kernel);
	put_text(w, p->libc);
	put_text(w, p->allocator);
	put_text(w, p->method);
	put_text(w, p->ending);
	silt_writer_svarint(w, p->start_ns);
	silt_writer_svarint(w, p->capture_ns);
	silt_writer_varint(w, p->pause_ns);
	silt_writer_u64(w, p->session[0]);
	silt_writer_u64(w, p->session[1]);
	silt_writer_varint(w, p->epoch);
	silt_writer_varint(w, p->sample_bytes);
	silt_writer_varint(w, p->min_size);
	silt_writer_varint(w, p->max_depth);
	silt_writer_u8(w, p->with_threads);
}

static void put_module(const struct silt_snapshot *s, uint64_t i, struct silt_writer *w)
{
	const struct silt_module *m = &s->modules[i];
	uint32_t k;

	put_text(w, m->path);
	silt_writer_varint(w, m->build_id_len);
	silt_writer_bytes(w, m->build_id, m->build_id_len);
	silt_writer_varint(w, m->bias);
	silt_writer_varint(w, m->generation);
	silt_writer_u8(w, m->unloaded);
	silt_writer_varint(w, m->range_count);
	for (k = 0; k < m->range_count; k++) {
		const struct silt_range *r = &s->ranges[m->range_first + k];

		silt_writer_varint(w, r->start);
		silt_writer_varint(w, r->end - r->start);
		silt_writer_varint(w, r->file_offset);
		silt_writer_varint(w, r->prot);
	}
}

/* Differences to the record before: neighbours are alike. The first record of a chunk has none before it, so that every
 * chunk can be read alone. */
static void put_frame(const struct silt_snapshot *s, uint64_t i, const struct silt_frame *before, struct silt_writer *w)
{
	const struct silt_frame *f = &s->frames[i];

	silt_writer_svarint(w, (int64_t)(f->module + 1) - (int64_t)(before->module + 1)); /* + 1: SILT_NONE becomes 0 */
	silt_writer_varint(w, f->flags);
	silt_writer_svarint(w, (int64_t)(f->offset - before->offset));
}

/* Outermost frames shared with the stack before are only counted. */
static void put_stack(const struct silt_snapshot *s, uint64_t i, const struct silt_stack *before, struct silt_writer *w)
{
	const struct silt_stack *st = &s->stacks[i];
	const uint32_t *f = s->stack_frames + st->frame_first, *b = s->stack_frames + before->frame_first;
	uint32_t shared = 0, k, last = 0;

	while (shared < st->frame_count && shared < before->frame_count &&
	       f[st->frame_count - 1 - shared] == b[before->frame_count - 1 - shared])
		shared++;
	silt_writer_varint(w, st->flags);
	silt_writer_varint(w, st->frame_count);
	silt_writer_varint(w, shared);
	for (k = 0; k < st->frame_count - shared; k++) {
		silt_writer_svarint(w, (int64_t)f[k] - (int64_t)last);
		last = f[k];
	}
}

static void put_thread(const struct silt_snapshot *s, uint64_t i, struct silt_writer *w)
{
	silt_writer_varint(w, s->threads[i].tid);
	put_text(w, s->threads[i].name);
	silt_writer_u8(w, s->threads[i].exited);
}

static void put_context(const struct silt_snapshot *s, uint64_t i, const struct silt_context *before,
			struct silt_writer *w)
{
	const struct silt_context *c = &s->contexts[i];

	silt_writer_svarint(w, (int64_t)c->stack - (int64_t)before->stack);
	silt_writer_svarint(w, (int64_t)c->epoch - (int64_t)before->epoch);
	silt_writer_varint(w, (uint32_t)(c->thread + 1));
	silt_writer_varint(w, c->kind);
	silt_writer_varint(w, c->live_count);
	silt_writer_varint(w, c->live_bytes);
	silt_writer_svarint(w, (int64_t)(c->alloc_count - c->live_count));
	silt_writer_svarint(w, (int64_t)(c->alloc_bytes - c->live_bytes));
}

static void put_region(const struct silt_snapshot *s, uint64_t i, const struct silt_region *before,
		       struct silt_writer *w)
{
	const struct silt_region *r = &s->regions[i];

	silt_writer_svarint(w, (int64_t)(r->start - before->end));
	silt_writer_varint(w, r->end - r->start);
	silt_writer_varint(w, r->file_offset);
	silt_writer_varint(w, r->prot);
	silt_writer_u8(w, r->shared);
	silt_writer_varint(w, r->dev_major);
	silt_writer_varint(w, r->dev_minor);
	silt_writer_varint(w, r->inode);
	put_text(w, r->name);
}

static void put_mark(const struct silt_snapshot *s, uint64_t i, struct silt_writer *w)
{
	const struct silt_mark *m = &s->marks[i];

	put_text(w, m->name);
	silt_writer_svarint(w, m->time_ns);
	silt_writer_varint(w, m->epoch);
	silt_writer_varint(w, m->tid);
}

static void put_type(const struct silt_snapshot *s, uint64_t i, const struct silt_type *before, struct silt_writer *w)
{
	const struct silt_type *t = &s->types[i];

	silt_writer_varint(w, t->context - before->context);
	silt_writer_varint(w, (uint32_t)(t->module + 1));
	silt_writer_varint(w, t->offset);
	put_text(w, t->name);
}

static void put_counter(const struct silt_snapshot *s, uint64_t i, struct silt_writer *w)
{
	put_text(w, s->counters[i].name);
	silt_writer_varint(w, s->counters[i].value);
}

static void put_record(const struct silt_snapshot *s, enum dump_section section, uint64_t i, bool fresh,
		       struct silt_writer *w)
{
	static const struct silt_frame no_frame = {SILT_NONE, 0, 0};
	static const struct silt_stack no_stack;
	static const struct silt_context no_context;
	static const struct silt_region no_region;
	static const struct silt_type no_type;

	switch (section) {
	case DUMP_PROCESS:
		put_process(s, i, w);
		return;
	case DUMP_MODULES:
		put_module(s, i, w);
		return;
	case DUMP_FRAMES:
		put_frame(s, i, fresh ? &no_frame : &s->frames[i - 1], w);
		return;
	case DUMP_STACKS:
		put_stack(s, i, fresh ? &no_stack : &s->stacks[i - 1], w);
		return;
	case DUMP_THREADS:
		put_thread(s, i, w);
		return;
	case DUMP_CONTEXTS:
		put_context(s, i, fresh ? &no_context : &s->contexts[i - 1], w);
		return;
	case DUMP_REGIONS:
		put_region(s, i, fresh ? &no_region : &s->regions[i - 1], w);
		return;
	case DUMP_MARKS:
		put_mark(s, i, w);
		return;
	case DUMP_COUNTERS:
		put_counter(s, i, w);
		return;
	case DUMP_NOTES:
		put_text(w, s->notes[i]);
		return;
	case DUMP_TYPES:
		put_type(s, i, fresh ? &no_type : &s->types[i - 1], w);
		return;
	default:
		w->failed = true; /* no table: a bug of the caller */
	}
}

uint64_t dump_table_count(const struct silt_snapshot *s, enum dump_section section)
{
	switch (section) {
	case DUMP_PROCESS:
		return 1;
	case DUMP_MODULES:
		return s->module_count;
	case DUMP_FRAMES:
		return s->frame_count;
	case DUMP_STACKS:
		return s->stack_count;
	case DUMP_THREADS:
		return s->thread_count;
	case DUMP_CONTEXTS:
		return s->context_count;
	case DUMP_REGIONS:
		return s->region_count;
	case DUMP_MARKS:
		return s->mark_count;
	case DUMP_COUNTERS:
		return s->counter_count;
	case DUMP_NOTES:
		return s->note_count;
	case DUMP_TYPES:
		return s->type_count;
	default:
		return 0;
	}
}

uint32_t dump_table_encode(const struct silt_snapshot *s, enum dump_section section, uint64_t first,
			   struct silt_writer *w)
{
	uint64_t total = dump_table_count(s, section), frames = 0;
	uint32_t n = 0;

	while (first + n < total && n < DUMP_CHUNK_RECORDS && w->size < DUMP_CHUNK_RAW_GOAL && silt_writer_ok(w)) {
		if (section == DUMP_STACKS) {
			frames += s->stacks[first + n].frame_count;
			if (n && frames > DUMP_CHUNK_STACK_FRAMES)
				break;
		}
		put_record(s, section, first + n, !n, w);
		n++;
	}
	return n;
}
