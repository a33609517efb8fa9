/* SPDX-License-Identifier: MIT */
/*
 * Modules as the unwinder meets them. glibc's _dl_find_object (2.35 and newer) is lock-free and async-signal-safe; names
 * and build-ids are read from the mapped image, which cannot go away while one of its functions is on our stack. No system
 * calls, so a sandboxed program is no worse off.
 */
#include "capture/agent/agent.h"

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

static int (*find_object)(void *, struct find_object *);
static const struct silt_agent_module *given;
static uint32_t given_count;
static struct agent_module modules[SILT_DB_MODULES];
static uint32_t module_count;

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
static void note_build_id(const uint8_t *p, uint64_t size, uint64_t align, struct silt_db_module *dst)
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

static void find_build_id(const struct agent_module *m, struct silt_db_module *dst)
{
	const Elf64_Ehdr *eh = (const void *)m->start;
	const Elf64_Phdr *ph;

	if (eh->e_ident[0] != ELFMAG0 || eh->e_ident[1] != ELFMAG1 || eh->e_ident[2] != ELFMAG2 ||
	    eh->e_ident[3] != ELFMAG3 || eh->e_phentsize != sizeof(*ph) ||
	    m->start + eh->e_phoff + eh->e_phnum * sizeof(*ph) > m->end)
		return;
	ph = (const void *)(m->start + eh->e_phoff);
	for (unsigned i = 0; i < eh->e_phnum && !dst->build_id_len; i++) {
		uint64_t at = dst->bias + ph[i].p_vaddr;

		if (ph[i].p_type == PT_NOTE && at >= m->start && at + ph[i].p_filesz <= m->end)
			note_build_id((const uint8_t *)at, ph[i].p_filesz, ph[i].p_align, dst);
	}
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
	dst->path_cut = !str_copy(dst->path, sizeof(dst->path), l->name && l->name[0] ? l->name : agent_exe());
	find_build_id(m, dst);
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

void module_register_all(void)
{
	for (uint32_t i = 0; i < module_count; i++) {
		struct agent_module *m = &modules[i];

		if (m->alive && !still_there(m)) { /* unloaded before the fork, and nobody has looked since */
			m->alive = 0;
			rule_purge(m->start, m->end);
		}
		if (m->alive)
			module_register(i);
	}
}

static const struct agent_module *known(uint64_t pc)
{
	uint32_t n = ATOMIC_ACQUIRE(&module_count);

	for (uint32_t i = n; i-- > 0;)
		if (modules[i].alive && pc >= modules[i].start && pc < modules[i].end)
			return &modules[i];
	return NULL;
}

/* Bounded, so that neither a signal handler in the same thread nor a fork with the lock held can hang anybody. */
static bool lock_take(void)
{
	for (uint32_t i = 0; i < 100000; i++) {
		if (atomic_cas32(&agent_hot.module_lock, 0, 1))
			return true;
		arch_pause();
	}
	return false;
}

static void lock_give(void)
{
	ATOMIC_RELEASE(&agent_hot.module_lock, 0);
}

static const struct agent_module *module_add(const struct find_object *f)
{
	struct agent_module *m = &modules[module_count];
	uint32_t generation = 0;

	if (module_count >= SILT_DB_MODULES) {
		agent_lost(SILT_LOST_MODULES);
		return NULL;
	}
	for (uint32_t i = 0; i < module_count; i++)
		if (modules[i].start < (uint64_t)f->map_end && modules[i].end > (uint64_t)f->map_start)
			generation = (modules[i].generation + 1) & 0xff;
	m->start = (uint64_t)f->map_start;
	m->end = (uint64_t)f->map_end;
	m->eh_frame_hdr = (uint64_t)f->eh_frame;
	m->link_map = f->link_map;
	m->generation = generation;
	m->alive = 1;
	module_register(module_count);
	ATOMIC_RELEASE(&module_count, module_count + 1);
	return m;
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
	struct cfi_module cm = { m->start, m->end, (const uint8_t *)m->eh_frame_hdr, 0 };

	if (m->eh_frame_hdr && (m->eh_frame_hdr < m->start || m->eh_frame_hdr >= m->end)) {
		cm.lo = 0;
		cm.hi = UINT64_MAX / 2;
	}
	return cm;
}

COLD void module_refresh(void)
{
	struct silt_db_module *table = db_at(agent_db()->module_ref);

	if (!lock_take())
		return;
	__atomic_fetch_and(&agent_hot.attention, ~(uint32_t)AGENT_MODULES_CHANGED, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < module_count; i++) {
		struct agent_module *m = &modules[i];

		if (!m->alive || still_there(m))
			continue;
		m->alive = 0;
		table[i].unloaded = 1;
		rule_purge(m->start, m->end);
		ATOMIC_ADD(&agent_hot.module_generation, 1);
	}
	lock_give();
}
