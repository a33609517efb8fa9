/* SPDX-License-Identifier: MIT */
/* Reading symbol tables by the section headers (System V gABI, chapter 4); every offset is checked against the file. */
#include "capture/target/elf_view.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const void *at(const struct silt_elf_view *v, uint64_t offset, uint64_t size)
{
	return offset <= v->size && size <= v->size - offset ? v->bytes + offset : NULL;
}

static const Elf64_Shdr *section(const struct silt_elf_view *v, const Elf64_Shdr *table, uint32_t i)
{
	return i < v->header->e_shnum ? &table[i] : NULL;
}

static void take_table(const struct silt_elf_view *v, const Elf64_Shdr *table, const Elf64_Shdr *s, struct silt_elf_table *ret)
{
	const Elf64_Shdr *strings = section(v, table, s->sh_link);
	const void *symbols = at(v, s->sh_offset, s->sh_size), *text;

	if (!strings || !symbols || s->sh_entsize != sizeof(Elf64_Sym))
		return;
	text = at(v, strings->sh_offset, strings->sh_size);
	if (!text || !strings->sh_size || ((const char *)text)[strings->sh_size - 1])
		return;
	ret->symbols = symbols;
	ret->count = s->sh_size / sizeof(Elf64_Sym);
	ret->strings = text;
	ret->strings_size = strings->sh_size;
}

/* A table of unwind information is read up to the zero length that ends it. */
static void find_eh_frame(struct silt_elf_view *v, const Elf64_Shdr *table)
{
	const Elf64_Shdr *names = section(v, table, v->header->e_shstrndx);
	const char *text = names ? at(v, names->sh_offset, names->sh_size) : NULL;

	for (uint32_t i = 0; text && i < v->header->e_shnum; i++) {
		const Elf64_Shdr *s = &table[i];
		const uint8_t *bytes = at(v, s->sh_offset, s->sh_size);

		if (s->sh_name < names->sh_size && names->sh_size - s->sh_name > 10 && !memcmp(text + s->sh_name, ".eh_frame", 10) &&
		    s->sh_type != SHT_NOBITS && bytes && s->sh_size >= 4 && !memcmp(bytes + s->sh_size - 4, "\0\0\0\0", 4))
			v->eh_frame = s->sh_addr;
	}
}

static void find_tables(struct silt_elf_view *v)
{
	const Elf64_Ehdr *eh = v->header;
	const Elf64_Shdr *table = at(v, eh->e_shoff, (uint64_t)eh->e_shnum * sizeof(*table));

	if (!table || eh->e_shentsize != sizeof(*table) || eh->e_shoff % 8)
		return;
	for (uint32_t i = 0; i < eh->e_shnum; i++) {
		if (table[i].sh_type == SHT_DYNSYM)
			take_table(v, table, &table[i], &v->dynamic);
		else if (table[i].sh_type == SHT_SYMTAB)
			take_table(v, table, &table[i], &v->full);
	}
	for (uint32_t i = 0; i < eh->e_shnum; i++)
		if (table[i].sh_type == SHT_GNU_versym && table[i].sh_size / 2 >= v->dynamic.count)
			v->dynamic.versions = at(v, table[i].sh_offset, table[i].sh_size);
	find_eh_frame(v, table);
}

int silt_elf_view_open(int fd, const char *name, struct silt_elf_view *ret, struct silt_error *err)
{
	struct silt_elf_view v = { 0 };
	struct stat st;
	void *p;

	if (fstat(fd, &st))
		return silt_error_os(err, errno, "cannot look at %s", name);
	if (st.st_size < (off_t)sizeof(Elf64_Ehdr))
		return silt_error_set(err, SILT_E_BAD_DATA, "%s is no ELF file", name);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return silt_error_os(err, errno, "cannot map %s", name);
	v.bytes = p;
	v.size = (uint64_t)st.st_size;
	v.header = p;
	v.segments = at(&v, v.header->e_phoff, (uint64_t)v.header->e_phnum * sizeof(*v.segments));
	if (memcmp(v.header->e_ident, ELFMAG, SELFMAG) || v.header->e_ident[EI_CLASS] != ELFCLASS64 || !v.segments ||
	    v.header->e_phentsize != sizeof(*v.segments) || v.header->e_phoff % 8) {
		munmap(p, (size_t)st.st_size);
		return silt_error_set(err, SILT_E_BAD_DATA, "%s is no 64-bit ELF file", name);
	}
	find_tables(&v);
	*ret = v;
	return 0;
}

void silt_elf_view_close(struct silt_elf_view *v)
{
	if (v->bytes)
		munmap((void *)v->bytes, v->size);
	memset(v, 0, sizeof(*v));
}

void silt_elf_view_each(const struct silt_elf_table *t,
			void (*found)(void *data, const char *name, const struct silt_elf_symbol *symbol, bool hidden_version),
			void *data)
{
	for (uint64_t i = 1; i < t->count; i++) {
		struct silt_elf_symbol ret;
		uint16_t version = 0;
		Elf64_Sym s;

		memcpy(&s, t->symbols + i * sizeof(s), sizeof(s));
		if (s.st_shndx == SHN_UNDEF || !s.st_value || s.st_name >= t->strings_size)
			continue;
		if (t->versions)
			memcpy(&version, t->versions + i * 2, 2);
		ret.value = s.st_value;
		ret.size = s.st_size;
		ret.type = ELF64_ST_TYPE(s.st_info);
		ret.bind = ELF64_ST_BIND(s.st_info);
		found(data, t->strings + s.st_name, &ret, version & 0x8000);
	}
}

struct search {
	const char *name;
	struct silt_elf_symbol *ret;
	int rank;
};

static void take_best(void *data, const char *name, const struct silt_elf_symbol *symbol, bool hidden_version)
{
	struct search *s = data;
	int rank = hidden_version ? 1 : 2;

	if (rank <= s->rank || strcmp(name, s->name))
		return;
	s->rank = rank;
	*s->ret = *symbol;
}

bool silt_elf_view_find(const struct silt_elf_table *t, const char *name, struct silt_elf_symbol *ret)
{
	struct search s = { name, ret, 0 };

	silt_elf_view_each(t, take_best, &s);
	return s.rank > 0;
}

static void take_private(void *data, const char *name, const struct silt_elf_symbol *symbol, bool hidden_version)
{
	static const char *const names[] = { "je_malloc", "_rjem_malloc", "mi_malloc", "tc_malloc", "rpmalloc" };
	const char **found = data;

	(void)hidden_version;
	if (symbol->type != STT_FUNC)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			*found = names[i];
}

const char *silt_elf_view_private_malloc(const struct silt_elf_view *v)
{
	const char *found = NULL;

	silt_elf_view_each(v->full.count ? &v->full : &v->dynamic, take_private, &found);
	return found;
}

const uint8_t *silt_elf_view_at(const struct silt_elf_view *v, uint64_t vaddr, uint64_t size)
{
	for (uint32_t i = 0; i < v->header->e_phnum; i++) {
		const Elf64_Phdr *ph = &v->segments[i];

		if (ph->p_type == PT_LOAD && vaddr >= ph->p_vaddr && vaddr - ph->p_vaddr <= ph->p_filesz &&
		    size <= ph->p_filesz - (vaddr - ph->p_vaddr))
			return at(v, ph->p_offset + (vaddr - ph->p_vaddr), size);
	}
	return NULL;
}
