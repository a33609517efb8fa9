/* SPDX-License-Identifier: MIT */
/* The agent's layout, written by another hand: what is built here shares no code with the agent or the decoder. */
#include "tests/capture/db_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOLS 40u
#define MAPPINGS 30u
#define ODDS 20u
#define HUGE_BLOCKS 3u

/* assert() is compiled out of optimised builds. */
static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "db_builder: %s\n", what);
	abort();
}

uint64_t model_random(struct model *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return m->random * 0x2545f4914f6cdd1dull >> 11;
}

static uint32_t below(struct model *m, uint32_t n)
{
	return (uint32_t)(model_random(m) % n);
}

/* ---- content ---- */

static void create_modules(struct model *m)
{
	for (int i = 0; i < MODEL_MODULES; i++) {
		struct model_module *d = &m->modules[i];

		/* 2 and 3 are loaded one after the other at the same place. */
		d->start = 0x7f0000000000ull + (i == 3 ? 2 : i) * 0x1000000ull;
		d->end = d->start + 0x200000;
		d->bias = i == 0 ? 0 : d->start - 0x400000ull * (uint64_t)(i & 1);
		d->generation = i == 3 ? 1 : 0;
		d->unloaded = i == 2;
		snprintf(d->path, sizeof(d->path), i ? "/lib/module%d.so" : "/bin/program-file", i);
	}
}

static void create_stack(struct model *m, struct model_stack *s)
{
	s->depth = below(m, MODEL_DEPTH) + 1;
	s->flags = below(m, 8) ? 0 : 1u << below(m, 3);
	for (uint32_t i = 0; i < s->depth; i++) {
		struct model_frame *f = &s->frames[i];

		f->module = (int)below(m, MODEL_MODULES + 1) - 1;
		f->interrupted = !below(m, 20);
		f->generation = f->module >= 0 ? m->modules[f->module].generation : 0;
		f->pc = f->module >= 0 ? m->modules[f->module].start + below(m, 500) * 16 : 0x10000000ull + below(m, 100);
		if (f->module < 0 && below(m, 2)) { /* at a module's place, but no frame of that module */
			f->generation = below(m, 2) ? SILT_DB_GENERATION_NONE : SILT_DB_GENERATION_UNNAMED;
			f->pc = m->modules[below(m, MODEL_MODULES)].start + below(m, 100) * 16;
		}
	}
}

static void add_block(struct model *m, uint64_t addr, uint64_t size, uint32_t context)
{
	struct model_context *c = &m->contexts[context];

	must(m->block_count < m->block_capacity, "too many blocks");
	m->blocks[m->block_count++] = (struct model_block){ addr, size, context };
	c->live_count++;
	c->live_bytes += size;
}

static uint32_t context_of_kind(struct model *m, uint32_t kind)
{
	uint32_t i;

	do
		i = below(m, MODEL_CONTEXTS);
	while (m->contexts[i].kind != kind);
	return i;
}

static int compare_blocks(const void *a, const void *b)
{
	const struct model_block *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Heap blocks in runs over three regions, some pages crowded and some with a single block. */
static void create_heap(struct model *m, uint32_t n)
{
	static const uint64_t bases[] = { 0x555555560000ull, 0x7f1234560000ull, 0x7f1274000000ull };
	uint64_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (i % (n / 3 + 1) == 0)
			at = bases[i / (n / 3 + 1)];
		at += 16 * (1 + (uint64_t)below(m, below(m, 50) ? 8 : 700));
		add_block(m, at, i < HUGE_BLOCKS ? (1ull << 30) + below(m, 1000) : below(m, 300),
			  context_of_kind(m, 0));
	}
}

