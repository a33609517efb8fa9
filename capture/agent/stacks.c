/* SPDX-License-Identifier: MIT */
/*
 * Interning of stacks and contexts in the shared tables. Only stacks that are new to a thread get here. Both tables are
 * found through hash levels: level k has 4096 << 2k places, a new entry goes to the newest level, a search looks through
 * all of them, newest first. So memory grows with the contents, nothing is ever rehashed, and a reader never waits.
 * Two threads that enter the same stack at once may both succeed: the reader of the database merges equal stacks.
 */
#include "capture/agent/agent.h"

#define PROBES 16u

/* A place holds a number and, above it, the first bits of its hash: what does not fit need not be fetched to be told apart. */
#define NODE_BITS 26
#define CONTEXT_BITS 24
#define TAGGED(id, hash, bits) ((id) | (uint32_t)((hash) >> 32) >> (bits) << (bits))
#define TAG_FITS(entry, hash, bits) (((entry) ^ (uint32_t)((hash) >> 32)) >> (bits) == 0)
#define ID_OF(entry, bits) ((entry) & ((1u << (bits)) - 1))

static struct silt_db_levels *node_levels(void)
{
	return db_at(agent_db()->node_hash_ref);
}

static struct silt_db_levels *context_levels(void)
{
	return db_at(agent_db()->context_hash_ref);
}

/* Counts memory for stacks and contexts against the user's limit. */
static bool meta_take(uint64_t bytes)
{
	struct silt_db *db = agent_db();

	if (ATOMIC_ADD(&db->meta_used, bytes) + bytes <= agent_hot.options.db_limit)
		return true;
	ATOMIC_ADD(&db->meta_used, -bytes);
	return false;
}

/* The segment's first byte, made when missing. */
static void *segment(uint32_t *refs, uint32_t k, uint64_t bytes)
{
	uint32_t ref = ATOMIC_ACQUIRE(&refs[k]);

	if (!ref) {
		if (!meta_take(bytes))
			return NULL;
		ref = db_alloc(bytes);
		if (!ref)
			return NULL;
		if (!atomic_cas32(&refs[k], 0, ref))
			ref = ATOMIC_ACQUIRE(&refs[k]);
	}
	return db_at(ref);
}

static struct silt_db_node *node_at(uint32_t i)
{
	struct silt_db *db = agent_db();

	return (struct silt_db_node *)db_at(db->node_segs[i / SILT_DB_NODE_SEG]) + i % SILT_DB_NODE_SEG;
}

struct silt_db_context *stack_context(uint32_t i)
{
	struct silt_db *db = agent_db();

	return (struct silt_db_context *)db_at(db->context_segs[i / SILT_DB_CONTEXT_SEG]) + i % SILT_DB_CONTEXT_SEG;
}

uint32_t stack_level_make(struct silt_db_levels *h, uint32_t k)
{
	uint64_t bytes = (uint64_t)SILT_DB_LEVEL_SIZE(k) * 4;
	uint32_t ref = meta_take(bytes) ? db_alloc(bytes) : 0;

	if (ref && !atomic_cas32(&h->ref[k], 0, ref))
		ref = ATOMIC_LOAD(&h->ref[k]);
	return ref;
}

/* Puts id into the newest level that has a place for it; makes the next one when it is crowded. */
static bool level_put(struct silt_db_levels *h, uint32_t *count, uint64_t hash, uint32_t entry)
{
	bool alone = agent_alone();

	for (uint32_t k = ATOMIC_LOAD(count); k <= SILT_DB_LEVELS; k++) {
		uint32_t size, *table;

		if (k) {
			size = SILT_DB_LEVEL_SIZE(k - 1);
			table = db_at(h->ref[k - 1]);
			for (uint32_t i = 0; i < PROBES; i++)
				if (shared_cas32(alone, &table[(hash + i) & (size - 1)], 0, entry))
					return true;
		}
		if (k == SILT_DB_LEVELS)
			return false;
		if (!ATOMIC_LOAD(&h->ref[k]) && !stack_level_make(h, k))
			return false;
		atomic_cas32(count, k, k + 1);
	}
	return false;
}

static uint32_t node_find(uint64_t hash, uint64_t pcword, uint32_t parent)
{
	struct silt_db_levels *h = node_levels();

	for (uint32_t k = ATOMIC_ACQUIRE(&agent_db()->node_levels); k-- > 0;) {
		const uint32_t *table = db_at(h->ref[k]);
		uint32_t size = SILT_DB_LEVEL_SIZE(k);

		for (uint32_t i = 0; i < PROBES; i++) {
			uint32_t entry = ATOMIC_ACQUIRE(&table[(hash + i) & (size - 1)]), id = ID_OF(entry, NODE_BITS);

			if (!entry)
				break;
			if (TAG_FITS(entry, hash, NODE_BITS) && node_at(id)->pcword == pcword && node_at(id)->parent == parent)
				return id;
		}
	}
	return 0;
}

/* Nodes just made that the hash levels do not lead to yet. Their places there are in as many cache lines, none of them at hand: they are
 * fetched side by side while the nodes are made. */
