/* SPDX-License-Identifier: MIT */
/* The promises every snapshot keeps: checked before writing one and after reading one. */
#include <inttypes.h>

#include "formats/snapshot_internal.h"

static int bad(const char *who, const char *what, uint64_t i, struct silt_error *err)
{
	return silt_error_set(err, SILT_E_BAD_DATA, "%s: %s %" PRIu64 " is not possible", who, what, i);
}

static int check_modules(const struct silt_snapshot *s, const char *who, struct silt_error *err)
{
	uint32_t i;

	for (i = 0; i < s->module_count; i++) {
		const struct silt_module *m = &s->modules[i];

		if (m->range_first > s->range_count || m->range_count > s->range_count - m->range_first)
			return bad(who, "the address ranges of module", i, err);
		if (!m->path || m->build_id_len > SILT_BUILD_ID_MAX || (m->build_id_len && !m->build_id))
			return bad(who, "the path or build-id of module", i, err);
	}
	for (i = 0; i < s->range_count; i++)
		if (s->ranges[i].start > s->ranges[i].end)
			return bad(who, "address range", i, err);
	return 0;
}

static int check_stacks(const struct silt_snapshot *s, const char *who, struct silt_error *err)
{
	uint32_t i;

	for (i = 0; i < s->frame_count; i++)
		if (s->frames[i].module >= s->module_count && s->frames[i].module != SILT_NONE)
			return bad(who, "the module of frame", i, err);
	for (i = 0; i < s->stack_frame_count; i++)
		if (s->stack_frames[i] >= s->frame_count)
			return bad(who, "the frame at stack position", i, err);
	for (i = 0; i < s->stack_count; i++) {
		const struct silt_stack *st = &s->stacks[i];

		if (st->frame_first > s->stack_frame_count || st->frame_count > s->stack_frame_count - st->frame_first)
			return bad(who, "the frames of stack", i, err);
		if (st->frame_count > SILT_STACK_FRAMES_MAX)
			return bad(who, "the depth of stack", i, err);
	}
	return 0;
}

int silt_snapshot_check(const struct silt_snapshot *s, const char *who, struct silt_error *err)
{
	uint32_t i;
	int ret = check_modules(s, who, err);

	if (!ret)
		ret = check_stacks(s, who, err);
	if (ret)
		return ret;
	for (i = 0; i < s->context_count; i++) {
		const struct silt_context *c = &s->contexts[i];

		if (c->stack >= s->stack_count)
			return bad(who, "the stack of context", i, err);
		if (c->thread >= s->thread_count && c->thread != SILT_NONE)
			return bad(who, "the thread of context", i, err);
		if (c->kind > SILT_KIND_POOL)
			return bad(who, "the kind of context", i, err);
	}
	for (i = 0; i < s->type_count; i++) {
		const struct silt_type *t = &s->types[i];

		if (t->context >= s->context_count || (i && t->context <= t[-1].context))
			return bad(who, "the context of type", i, err);
		if (t->module >= s->module_count && t->module != SILT_NONE)
			return bad(who, "the module of type", i, err);
	}
	for (i = 0; i < s->region_count; i++)
		if (s->regions[i].start > s->regions[i].end)
			return bad(who, "region", i, err);
	for (i = 0; i < s->mark_count; i++)
		if (!s->marks[i].name)
			return bad(who, "the name of mark", i, err);
	for (i = 0; i < s->counter_count; i++)
		if (!s->counters[i].name)
			return bad(who, "the name of counter", i, err);
	for (i = 0; i < s->note_count; i++)
		if (!s->notes[i])
			return bad(who, "note", i, err);
	return 0;
}
