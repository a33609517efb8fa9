/* SPDX-License-Identifier: MIT */
/* A bounded reader of ELF headers, notes and dynamic sections, by pread (a file that shrinks meanwhile is an error, no signal)
 * or from memory. */
#include "symbols/elf_reader.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/types.h"

enum {
	NOTE_LIMIT = 1 << 20,    /* a build-id note takes 36 bytes; GNU properties and package notes a few hundred */
	NOTES_LIMIT = 4 << 20,   /* … of all notes together */
	HEADERS_LIMIT = 1 << 20, /* program or section headers looked at: the largest object files have some 100,000 */
	DYNAMIC_LIMIT = 1 << 20, /* 65536 entries: glibc's largest users have some hundred */
	NAME_HITS = 256,         /* places in a string table that end in the wanted name */
	SCAN_BYTES = 1 << 16,
	TABLE_LIMIT = 1 << 30,   /* bytes of symbols, or of their names, searched: the largest programs have some 400 MB */
	PAGE = 4096,             /* segments are mapped from page boundaries, whatever alignment they ask for */
	SYMBOL_TABLES = 4,       /* a file has at most two; more would only cost time */
};

struct elf_file {
	int fd;
	const uint8_t *bytes; /* NULL: read from fd */
	const char *name;
	uint64_t size;
	bool is64;
	uint64_t phoff, shoff;
	uint16_t phentsize, shentsize;
	uint32_t phnum;
	uint64_t shnum;
	uint64_t notes_read; /* bytes */
};

struct segment {
	uint32_t type;
	uint64_t offset, vaddr, filesz, align;
};

struct table { /* a symbol table and its strings, as file ranges */
	uint64_t symbols, symbols_size;
	uint64_t strings, strings_size;
};

static int bad(const struct elf_file *f, struct silt_error *err, const char *what)
{
	return silt_error_set(err, SILT_E_BAD_DATA, "%s: damaged ELF file: %s", f->name, what);
}

static bool read_at(const struct elf_file *f, uint64_t offset, void *buffer, size_t size)
{
	if (offset > f->size || size > f->size - offset)
		return false;
	if (f->bytes) {
		memcpy(buffer, f->bytes + offset, size);
		return true;
	}
	return silt_pread_full(f->fd, buffer, size, offset) == (ssize_t)size;
}

static bool read_section(const struct elf_file *f, uint64_t i, Elf64_Shdr *ret)
{
	Elf32_Shdr s;
	uint64_t at;

	if (__builtin_mul_overflow(i, (uint64_t)f->shentsize, &at) || __builtin_add_overflow(at, f->shoff, &at))
		return false;
	if (f->is64)
		return f->shentsize >= sizeof(*ret) && read_at(f, at, ret, sizeof(*ret));
	if (f->shentsize < sizeof(s) || !read_at(f, at, &s, sizeof(s)))
		return false;
	*ret = (Elf64_Shdr){.sh_type = s.sh_type, .sh_offset = s.sh_offset, .sh_size = s.sh_size, .sh_link = s.sh_link,
			    .sh_info = s.sh_info, .sh_addralign = s.sh_addralign, .sh_entsize = s.sh_entsize,
			    .sh_addr = s.sh_addr};
	return true;
}

/* The ELF rule for 65535 program headers and more: the number is in the first section header. */
static uint32_t extended_phnum(const struct elf_file *f)
{
	Elf64_Shdr first;

	if (!f->shoff || !read_section(f, 0, &first))
		return 0;
	return first.sh_info < HEADERS_LIMIT ? first.sh_info : HEADERS_LIMIT;
}

