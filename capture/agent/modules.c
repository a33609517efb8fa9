/* SPDX-License-Identifier: MIT */
/*
 * Modules as the unwinder meets them. glibc's _dl_find_object (2.35 and newer) is lock-free and async-signal-safe; names
 * and build-ids are read from the mapped image, which cannot go away while one of its functions is on our stack. No system
 * calls, so a sandboxed program is no worse off.
 */
#include "capture/agent/agent.h"
#include "capture/agent/recover.h"

#include <elf.h>

/* glibc: dlfcn.h, struct dl_find_object. */
struct find_object {
	unsigned long long flags;
	void *map_start;
	void *map_end;
	const void *link_map;
	void *eh_frame;
	unsigned long long reserved[8];
};

/* The public head of struct link_map (link.h). */
struct link_head {
	uint64_t addr;
	const char *name;
	const void *dynamic;
	const struct link_head *next, *prev;
};

#define LOCK_SPINS 20000u
#define LOCK_SLEEPS 2000u /* of 0.2 ms */

static int (*find_object)(void *, struct find_object *);
static const struct silt_agent_module *given;
static uint32_t given_count;
/* The first are those of the database's table, at the same places. The others are for what finds no place there: for unwinding
 * alone, so their entries are used again. */
#define UNNAMED 64u
static struct agent_module modules[SILT_DB_MODULES + UNNAMED];
static uint32_t module_count, unnamed_count;

/* By what a file is known when it is loaded again. */
static struct identity {
	uint64_t path_hash;
	uint32_t build_id_len; /* 0: it may be another file by now */
	uint8_t build_id[sizeof(((struct silt_db_module *)0)->build_id)];
} identities[SILT_DB_MODULES];

void module_setup(void *dl_find_object)
{
	find_object = (int (*)(void *, struct find_object *))dl_find_object;
}

void module_give(const struct silt_agent_module *list, uint32_t count)
{
	given = list;
	given_count = count;
}

static bool find_given(uint64_t pc, struct find_object *ret)
{
	for (uint32_t i = 0; i < given_count; i++) {
		if (pc < given[i].start || pc >= given[i].end)
			continue;
		ret->map_start = (void *)given[i].start;
		ret->map_end = (void *)given[i].end;
		ret->link_map = &given[i].link;
		ret->eh_frame = (void *)given[i].eh_frame_hdr;
		return true;
	}
	return false;
}

/* Which module is at pc, by the loader's word or the attacher's. */
static bool look_up(uint64_t pc, struct find_object *ret)
{
	return (find_object && find_object((void *)pc, ret) == 0) || find_given(pc, ret);
}

/* Reads a PT_NOTE segment for NT_GNU_BUILD_ID. */
static void note_build_id(const uint8_t *p, uint64_t size, uint64_t align, struct identity *dst)
{
	uint64_t at = 0, pad = align == 8 ? 7 : 3;

	while (at + sizeof(Elf64_Nhdr) <= size) {
		const Elf64_Nhdr *n = (const void *)(p + at);
		uint64_t name = at + sizeof(*n);
		uint64_t desc = (name + n->n_namesz + pad) & ~pad;

		if (desc + n->n_descsz > size)
			return;
		if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 && str_prefix((const char *)p + name, "GNU") &&
		    n->n_descsz <= sizeof(dst->build_id)) {
			for (uint32_t i = 0; i < n->n_descsz; i++)
				dst->build_id[i] = p[desc + i];
			dst->build_id_len = n->n_descsz;
			return;
		}
		at = (desc + n->n_descsz + pad) & ~pad;
	}
}

static void find_build_id(const struct agent_module *m, struct identity *dst)
{
	const Elf64_Ehdr *eh = (const void *)m->start;
	uint64_t bias = ((const struct link_head *)m->link_map)->addr;
	const Elf64_Phdr *ph;

	dst->build_id_len = 0;
	if (eh->e_ident[0] != ELFMAG0 || eh->e_ident[1] != ELFMAG1 || eh->e_ident[2] != ELFMAG2 ||
	    eh->e_ident[3] != ELFMAG3 || eh->e_phentsize != sizeof(*ph) ||
	    m->start + eh->e_phoff + eh->e_phnum * sizeof(*ph) > m->end)
		return;
	ph = (const void *)(m->start + eh->e_phoff);
	for (unsigned i = 0; i < eh->e_phnum && !dst->build_id_len; i++) {
		uint64_t at = bias + ph[i].p_vaddr;

		if (ph[i].p_type == PT_NOTE && at >= m->start && at + ph[i].p_filesz <= m->end)
			note_build_id((const uint8_t *)at, ph[i].p_filesz, ph[i].p_align, dst);
	}
}

static const char *path_of(const struct agent_module *m)
{
	const struct link_head *l = m->link_map;

	return l->name && l->name[0] ? l->name : agent_exe();
}

