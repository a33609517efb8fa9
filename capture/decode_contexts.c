/* SPDX-License-Identifier: MIT */
/* Contexts, stacks and frames out of a trace database. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "capture/decode_internal.h"

/* A database of the largest allowed size, shared well, stays far below this; a damaged one must not take all memory. */
#define STACK_FRAMES_MAX (128u << 20)
#define FRAMES_EXPECTED 48u /* of a stack */
#define FRAMES_EXPECTED_MAX ((size_t)64 << 20)

static const struct silt_db_context *db_context(struct silt_decode *d, uint32_t i)
{
	uint32_t ref = d->db->context_segs[i / SILT_DB_CONTEXT_SEG];
	const struct silt_db_context *seg = NULL;

	/* Numbers are taken before there is memory for them: a full database has some without. */
	if (ref)
		seg = silt_decode_at(d, ref, SILT_DB_CONTEXT_SEG * sizeof(*seg));
	return seg ? &seg[i % SILT_DB_CONTEXT_SEG] : NULL;
}

static const struct silt_db_node *db_node(struct silt_decode *d, uint32_t i)
{
	const struct silt_db_node *seg;

	if (i >= d->node_count)
		return NULL;
	seg = silt_decode_at(d, d->db->node_segs[i / SILT_DB_NODE_SEG], SILT_DB_NODE_SEG * sizeof(*seg));
	return seg ? &seg[i % SILT_DB_NODE_SEG] : NULL;
}

/* Adds the counts that a thread's cache has not flushed yet. */
static void add_cache(struct silt_decode *d, const struct silt_db_thread *t, uint64_t *budget)
{
	uint64_t bytes = (uint64_t)t->cache_size * sizeof(struct silt_db_cache_entry);
	const struct silt_db_cache_entry *cache;

	if (!t->cache_ref || bytes > *budget)
		return;
	*budget -= bytes;
	cache = silt_decode_at(d, t->cache_ref, bytes);
	for (uint32_t i = 0; cache && i < t->cache_size; i++) {
		if (!cache[i].context || cache[i].context >= d->context_count)
			continue;
		d->sums[cache[i].context].alloc_count += cache[i].alloc_count;
		d->sums[cache[i].context].alloc_bytes += cache[i].alloc_bytes;
	}
}

int silt_decode_counts(struct silt_decode *d, struct silt_error *err)
{
	const struct silt_db_thread *threads = NULL;
	uint64_t budget = d->size; /* caches do not overlap in a sound database */

	d->kinds = calloc((size_t)d->context_count + 1, 1);
	d->sums = calloc((size_t)d->context_count + 1, sizeof(*d->sums));
	if (d->options.sample_bytes)
		d->estimates = calloc((size_t)d->context_count + 1, sizeof(*d->estimates));
	if (!d->kinds || !d->sums || (d->options.sample_bytes && !d->estimates))
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for %u contexts", d->context_count);
	for (uint32_t i = 1; i < d->context_count; i++) {
		const struct silt_db_context *c = db_context(d, i);

		if (!c)
			continue;
		d->sums[i].alloc_count = c->alloc_count;
		d->sums[i].alloc_bytes = c->alloc_bytes;
		d->kinds[i] = SILT_DB_CONTEXT_KIND(c->flags) <= SILT_KIND_POOL ? SILT_DB_CONTEXT_KIND(c->flags) :
										  SILT_KIND_HEAP;
		d->has_pools |= d->kinds[i] == SILT_KIND_POOL;
	}
	if (d->db->thread_ref && d->thread_count)
		threads = silt_decode_at(d, d->db->thread_ref, d->thread_count * sizeof(*threads));
	for (uint32_t i = 0; threads && i < d->thread_count; i++)
		add_cache(d, &threads[i], &budget);
	return 0;
}

