/* SPDX-License-Identifier: MIT */
/* Code symbols of an ELF file, read from the sections' plain bytes. */
#include <gelf.h>
#include <string.h>

#include "symbols/object_internal.h"

/* An entry of either class as the 64-bit one. */
static Elf64_Sym read_symbol(const struct silt_object *o, const uint8_t *p)
{
	Elf64_Sym wide;
	Elf32_Sym s;

	if (o->is64) {
		memcpy(&wide, p, sizeof(wide));
		return wide;
	}
	memcpy(&s, p, sizeof(s));
	return (Elf64_Sym){.st_name = s.st_name, .st_info = s.st_info, .st_other = s.st_other, .st_shndx = s.st_shndx,
			   .st_value = s.st_value, .st_size = s.st_size};
}

static bool is_code_symbol(const struct silt_object *o, const Elf64_Sym *sym)
{
	unsigned type = ELF64_ST_TYPE(sym->st_info), section = sym->st_shndx;

	if (section == SHN_UNDEF || !sym->st_name)
		return false;
	if (type == STT_FUNC || type == STT_GNU_IFUNC)
		return true;
	/* Hand-written assembly often leaves its labels without a type. */
	return type == STT_NOTYPE && section <= o->sections.count && o->sections.items[section - 1].flags & SHF_EXECINSTR;
}

/* Symbols and their names; false when there are none. */
static bool find_table(struct silt_object *o, bool dynamic, struct silt_bytes *symbols, struct silt_bytes *strings)
{
	uint32_t want = dynamic ? SHT_DYNSYM : SHT_SYMTAB;

	for (size_t i = 0; i < o->sections.count; i++) {
		struct silt_object_section *s = &o->sections.items[i];

		if (s->type == want && s->link && s->link <= o->sections.count &&
		    !silt_object_section_bytes(o, s, false, symbols, NULL) &&
		    !silt_object_section_bytes(o, &o->sections.items[s->link - 1], false, strings, NULL))
			return true;
	}
	return false;
}

size_t silt_object_symbols(struct silt_object *o, bool dynamic, void (*fn)(void *, const struct silt_elf_symbol *), void *data)
{
	const char *file = NULL;
	size_t calls = 0, entry = o->is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym), terminated;
	struct silt_bytes symbols, strings;
	const uint8_t *last;

	if (!find_table(o, dynamic, &symbols, &strings))
		return 0;
	/* Names that begin before the last zero byte end inside the table. */
	last = memrchr(strings.data, 0, strings.size);
	terminated = last ? (size_t)(last - strings.data) : 0;
	for (size_t i = 1; i < symbols.size / entry; i++) {
		Elf64_Sym sym = read_symbol(o, symbols.data + i * entry);
		unsigned bind = ELF64_ST_BIND(sym.st_info);
		struct silt_elf_symbol s = {.value = sym.st_value, .size = sym.st_size, .section = sym.st_shndx};

		if (sym.st_name >= terminated)
			continue;
		/* Local symbols stand behind their file; what the linker itself makes is behind one without a name. */
		if (ELF64_ST_TYPE(sym.st_info) == STT_FILE)
			file = strings.data[sym.st_name] ? (const char *)strings.data + sym.st_name : NULL;
		if (!is_code_symbol(o, &sym))
			continue;
		s.is_function = ELF64_ST_TYPE(sym.st_info) != STT_NOTYPE;
		s.rank = bind == STB_LOCAL ? SILT_SYMBOL_LOCAL : bind == STB_WEAK ? SILT_SYMBOL_WEAK : SILT_SYMBOL_GLOBAL;
		s.name = (const char *)strings.data + sym.st_name;
		s.file = bind == STB_LOCAL ? file : NULL;
		if (!*s.name)
			continue;
		fn(data, &s);
		calls++;
	}
	return calls;
}
