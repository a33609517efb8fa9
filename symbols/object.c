/* SPDX-License-Identifier: MIT */
/* ELF files through libelf: opening, sections, segments. */
#include "symbols/object.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbols/decompress.h"
#include "symbols/elf_reader.h"
#include "symbols/object_internal.h"

enum { MAX_SECTIONS = 1 << 20 };

static int load_sections(struct silt_object *o, struct silt_error *err)
{
	size_t names;
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;

	if (elf_getshdrstrndx(o->elf, &names))
		return SILT_OK; /* no section headers: segments still say where code is */
	while ((scn = elf_nextscn(o->elf, scn)) && o->sections.count < MAX_SECTIONS) {
		struct silt_object_section s = {.scn = scn};

		if (gelf_getshdr(scn, &sh)) {
			s.name = elf_strptr(o->elf, names, sh.sh_name);
			s.addr = sh.sh_addr;
			s.size = sh.sh_size;
			s.flags = sh.sh_flags;
			s.type = sh.sh_type;
			s.link = sh.sh_link;
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

/* What libelf and the build-id's reader say of the opened image. */
static int load(struct silt_object *o, const struct silt_elf_info *info, struct silt_error *err)
{
	int r;

	o->is64 = info->elf_class == 64;
	o->build_id_len = info->build_id_len;
	memcpy(o->build_id, info->build_id, info->build_id_len);
	if (!o->elf || elf_kind(o->elf) != ELF_K_ELF)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: damaged ELF file: %s", o->path, elf_errmsg(-1));
	r = load_sections(o, err);
	return r ? r : load_segments(o, err);
}

/* libelf would map the file, too; but of a mapping of our own we know that nothing is lost when pages of it are dropped. */
static int map_file(struct silt_object *o, uint64_t size, struct silt_error *err)
{
	void *map = size && size <= SIZE_MAX ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, o->fd, 0) : MAP_FAILED;

	if (map == MAP_FAILED)
		return silt_error_os(err, size ? errno : ENODATA, "cannot map %s", o->path);
	o->image = map;
	o->image_capacity = size;
	o->image_size = size;
	o->is_mapped = true;
	return SILT_OK;
}

static int open_file(struct silt_object *o, struct silt_error *err)
{
	struct silt_elf_info info;
	struct stat st;
	int r;

	/* Looked at before it is opened: a hostile file may name a device, and opening some of those does things. */
	if (stat(o->path, &st))
		return silt_error_os(err, errno, "cannot open %s", o->path);
	if (!S_ISREG(st.st_mode))
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: not a regular file, so no ELF file", o->path);
	o->fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (o->fd < 0)
		return silt_error_os(err, errno, "cannot open %s", o->path);
	if (fstat(o->fd, &st))
		return silt_error_os(err, errno, "cannot read %s", o->path);
	o->dev = st.st_dev;
	o->ino = st.st_ino;
	/* Not the time of modification: mv and package managers bring old ones along. */
	o->changed = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
	r = silt_elf_identify_fd(o->fd, o->path, &info, err);
	if (r)
		return r;
	r = map_file(o, (uint64_t)st.st_size, err);
	if (r)
		return r;
	elf_version(EV_CURRENT);
	o->elf = elf_memory((char *)o->image, o->image_size);
	return load(o, &info, err);
}

static struct silt_object *new_object(const char *path)
{
	struct silt_object *o = calloc(1, sizeof(*o));

	if (!o || !(o->path = strdup(path))) {
		free(o);
		return NULL;
	}
	o->fd = -1;
	return o;
}

int silt_object_create(const char *path, struct silt_object **ret, struct silt_error *err)
{
	struct silt_object *o = new_object(path);
	int r = o ? open_file(o, err) : silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", path);

	if (!r)
		*ret = o;
	else
		silt_object_destroy(o);
	return r;
}

int silt_object_create_memory(const char *name, uint8_t *image, size_t size, size_t capacity, struct silt_object **ret,
			      struct silt_error *err)
{
	struct silt_object *o = new_object(name);
	struct silt_elf_info info;
	int r;

	if (!o) {
		munmap(image, capacity);
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", name);
	}
	o->image = image;
	o->image_capacity = capacity;
	o->image_size = size;
	r = silt_elf_identify_memory(image, size, name, &info, err);
	if (!r) {
		elf_version(EV_CURRENT);
		o->elf = elf_memory((char *)image, size);
		r = load(o, &info, err);
	}
	if (!r)
		*ret = o;
	else
		silt_object_destroy(o);
	return r;
}

void silt_object_destroy(struct silt_object *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->sections.count; i++)
		if (o->sections.items[i].plain.data && !o->sections.items[i].is_shared)
			munmap((void *)(uintptr_t)o->sections.items[i].plain.data, o->sections.items[i].plain.size);
	silt_vec_free(&o->sections);
	silt_vec_free(&o->code);
	if (o->elf)
		elf_end(o->elf);
	if (o->fd >= 0)
		close(o->fd);
	if (o->image)
		munmap(o->image, o->image_capacity);
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
	return a->fd >= 0 && b->fd >= 0 && a->dev == b->dev && a->ino == b->ino;
}

int64_t silt_object_changed(const struct silt_object *o)
{
	return o->changed;
}

bool silt_object_is_64(const struct silt_object *o)
{
	return o->is64;
}

bool silt_object_is_relocatable(const struct silt_object *o)
{
	GElf_Ehdr eh;

	return gelf_getehdr(o->elf, &eh) && eh.e_type == ET_REL;
}

uint32_t silt_object_crc(const struct silt_object *o)
{
	return silt_crc32(0, o->image, o->image_size);
}

void silt_object_relax(const struct silt_object *o)
{
	if (o->is_mapped)
		madvise(o->image, o->image_capacity, MADV_DONTNEED);
}

/* The number-th section of that name, counted from 0. */
static struct silt_object_section *find_section(const struct silt_object *o, const char *name, size_t number)
{
	for (size_t i = 0; i < o->sections.count; i++) {
		struct silt_object_section *s = &o->sections.items[i];

		if (s->name && s->type != SHT_NOBITS && strcmp(s->name, name) == 0 && number-- == 0)
			return s;
	}
	return NULL;
}

/* ".debug_info" as ".zdebug_info": binutils' form before SHF_COMPRESSED. */
static struct silt_object_section *find_zdebug(const struct silt_object *o, const char *name)
{
	char z[64];

	if (strncmp(name, ".debug_", 7) != 0 || strlen(name) + 2 > sizeof(z))
		return NULL;
	z[0] = '.';
	z[1] = 'z';
	strcpy(z + 2, name + 1);
	return find_section(o, z, 0);
}

bool silt_object_has(const struct silt_object *o, const char *name)
{
	return find_section(o, name, 0) || find_zdebug(o, name);
}

int silt_object_section(struct silt_object *o, const char *name, struct silt_bytes *ret, struct silt_error *err)
{
	struct silt_object_section *s = find_section(o, name, 0), *z = s ? NULL : find_zdebug(o, name);

	if (!s && !z)
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: no section %s", o->path, name);
	return silt_object_section_bytes(o, s ? s : z, !s, ret, err);
}

int silt_object_section_numbered(struct silt_object *o, const char *name, size_t number, struct silt_bytes *ret,
				 struct silt_error *err)
{
	struct silt_object_section *s = find_section(o, name, number);

	if (!number || !s)
		return number ? silt_error_set(err, SILT_E_NOT_FOUND, "%s: no section %s number %zu", o->path, name, number) :
				silt_object_section(o, name, ret, err);
	return silt_object_section_bytes(o, s, false, ret, err);
}

void silt_object_join(struct silt_object *o, struct silt_share *share, unsigned member)
{
	o->share = share;
	o->share_member = member;
}

void silt_object_join_like(struct silt_object *o, const struct silt_object *other)
{
	silt_object_join(o, other->share, other->share_member);
}

void silt_object_prepare(struct silt_object *o, const char *name)
{
	struct silt_object_section *s = find_section(o, name, 0), *z = s ? NULL : find_zdebug(o, name);

	if (o->share && (s || z))
		silt_object_section_offer(o, s ? s : z, !s);
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