static int read_header(struct elf_file *f, struct silt_elf_info *ret, struct silt_error *err)
{
	union {
		unsigned char ident[EI_NIDENT];
		Elf64_Ehdr e64;
		Elf32_Ehdr e32;
	} h;
	size_t need;

	if (f->size < EI_NIDENT || !read_at(f, 0, h.ident, EI_NIDENT) || memcmp(h.ident, ELFMAG, SELFMAG) != 0)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: not an ELF file", f->name);
	if (h.ident[EI_CLASS] != ELFCLASS64 && h.ident[EI_CLASS] != ELFCLASS32)
		return bad(f, err, "unknown class");
	if (h.ident[EI_DATA] != ELFDATA2LSB)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "%s: big-endian ELF files are not supported", f->name);
	f->is64 = h.ident[EI_CLASS] == ELFCLASS64;
	need = f->is64 ? sizeof(h.e64) : sizeof(h.e32);
	if (!read_at(f, 0, &h, need))
		return bad(f, err, "cut short in its header");
	ret->elf_class = f->is64 ? 64 : 32;
	ret->machine = f->is64 ? h.e64.e_machine : h.e32.e_machine;
	ret->type = f->is64 ? h.e64.e_type : h.e32.e_type;
	f->phoff = f->is64 ? h.e64.e_phoff : h.e32.e_phoff;
	f->shoff = f->is64 ? h.e64.e_shoff : h.e32.e_shoff;
	f->phnum = f->is64 ? h.e64.e_phnum : h.e32.e_phnum;
	f->shnum = f->is64 ? h.e64.e_shnum : h.e32.e_shnum;
	f->phentsize = f->is64 ? h.e64.e_phentsize : h.e32.e_phentsize;
	f->shentsize = f->is64 ? h.e64.e_shentsize : h.e32.e_shentsize;
	if (f->phnum == PN_XNUM)
		f->phnum = extended_phnum(f);
	if (f->phnum && f->phentsize < (f->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return bad(f, err, "program headers are too small");
	if (f->phnum && (f->phoff > f->size || (uint64_t)f->phnum * f->phentsize > f->size - f->phoff))
		return bad(f, err, "program headers lie outside the file");
	return SILT_OK;
}

static bool read_segment(const struct elf_file *f, unsigned i, struct segment *ret)
{
	union {
		Elf64_Phdr p64;
		Elf32_Phdr p32;
	} p;
	uint64_t at = f->phoff + (uint64_t)i * f->phentsize;

	if (f->is64) {
		if (!read_at(f, at, &p.p64, sizeof(p.p64)))
			return false;
		*ret = (struct segment){p.p64.p_type, p.p64.p_offset, p.p64.p_vaddr, p.p64.p_filesz, p.p64.p_align};
	} else {
		if (!read_at(f, at, &p.p32, sizeof(p.p32)))
			return false;
		*ret = (struct segment){p.p32.p_type, p.p32.p_offset, p.p32.p_vaddr, p.p32.p_filesz, p.p32.p_align};
	}
	return true;
}

/* File offset of a link-time address, from the loadable segments. */
static bool address_to_offset(const struct elf_file *f, uint64_t address, uint64_t *ret)
{
	struct segment s;

	for (unsigned i = 0; i < f->phnum; i++) {
		if (!read_segment(f, i, &s))
			return false;
		if (s.type == PT_LOAD && address >= s.vaddr && address - s.vaddr < s.filesz) {
			*ret = s.offset + (address - s.vaddr);
			return *ret < f->size;
		}
	}
	return false;
}

size_t silt_elf_note_build_id(const void *note, size_t size, size_t align, uint8_t ret[64])
{
	const uint8_t *p = note;
	size_t unit = align == 8 ? 8 : 4;

	while (size >= 12) {
		uint32_t namesz, descsz, type;
		uint64_t name_end, desc_at, next;

		memcpy(&namesz, p, 4);
		memcpy(&descsz, p + 4, 4);
		memcpy(&type, p + 8, 4);
		name_end = 12 + (uint64_t)namesz;
		desc_at = (name_end + unit - 1) & ~(uint64_t)(unit - 1);
		next = (desc_at + descsz + unit - 1) & ~(uint64_t)(unit - 1);
		if (desc_at > size || descsz > size - desc_at)
			return 0;
		if (type == NT_GNU_BUILD_ID && namesz == 4 && memcmp(p + 12, "GNU", 4) == 0 && descsz >= 2 && descsz <= 64) {
			memcpy(ret, p + desc_at, descsz);
			return descsz;
		}
		if (next >= size)
			return 0;
		p += next;
		size -= (size_t)next;
	}
	return 0;
}

static void read_notes(struct elf_file *f, uint64_t offset, uint64_t size, uint64_t align, struct silt_elf_info *ret)
{
	void *buffer;

	if (!size || size > NOTE_LIMIT || ret->build_id_len || f->notes_read > NOTES_LIMIT - size)
		return;
	f->notes_read += size;
	buffer = malloc(size);
	if (!buffer)
		return;
	if (read_at(f, offset, buffer, size))
		ret->build_id_len = silt_elf_note_build_id(buffer, size, align, ret->build_id);
	free(buffer);
}

/* Section count, with the ELF rule for more than 65279 of them; 0 where the table is missing or damaged. */
static uint64_t section_count(const struct elf_file *f)
{
	Elf64_Shdr first;

	if (!f->shoff || f->shoff >= f->size || !f->shentsize)
		return 0;
	if (f->shnum)
		return f->shnum;
	if (!read_section(f, 0, &first) || first.sh_size > f->size / f->shentsize)
		return 0;
	return first.sh_size < HEADERS_LIMIT ? first.sh_size : HEADERS_LIMIT;
}

/* Offsets in a string table where name stands at the end of a string (linkers share tails). */
static size_t find_name(const struct elf_file *f, const struct table *t, const char *name, uint64_t hits[NAME_HITS])
{
	size_t len = strlen(name) + 1, n = 0;
	char *buffer = malloc(SCAN_BYTES);

	if (!buffer)
		return 0;
	for (uint64_t at = 0; at < t->strings_size && n < NAME_HITS; at += SCAN_BYTES - len) {
		uint64_t left = t->strings_size - at;
		size_t take = left < SCAN_BYTES ? (size_t)left : SCAN_BYTES;
		const char *p = buffer, *hit;

		if (!read_at(f, t->strings + at, buffer, take))
			break;
		while ((hit = memmem(p, take - (size_t)(p - buffer), name, len)) && n < NAME_HITS) {
			hits[n++] = at + (uint64_t)(hit - buffer);
			p = hit + 1;
		}
		if (take == left)
			break;
	}
	free(buffer);
	return n;
}

static bool symbol_is_definition(const struct elf_file *f, const uint8_t *p, const uint64_t *hits, size_t hit_count)
{
	uint32_t name;
	unsigned char info;
	uint16_t section;

	memcpy(&name, p, 4);
	info = p[f->is64 ? offsetof(Elf64_Sym, st_info) : offsetof(Elf32_Sym, st_info)];
	memcpy(&section, p + (f->is64 ? offsetof(Elf64_Sym, st_shndx) : offsetof(Elf32_Sym, st_shndx)), 2);
	if (section == SHN_UNDEF || ELF64_ST_BIND(info) == STB_LOCAL)
		return false;
	for (size_t i = 0; i < hit_count; i++)
		if (hits[i] == name)
			return true;
	return false;
}

static bool table_defines(const struct elf_file *f, const struct table *t, const char *name)
{
	size_t entry = f->is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym), hit_count, step = SCAN_BYTES / entry * entry;
	uint64_t hits[NAME_HITS];
	uint8_t *buffer;
	bool found = false;

	if (t->strings > f->size || t->strings_size > f->size - t->strings || t->symbols > f->size ||
	    t->symbols_size > f->size - t->symbols || t->strings_size > TABLE_LIMIT || t->symbols_size > TABLE_LIMIT)
		return false;
	hit_count = find_name(f, t, name, hits);
	buffer = hit_count ? malloc(step) : NULL;
	if (!buffer)
		return false;
	for (uint64_t at = 0; at < t->symbols_size && !found; at += step) {
		uint64_t left = t->symbols_size - at;
		size_t take = left < step ? (size_t)left : step;

		if (!read_at(f, t->symbols + at, buffer, take))
			break;
		for (size_t i = 0; i + entry <= take && !found; i += entry)
			found = symbol_is_definition(f, buffer + i, hits, hit_count);
	}
	free(buffer);
	return found;
}

