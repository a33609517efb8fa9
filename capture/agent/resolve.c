/* SPDX-License-Identifier: MIT */
/*
 * Finding the functions behind the hooks without dlsym (it may allocate): through the loader's list of modules, found by
 * the main program's DT_DEBUG entry (System V gABI chapter 5, r_debug of <link.h>), and each module's DT_GNU_HASH or
 * DT_HASH. Runs once, at the first hooked call, when the loader's list of the start-up modules is complete.
 */
#include "capture/agent/agent.h"
#include "capture/agent/real.h"

#include <elf.h>

struct link_head { /* the public head of struct link_map */
	uint64_t addr;
	const char *name;
	const Elf64_Dyn *dynamic;
	const struct link_head *next, *prev;
};

struct debug_head { /* struct r_debug */
	int version;
	const struct link_head *map;
};

extern const Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

#define PROT_READ_ONLY 1
#define PROT_READ_WRITE 3

static const struct link_head *first_map;

/* The auxiliary vector where the kernel put it, above the arguments on the first stack (binfmt_elf.c writes AT_PHDR, AT_PHENT and
 * AT_PHNUM in a row). The first hooked call of a process is made there. */
static const uint64_t *auxv_on_stack(void)
{
	const uint64_t *p = (const uint64_t *)__builtin_frame_address(0);

	while (p[0] != AT_PHDR || p[2] != AT_PHENT || p[3] != sizeof(Elf64_Phdr) || p[4] != AT_PHNUM)
		p++;
	return p;
}

/* /proc may be absent, or closed to us as to all who run a program they may not read: then the stack must do. Returns how many
 * words there are. */
static long auxv_read(uint64_t *aux, long max)
{
	int fd = (int)sys_open("/proc/self/auxv", 02000000 /* O_CLOEXEC */, 0);
	long n = fd >= 0 ? sys_read(fd, aux, (size_t)max * 8) : 0;

	if (fd >= 0)
		sys_close(fd);
	if (n > 0)
		return n / 8;
	for (const uint64_t *p = auxv_on_stack(); n + 1 < max && p[0] != AT_NULL; p += 2) {
		aux[n++] = p[0];
		aux[n++] = p[1];
	}
	return n;
}

bool agent_look_around(struct agent_world *ret)
{
	uint64_t aux[128];
	const Elf64_Phdr *ph;
	uint64_t bias = 0;
	long n = auxv_read(aux, 128);

	ret->phdr = ret->phnum = ret->ldso_base = 0;
	ret->first_map = NULL;
	for (long i = 0; i + 1 < n; i += 2) {
		if (aux[i] == AT_PHDR)
			ret->phdr = aux[i + 1];
		else if (aux[i] == AT_PHNUM)
			ret->phnum = aux[i + 1];
		else if (aux[i] == AT_BASE)
			ret->ldso_base = aux[i + 1];
	}
	ph = (const void *)ret->phdr;
	for (uint64_t i = 0; i < ret->phnum; i++)
		if (ph[i].p_type == PT_PHDR)
			bias = ret->phdr - ph[i].p_vaddr;
	for (uint64_t i = 0; i < ret->phnum; i++) {
		if (ph[i].p_type != PT_DYNAMIC)
			continue;
		for (const Elf64_Dyn *d = (const void *)(bias + ph[i].p_vaddr); d->d_tag != DT_NULL; d++)
			if (d->d_tag == DT_DEBUG && d->d_un.d_ptr)
				ret->first_map = ((const struct debug_head *)d->d_un.d_ptr)->map;
	}
	first_map = ret->first_map;
	return first_map != NULL;
}

/* A module's symbol tables, as far as a look-up needs them. */
struct tables {
	const Elf64_Sym *symbols;
	const char *strings;
	const uint32_t *gnu_hash, *sysv_hash;
	const uint16_t *versions;
};

/* glibc adds the load address to these entries in place, musl and the vdso do not. */
static const void *dynamic_pointer(const struct link_head *m, uint64_t value)
{
	return (const void *)(value < m->addr ? value + m->addr : value);
}

static void read_tables(const struct link_head *m, struct tables *t)
{
	t->symbols = NULL;
	t->strings = NULL;
	t->gnu_hash = t->sysv_hash = NULL;
	t->versions = NULL;
	for (const Elf64_Dyn *d = m->dynamic; d && d->d_tag != DT_NULL; d++) {
		const void *p = dynamic_pointer(m, d->d_un.d_ptr);

		if (d->d_tag == DT_SYMTAB)
			t->symbols = p;
		else if (d->d_tag == DT_STRTAB)
			t->strings = p;
		else if (d->d_tag == DT_GNU_HASH)
			t->gnu_hash = p;
		else if (d->d_tag == DT_HASH)
			t->sysv_hash = p;
		else if (d->d_tag == DT_VERSYM)
			t->versions = p;
	}
}