void model_create(struct model *m, uint64_t seed, uint32_t heap_blocks)
{
	memset(m, 0, sizeof(*m));
	m->random = seed * 0x9e3779b97f4a7c15ull | 1;
	m->block_capacity = heap_blocks + POOLS + MAPPINGS + ODDS + MODEL_THREADS;
	m->blocks = calloc(m->block_capacity, sizeof(*m->blocks));
	create_modules(m);
	for (uint32_t i = 0; i < MODEL_STACKS; i++)
		create_stack(m, &m->stacks[i]);
	for (uint32_t i = 0; i < MODEL_THREADS; i++)
		m->tids[i] = 1000 + i;
	for (uint32_t i = 0; i < MODEL_CONTEXTS; i++)
		m->contexts[i] = (struct model_context){ .stack = i % MODEL_STACKS, .epoch = 1 + i / MODEL_STACKS,
							 .kind = i % 10 < 8 ? 0 : i % 10 - 7,
							 .thread = below(m, MODEL_THREADS + 1),
							 .twin = below(m, 10) ? 0 : 1 };
	create_heap(m, heap_blocks);
	for (uint32_t i = 0; i < MAPPINGS; i++)
		add_block(m, 0x7e0000000000ull + i * 0x1000000ull, 4096ull * (1 + below(m, 1000)), context_of_kind(m, 1));
	for (uint32_t i = 0; i < ODDS; i++)
		add_block(m, (i % 3 ? 0x7d0000000001ull : 0x7f8000000001ull) + i * 64, below(m, 60), context_of_kind(m, 2));
	for (uint32_t i = 0; i < POOLS; i++) /* every other one starts where a heap block starts */
		add_block(m, i & 1 ? m->blocks[HUGE_BLOCKS + i].addr : 0x7d1000000000ull + i * 48, 8 + below(m, 60),
			  context_of_kind(m, 2));
	for (uint32_t i = 0; i < MODEL_THREADS; i += 2)
		add_block(m, 0x7c0000000010ull + i * 256, below(m, 100), context_of_kind(m, 0));
	for (uint32_t i = 0; i < MODEL_CONTEXTS; i++) {
		struct model_context *c = &m->contexts[i];

		c->alloc_count = c->live_count + below(m, 1000) + 1;
		c->alloc_bytes = c->live_bytes + below(m, 100000) + 1;
	}
}

void model_destroy(struct model *m)
{
	free(m->blocks);
}

/* ---- layout ---- */

static void *at_ref(struct built_db *b, uint32_t ref)
{
	return b->bytes + ref * SILT_DB_UNIT;
}

static uint32_t take(struct built_db *b, uint64_t bytes)
{
	uint32_t ref;

	b->db->used = (b->db->used + 4095) & ~4095ull;
	ref = (uint32_t)(b->db->used / SILT_DB_UNIT);
	b->db->used += bytes;
	must(b->db->used <= b->size, "the slot is full");
	return ref;
}

static uint32_t build_node(struct built_db *b, const struct model_frame *f, uint32_t parent)
{
	uint32_t n = b->db->node_count++, seg = n / SILT_DB_NODE_SEG;
	struct silt_db_node *node;

	if (!b->db->node_segs[seg])
		b->db->node_segs[seg] = take(b, SILT_DB_NODE_SEG * sizeof(*node));
	node = (struct silt_db_node *)at_ref(b, b->db->node_segs[seg]) + n % SILT_DB_NODE_SEG;
	node->pcword = f->pc | (uint64_t)f->generation << 48 | (f->interrupted ? SILT_DB_PC_INTERRUPTED : 0);
	node->parent = parent;
	return n;
}

static struct silt_db_context *context_at(struct built_db *b, uint32_t n)
{
	uint32_t seg = n / SILT_DB_CONTEXT_SEG;

	if (!b->db->context_segs[seg])
		b->db->context_segs[seg] = take(b, SILT_DB_CONTEXT_SEG * sizeof(struct silt_db_context));
	return (struct silt_db_context *)at_ref(b, b->db->context_segs[seg]) + n % SILT_DB_CONTEXT_SEG;
}

/* Context i of the model is number i + 2; 1 is the overflow bucket. */
static void build_contexts(struct model *m, struct built_db *b)
{
	b->db->context_count = MODEL_CONTEXTS + 2;
	for (uint32_t i = 0; i < MODEL_CONTEXTS; i++) {
		const struct model_context *c = &m->contexts[i];
		struct silt_db_context *d = context_at(b, i + 2);

		d->hash = model_random(m);
		d->node = m->stacks[c->stack].node;
		d->flags = m->stacks[c->stack].flags | c->kind << 16;
		d->epoch = c->epoch;
		d->thread = c->thread;
		d->alloc_count = c->alloc_count;
		d->alloc_bytes = c->alloc_bytes;
	}
	for (uint32_t i = 0; i < MODEL_CONTEXTS; i++) {
		struct model_context *c = &m->contexts[i];
		struct silt_db_context *twin;

		if (!c->twin)
			continue;
		c->twin = b->db->context_count++;
		twin = context_at(b, c->twin);
		*twin = *context_at(b, i + 2);
		twin->alloc_count = 1; /* counted before the race was decided */
		twin->alloc_bytes = 1;
		context_at(b, i + 2)->alloc_count--;
		context_at(b, i + 2)->alloc_bytes--;
	}
}