#define FRESH_MAX 16u
struct fresh_nodes {
	bool any; /* there were some: the last has no children yet that could be found, and looking costs a cache miss a level */
	uint32_t count;
	struct {
		uint64_t hash;
		uint32_t entry;
	} node[FRESH_MAX];
};

static bool fresh_enter(struct fresh_nodes *fresh)
{
	uint32_t n = fresh->count;

	fresh->count = 0;
	for (uint32_t i = 0; i < n; i++)
		if (!level_put(node_levels(), &agent_db()->node_levels, fresh->node[i].hash, fresh->node[i].entry))
			return false;
	return true;
}

static bool fresh_add(struct fresh_nodes *fresh, uint64_t hash, uint32_t id)
{
	uint32_t level = ATOMIC_LOAD(&agent_db()->node_levels);

	if (fresh->count == FRESH_MAX && !fresh_enter(fresh))
		return false;
	if (level)
		__builtin_prefetch((uint32_t *)db_at(node_levels()->ref[level - 1]) + (hash & (SILT_DB_LEVEL_SIZE(level - 1) - 1)), 1);
	fresh->node[fresh->count].hash = hash;
	fresh->node[fresh->count++].entry = TAGGED(id, hash, NODE_BITS);
	fresh->any = true;
	return true;
}

/* The node for pcword below parent, the last of `fresh` where there are some. 0: no room. */
static uint32_t node_intern(uint64_t pcword, uint32_t parent, struct fresh_nodes *fresh)
{
	struct silt_db *db = agent_db();
	uint64_t hash = stack_mix(pcword * RULE_MUL + parent);
	uint32_t id = fresh->any ? 0 : node_find(hash, pcword, parent);
	struct silt_db_node *seg;

	if (id)
		return id;
	/* A number once taken is never given back, even where no memory is found for it: the reader allows for gaps. */
	if (ATOMIC_LOAD(&db->node_count) >= SILT_DB_NODE_SEG * SILT_DB_NODE_SEGS - 65536)
		return 0;
	id = shared_add32(agent_alone(), &db->node_count, 1);
	seg = segment(db->node_segs, id / SILT_DB_NODE_SEG, SILT_DB_NODE_SEG * sizeof(*seg));
	if (!seg)
		return 0;
	seg[id % SILT_DB_NODE_SEG].pcword = pcword;
	seg[id % SILT_DB_NODE_SEG].parent = parent;
	return fresh_add(fresh, hash, id) ? id : 0;
}

static uint32_t context_find(uint64_t key)
{
	struct silt_db_levels *h = context_levels();
	uint64_t hash = stack_mix(key); /* what tells a stack's contexts apart is in the key's upper bits alone */

	for (uint32_t k = ATOMIC_ACQUIRE(&agent_db()->context_levels); k-- > 0;) {
		const uint32_t *table = db_at(h->ref[k]);
		uint32_t size = SILT_DB_LEVEL_SIZE(k);

		for (uint32_t i = 0; i < PROBES; i++) {
			uint32_t entry = ATOMIC_ACQUIRE(&table[(hash + i) & (size - 1)]), id = ID_OF(entry, CONTEXT_BITS);

			if (!entry)
				break;
			if (TAG_FITS(entry, hash, CONTEXT_BITS) && stack_context(id)->hash == key)
				return id;
		}
	}
	return 0;
}

static uint32_t context_new(uint64_t key, uint32_t node, uint32_t flags, const struct stack_use *use)
{
	struct silt_db *db = agent_db();
	struct silt_db_context *seg;
	uint64_t hash = stack_mix(key);
	uint32_t id;

	if (ATOMIC_LOAD(&db->context_count) >= SILT_DB_CONTEXT_SEG * SILT_DB_CONTEXT_SEGS - 65536)
		return 0;
	id = shared_add32(agent_alone(), &db->context_count, 1);
	seg = segment(db->context_segs, id / SILT_DB_CONTEXT_SEG, SILT_DB_CONTEXT_SEG * sizeof(*seg));
	if (!seg)
		return 0;
	seg += id % SILT_DB_CONTEXT_SEG;
	seg->node = node;
	seg->flags = flags | use->kind << 16;
	seg->epoch = use->epoch;
	seg->thread = use->thread;
	ATOMIC_RELEASE(&seg->hash, key);
	/* Not finding it again only means a second context with the same stack. */
	level_put(context_levels(), &agent_db()->context_levels, hash, TAGGED(id, hash, CONTEXT_BITS));
	return id;
}

/* ---- hints ----
 * A thread's stacks mostly have their outer frames in common with others of its own, but to go down to them from the outermost frame
 * costs two cache misses each, one after the other. So a thread that enters many stacks notes nodes by the hash of their frames from
 * there outward: a word each, of which the upper bits are what is left of the hash. Those, the place, and the node's return
 * address have to be right: about as many bits as what contexts are told apart by. */
#define HINTS 16384u
#define HINTS_AFTER 512u /* so many stacks */
#define HINTS_THREADS 64u /* those numbered above go without, as with memos */

