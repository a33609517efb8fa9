/* SPDX-License-Identifier: MIT */
/* A walked heap as contexts, types and blocks: one context for each type, and one for what has none. */
#include <stdlib.h>

#include "base/arena.h"
#include "capture/decode_internal.h"
#include "capture/untracked.h"

static int no_memory(struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "out of memory for the walked heap");
}

/* Context 0: no type; context i + 1: type i. All share the one stack that is none. */
static int decode_contexts(struct silt_decode *d, const struct silt_walked *w, struct silt_error *err)
{
	struct silt_snapshot *s = d->s;
	uint64_t count = (uint64_t)w->type_count + 1;

	s->stacks = silt_snapshot_array(s, 1, sizeof(*s->stacks));
	s->contexts = silt_snapshot_array(s, count, sizeof(*s->contexts));
	s->types = silt_snapshot_array(s, count, sizeof(*s->types));
	if (!s->stacks || !s->contexts || !s->types)
		return no_memory(err);
	s->stacks[0].flags = SILT_STACK_UNTRACKED;
	s->stack_count = 1;
	s->context_count = (uint32_t)count;
	s->type_count = w->type_count;
	for (uint32_t i = 0; i < count; i++)
		s->contexts[i] = (struct silt_context){ .thread = SILT_NONE, .kind = SILT_KIND_HEAP };
	for (uint32_t i = 0; i < w->type_count; i++) {
		struct silt_type *t = &s->types[i];

		t->context = i + 1;
		t->module = silt_decode_module_of(d, w->types[i].vtable, 0);
		t->offset = w->types[i].vtable - (t->module == SILT_NONE ? 0 : s->modules[t->module].bias);
		t->name = silt_snapshot_string(s, w->types[i].name);
		if (w->types[i].name && !t->name)
			return no_memory(err);
	}
	for (uint64_t i = 0; i < w->count; i++) {
		struct silt_context *c = &s->contexts[w->type[i]];

		c->alloc_count = ++c->live_count;
		c->alloc_bytes = c->live_bytes += w->size[i];
	}
	return 0;
}

/* The columns change hands: they may be most of the memory there is. */
static int take_columns(struct silt_snapshot *s, struct silt_walked *w, bool with_blocks, struct silt_error *err)
{
	s->has_blocks = w->walked;
	if (!with_blocks || !w->count)
		return 0;
	if (silt_arena_adopt(s->arena, w->addr))
		return no_memory(err);
	s->blocks.addr = w->addr;
	w->addr = NULL;
	if (silt_arena_adopt(s->arena, w->size))
		return no_memory(err);
	s->blocks.size = w->size;
	w->size = NULL;
	if (silt_arena_adopt(s->arena, w->type))
		return no_memory(err);
	s->blocks.context = w->type;
	w->type = NULL;
	s->blocks.count = w->count;
	return 0;
}

static int write_counters(struct silt_snapshot *s, const struct silt_walked *w, struct silt_error *err)
{
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{ "heap.system_bytes", w->system_bytes }, { "heap.free_bytes", w->free_bytes },
		{ "heap.cached_bytes", w->cached_bytes }, { "heap.own_bytes", w->own_bytes },
		{ "heap.unknown_bytes", w->unknown_bytes },
	};
	int rc = 0;

	for (size_t i = 0; i < SILT_ARRAY_LEN(counters) && !rc; i++)
		rc = silt_snapshot_counter(s, counters[i].name, counters[i].value, err);
	for (size_t i = 0; i < w->notes.count && !rc; i++)
		rc = silt_snapshot_note(s, err, "%s", w->notes.items[i]);
	return rc;
}

int silt_decode_walked(struct silt_decode *d, struct silt_walked *w, bool with_blocks, struct silt_error *err)
{
	int rc = w->walked ? decode_contexts(d, w, err) : 0;

	if (!rc)
		rc = take_columns(d->s, w, with_blocks, err);
	if (!rc)
		rc = write_counters(d->s, w, err);
	if (!rc) {
		d->s->process.allocator = silt_snapshot_string(d->s, w->allocator);
		d->s->process.libc = w->libc[0] ? silt_snapshot_string(d->s, w->libc) : NULL;
	}
	return rc;
}