static void identify(const struct agent_module *m, struct identity *ret)
{
	ret->path_hash = 0xcbf29ce484222325ull; /* FNV-1a */
	for (const char *p = path_of(m); *p; p++)
		ret->path_hash = (ret->path_hash ^ (uint8_t)*p) * 0x100000001b3ull;
	find_build_id(m, ret);
}

static bool same_file(const struct identity *a, const struct identity *b)
{
	if (a->path_hash != b->path_hash || a->build_id_len != b->build_id_len)
		return false;
	for (uint32_t i = 0; i < a->build_id_len; i++)
		if (a->build_id[i] != b->build_id[i])
			return false;
	return a->build_id_len != 0;
}

static void module_register(uint32_t i)
{
	struct silt_db *db = agent_db();
	struct silt_db_module *dst = (struct silt_db_module *)db_at(db->module_ref) + i;
	const struct agent_module *m = &modules[i];
	const struct link_head *l = m->link_map;

	dst->state = 1;
	dst->start = m->start;
	dst->end = m->end;
	dst->generation = m->generation;
	dst->bias = l->addr;
	dst->unloaded = 0;
	dst->path_cut = !str_copy(dst->path, sizeof(dst->path), path_of(m));
	memcpy(dst->build_id, identities[i].build_id, sizeof(dst->build_id));
	dst->build_id_len = identities[i].build_id_len;
	ATOMIC_RELEASE(&dst->state, 2);
	if (db->module_count < i + 1)
		db->module_count = i + 1;
}

/* The loader still has it, at the same place? */
static bool still_there(const struct agent_module *m)
{
	struct find_object f;

	return look_up(m->start, &f) && (uint64_t)f.map_start == m->start && (uint64_t)f.map_end == m->end &&
	       f.link_map == m->link_map;
}

/* The next of all entries in use, from number *i on; NULL behind the last. */
static struct agent_module *module_next(uint32_t *i)
{
	uint32_t n = *i;

	if (n < SILT_DB_MODULES && n >= ATOMIC_ACQUIRE(&module_count))
		n = SILT_DB_MODULES;
	*i = n + 1;
	return n < SILT_DB_MODULES + ATOMIC_ACQUIRE(&unnamed_count) ? &modules[n] : NULL;
}

void module_register_all(const struct silt_db_module *from_parent)
{
	struct silt_db *db = agent_db();
	struct silt_db_module *table = db_at(db->module_ref);
	struct agent_module *m;

	for (uint32_t i = 0; (m = module_next(&i));) {
		if (m->alive && !still_there(m)) { /* unloaded before the fork, and nobody has looked since */
			m->alive = 0;
			rule_purge(m->start, m->end);
		}
		if (m >= modules + SILT_DB_MODULES)
			continue;
		if (m->alive) {
			module_register((uint32_t)(m - modules));
		} else if (from_parent && from_parent[m - modules].state == 2) { /* its file's name is gone from here */
			memcpy(&table[m - modules], &from_parent[m - modules], sizeof(*table));
			table[m - modules].unloaded = 1;
			if (db->module_count < (uint32_t)(m - modules) + 1)
				db->module_count = (uint32_t)(m - modules) + 1;
		}
	}
}

static const struct agent_module *known(uint64_t pc)
{
	struct agent_module *m;

	for (uint32_t i = 0; (m = module_next(&i));)
		if (ATOMIC_ACQUIRE(&m->alive) && pc >= m->start && pc < m->end)
			return m;
	return NULL;
}

/* Threads differ in this. */
static uint32_t lock_owner(void)
{
	return (uint32_t)(arch_thread_pointer() >> 6) | 1u << 31;
}

/* It is held for a moment, but by a thread that may not be running: on a busy machine one that waits must sleep, or the stack it is
 * taking ends here. Bounded, so that nothing can hang anybody: who holds it for that long is not waited for again. A signal handler that
 * interrupted the owner need not wait at all. */
static bool lock_take(void)
{
	static uint32_t stuck;
	const int64_t moment[2] = { 0, 200000 };
	uint32_t own = lock_owner(), by = 0;

	for (uint32_t i = 0; i < LOCK_SPINS + LOCK_SLEEPS; i++) {
		if (atomic_cas32(&agent_hot.module_lock, 0, own))
			return true;
		by = ATOMIC_LOAD(&agent_hot.module_lock);
		if (by == own)
			return false;
		if (i < LOCK_SPINS)
			arch_pause();
		else if (agent_no_syscalls || (by && by == ATOMIC_LOAD(&stuck)))
			break;
		else if (by)
			sys_futex(&agent_hot.module_lock, 128 /* FUTEX_WAIT_PRIVATE */, by, moment);
	}
	if (!agent_no_syscalls && by)
		ATOMIC_STORE(&stuck, by);
	return false;
}

/* It may have been held for a look at what is gone, which must then be taken again. */
void module_lock_abandon(void)
{
	if (atomic_cas32(&agent_hot.module_lock, lock_owner(), 0))
		__atomic_fetch_or(&agent_hot.attention, AGENT_MODULES_CHANGED, __ATOMIC_RELAXED);
}

