/* SPDX-License-Identifier: MIT */
/*
 * What the agent keeps per thread, found by the thread pointer: no TLS segment, so the agent needs no dynamic loader to
 * set it up and no room in the static TLS block. A thread that ends leaves its record to the next one with the same thread
 * pointer (the C library reuses stacks); all in it is checked against memory before use, so nothing need be told.
 */
#include "capture/agent/agent.h"
#include "capture/agent/walk.h"

#define CACHE_FIRST 64u
#define CACHE_MAX 131072u

void thread_many(void)
{
	if (agent_hot.single_tp == AGENT_NOBODY)
		agent_hot.single_kept = 0;
	else
		agent_hot.single_tp = 0;
}

void thread_only(uint64_t tp, struct agent_thread *t)
{
	static const struct agent_thread none = { .busy = 1 };

	agent_hot.single_thread = t ? t : (struct agent_thread *)(uintptr_t)&none;
	ATOMIC_RELEASE(&agent_hot.single_tp, tp);
}

static struct silt_db_thread *shared_new(uint32_t *ret_index)
{
	struct silt_db *db = agent_db();
	struct silt_db_thread *table = db_at(db->thread_ref);
	uint32_t i = ATOMIC_LOAD(&db->thread_count);

	while (i < SILT_DB_THREADS_MAX && !atomic_cas32(&db->thread_count, i, i + 1))
		i = ATOMIC_LOAD(&db->thread_count);
	if (i >= SILT_DB_THREADS_MAX) {
		agent_lost(SILT_LOST_THREADS);
		return NULL;
	}
	*ret_index = i + 1;
	return &table[i];
}

static struct agent_thread *thread_new(uint64_t tp)
{
	uint32_t frames = agent_hot.options.max_depth + 1; /* and the closing one */
	uint64_t head = (sizeof(struct agent_thread) + 63) & ~63ull;
	uint32_t index, ref, cache;
	struct silt_db_thread *shared = shared_new(&index);
	struct agent_thread *t;

	if (!shared)
		return NULL;
	ref = db_alloc(head + frames * (3 * sizeof(struct walk_frame) + 2 * sizeof(uint64_t)));
	cache = db_alloc(CACHE_FIRST * sizeof(struct silt_db_cache_entry));
	if (!ref || !cache)
		return NULL;
	t = db_at(ref);
	t->spare = (struct walk_frame *)(void *)((uint8_t *)t + head);
	t->anew_list.frame = t->spare + frames;
	t->nested_list.frame = t->anew_list.frame + frames;
	t->anew_list.tail = (uint64_t *)(void *)(t->nested_list.frame + frames);
	t->nested_list.tail = t->anew_list.tail + frames;
	walk_shallow_forget(t);
	if (!walk_memos(t, WALK_MEMOS))
		return NULL;
	t->memo_multiplier = RULE_MUL;
	t->cache = db_at(cache);
	t->cache_mask = CACHE_FIRST - 1;
	t->index = index;
	t->birth = ATOMIC_LOAD(&agent_hot.births);
	t->tid = agent_no_syscalls ? 0 : (uint32_t)sys_gettid();
	t->random = tp * RULE_MUL ^ agent_db()->session[0];
	t->shared = shared;
	shared->tid = t->tid;
	shared->cache_size = CACHE_FIRST;
	ATOMIC_RELEASE(&shared->cache_ref, cache);
	return t;
}

/* Claims a place for tp. The owner alone writes its thread, so no other thread can read a foreign one. */
static struct agent_tp_slot *slot_find(uint64_t tp)
{
	struct agent_tp_slot *s = &agent_hot.tp_small[(tp * RULE_MUL) >> 54];

	if (s->tp == tp || (!s->tp && atomic_cas64(&s->tp, 0, tp)))
		return s;
	for (uint32_t i = 0; i < AGENT_TP_LARGE; i++) {
		s = &agent_hot.tp_large[((tp * RULE_MUL >> 48) + i) & (AGENT_TP_LARGE - 1)];
		if (s->tp == tp || (!s->tp && atomic_cas64(&s->tp, 0, tp)))
			return s;
	}
	return NULL;
}

struct agent_thread *thread_find_slow(uint64_t tp)
{
	struct agent_tp_slot *s = slot_find(tp);