static bool symbol_fits(const struct tables *t, uint32_t i, const char *name, bool hidden_too)
{
	const Elf64_Sym *s = &t->symbols[i];

	if (s->st_shndx == SHN_UNDEF || s->st_value == 0 || !str_equal(t->strings + s->st_name, name))
		return false;
	/* Bit 15 of the version: not the default one. */
	return hidden_too || !t->versions || !(t->versions[i] & 0x8000);
}

/* GNU hash section: nbuckets, symoffset, bloom size, bloom shift; bloom words; buckets; chains. */
static const Elf64_Sym *find_gnu(const struct tables *t, const char *name, bool hidden_too)
{
	const uint32_t *h = t->gnu_hash, *buckets, *chains;
	uint32_t nbuckets = h[0], first = h[1], bloom_size = h[2], shift = h[3], hash = 5381, i;
	const uint64_t *bloom = (const void *)(h + 4);
	uint64_t word;

	for (const unsigned char *p = (const unsigned char *)name; *p; p++)
		hash = hash * 33 + *p;
	if (!nbuckets || !bloom_size)
		return NULL;
	word = bloom[hash / 64 & (bloom_size - 1)];
	if (!(word >> (hash & 63) & word >> (hash >> shift & 63) & 1))
		return NULL;
	buckets = (const void *)(bloom + bloom_size);
	chains = buckets + nbuckets;
	i = buckets[hash % nbuckets];
	if (i < first)
		return NULL;
	for (;; i++) {
		if ((chains[i - first] | 1) == (hash | 1) && symbol_fits(t, i, name, hidden_too))
			return &t->symbols[i];
		if (chains[i - first] & 1)
			return NULL;
	}
}

static const Elf64_Sym *find_sysv(const struct tables *t, const char *name, bool hidden_too)
{
	const uint32_t *h = t->sysv_hash;
	uint32_t hash = 0, n = h[1];

	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		hash = (hash << 4) + *p;
		hash ^= hash >> 24 & 0xf0;
	}
	hash &= 0xfffffff;
	for (uint32_t i = h[2 + hash % h[0]], guard = 0; i && guard < n; i = h[2 + h[0] + i], guard++)
		if (symbol_fits(t, i, name, hidden_too))
			return &t->symbols[i];
	return NULL;
}

static const Elf64_Sym *find_symbol(const struct link_head *m, const char *name)
{
	struct tables t;
	const Elf64_Sym *s = NULL;

	read_tables(m, &t);
	if (!t.symbols || !t.strings)
		return NULL;
	for (int hidden_too = 0; !s && hidden_too < 2; hidden_too++)
		s = t.gnu_hash ? find_gnu(&t, name, hidden_too) : t.sysv_hash ? find_sysv(&t, name, hidden_too) : NULL;
	return s;
}

static void *lookup(const struct link_head *m, const char *name)
{
	const Elf64_Sym *s = find_symbol(m, name);

	if (!s)
		return NULL;
	if ((s->st_info & 0xf) == STT_GNU_IFUNC)
		return ((void *(*)(void))(m->addr + s->st_value))();
	return (void *)(m->addr + s->st_value);
}

static bool is_agent(const struct link_head *m)
{
	return m->dynamic == _DYNAMIC;
}

void *agent_next(const char *name, const void **ret_map)
{
	bool behind = false;

	for (const struct link_head *m = first_map; m; m = m->next) {
		void *p;

		if (is_agent(m)) {
			behind = true;
			continue;
		}
		p = behind ? lookup(m, name) : NULL;
		if (p) {
			if (ret_map)
				*ret_map = m;
			return p;
		}
	}
	return NULL;
}

void *agent_first(const char *name, const void **ret_map)
{
	for (const struct link_head *m = first_map; m; m = m->next) {
		void *p = is_agent(m) ? NULL : lookup(m, name);

		if (p && ret_map)
			*ret_map = m;
		if (p)
			return p;
	}
	return NULL;
}

/* An undefined symbol of value 0 is passed over by every look-up (gABI, "Symbol Values"; the loader's check_match). The table is
 * ours alone: the page it lies in is copied when it is written. */
void agent_withdraw(const char *name)
{
	for (const struct link_head *m = first_map; m; m = m->next) {
		Elf64_Sym *s = is_agent(m) ? (Elf64_Sym *)find_symbol(m, name) : NULL;
		uint64_t page = (uint64_t)s & ~(uint64_t)(AGENT_PAGE - 1);
		uint64_t size = (uint64_t)(s + 1) > page + AGENT_PAGE ? 2 * AGENT_PAGE : AGENT_PAGE;

		if (!s || sys_failed(sys_mprotect((void *)page, size, PROT_READ_WRITE)))
			continue;
		s->st_shndx = SHN_UNDEF;
		s->st_value = 0;
		sys_mprotect((void *)page, size, PROT_READ_ONLY);
	}
}
