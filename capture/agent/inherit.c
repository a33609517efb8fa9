/* SPDX-License-Identifier: MIT */
/*
 * Copying the parent's database in a forked child: see inherit.h. The parent goes on meanwhile, so the order matters. First the blocks,
 * then the changes noted (what a copied block shows was noted before), then contexts, and nodes last: what refers to another was written
 * after it. Nothing read is believed: the parent's slot may have been given to another process in the middle, which is seen at the end.
 */
#include "capture/agent/inherit.h"

#include "capture/agent/undo.h"

#include <linux/mman.h>

#define PAGE_ENTRIES 512u
/* Copied unasked: bytes of one parent's tables, some milliseconds, and of those of all children together. */
#define COST_MAX (8ull << 20)
#define COST_TOTAL (1ull << 30)

static struct {
	const uint8_t *parent; /* as inherited over the fork */
	const uint8_t *base;   /* where it is read */
	uint64_t size;         /* bytes mapped there */
	struct {
		void *base;
		uint64_t size;
	} views[8]; /* what was mapped to see more: all of it stays until the end, for there are pointers into it */
	uint32_t view_count;
	uint64_t count, bytes; /* blocks */
	uint64_t added;        /* to the run page's `inherited` */
	uint32_t failed;       /* enum silt_db_inherit */
	uint64_t entries[PAGE_ENTRIES]; /* too much for a small stack */
} from;

static uint64_t cost_of(const struct silt_db *db)
{
	return ATOMIC_LOAD(&db->small_bytes) + ATOMIC_LOAD(&db->meta_used);
}

uint32_t inherit_refused(void)
{
	if (agent_hot.options.flags & SILT_DB_INHERIT_NEVER)
		return SILT_INHERIT_NEVER;
	if (!(agent_hot.options.flags & SILT_DB_INHERIT_ALWAYS) && cost_of(agent_db()) > COST_MAX)
		return SILT_INHERIT_LARGE;
	return 0;
}

static bool fail(enum silt_db_inherit why)
{
	if (!from.failed)
		from.failed = why;
	return false;
}

static const struct silt_db *parent_db(void)
{
	return (const void *)from.base;
}

/* The parent's window may have grown since the fork: a mapping of its own shows all of it. */
static bool view_more(uint64_t end)
{
	uint64_t mapped = ATOMIC_LOAD(&parent_db()->mapped);
	long r;

	if (mapped < end || mapped > SILT_DB_SLOT_SIZE)
		return fail(SILT_INHERIT_GONE); /* that makes no sense */
	if (from.view_count == sizeof(from.views) / sizeof(from.views[0]))
		return fail(SILT_INHERIT_CHANGED);
	r = sys_mremap((void *)from.parent, 0, mapped, MREMAP_MAYMOVE, NULL);
	if (sys_failed(r))
		return fail(SILT_INHERIT_MEMORY);
	from.views[from.view_count].base = (void *)r;
	from.views[from.view_count++].size = mapped;
	from.base = (const uint8_t *)r;
	from.size = mapped;
	return true;
}

static const void *at(uint32_t ref, uint64_t bytes)
{
	uint64_t end = (uint64_t)ref * SILT_DB_UNIT + bytes;

	if (!ref) {
		fail(SILT_INHERIT_GONE);
		return NULL;
	}
	return end <= from.size || view_more(end) ? from.base + (uint64_t)ref * SILT_DB_UNIT : NULL;
}

/* ---- sparse tables: only what was written to is read, for a hole that is read becomes memory ---- */

static bool part_written(const uint64_t *parts, uint32_t part)
{
	return ATOMIC_ACQUIRE(&parts[part / 64]) >> part % 64 & 1;
}

/* Of the hash levels it is not kept which parts that is. The kernel knows which pages are there; of those that are swapped out it
 * says that they are not, and what stands in them is then entered a second time when it is met again. */

struct touched {
	const uint8_t *at, *end;
	uint64_t window; /* first page that `there` tells of */
	uint8_t there[128];
};

static struct touched touched_in(const void *start, uint64_t bytes)
{
	return (struct touched){ .at = start, .end = (const uint8_t *)start + bytes, .window = 1 };
}