/* Moves a part of every context's counts into some thread's cache. */
static void build_threads(struct model *m, struct built_db *b)
{
	struct silt_db_thread *t;

	b->db->thread_ref = take(b, SILT_DB_THREADS_MAX * sizeof(*t));
	b->db->thread_count = MODEL_THREADS;
	t = at_ref(b, b->db->thread_ref);
	for (uint32_t i = 0; i < MODEL_THREADS; i++) {
		t[i].tid = m->tids[i];
		t[i].cache_size = 1024;
		t[i].cache_ref = take(b, t[i].cache_size * sizeof(struct silt_db_cache_entry));
	}
	for (uint32_t i = 0; i < MODEL_CONTEXTS; i++) {
		uint32_t owner = below(m, MODEL_THREADS);
		struct silt_db_cache_entry *e = (struct silt_db_cache_entry *)at_ref(b, t[owner].cache_ref) + i;
		struct silt_db_context *c = context_at(b, i + 2);

		e->context = i + 2;
		e->alloc_count = c->alloc_count / 3;
		e->alloc_bytes = c->alloc_bytes / 3;
		c->alloc_count -= e->alloc_count;
		c->alloc_bytes -= e->alloc_bytes;
	}
}

static void build_modules(struct model *m, struct built_db *b)
{
	struct silt_db_module *d;

	b->db->module_ref = take(b, SILT_DB_MODULES * sizeof(*d));
	d = at_ref(b, b->db->module_ref);
	for (uint32_t i = 0; i < MODEL_MODULES; i++) {
		d[i].generation = m->modules[i].generation;
		d[i].start = m->modules[i].start;
		d[i].end = m->modules[i].end;
		d[i].bias = m->modules[i].bias;
		d[i].unloaded = m->modules[i].unloaded;
		d[i].build_id_len = 20;
		memset(d[i].build_id, 0x10 + (int)i, 20);
		snprintf(d[i].path, sizeof(d[i].path), "%s", m->modules[i].path);
		d[i].state = 2;
	}
	b->db->module_count = MODEL_MODULES;
}

static void build_side(struct built_db *b, uint64_t addr, uint64_t size, uint32_t context, bool mapping)
{
	struct silt_db_side *s = at_ref(b, b->db->side_ref);

	while (s->key > 1)
		s += 1;
	*s = (struct silt_db_side){ addr, size, context + 2, mapping };
	b->db->side_high = (uint32_t)(s - (struct silt_db_side *)at_ref(b, b->db->side_ref)) + 1;
}

static void touch(uint64_t *parts, uint64_t byte)
{
	parts[byte / SILT_DB_PART / 64] |= 1ull << byte / SILT_DB_PART % 64;
}

static uint64_t *page_word(struct built_db *b, uint64_t addr)
{
	uint32_t *root = at_ref(b, b->db->root_ref);
	uint64_t *leaf, i = (addr >> 12) & (SILT_DB_LEAF_PAGES - 1);

	touch(b->db->root_parts, (addr >> 30) * sizeof(*root));
	if (!root[addr >> 30])
		root[addr >> 30] = take(b, SILT_DB_LEAF_BYTES);
	leaf = at_ref(b, root[addr >> 30]);
	touch(leaf + SILT_DB_LEAF_PAGES, i * sizeof(*leaf));
	return leaf + i;
}