struct dynamic {
	uint64_t strtab, strsz, symtab;
};

static void read_needed(const struct elf_file *f, uint64_t strings, uint64_t size, uint64_t name, struct silt_elf_info *ret)
{
	char text[sizeof(ret->needed[0])];
	size_t take = sizeof(text);

	if (ret->needed_count == SILT_ARRAY_LEN(ret->needed) || name >= size || strings >= f->size)
		return;
	if (size - name < take)
		take = (size_t)(size - name);
	if (!read_at(f, strings + name, text, take) || !memchr(text, 0, take))
		return;
	strcpy(ret->needed[ret->needed_count++], text);
}

static int read_dynamic(const struct elf_file *f, const struct segment *s, struct silt_elf_info *ret, struct dynamic *ret_dyn,
			struct silt_error *err)
{
	size_t entry = f->is64 ? 16 : 8, word = entry / 2, n = (size_t)(s->filesz / entry);
	uint64_t strings, tag, value;
	uint8_t *buffer;

	if (s->filesz > DYNAMIC_LIMIT || s->offset > f->size || s->filesz > f->size - s->offset)
		return bad(f, err, "the dynamic section lies outside the file");
	buffer = malloc(s->filesz ? s->filesz : 1);
	if (!buffer)
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", f->name);
	if (!read_at(f, s->offset, buffer, s->filesz)) {
		free(buffer);
		return bad(f, err, "the dynamic section cannot be read");
	}
	for (int pass = 0; pass < 2; pass++) {
		if (pass == 1 && !address_to_offset(f, ret_dyn->strtab, &strings))
			break; /* no names, then: a debug file has an empty dynamic section */
		for (size_t i = 0; i < n; i++) {
			tag = value = 0;
			memcpy(&tag, buffer + i * entry, word);
			memcpy(&value, buffer + i * entry + word, word);
			if (tag == DT_NULL)
				break;
			if (tag == DT_STRTAB)
				ret_dyn->strtab = value;
			else if (tag == DT_STRSZ)
				ret_dyn->strsz = value;
			else if (tag == DT_SYMTAB)
				ret_dyn->symtab = value;
			else if (tag == DT_NEEDED && pass == 1)
				read_needed(f, strings, ret_dyn->strsz, value, ret);
		}
	}
	free(buffer);
	return SILT_OK;
}