static bool has_memory(struct touched *t, uint64_t page)
{
	uint64_t pages = ((uint64_t)t->end - page + AGENT_PAGE - 1) / AGENT_PAGE, i = (page - t->window) / AGENT_PAGE;

	if (t->window == 1 || i >= sizeof(t->there)) {
		i = 0;
		t->window = page;
		if (sys_failed(sys_mincore((void *)page, (pages < sizeof(t->there) ? pages : sizeof(t->there)) * AGENT_PAGE, t->there)))
			memset(t->there, 1, sizeof(t->there));
	}
	return t->there[i] & 1;
}

/* The next part, within one page. */
static bool touched_next(struct touched *t, const uint8_t **ret_part, uint64_t *ret_bytes)
{
	while (t->at < t->end) {
		const uint8_t *part = t->at, *page = (const uint8_t *)((uint64_t)part & ~(uint64_t)(AGENT_PAGE - 1));

		t->at = t->end - page > (long)AGENT_PAGE ? page + AGENT_PAGE : t->end;
		if (!has_memory(t, (uint64_t)page))
			continue;
		*ret_part = part;
		*ret_bytes = (uint64_t)(t->at - part);
		return true;
	}
	return false;
}

/* ---- blocks ---- */

/* What the child has not freed was allocated for it: counts begin with what is there. sign: 1 or -1. */
static void account(uint32_t context, uint64_t size, bool sampled, int sign)
{
	uint32_t ref = agent_db()->context_segs[context / SILT_DB_CONTEXT_SEG];
	struct silt_db_context *c = LIKELY(ref) ? (struct silt_db_context *)db_at(ref) + context % SILT_DB_CONTEXT_SEG :
						  stack_context_make(context);
	uint64_t count = agent_hot.options.sample_bytes ? 256 : 1, bytes = size, one = (uint64_t)(int64_t)sign;

	if (!c) {
		fail(SILT_INHERIT_MEMORY);
		return;
	}
	if (agent_hot.options.sample_bytes && sampled)
		sample_weight(size, &count, &bytes);
	c->alloc_count += one * count;
	c->alloc_bytes += one * bytes;
	from.count += one;
	from.bytes += one * size;
}

/* A huge block's size stands in the side table, and is accounted there. */
static void account_entry(uint64_t entry, int sign)
{
	if (SILT_DB_ENTRY_SIZE(entry) != SILT_DB_SIZE_HUGE)
		account(SILT_DB_ENTRY_CONTEXT(entry), SILT_DB_ENTRY_SIZE(entry), true, sign);
}

/* Reads a page's entries, each at its place. Returns how many are blocks. A chunk that was replaced while it was read may serve another
 * page by now. */
static uint32_t read_page(const uint64_t *page, uint32_t *ret_capacity)
{
	for (;;) {
		uint64_t word = ATOMIC_ACQUIRE(page);
		uint32_t capacity = SILT_DB_PAGE_CAPACITY(word), n = 0;
		const uint64_t *chunk;

		if (!(word & SILT_DB_PAGE_CHUNK)) {
			from.entries[0] = word;
			*ret_capacity = 1;
			return word > SILT_DB_ENTRY_TOMB;
		}
		if (capacity > PAGE_ENTRIES) {
			fail(SILT_INHERIT_GONE);
			return 0;
		}
		chunk = at(SILT_DB_PAGE_REF(word), capacity * sizeof(*chunk));
		if (!chunk)
			return 0;
		for (uint32_t i = 0; i < capacity; i++) {
			uint64_t e = ATOMIC_LOAD(&chunk[i]) & ~SILT_DB_ENTRY_FROZEN;

			from.entries[i] = e;
			n += e > SILT_DB_ENTRY_TOMB;
		}
		*ret_capacity = capacity;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (ATOMIC_LOAD(page) == word)
			return n;
	}
}

static void copy_page(uint64_t addr, const uint64_t *page)
{
	uint32_t capacity, n = ATOMIC_LOAD(page) ? read_page(page, &capacity) : 0;

	if (!n)
		return;
	if (!live_enter_page(addr, from.entries, capacity, n))
		fail(SILT_INHERIT_MEMORY);
	for (uint32_t k = 0; k < capacity; k++)
		if (from.entries[k] > SILT_DB_ENTRY_TOMB)
			account_entry(from.entries[k], 1);
}

static void copy_leaf(uint64_t addr, const uint64_t *leaf)
{
	const uint32_t words = SILT_DB_PART / sizeof(*leaf);

	for (uint32_t part = 0; part < SILT_DB_LEAF_PARTS && !from.failed; part++)
		for (uint32_t i = part * words; i < (part + 1) * words && part_written(leaf + SILT_DB_LEAF_PAGES, part); i++)
			copy_page(addr + (uint64_t)i * 4096, &leaf[i]);
}

