/* SPDX-License-Identifier: MIT */
/* Making a snapshot with missing parts whole again. */
#include "formats/dump_salvage.h"

#include <inttypes.h>
#include <string.h>

#include "base/limits.h"

static void compact_lists(struct silt_snapshot *s)
{
	uint32_t i, n;

	for (i = n = 0; i < s->region_count; i++)
		if (s->regions[i].start <= s->regions[i].end)
			s->regions[n++] = s->regions[i];
	s->region_count = n;
	for (i = n = 0; i < s->mark_count; i++)
		if (s->marks[i].name)
			s->marks[n++] = s->marks[i];
	s->mark_count = n;
	for (i = n = 0; i < s->counter_count; i++)
		if (s->counters[i].name)
			s->counters[n++] = s->counters[i];
	s->counter_count = n;
	for (i = n = 0; i < s->note_count; i++)
		if (s->notes[i])
			s->notes[n++] = s->notes[i];
	s->note_count = n;
	for (i = n = 0; i < s->type_count; i++)
		if (s->types[i].context < s->context_count && (!n || s->types[i].context > s->types[n - 1].context))
			s->types[n++] = s->types[i];
	s->type_count = n;
}

/* The number of the placeholder that comes behind the last frame; there is room for it. */
static uint32_t lost_frame(struct silt_snapshot *s, uint32_t *number)
{
	static const struct silt_frame frame = {SILT_NONE, 0, 0};

	if (*number == SILT_NONE) {
		s->frames[s->frame_count] = frame;
		*number = s->frame_count++;
	}
	return *number;
}

static uint32_t lost_stack(struct silt_snapshot *s, uint32_t *number)
{
	static const struct silt_stack stack = {0, 0, SILT_STACK_BROKEN};

	if (*number == SILT_NONE) {
		s->stacks[s->stack_count] = stack;
		*number = s->stack_count++;
	}
	return *number;
}

uint64_t dump_salvage_references(struct silt_snapshot *s)
{
	uint32_t frames = s->frame_count, stacks = s->stack_count, frame = SILT_NONE, stack = SILT_NONE, i;
	uint64_t dangling = 0;

	compact_lists(s);
	for (i = 0; i < s->frame_count; i++) {
		if (s->frames[i].module < s->module_count || s->frames[i].module == SILT_NONE)
			continue;
		s->frames[i].module = SILT_NONE;
		dangling++;
	}
	for (i = 0; i < s->type_count; i++) {
		if (s->types[i].module < s->module_count || s->types[i].module == SILT_NONE)
			continue;
		s->types[i].module = SILT_NONE;
		dangling++;
	}
	for (i = 0; i < s->stack_frame_count; i++) {
		if (s->stack_frames[i] < frames)
			continue;
		s->stack_frames[i] = lost_frame(s, &frame);
		dangling++;
	}
	for (i = 0; i < s->context_count; i++) {
		struct silt_context *c = &s->contexts[i];

		if (c->stack >= stacks) {
			c->stack = lost_stack(s, &stack);
			dangling++;
		}
		if (c->thread >= s->thread_count && c->thread != SILT_NONE) {
			c->thread = SILT_NONE;
			dangling++;
		}
	}
	return dangling;
}

uint64_t dump_salvage_contexts(struct silt_snapshot *s)
{
	struct silt_context lost = {.thread = SILT_NONE};
	uint32_t number = SILT_NONE, stack = SILT_NONE;
	uint64_t dangling = 0, i;

	for (i = 0; i < s->blocks.count; i++) {
		if (s->blocks.context[i] != SILT_NONE)
			continue;
		if (number == SILT_NONE) {
			uint32_t k;

			/* a stack that says "lost" may be there already */
			for (k = 0; k < s->stack_count && stack == SILT_NONE; k++)
				if (s->stacks[k].flags == SILT_STACK_BROKEN && !s->stacks[k].frame_count)
					stack = k;
			lost.stack = lost_stack(s, &stack);
			s->contexts[s->context_count] = lost;
			number = s->context_count++;
		}
		dangling++;
		s->blocks.context[i] = number;
		s->contexts[number].live_count++;
		s->contexts[number].live_bytes += s->blocks.size[i];
		s->contexts[number].alloc_count++;
		s->contexts[number].alloc_bytes += s->blocks.size[i];
	}
	return dangling;
}

int dump_salvage_notes(struct silt_snapshot *s, const struct dump_source *src, const struct dump_scan *sc,
		       const struct dump_losses *l, struct silt_error *err)
{
	uint64_t most = silt_limit_default(SILT_LIMIT_SALVAGE_NOTES);
	uint32_t before = s->note_count;
	size_t i;
	int ret = 0;

	if (sc->header_lost)
		ret = silt_snapshot_note(s, err, "%s is damaged: its header is not readable", src->name);
	for (i = 0; i < sc->holes.count && i < most && !ret; i++)
		ret = silt_snapshot_note(s, err, "%s is damaged: %" PRIu64 " bytes at +0x%" PRIx64 " are not readable",
					 src->name, sc->holes.items[i].size, sc->holes.items[i].offset);
	if (sc->holes.count > most && !ret)
		ret = silt_snapshot_note(s, err, "%s is damaged in %zu more places", src->name,
					 sc->holes.count - (size_t)most);
	if (!l->exact && !ret)
		ret = silt_snapshot_note(s, err, "%s has lost its index: more may be missing than is known", src->name);
	else if (!sc->complete && !ret)
		ret = silt_snapshot_note(s, err, "%s is cut short behind its index", src->name);
	for (i = 1; i < DUMP_SECTIONS && !ret; i++)
		if (l->records[i])
			ret = silt_snapshot_note(s, err, "%s: %s%" PRIu64 " records of its %s are lost", src->name,
						 l->exact ? "" : "at least ", l->records[i],
						 dump_section_name((unsigned)i));
	if (l->dangling && !ret)
		ret = silt_snapshot_note(s, err, "%s: %" PRIu64 " times something lost is referred to", src->name,
					 l->dangling);
	if (s->note_count == before && l->other.code && !ret)
		ret = silt_snapshot_note(s, err, "%s", l->other.msg);
	return ret;
}