/* Sections are the better source; a file stripped of them still has its dynamic section. There the string table follows
 * the symbols in every linker's output, which bounds their number. */
static bool defines_malloc(const struct elf_file *f, const struct dynamic *dyn)
{
	uint64_t count = section_count(f);
	unsigned seen = 0;
	Elf64_Shdr s, link;
	struct table t;

	for (uint64_t i = 0; i < count && seen < SYMBOL_TABLES; i++) {
		if (!read_section(f, i, &s))
			break;
		if ((s.sh_type != SHT_DYNSYM && s.sh_type != SHT_SYMTAB) || !read_section(f, s.sh_link, &link))
			continue;
		seen++;
		t = (struct table){s.sh_offset, s.sh_size, link.sh_offset, link.sh_size};
		if (table_defines(f, &t, "malloc"))
			return true;
	}
	if (seen || dyn->strtab <= dyn->symtab || !address_to_offset(f, dyn->symtab, &t.symbols) ||
	    !address_to_offset(f, dyn->strtab, &t.strings))
		return false;
	t.symbols_size = dyn->strtab - dyn->symtab;
	t.strings_size = dyn->strsz;
	return table_defines(f, &t, "malloc");
}

/* Notes of a file without program headers (an object file), or whose note segment was zeroed. */
static void read_note_sections(struct elf_file *f, struct silt_elf_info *ret)
{
	uint64_t count = section_count(f);
	Elf64_Shdr s;

	for (uint64_t i = 0; i < count && !ret->build_id_len; i++) {
		if (!read_section(f, i, &s))
			break;
		if (s.sh_type == SHT_NOTE)
			read_notes(f, s.sh_offset, s.sh_size, s.sh_addralign, ret);
	}
}