/* The snapshot's frame for a pc word; SILT_NONE when out of memory. */
static uint32_t frame_of(struct silt_decode *d, uint64_t pcword)
{
	struct silt_frame frame = { SILT_NONE, 0, pcword & SILT_DB_PC_MASK };
	bool fresh;
	uint32_t *slot = silt_map_slot(&d->frame_of_pc, pcword, (uint32_t)d->frames.count, &fresh);
	uint32_t number;

	if (!slot)
		return SILT_NONE;
	number = *slot;
	if (!fresh)
		return number;
	frame.module = silt_decode_module_of(d, frame.offset, SILT_DB_PC_GENERATION(pcword));
	if (frame.module != SILT_NONE)
		frame.offset -= d->s->modules[frame.module].bias;
	if (pcword & SILT_DB_PC_INTERRUPTED)
		frame.flags |= SILT_FRAME_INTERRUPTED;
	return silt_vec_push(&d->frames, frame) ? number : SILT_NONE;
}

/* Appends the frames from where `place` is outward. */
static bool add_shared(struct silt_decode *d, struct silt_decode_place place)
{
	if (!silt_vec_reserve(&d->stack_frames, d->stack_frames.count + place.count))
		return false;
	memcpy(d->stack_frames.items + d->stack_frames.count, d->stack_frames.items + place.at,
	       place.count * sizeof(*d->stack_frames.items));
	d->stack_frames.count += place.count;
	return true;
}

/* Notes for the first `count` nodes of the stack that begins at node where their frames stand. */
static void note_places(struct silt_decode *d, uint32_t node, uint32_t count, const struct silt_stack *st)
{
	for (uint32_t i = 0; i < count; i++) {
		d->places[node].at = st->frame_first + i;
		d->places[node].count = st->frame_count - i;
		node = db_node(d, node)->parent;
	}
}

/* Appends the frames of the nodes from *node outward, up to one that was met before, and leaves that in *node (0: none), or the one
 * where the chain is cut: longer than any stack can be is a cycle. *ret_count: so many frames. */
static int add_nodes(struct silt_decode *d, uint32_t *node, uint32_t *ret_count, bool *ret_cut, struct silt_error *err)
{
	uint32_t count = 0;

	while (*node && !(*node < d->node_count && d->places[*node].count)) {
		const struct silt_db_node *n = db_node(d, *node);
		uint32_t frame;

		if (!n || count > SILT_DB_MAX_DEPTH || d->stack_frames.count >= STACK_FRAMES_MAX) {
			*ret_cut = true;
			break;
		}
		frame = frame_of(d, n->pcword);
		if (frame == SILT_NONE || !silt_vec_push(&d->stack_frames, frame))
			return silt_error_set(err, SILT_E_NOMEM, "out of memory for the stacks");
		count++;
		*node = n->parent;
	}
	*ret_count = count;
	return 0;
}

/* Appends the stack that begins at node. */
static int add_stack(struct silt_decode *d, uint32_t node, uint32_t flags, struct silt_error *err)
{
	struct silt_stack st = { (uint32_t)d->stack_frames.count, 0, flags };
	uint32_t first = node, fresh = 0;
	bool cut = false;
	int rc = add_nodes(d, &node, &fresh, &cut, err);

	if (rc)
		return rc;
	st.frame_count = fresh;
	if (!cut && node) {
		struct silt_decode_place place = d->places[node];

		cut = fresh + place.count > SILT_DB_MAX_DEPTH + 1 || d->stack_frames.count + place.count > STACK_FRAMES_MAX;
		if (!cut && !add_shared(d, place))
			return silt_error_set(err, SILT_E_NOMEM, "out of memory for the stacks");
		st.frame_count += cut ? 0 : place.count;
	}
	if (cut) {
		st.flags |= SILT_STACK_BROKEN;
		d->cut_stacks++;
	} else {
		note_places(d, first, fresh, &st); /* what was cut may be whole elsewhere */
	}
	if (!silt_vec_push(&d->stacks, st))
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the stacks");
	return 0;
}

static uint64_t round_weight(double x)
{
	return x < 0 ? 0 : x > 9e18 ? (uint64_t)9e18 : (uint64_t)llround(x);
}