static void copy_live(void)
{
	const uint32_t *root = at(parent_db()->root_ref, SILT_DB_ROOT_ENTRIES * sizeof(*root));
	const uint32_t entries = SILT_DB_PART / sizeof(*root);

	for (uint32_t part = 0; root && part < SILT_DB_ROOT_PARTS; part++)
		for (uint32_t i = part * entries; i < (part + 1) * entries && part_written(parent_db()->root_parts, part); i++) {
			uint32_t ref = ATOMIC_ACQUIRE(&root[i]);
			const uint64_t *leaf = ref && !from.failed ? at(ref, SILT_DB_LEAF_BYTES) : NULL;

			if (leaf)
				copy_leaf((uint64_t)i << 30, leaf);
		}
}

/* ---- the side table ---- */

/* The next entry in use at or behind number i, or their number. */
static uint32_t side_next(const struct silt_db *db, uint32_t i)
{
	uint32_t high = ATOMIC_LOAD(&db->side_high);

	if (i >= high && i < SILT_DB_SIDE_DENSE)
		i = SILT_DB_SIDE_DENSE;
	while (i >= SILT_DB_SIDE_DENSE && i < SILT_DB_SIDE_ENTRIES &&
	       !part_written(db->side_parts, (i - SILT_DB_SIDE_DENSE) * (uint32_t)sizeof(struct silt_db_side) / SILT_DB_PART))
		i++;
	return i;
}

static void copy_side(void)
{
	const struct silt_db_side *s = at(parent_db()->side_ref, SILT_DB_SIDE_ENTRIES * sizeof(*s));
	struct silt_db_side *own = side_table();
	struct silt_db *db = agent_db();
	uint32_t high = ATOMIC_LOAD(&parent_db()->side_high);

	db->side_high = high < SILT_DB_SIDE_DENSE ? high : SILT_DB_SIDE_DENSE;
	for (uint32_t i = 0; s && (i = side_next(parent_db(), i)) < SILT_DB_SIDE_ENTRIES; i++) {
		uint64_t key = ATOMIC_ACQUIRE(&s[i].key);

		if (i >= SILT_DB_SIDE_DENSE) {
			db_touch(db->side_parts, (i - SILT_DB_SIDE_DENSE) * sizeof(*s) / SILT_DB_PART);
			agent_hot.side_odd = 1;
		} else if (i >= db->side_high) {
			continue; /* it came after the fork */
		}
		if (key == 0)
			continue;
		own[i].size = s[i].size;
		own[i].context = s[i].context;
		own[i].mapping = s[i].mapping;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		/* One that was removed stays so: what stands behind it is found past it. */
		own[i].key = key & SILT_DB_SIDE_BUSY || ATOMIC_LOAD(&s[i].key) != key ? 1 : key;
	}
}

static void account_side(void)
{
	const struct silt_db_side *s = side_table();

	for (uint32_t i = 0; (i = side_next(agent_db(), i)) < SILT_DB_SIDE_ENTRIES; i++)
		if (s[i].key > 1)
			account(s[i].context & 0xffffff, s[i].size, !s[i].mapping, 1);
}

/* ---- what happened since the fork ---- */

static void take_back(const struct silt_db_undo *u)
{
	uint64_t entry = (uint64_t)(u->context & 0xffffff) << 9 | (u->size & SILT_DB_SIZE_HUGE) << 33, there;

	if ((u->change & ~(uint32_t)SILT_CHANGE_WAS) != SILT_CHANGE_LIVE) {
		side_undo(u);
		return;
	}
	if (u->addr >> 47)
		return;
	there = live_take(u->addr);
	if (there)
		account_entry(there, -1);
	if (u->change & SILT_CHANGE_WAS) {
		live_put(u->addr, entry);
		account_entry(entry, 1);
	}
}

/* From the latest back: what counts in the end is what was there before an address's first change. A change without its note was not
 * made yet when the tables were read. */