static int read_segments(struct elf_file *f, struct silt_elf_info *ret, struct dynamic *dyn, struct silt_error *err)
{
	bool have_load = false;
	struct segment s;
	int r;

	for (unsigned i = 0; i < f->phnum; i++) {
		if (!read_segment(f, i, &s))
			return bad(f, err, "program headers cannot be read");
		if (s.type == PT_LOAD && !have_load) {
			have_load = true;
			ret->first_load_vaddr = s.vaddr & ~(uint64_t)(PAGE - 1);
		} else if (s.type == PT_INTERP) {
			ret->has_interp = true;
			/* A debug file keeps the header without the bytes: no name then. */
			if (s.filesz && s.filesz <= sizeof(ret->interp) && read_at(f, s.offset, ret->interp, s.filesz))
				ret->interp[s.filesz - 1] = '\0';
			else
				ret->interp[0] = '\0';
		} else if (s.type == PT_DYNAMIC && !ret->has_dynamic) {
			ret->has_dynamic = true;
			/* In a debug file (sections without bytes) the offset means nothing: a failure there is no damage. */
			r = read_dynamic(f, &s, ret, dyn, f->shoff ? NULL : err);
			if (r && !f->shoff)
				return r;
		} else if (s.type == PT_NOTE) {
			read_notes(f, s.offset, s.filesz, s.align, ret);
		}
	}
	return SILT_OK;
}

static int inspect(struct elf_file *f, bool symbols, struct silt_elf_info *ret, struct silt_error *err)
{
	struct silt_elf_info info = {0};
	struct dynamic dyn = {0};
	int r = read_header(f, &info, err);

	if (!r)
		r = read_segments(f, &info, &dyn, err);
	if (r)
		return r;
	if (!info.build_id_len)
		read_note_sections(f, &info);
	info.exports_malloc = symbols && defines_malloc(f, &dyn);
	*ret = info;
	return SILT_OK;
}

static int inspect_fd(int fd, const char *name, bool symbols, struct silt_elf_info *ret, struct silt_error *err)
{
	struct elf_file f = {.fd = fd, .name = name};
	struct stat st;

	if (fstat(fd, &st))
		return silt_error_os(err, errno, "cannot read %s", name);
	if (!S_ISREG(st.st_mode))
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: not a regular file, so no ELF file", name);
	f.size = (uint64_t)st.st_size;
	return inspect(&f, symbols, ret, err);
}

int silt_elf_inspect_fd(int fd, const char *name, struct silt_elf_info *ret, struct silt_error *err)
{
	return inspect_fd(fd, name, true, ret, err);
}

int silt_elf_identify_fd(int fd, const char *name, struct silt_elf_info *ret, struct silt_error *err)
{
	return inspect_fd(fd, name, false, ret, err);
}

int silt_elf_inspect_memory(const void *bytes, size_t size, const char *name, struct silt_elf_info *ret, struct silt_error *err)
{
	struct elf_file f = {.fd = -1, .bytes = bytes, .size = size, .name = name};

	return inspect(&f, true, ret, err);
}

int silt_elf_identify_memory(const void *bytes, size_t size, const char *name, struct silt_elf_info *ret, struct silt_error *err)
{
	struct elf_file f = {.fd = -1, .bytes = bytes, .size = size, .name = name};

	return inspect(&f, false, ret, err);
}

static int inspect_path(const char *path, bool symbols, struct silt_elf_info *ret, struct silt_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r;

	if (fd < 0)
		return silt_error_os(err, errno, "cannot open %s", path);
	r = inspect_fd(fd, path, symbols, ret, err);
	close(fd);
	return r;
}

int silt_elf_inspect(const char *path, struct silt_elf_info *ret, struct silt_error *err)
{
	return inspect_path(path, true, ret, err);
}

int silt_elf_identify(const char *path, struct silt_elf_info *ret, struct silt_error *err)
{
	return inspect_path(path, false, ret, err);
}