/* Walks of modules loaded where others had been, and of signal frames, have more to tell nodes apart than is in the sums. */
static uint64_t *hints_for(struct agent_thread *t, const struct walk_list *w)
{
	if (UNLIKELY(w->specials || w->rules >> 24))
		return NULL;
	if (UNLIKELY(!t->hints) && ++t->interned > HINTS_AFTER && t->index <= HINTS_THREADS) {
		uint32_t ref = db_alloc(HINTS * sizeof(uint64_t));

		t->interned = 0;
		if (ref)
			t->hints = db_at(ref);
	}
	return t->hints;
}

static void hint_put(uint64_t *hints, uint64_t sum, uint32_t node)
{
	uint64_t hash = stack_mix(sum);

	ATOMIC_STORE(&hints[hash & (HINTS - 1)], hash >> NODE_BITS << NODE_BITS | node);
}

static uint32_t hint_get(const uint64_t *hints, uint64_t sum, uint64_t pcword)
{
	uint64_t hash = stack_mix(sum), word = ATOMIC_LOAD(&hints[hash & (HINTS - 1)]);

	if (LIKELY((word ^ hash) >> NODE_BITS) || !word)
		return 0;
	return node_at(ID_OF(word, NODE_BITS))->pcword == pcword ? (uint32_t)ID_OF(word, NODE_BITS) : 0;
}

static uint64_t pcword_of(const struct walk_frame *f)
{
	return walk_pcword(f->pc, f->rule, f->bits & WALK_INTERRUPTED);
}

/* The innermost frame inward of nodes_from whose node a hint tells, and that; else nodes_from. */
static struct walk_frame *node_known(const struct walk_list *w, const uint64_t *hints, uint32_t *ret_node)
{
	struct walk_frame *f = w->frame;

	for (; f < w->nodes_from; f++) {
		uint32_t node = hint_get(hints, w->tail[f - w->frame], pcword_of(f));

		if (node) {
			*ret_node = node;
			break;
		}
	}
	return f;
}

uint32_t stack_intern(struct agent_thread *t, uint64_t key, struct walk_list *w, const struct stack_use *use)
{
	uint32_t id = context_find(key), node = 0;
	struct walk_frame *known = w->nodes_from;
	struct fresh_nodes fresh;
	uint64_t *hints;
	bool gap;

	if (id)
		return id;
	/* The outer frames are mostly those of a stack that was entered before. */
	if (known < w->end)
		node = known->bits >> WALK_NODE_SHIFT;
	hints = t ? hints_for(t, w) : NULL;
	if (hints)
		known = node_known(w, hints, &node);
	fresh.any = false;
	fresh.count = 0;
	gap = known < w->nodes_from; /* of the frames between them no nodes are known: then nothing is noted in the walk */
	for (struct walk_frame *f = known; f-- > w->frame;) {
		node = node_intern(pcword_of(f), node, &fresh);
		if (!node)
			goto full;
		if (!gap) {
			f->bits = (f->bits & WALK_BITS) | node << WALK_NODE_SHIFT;
			w->nodes_from = f;
		}
		if (hints)
			hint_put(hints, w->tail[f - w->frame], node);
	}
	if (!fresh_enter(&fresh)) /* before the context: who reads that looks for its nodes */
		goto full;
	id = context_new(key, node, w->flags, use);
	if (id)
		return id;
full:
	agent_lost(SILT_LOST_CONTEXTS);
	return SILT_DB_CONTEXT_OVERFLOW;
}

struct silt_db_context *stack_context_make(uint32_t i)
{
	struct silt_db_context *seg = segment(agent_db()->context_segs, i / SILT_DB_CONTEXT_SEG, SILT_DB_CONTEXT_SEG * sizeof(*seg));

	return seg ? seg + i % SILT_DB_CONTEXT_SEG : NULL;
}

struct silt_db_node *stack_node_make(uint32_t i)
{
	struct silt_db_node *seg = segment(agent_db()->node_segs, i / SILT_DB_NODE_SEG, SILT_DB_NODE_SEG * sizeof(*seg));

	return seg ? seg + i % SILT_DB_NODE_SEG : NULL;
}

uint32_t stack_before_attach(void)
{
	struct stack_use none = { 0, 0, 0 };
	uint32_t id = context_new(RULE_MUL, 0, SILT_DB_STACK_UNTRACKED, &none);

	return id ? id : SILT_DB_CONTEXT_OVERFLOW;
}

bool stack_setup(void)
{
	struct silt_db *db = agent_db();
	struct stack_use none = { 0, 0, 0 };

	db->node_hash_ref = db_alloc(sizeof(struct silt_db_levels));
	db->context_hash_ref = db_alloc(sizeof(struct silt_db_levels));
	db->node_count = 1;
	db->context_count = SILT_DB_CONTEXT_OVERFLOW;
	if (!db->node_hash_ref || !db->context_hash_ref)
		return false;
	return context_new(0, 0, SILT_DB_STACK_OVERFLOW, &none) == SILT_DB_CONTEXT_OVERFLOW;
}