/* Adds database context i's figures to the snapshot's context. */
static void add_sums(const struct silt_decode *d, uint32_t i, struct silt_context *c)
{
	struct silt_decode_sums sums = d->sums[i];

	if (d->estimates) {
		sums.live_count = round_weight(d->estimates[i].count);
		sums.live_bytes = round_weight(d->estimates[i].bytes);
		sums.alloc_count = (sums.alloc_count + 128) / 256;
	}
	/* An allocation may be in flight between its two records, and estimates are rounded: what lives was allocated. */
	if (sums.alloc_count < sums.live_count)
		sums.alloc_count = sums.live_count;
	if (sums.alloc_bytes < sums.live_bytes)
		sums.alloc_bytes = sums.live_bytes;
	c->live_count += sums.live_count;
	c->live_bytes += sums.live_bytes;
	c->alloc_count += sums.alloc_count;
	c->alloc_bytes += sums.alloc_bytes;
}

struct keys { /* what has been seen, to number it once */
	struct silt_map stacks;   /* node | flags << 32, where it is not that which `places` names */
	uint32_t *first;          /* by stack: its first context + 1; most have no other */
	struct silt_map contexts; /* of the others: hash of stack, epoch, kind, thread -> first candidate */
	uint32_t *chain;          /* next context of the same hash + 1, by snapshot context */
};

/* The number of the stack that begins at node, which is added when new. */
static int find_stack(struct silt_decode *d, struct keys *k, uint32_t node, uint32_t flags, uint32_t *ret, struct silt_error *err)
{
	struct silt_decode_place *place = node < d->node_count ? &d->places[node] : NULL;
	uint32_t *slot;
	bool fresh = true;

	*ret = (uint32_t)d->stacks.count;
	if (place && !place->stack) { /* the first that begins here: nearly all */
		place->stack = *ret + 1;
		return add_stack(d, node, flags, err);
	}
	if (place && d->stacks.items[place->stack - 1].flags == flags) {
		*ret = place->stack - 1;
		return 0;
	}
	slot = silt_map_slot(&k->stacks, node | (uint64_t)flags << 32, *ret, &fresh);
	if (!slot)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the stacks");
	*ret = *slot;
	return fresh ? add_stack(d, node, flags, err) : 0;
}

static bool same_context(const struct silt_context *a, const struct silt_context *b)
{
	return a->stack == b->stack && a->epoch == b->epoch && a->kind == b->kind && a->thread == b->thread;
}

/* The number of a context whose stack has one already. */
static uint32_t find_another(struct silt_decode *d, struct keys *k, const struct silt_context *want)
{
	uint64_t hash = silt_hash_add(silt_hash_add(silt_hash_add(want->stack, want->epoch), want->kind), want->thread);
	bool fresh;
	uint32_t number = (uint32_t)d->contexts.count;
	uint32_t *slot = silt_map_slot(&k->contexts, hash, number, &fresh);

	if (!slot)
		return SILT_NONE;
	for (uint32_t i = *slot; !fresh; i = k->chain[i] - 1) {
		if (same_context(&d->contexts.items[i], want))
			return i;
		if (!k->chain[i]) {
			k->chain[i] = number + 1;
			break;
		}
	}
	return silt_vec_push(&d->contexts, *want) ? number : SILT_NONE;
}

static uint32_t find_context(struct silt_decode *d, struct keys *k, const struct silt_context *want)
{
	uint32_t first = k->first[want->stack], number = (uint32_t)d->contexts.count;

	if (first)
		return same_context(&d->contexts.items[first - 1], want) ? first - 1 : find_another(d, k, want);
	k->first[want->stack] = number + 1;
	return silt_vec_push(&d->contexts, *want) ? number : SILT_NONE;
}