static void lock_give(void)
{
	ATOMIC_RELEASE(&agent_hot.module_lock, 0);
}

static struct agent_module *fill(struct agent_module *m, const struct agent_module *loaded, uint32_t generation)
{
	m->start = loaded->start;
	m->end = loaded->end;
	m->eh_frame_hdr = loaded->eh_frame_hdr;
	m->link_map = loaded->link_map;
	m->generation = generation;
	return m;
}

/* A place for what the table cannot take: its frames are shown by address, for nothing tells which of several it was. */
static const struct agent_module *add_unnamed(const struct agent_module *loaded)
{
	struct agent_module *m = modules + SILT_DB_MODULES;

	while (m < modules + SILT_DB_MODULES + unnamed_count && m->alive)
		m++;
	agent_lost(SILT_LOST_MODULES);
	if (m == modules + SILT_DB_MODULES + UNNAMED)
		return NULL;
	fill(m, loaded, SILT_DB_GENERATION_UNNAMED);
	ATOMIC_RELEASE(&m->alive, 1);
	if (m == modules + SILT_DB_MODULES + unnamed_count)
		ATOMIC_RELEASE(&unnamed_count, unnamed_count + 1);
	return m;
}

/* A file that comes back to the place where it was, as plugins do, is the load it was. */
static const struct agent_module *module_add(const struct find_object *f)
{
	const struct agent_module loaded = {
		.start = (uint64_t)f->map_start,
		.end = (uint64_t)f->map_end,
		.eh_frame_hdr = (uint64_t)f->eh_frame,
		.link_map = f->link_map,
	};
	uint32_t generation = 0, i;
	struct identity who;

	identify(&loaded, &who);
	for (i = 0; i < module_count; i++) {
		const struct agent_module *m = &modules[i];

		if (m->start >= loaded.end || m->end <= loaded.start)
			continue;
		if (m->start == loaded.start && m->end == loaded.end && !m->alive && same_file(&identities[i], &who))
			break;
		if (generation <= m->generation)
			generation = m->generation + 1;
	}
	if (i < module_count)
		generation = modules[i].generation;
	if (i == SILT_DB_MODULES || generation > SILT_DB_GENERATION_LAST)
		return add_unnamed(&loaded);
	fill(&modules[i], &loaded, generation);
	identities[i] = who;
	module_register(i);
	ATOMIC_RELEASE(&modules[i].alive, 1);
	if (i == module_count)
		ATOMIC_RELEASE(&module_count, i + 1);
	return &modules[i];
}

const struct agent_module *module_find(uint64_t pc)
{
	const struct agent_module *m = known(pc);
	struct find_object f;

	if (m || !look_up(pc, &f))
		return m;
	if (pc < (uint64_t)f.map_start || pc >= (uint64_t)f.map_end || !lock_take())
		return NULL;
	m = known(pc);
	if (!m)
		m = module_add(&f);
	lock_give();
	return m;
}

/* A header of the attacher's own lies outside of the module; the table it leads to ends by itself. */
struct cfi_module module_tables(const struct agent_module *m)
{
	struct cfi_module cm = { m->start, m->end, (const uint8_t *)m->eh_frame_hdr };

	if (m->eh_frame_hdr && (m->eh_frame_hdr < m->start || m->eh_frame_hdr >= m->end)) {
		cm.lo = 0;
		cm.hi = UINT64_MAX / 2;
	}
	return cm;
}

bool module_tables_at(uint64_t pc, struct cfi_module *ret)
{
	const struct agent_module *m = known(pc);
	struct agent_module unknown;
	struct find_object f;

	if (!m) {
		if (!look_up(pc, &f) || pc < (uint64_t)f.map_start || pc >= (uint64_t)f.map_end)
			return false;
		unknown.start = (uint64_t)f.map_start;
		unknown.end = (uint64_t)f.map_end;
		unknown.eh_frame_hdr = (uint64_t)f.eh_frame;
		m = &unknown;
	}
	*ret = module_tables(m);
	return true;
}

COLD void module_refresh(void)
{
	struct silt_db_module *table = db_at(agent_db()->module_ref);
	struct agent_module *m;

	if (!lock_take())
		return;
	__atomic_fetch_and(&agent_hot.attention, ~(uint32_t)AGENT_MODULES_CHANGED, __ATOMIC_RELAXED);
	for (uint32_t i = 0; (m = module_next(&i));) {
		if (!m->alive || still_there(m))
			continue;
		ATOMIC_STORE(&m->alive, 0);
		if (m < modules + SILT_DB_MODULES)
			table[m - modules].unloaded = 1;
		rule_purge(m->start, m->end);
		ATOMIC_ADD(&agent_hot.module_generation, WALK_GENERATION);
	}
	lock_give();
}
