/* SPDX-License-Identifier: MIT */
/* ELF files through libelf: mapping, sections, decompression, symbols. */
#include "symbols/object.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "symbols/elf_reader.h"

enum {
	/* zlib cannot exceed this, so a larger promise is a lie and not worth the memory. */
	ZLIB_MAX_RATIO = 1032,
	ZDEBUG_HEADER = 12, /* "ZLIB" and the size as 8 big-endian bytes */
	MAX_SECTIONS = 1 << 20,
};

struct section {
	const char *name;
	Elf_Scn *scn;
	uint64_t addr, size, flags;
	uint32_t type;
	struct silt_bytes plain; /* decompressed: a mapping of ours */
};

struct silt_object {
	char *path;
	int fd;
	Elf *elf;
	dev_t dev;
	ino_t ino;
	bool is64;
	uint8_t build_id[64];
	size_t build_id_len;
	SILT_VEC(struct section) sections;
	SILT_VEC(struct silt_span) code;
};

static int load_sections(struct silt_object *o, struct silt_error *err)
{
	size_t names;
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;

	if (elf_getshdrstrndx(o->elf, &names))
		return SILT_OK; /* no section headers: segments still say where code is */
	while ((scn = elf_nextscn(o->elf, scn)) && o->sections.count < MAX_SECTIONS) {
		struct section s = {.scn = scn};

		if (gelf_getshdr(scn, &sh)) {
			s.name = elf_strptr(o->elf, names, sh.sh_name);
			s.addr = sh.sh_addr;
			s.size = sh.sh_size;
			s.flags = sh.sh_flags;
			s.type = sh.sh_type;
		}
		/* Unreadable ones are kept too: symbols refer to sections by position. */
		if (!silt_vec_push(&o->sections, s))
			return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", o->path);
	}
	return SILT_OK;
}

static int load_segments(struct silt_object *o, struct silt_error *err)
{
	size_t count;
	GElf_Phdr ph;

	if (elf_getphdrnum(o->elf, &count))
		return SILT_OK;
	for (size_t i = 0; i < count && i < UINT16_MAX; i++) {
		struct silt_span span;

		if (!gelf_getphdr(o->elf, (int)i, &ph) || ph.p_type != PT_LOAD || !(ph.p_flags & PF_X))
			continue;
		span.start = ph.p_vaddr;
		if (__builtin_add_overflow(ph.p_vaddr, ph.p_memsz, &span.end))
			continue;
		if (!silt_vec_push(&o->code, span))
			return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", o->path);
	}
	return SILT_OK;
}

static int open_elf(struct silt_object *o, struct silt_error *err)
{
	struct silt_elf_info info;
	struct stat st;
	int r;

	o->fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (o->fd < 0)
		return silt_error_os(err, errno, "cannot open %s", o->path);
	if (fstat(o->fd, &st))
		return silt_error_os(err, errno, "cannot read %s", o->path);
	o->dev = st.st_dev;
	o->ino = st.st_ino;
	r = silt_elf_identify_fd(o->fd, o->path, &info, err);
	if (r)
		return r;
	o->is64 = info.elf_class == 64;
	o->build_id_len = info.build_id_len;
	memcpy(o->build_id, info.build_id, info.build_id_len);
	elf_version(EV_CURRENT);
	o->elf = elf_begin(o->fd, ELF_C_READ_MMAP, NULL);
	if (!o->elf || elf_kind(o->elf) != ELF_K_ELF)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: damaged ELF file: %s", o->path, elf_errmsg(-1));
	r = load_sections(o, err);
	if (!r)
		r = load_segments(o, err);
	return r;
}

int silt_object_create(const char *path, struct silt_object **ret, struct silt_error *err)
{
	struct silt_object *o = calloc(1, sizeof(*o));
	int r;

	if (!o || !(o->path = strdup(path))) {
		free(o);
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", path);
	}
	o->fd = -1;
	r = open_elf(o, err);
	if (r) {
		silt_object_destroy(o);
		return r;
	}
	*ret = o;
	return SILT_OK;
}

void silt_object_destroy(struct silt_object *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->sections.count; i++)
		if (o->sections.items[i].plain.data)
			munmap((void *)(uintptr_t)o->sections.items[i].plain.data, o->sections.items[i].plain.size);
	silt_vec_free(&o->sections);
	silt_vec_free(&o->code);
	if (o->elf)
		elf_end(o->elf);
	if (o->fd >= 0)
		close(o->fd);
	free(o->path);
	free(o);
}