static void take_back_all(void)
{
	uint64_t begun = agent_undo.next, high;
	const struct silt_db_undo *ring;

	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	high = ATOMIC_ACQUIRE(&parent_db()->undo_high);
	if (ATOMIC_ACQUIRE(&parent_db()->undo_lost) > begun || (high > begun && high - begun > SILT_DB_UNDO_ENTRIES)) {
		fail(SILT_INHERIT_CHANGED);
		return;
	}
	if (high <= begun)
		return;
	ring = at(parent_db()->undo_ref, SILT_DB_UNDO_ENTRIES * sizeof(*ring));
	for (uint64_t i = high; ring && i-- > begun && !from.failed;) {
		const struct silt_db_undo *u = &ring[i & (SILT_DB_UNDO_ENTRIES - 1)];
		uint64_t seq = ATOMIC_ACQUIRE(&u->seq);
		struct silt_db_undo copy = *u;

		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (ATOMIC_LOAD(&u->seq) != seq || (seq & ~SILT_DB_UNDO_BUSY) > i + 1)
			fail(SILT_INHERIT_CHANGED);
		else if (seq == i + 1)
			take_back(&copy);
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (ATOMIC_LOAD(&parent_db()->undo_lost) > begun) /* the ring was cleared meanwhile */
		fail(SILT_INHERIT_CHANGED);
}

/* ---- stacks ---- */

static void copy_levels(uint32_t to_ref, uint32_t from_ref, uint32_t *to_count, const uint32_t *from_count)
{
	uint32_t count = ATOMIC_ACQUIRE(from_count);
	const struct silt_db_levels *levels = at(from_ref, sizeof(*levels));

	if (count > SILT_DB_LEVELS || !levels) {
		fail(SILT_INHERIT_GONE);
		return;
	}
	for (uint32_t k = 0; k < count; k++) {
		struct silt_db_levels *own = db_at(to_ref);
		uint64_t size = SILT_DB_LEVEL_SIZE(k) * 4, bytes;
		const uint8_t *table = at(ATOMIC_LOAD(&levels->ref[k]), size), *part;
		uint32_t ref = own->ref[k] ? own->ref[k] : stack_level_make(own, k);
		struct touched t = touched_in(table, size);

		if (!table || !ref) {
			fail(SILT_INHERIT_MEMORY);
			return;
		}
		while (touched_next(&t, &part, &bytes))
			memcpy((uint8_t *)db_at(ref) + (part - table), part, bytes);
	}
	*to_count = count;
}

static void copy_contexts(void)
{
	struct silt_db *db = agent_db();
	uint32_t count = ATOMIC_ACQUIRE(&parent_db()->context_count);

	if (count > SILT_DB_CONTEXT_SEG * SILT_DB_CONTEXT_SEGS || count <= SILT_DB_CONTEXT_OVERFLOW) {
		fail(SILT_INHERIT_GONE);
		return;
	}
	for (uint32_t i = 0; i < count; i += SILT_DB_CONTEXT_SEG) {
		uint32_t ref = ATOMIC_ACQUIRE(&parent_db()->context_segs[i / SILT_DB_CONTEXT_SEG]);
		uint32_t n = count - i < SILT_DB_CONTEXT_SEG ? count - i : SILT_DB_CONTEXT_SEG;
		const struct silt_db_context *c = ref ? at(ref, SILT_DB_CONTEXT_SEG * sizeof(*c)) : NULL;
		struct silt_db_context *own = c ? stack_context_make(i) : NULL;

		if (ref && !own) {
			fail(SILT_INHERIT_MEMORY);
			return;
		}
		for (uint32_t k = 0; ref && k < n; k++) {
			own[k].hash = c[k].hash;
			own[k].node = c[k].node;
			own[k].flags = c[k].flags;
			own[k].epoch = c[k].epoch;
			own[k].thread = c[k].thread;
		}
	}
	db->context_count = count;
}

static void copy_nodes(void)
{
	uint32_t count = ATOMIC_ACQUIRE(&parent_db()->node_count);

	if (count > SILT_DB_NODE_SEG * SILT_DB_NODE_SEGS) {
		fail(SILT_INHERIT_GONE);
		return;
	}
	for (uint32_t i = 0; i < count; i += SILT_DB_NODE_SEG) {
		uint32_t ref = ATOMIC_ACQUIRE(&parent_db()->node_segs[i / SILT_DB_NODE_SEG]);
		uint32_t n = count - i < SILT_DB_NODE_SEG ? count - i : SILT_DB_NODE_SEG;
		const struct silt_db_node *nodes = ref ? at(ref, SILT_DB_NODE_SEG * sizeof(*nodes)) : NULL;
		struct silt_db_node *own = nodes ? stack_node_make(i) : NULL;

		if (ref && !own) {
			fail(SILT_INHERIT_MEMORY);
			return;
		}
		if (ref)
			memcpy(own, nodes, n * sizeof(*nodes));
	}
	agent_db()->node_count = count;
}

/* Only contexts that carry the thread refer to them; the threads themselves are not the child's. */
static void copy_threads(void)
{
	uint32_t count = ATOMIC_ACQUIRE(&parent_db()->thread_count);
	const struct silt_db_thread *t;
	struct silt_db_thread *own = db_at(agent_db()->thread_ref);

	if (!(agent_hot.options.flags & SILT_DB_THREADS) || !count)
		return;
	if (count > SILT_DB_THREADS_MAX)
		count = SILT_DB_THREADS_MAX;
	t = at(parent_db()->thread_ref, count * sizeof(*t));
	for (uint32_t i = 0; t && i < count; i++)
		own[i].tid = t[i].tid;
	agent_db()->thread_count = count;
}

static void copy_all(void)
{
	struct silt_db *db = agent_db();
	const uint32_t context_ref = parent_db()->context_hash_ref, node_ref = parent_db()->node_hash_ref;

	db->epoch = ATOMIC_LOAD(&parent_db()->epoch);
	db->attached = parent_db()->attached;
	copy_live();
	if (!from.failed)
		copy_side();
	if (!from.failed)
		take_back_all();
	if (!from.failed)
		copy_levels(db->context_hash_ref, context_ref, &db->context_levels, &parent_db()->context_levels);
	if (!from.failed)
		copy_contexts();
	if (!from.failed)
		copy_levels(db->node_hash_ref, node_ref, &db->node_levels, &parent_db()->node_levels);
	if (!from.failed)
		copy_nodes();
	if (!from.failed)
		copy_threads();
	if (!from.failed)
		account_side();
	for (uint32_t i = 0; i < SILT_LOST_COUNT; i++)
		db->lost[i] = ATOMIC_LOAD(&parent_db()->lost[i]);
}

/* Is the slot still the parent's, and its contents whole? */
static bool parent_there(void)
{
	const struct silt_db_slot_entry *s = &agent_run->slots[agent_undo.slot];
	uint32_t state = ATOMIC_ACQUIRE(&s->state);

	return (state == SILT_SLOT_ACTIVE || state == SILT_SLOT_DONE || state == SILT_SLOT_LEAVING) &&
	       ATOMIC_LOAD(&s->serial) == agent_undo.serial;
}

bool inherit(const uint8_t *parent, uint64_t size)
{
	struct silt_db *db = agent_db();
	uint64_t cost;

	from.parent = from.base = parent;
	from.size = size;
	from.failed = agent_undo.refused;
	from.count = from.bytes = from.added = 0;
	from.view_count = 0;
	if (!from.failed && !agent_undo.open)
		from.failed = SILT_INHERIT_UNSEEN;
	if ((!from.failed || from.failed == SILT_INHERIT_LARGE) && !parent_there())
		from.failed = SILT_INHERIT_GONE;
	if (from.failed && from.failed != SILT_INHERIT_LARGE)
		return false;
	cost = cost_of(parent_db());
	db->inherited_cost = cost;
	if (from.failed)
		return false;
	from.added = cost;
	if (ATOMIC_ADD(&agent_run->inherited, cost) + cost > COST_TOTAL && !(agent_hot.options.flags & SILT_DB_INHERIT_ALWAYS))
		return fail(SILT_INHERIT_TOTAL);
	copy_all();
	return !from.failed;
}

const struct silt_db_module *inherit_modules(void)
{
	return at(parent_db()->module_ref, SILT_DB_MODULES * sizeof(struct silt_db_module));
}

bool inherit_done(void)
{
	struct silt_db *db = agent_db();

	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (!from.failed && !parent_there())
		from.failed = SILT_INHERIT_GONE;
	while (from.view_count) {
		from.view_count--;
		sys_munmap(from.views[from.view_count].base, from.views[from.view_count].size);
	}
	db->inherit = from.failed ? from.failed : SILT_INHERIT_DONE;
	db->inherited_count = from.failed ? 0 : from.count;
	db->inherited_bytes = from.failed ? 0 : from.bytes;
	if (from.failed)
		ATOMIC_ADD(&agent_run->inherited, -from.added);
	else
		agent_hot.inherited = agent_undo.unsure;
	if (from.failed != SILT_INHERIT_CHANGED) /* then nobody waits for this process any more */
		undo_leave();
	undo_reset();
	return !from.failed;
}