	if (!s)
		return NULL;
	if (!s->thread) {
		if (agent_single() != tp)
			thread_many();
		s->thread = thread_new(tp);
		if (agent_single() == tp && s->thread)
			agent_hot.single_thread = s->thread;
	}
	return s->thread;
}

static void cache_flush(struct silt_db_cache_entry *e)
{
	uint64_t count = e->alloc_count, bytes = e->alloc_bytes;
	bool alone = agent_alone();
	struct silt_db_context *c;

	if (!e->context || !count)
		return;
	c = stack_context(e->context);
	e->alloc_count = 0;
	e->alloc_bytes = 0;
	shared_add64(alone, &c->alloc_count, count);
	shared_add64(alone, &c->alloc_bytes, bytes);
}

/* Two places make a set, one cache line. The first that holds key, or the one to put it into. */
static ALWAYS_INLINE struct silt_db_cache_entry *cache_place(struct silt_db_cache_entry *cache, uint32_t mask, uint64_t key)
{
	struct silt_db_cache_entry *set = &cache[key & mask & ~1u];

	uint64_t second = set[1].hash == key;

	__asm__("" : "+r"(second)); /* no branch: it could not be foreseen */
	if (LIKELY(set[second].hash == key))
		return set + second;
	if (!set[1].context)
		return set + 1;
	return set + (key >> 63); /* which one goes is as good as random */
}

/* Four times the places, when the old ones keep throwing each other out. */
static COLD void cache_grow(struct agent_thread *t)
{
	uint32_t old_size = t->cache_mask + 1, size = old_size * 4;
	uint32_t ref = db_alloc(size * sizeof(struct silt_db_cache_entry));
	struct silt_db_cache_entry *fresh;

	if (!ref)
		return;
	fresh = db_at(ref);
	for (uint32_t i = 0; i < old_size; i++) {
		struct silt_db_cache_entry *e = &t->cache[i];

		cache_flush(e);
		if (e->context)
			*cache_place(fresh, size - 1, e->hash) = *e;
	}
	walk_uncount(t); /* memos point into the old cache */
	t->cache = fresh;
	IN_ORDER(); /* never more than there are */
	t->cache_mask = size - 1;
	t->shared->cache_size = 0; /* between the two the reader sees no cache: all counts are flushed */
	ATOMIC_RELEASE(&t->shared->cache_ref, ref);
	ATOMIC_RELEASE(&t->shared->cache_size, size);
}

void thread_identify(struct agent_thread *t)
{
	uint32_t births = ATOMIC_LOAD(&agent_hot.births), tid, index;
	struct silt_db_thread *fresh;

	if (t->birth == births || agent_no_syscalls)
		return;
	tid = (uint32_t)sys_gettid();
	if (tid == t->tid || !(fresh = shared_new(&index))) {
		t->birth = births;
		return;
	}
	for (uint32_t i = 0; i <= t->cache_mask; i++) {
		cache_flush(&t->cache[i]);
		t->cache[i].context = 0;
		t->cache[i].hash = 0;
	}
	walk_uncount(t);
	fresh->tid = tid;
	fresh->cache_ref = t->shared->cache_ref;
	/* The cache is never that of two, wherever a handler jumps away from here: cache_repair gives it back to the one in use. */
	ATOMIC_RELEASE(&t->shared->cache_size, 0);
	t->index = index;
	t->tid = tid;
	IN_ORDER();
	t->shared = fresh;
	ATOMIC_RELEASE(&fresh->cache_size, t->cache_mask + 1);
	IN_ORDER();
	t->birth = births;
}

struct silt_db_cache_entry *thread_cache_get(struct agent_thread *t, uint64_t key, struct walk_list *w,
					     const struct stack_use *use)
{
	struct silt_db_cache_entry *e = cache_place(t->cache, t->cache_mask, key);

	if (LIKELY(e->hash == key))
		return e;
	if (e->context && ++t->evictions > t->cache_mask && t->cache_mask + 1 < CACHE_MAX) {
		t->evictions = 0;
		cache_grow(t);
		e = cache_place(t->cache, t->cache_mask, key);
		if (e->hash == key)
			return e;
	}
	cache_flush(e);
	e->context = 0;
	IN_ORDER(); /* see cache_repair */
	e->hash = key;
	e->epoch = use->epoch;
	ATOMIC_RELEASE(&e->context, stack_intern(t, key, w, use));
	return e;
}