const char *silt_object_path(const struct silt_object *o)
{
	return o->path;
}

const uint8_t *silt_object_build_id(const struct silt_object *o, size_t *ret_len)
{
	*ret_len = o->build_id_len;
	return o->build_id;
}

bool silt_object_same_file(const struct silt_object *a, const struct silt_object *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

bool silt_object_is_64(const struct silt_object *o)
{
	return o->is64;
}

uint32_t silt_object_crc(const struct silt_object *o)
{
	size_t size = 0;
	char *bytes = elf_rawfile(o->elf, &size);

	return bytes ? (uint32_t)crc32_z(0, (const unsigned char *)bytes, size) : 0;
}

static struct section *find_section(const struct silt_object *o, const char *name)
{
	for (size_t i = 0; i < o->sections.count; i++) {
		struct section *s = &o->sections.items[i];

		if (s->name && s->type != SHT_NOBITS && strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

/* ".debug_info" as ".zdebug_info": binutils' form before SHF_COMPRESSED. */
static struct section *find_zdebug(const struct silt_object *o, const char *name)
{
	char z[64];

	if (strncmp(name, ".debug_", 7) != 0 || strlen(name) + 2 > sizeof(z))
		return NULL;
	z[0] = '.';
	z[1] = 'z';
	strcpy(z + 2, name + 1);
	return find_section(o, z);
}

bool silt_object_has(const struct silt_object *o, const char *name)
{
	return find_section(o, name) || find_zdebug(o, name);
}

static int inflate_all(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	z_stream z = {0};
	int r;

	if (inflateInit(&z) != Z_OK)
		return Z_MEM_ERROR;
	/* zlib counts in 32 bits: hand over at most 1 GiB at a time. */
	do {
		uInt give = in_size > 1u << 30 ? 1u << 30 : (uInt)in_size;
		uInt room = out_size > 1u << 30 ? 1u << 30 : (uInt)out_size;

		z.next_in = (Bytef *)(uintptr_t)in;
		z.avail_in = give;
		z.next_out = out;
		z.avail_out = room;
		r = inflate(&z, Z_NO_FLUSH);
		in += give - z.avail_in;
		in_size -= give - z.avail_in;
		out += room - z.avail_out;
		out_size -= room - z.avail_out;
		if (give == z.avail_in && room == z.avail_out)
			break;
	} while (r == Z_OK && out_size);
	inflateEnd(&z);
	return out_size == 0 ? Z_OK : Z_DATA_ERROR;
}

static int decompress(struct silt_object *o, struct section *s, const uint8_t *in, size_t in_size, uint64_t out_size,
		      struct silt_error *err)
{
	void *out;

	if (out_size / ZLIB_MAX_RATIO > in_size || out_size > SIZE_MAX)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s claims an impossible size", o->path, s->name);
	if (!out_size)
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: section %s is empty", o->path, s->name);
	out = mmap(NULL, out_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (out == MAP_FAILED)
		return silt_error_set(err, SILT_E_LIMIT, "%s: no memory for the %llu bytes of section %s", o->path,
				      (unsigned long long)out_size, s->name);
	if (inflate_all(in, in_size, out, out_size) != Z_OK) {
		munmap(out, out_size);
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s cannot be decompressed", o->path, s->name);
	}
	s->plain = (struct silt_bytes){out, out_size};
	return SILT_OK;
}

static int decompress_chdr(struct silt_object *o, struct section *s, const Elf_Data *raw, struct silt_error *err)
{
	size_t header = o->is64 ? sizeof(Elf64_Chdr) : sizeof(Elf32_Chdr);
	const uint8_t *in = raw->d_buf;
	uint32_t type;
	uint64_t size = 0;

	if (raw->d_size < header)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s is cut short", o->path, s->name);
	memcpy(&type, in, sizeof(type));
	if (o->is64)
		memcpy(&size, in + offsetof(Elf64_Chdr, ch_size), 8);
	else
		memcpy(&size, in + offsetof(Elf32_Chdr, ch_size), 4);
	if (type != ELFCOMPRESS_ZLIB)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "%s: section %s is compressed in an unknown way (type %u)",
				      o->path, s->name, type);
	return decompress(o, s, in + header, raw->d_size - header, size, err);
}

static int decompress_zdebug(struct silt_object *o, struct section *s, const Elf_Data *raw, struct silt_error *err)
{
	const uint8_t *in = raw->d_buf;
	uint64_t size = 0;

	if (raw->d_size < ZDEBUG_HEADER || memcmp(in, "ZLIB", 4) != 0)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s is cut short", o->path, s->name);
	for (int i = 4; i < ZDEBUG_HEADER; i++)
		size = size << 8 | in[i];
	return decompress(o, s, in + ZDEBUG_HEADER, raw->d_size - ZDEBUG_HEADER, size, err);
}

int silt_object_section(struct silt_object *o, const char *name, struct silt_bytes *ret, struct silt_error *err)
{
	struct section *s = find_section(o, name), *z = s ? NULL : find_zdebug(o, name);
	Elf_Data *raw;
	int r = SILT_OK;

	if (!s)
		s = z;
	raw = s ? elf_rawdata(s->scn, NULL) : NULL;
	if (!s || (raw && (!raw->d_buf || !raw->d_size)))
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: no section %s", o->path, name);
	if (!raw)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s lies outside the file", o->path, name);
	if (!s->plain.data && z)
		r = decompress_zdebug(o, s, raw, err);
	else if (!s->plain.data && s->flags & SHF_COMPRESSED)
		r = decompress_chdr(o, s, raw, err);
	if (r)
		return r;
	*ret = s->plain.data ? s->plain : (struct silt_bytes){raw->d_buf, raw->d_size};
	return SILT_OK;
}

const struct silt_span *silt_object_code(const struct silt_object *o, size_t *ret_count)
{
	*ret_count = o->code.count;
	return o->code.items;
}

bool silt_object_section_span(const struct silt_object *o, uint32_t section, struct silt_span *ret)
{
	if (section == 0 || section > o->sections.count)
		return false;
	ret->start = o->sections.items[section - 1].addr;
	ret->end = ret->start + o->sections.items[section - 1].size;
	return ret->end > ret->start;
}

static bool is_code_symbol(const struct silt_object *o, const GElf_Sym *sym, uint32_t section)
{
	unsigned type = GELF_ST_TYPE(sym->st_info);

	if (sym->st_shndx == SHN_UNDEF || !sym->st_name)
		return false;
	if (type == STT_FUNC || type == STT_GNU_IFUNC)
		return true;
	/* Hand-written assembly often leaves its labels without a type. */
	return type == STT_NOTYPE && section > 0 && section <= o->sections.count &&
	       o->sections.items[section - 1].flags & SHF_EXECINSTR;
}

size_t silt_object_symbols(struct silt_object *o, bool dynamic, void (*fn)(void *, const struct silt_elf_symbol *), void *data)
{
	uint32_t want = dynamic ? SHT_DYNSYM : SHT_SYMTAB;
	size_t calls = 0, strings, count;
	Elf_Data *symbols = NULL;
	GElf_Shdr sh;
	GElf_Sym sym;

	for (size_t i = 0; i < o->sections.count && !symbols; i++)
		if (o->sections.items[i].type == want && gelf_getshdr(o->sections.items[i].scn, &sh))
			symbols = elf_getdata(o->sections.items[i].scn, NULL);
	if (!symbols || !symbols->d_buf)
		return 0;
	strings = sh.sh_link;
	count = symbols->d_size / (o->is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym));
	for (size_t i = 1; i < count && i < INT32_MAX; i++) {
		struct silt_elf_symbol s;
		unsigned bind;

		if (!gelf_getsym(symbols, (int)i, &sym) || !is_code_symbol(o, &sym, sym.st_shndx))
			continue;
		bind = GELF_ST_BIND(sym.st_info);
		s.value = sym.st_value;
		s.size = sym.st_size;
		s.section = sym.st_shndx;
		s.is_function = GELF_ST_TYPE(sym.st_info) != STT_NOTYPE;
		s.rank = bind == STB_LOCAL ? SILT_SYMBOL_LOCAL : bind == STB_WEAK ? SILT_SYMBOL_WEAK : SILT_SYMBOL_GLOBAL;
		s.name = elf_strptr(o->elf, strings, sym.st_name);
		if (!s.name || !*s.name)
			continue;
		fn(data, &s);
		calls++;
	}
	return calls;
}