/* Into the page's word when it is empty, else into a chunk, at a random place among tombs and holes. */
static void build_entry(struct model *m, struct built_db *b, uint64_t addr, uint64_t size, uint32_t context)
{
	uint64_t *word = page_word(b, addr), *chunk, *old;
	uint64_t e = (addr & 4095) / 8 | (uint64_t)(context + 2) << 9 |
		     (size >= SILT_DB_SIZE_HUGE ? (uint64_t)SILT_DB_SIZE_HUGE : size) << 33;
	uint32_t capacity, n = 0, i;

	if (size >= SILT_DB_SIZE_HUGE)
		build_side(b, addr, size, context, false);
	if (!*word) {
		*word = e;
		return;
	}
	if (!(*word & SILT_DB_PAGE_CHUNK)) {
		capacity = 8;
		i = take(b, capacity * 8);
		chunk = at_ref(b, i);
		chunk[3] = *word;
		*word = SILT_DB_PAGE_CHUNK | (uint64_t)i << 16 | capacity;
	}
	capacity = SILT_DB_PAGE_CAPACITY(*word);
	old = at_ref(b, SILT_DB_PAGE_REF(*word));
	for (i = 0; i < capacity; i++)
		n += old[i] > 1;
	if (n + 1 >= capacity) { /* replaced by one of twice the size; the old one stays behind, frozen */
		i = take(b, capacity * 2 * 8);
		chunk = at_ref(b, i);
		memcpy(chunk, old, capacity * 8);
		for (n = 0; n < capacity; n++)
			old[n] |= SILT_DB_ENTRY_FROZEN;
		capacity *= 2;
		*word = SILT_DB_PAGE_CHUNK | (uint64_t)i << 16 | capacity;
		old = chunk;
	}
	do
		i = below(m, capacity);
	while (old[i] > 1);
	old[i] = e | (below(m, 50) ? 0 : SILT_DB_ENTRY_FROZEN);
	for (i = 0; i < capacity; i++)
		if (!old[i] && !below(m, 4))
			old[i] = SILT_DB_ENTRY_TOMB;
}

static void build_blocks(struct model *m, struct built_db *b)
{
	struct silt_db_thread *t = at_ref(b, b->db->thread_ref);

	b->db->root_ref = take(b, SILT_DB_ROOT_ENTRIES * 4);
	b->db->side_ref = take(b, SILT_DB_SIDE_ENTRIES * sizeof(struct silt_db_side));
	((struct silt_db_side *)at_ref(b, b->db->side_ref))[0].key = 1;
	for (uint32_t i = 0; i < m->block_count; i++) {
		const struct model_block *k = &m->blocks[i];
		uint32_t kind = m->contexts[k->context].kind;

		if (kind == 1 || k->addr & 7) {
			build_side(b, k->addr, k->size, k->context, kind == 1);
		} else if (kind == 2) {
			build_entry(m, b, k->addr ^ SILT_DB_POOL_BIT, k->size, k->context);
		} else if (k->addr >> 36 == 0x7c0) {
			t->aside_addr = k->addr;
			t->aside_size = k->size;
			t->aside_context = k->context + 2;
			t++;
		} else {
			build_entry(m, b, k->addr, k->size, k->context);
		}
	}
	((struct silt_db_side *)at_ref(b, b->db->side_ref))[SILT_DB_SIDE_ENTRIES - 1].key = SILT_DB_SIDE_BUSY;
	touch(b->db->side_parts, (SILT_DB_SIDE_ENTRIES - 1 - SILT_DB_SIDE_DENSE) * sizeof(struct silt_db_side));
}

void db_build(struct model *m, uint32_t slot, struct built_db *b)
{
	b->slot = slot;
	b->size = 256ull << 20;
	b->fd = memfd_create("test-db", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(b->fd >= 0 && !ftruncate(b->fd, (off_t)SILT_DB_FILE_SIZE), "memfd");
	b->bytes = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd,
			(off_t)(SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE));
	must(b->bytes != MAP_FAILED, "mmap");
	b->db = (struct silt_db *)b->bytes;
	b->db->version = SILT_DB_VERSION;
	b->db->slot = slot;
	b->db->pid = 4711;
	b->db->epoch = 7;
	b->db->start_ns = 1234567;
	b->db->session[0] = 11;
	b->db->session[1] = 22;
	b->db->argv_size = sizeof("program\0-x\0two words");
	memcpy(b->db->argv, "program\0-x\0two words", b->db->argv_size);
	strcpy(b->db->exe, "/bin/program-file");
	b->db->used = sizeof(struct silt_db);
	b->db->node_count = 1;
	for (uint32_t i = 0; i < MODEL_STACKS; i++) {
		m->stacks[i].node = 0;
		for (uint32_t k = m->stacks[i].depth; k-- > 0;)
			m->stacks[i].node = build_node(b, &m->stacks[i].frames[k], m->stacks[i].node);
	}
	build_contexts(m, b);
	build_threads(m, b);
	build_modules(m, b);
	build_blocks(m, b);
	b->db->magic = SILT_DB_MAGIC;
	qsort(m->blocks, m->block_count, sizeof(*m->blocks), compare_blocks);
}

void db_destroy(struct built_db *b)
{
	munmap(b->bytes, b->size);
	close(b->fd);
}