static int add_context(struct silt_decode *d, struct keys *k, uint32_t i, struct silt_error *err)
{
	static const struct silt_db_context unknown = { .flags = SILT_DB_STACK_BROKEN };
	const struct silt_db_context *c = i < d->context_count ? db_context(d, i) : &unknown;
	struct silt_context out = { 0 };
	int rc;

	if (!c)
		c = &unknown;
	rc = find_stack(d, k, c->node, c->flags & 0xffff, &out.stack, err);
	if (rc)
		return rc;
	out.epoch = c->epoch;
	out.kind = d->kinds[i];
	out.thread = c->thread && c->thread <= d->thread_count ? d->thread_out[c->thread - 1] : SILT_NONE;
	d->context_out[i] = find_context(d, k, &out);
	if (d->context_out[i] == SILT_NONE)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the contexts");
	add_sums(d, i, &d->contexts.items[d->context_out[i]]);
	return 0;
}

static int move_to_snapshot(struct silt_decode *d, struct silt_error *err)
{
	struct silt_snapshot *s = d->s;

	/* What was taken for more is given back. */
#define MOVE(field, count_field, vec)                                                             \
	do {                                                                                       \
		void *fit = (vec).count ? realloc((vec).items, (vec).count * sizeof(*(vec).items)) : NULL; \
		(vec).items = fit ? fit : (vec).items;                                             \
		if (silt_arena_adopt(s->arena, (vec).items))                                       \
			return silt_error_set(err, SILT_E_NOMEM, "out of memory for the stacks");  \
		s->field = (vec).items ? (vec).items : silt_snapshot_array(s, 0, 1);               \
		s->count_field = (uint32_t)(vec).count;                                            \
		(vec).items = NULL;                                                                \
		silt_vec_free(&(vec));                                                             \
	} while (0)
	MOVE(frames, frame_count, d->frames);
	MOVE(stack_frames, stack_frame_count, d->stack_frames);
	MOVE(stacks, stack_count, d->stacks);
	MOVE(contexts, context_count, d->contexts);
#undef MOVE
	for (uint64_t i = 0; i < s->blocks.count; i++)
		s->blocks.context[i] = d->context_out[s->blocks.context[i]];
	return 0;
}

/* Takes room for what is to come, which costs nothing until it is written to: growing bit by bit costs page faults. What cannot be had
 * now is asked for again. */
static void expect(struct silt_decode *d)
{
	size_t frames = (size_t)d->context_count * FRAMES_EXPECTED;

	(void)silt_vec_reserve(&d->stacks, d->context_count);
	(void)silt_vec_reserve(&d->contexts, d->context_count);
	(void)silt_vec_reserve(&d->stack_frames, frames < FRAMES_EXPECTED_MAX ? frames : FRAMES_EXPECTED_MAX);
}

int silt_decode_contexts(struct silt_decode *d, struct silt_error *err)
{
	struct keys k = { .chain = calloc((size_t)d->context_count + 2, sizeof(*k.chain)),
			  .first = calloc((size_t)d->context_count + 2, sizeof(*k.first)) };
	int rc = 0;

	d->context_out = calloc((size_t)d->context_count + 1, sizeof(*d->context_out));
	d->places = calloc((size_t)d->node_count + 1, sizeof(*d->places));
	if (!k.chain || !k.first || !d->context_out || !d->places)
		rc = silt_error_set(err, SILT_E_NOMEM, "out of memory for the contexts");
	if (!rc)
		expect(d);
	/* Of two contexts made by a race for one stack, the second's figures are added to the first's. One that counted nothing
	 * says nothing. The last index gathers blocks whose context makes no sense. */
	for (uint32_t i = 1; !rc && i <= d->context_count; i++)
		if (d->sums[i].alloc_count || d->sums[i].live_count)
			rc = add_context(d, &k, i, err);
	if (!rc)
		rc = move_to_snapshot(d, err);
	free(d->places);
	d->places = NULL;
	silt_map_deinit(&k.stacks);
	silt_map_deinit(&k.contexts);
	free(k.chain);
	free(k.first);
	return rc;
}
