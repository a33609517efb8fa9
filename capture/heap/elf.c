/* SPDX-License-Identifier: MIT */
/* Exported symbols of a module, found in the target's memory with the module's own GNU hash table (gABI; Drepper, "How To
 * Write Shared Libraries", and the layout of binutils' elf/gnu-hash). */
#include <elf.h>

#include "capture/heap/heap_internal.h"

struct dynamic {
	silt_addr symtab, strtab, hash;
};

/* ld.so turns the addresses in a module's dynamic section into run-time ones where it can write there, other loaders and
 * static programs leave them as they are. */
static silt_addr run_time(const struct silt_target_module *m, uint64_t value)
{
	return value >= m->start && value < m->end ? value : m->bias + value;
}

static bool read_dynamic(struct silt_heap *h, const struct silt_target_module *m, struct dynamic *ret)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	Elf64_Dyn dyn;
	silt_addr at = 0, end = 0;

	memset(ret, 0, sizeof(*ret));
	if (!silt_heap_memory_read(&h->mem, m->start, &eh, sizeof(eh)) || memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof(ph) || eh.e_phnum > 64)
		return false;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		if (!silt_heap_memory_read(&h->mem, m->start + eh.e_phoff + i * sizeof(ph), &ph, sizeof(ph)))
			return false;
		if (ph.p_type == PT_DYNAMIC) {
			at = m->bias + ph.p_vaddr;
			end = at + (ph.p_memsz < 65536 ? ph.p_memsz : 65536);
		}
	}
	for (; at + sizeof(dyn) <= end; at += sizeof(dyn)) {
		if (!silt_heap_memory_read(&h->mem, at, &dyn, sizeof(dyn)) || dyn.d_tag == DT_NULL)
			break;
		if (dyn.d_tag == DT_SYMTAB)
			ret->symtab = run_time(m, dyn.d_un.d_ptr);
		else if (dyn.d_tag == DT_STRTAB)
			ret->strtab = run_time(m, dyn.d_un.d_ptr);
		else if (dyn.d_tag == DT_GNU_HASH)
			ret->hash = run_time(m, dyn.d_un.d_ptr);
	}
	return ret->symtab && ret->strtab && ret->hash;
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t hash = 5381;

	for (; *name; name++)
		hash = hash * 33 + (unsigned char)*name;
	return hash;
}

static bool name_is(struct silt_heap *h, silt_addr at, const char *name)
{
	char text[64];
	size_t n = strlen(name) + 1;

	return n <= sizeof(text) && silt_heap_memory_read(&h->mem, at, text, n) && !memcmp(text, name, n);
}

bool silt_heap_symbol(struct silt_heap *h, const struct silt_target_module *m, const char *name, silt_addr *ret_addr,
		      uint64_t *ret_size)
{
	uint32_t head[4], hash = gnu_hash(name), symbol, chain; /* head: buckets, first symbol, bloom words, shift */
	struct dynamic d;
	silt_addr buckets, chains;
	Elf64_Sym sym;

	if (!read_dynamic(h, m, &d) || !silt_heap_memory_read(&h->mem, d.hash, head, sizeof(head)) || !head[0])
		return false;
	buckets = d.hash + sizeof(head) + head[2] * 8ull;
	chains = buckets + head[0] * 4ull;
	if (!silt_heap_memory_u32(&h->mem, buckets + hash % head[0] * 4ull, &symbol) || symbol < head[1])
		return false;
	/* A chain of a sound table has a handful of members. */
	for (unsigned n = 0; n < 4096; n++, symbol++) {
		if (!silt_heap_memory_u32(&h->mem, chains + (symbol - head[1]) * 4ull, &chain))
			return false;
		if ((chain | 1) == (hash | 1) &&
		    silt_heap_memory_read(&h->mem, d.symtab + symbol * sizeof(sym), &sym, sizeof(sym)) &&
		    sym.st_shndx != SHN_UNDEF && name_is(h, d.strtab + sym.st_name, name)) {
			*ret_addr = m->bias + sym.st_value;
			*ret_size = sym.st_size;
			return true;
		}
		if (chain & 1)
			break;
	}
	return false;
}
