/* SPDX-License-Identifier: MIT */
/* The bytes of sections, decompressed where needed. */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "base/limits.h"
#include "symbols/decompress.h"
#include "symbols/object_internal.h"

enum {
	ZDEBUG_HEADER = 12,  /* "ZLIB" and the size as 8 big-endian bytes */
	HUGE_FROM = 8 << 20, /* bytes, so that what huge pages waste does not matter */
	COMPRESSED_ZSTD = 2, /* ELFCOMPRESS_ZSTD of the ELF gABI; older headers lack it */
};

typedef bool (*decompressor)(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);

/* A section of zeros compresses a thousandfold, one of .debug_info three- to tenfold: what is above both limits is made
 * to fill memory. */
static bool is_bomb(uint64_t in_size, uint64_t out_size)
{
	uint64_t base = silt_limit_default(SILT_LIMIT_SECTION_BASE), ratio = silt_limit_default(SILT_LIMIT_SECTION_RATIO);

	return out_size > base && (out_size - base) / ratio > in_size;
}

/* A compressed section: its bytes, and what they become. */
struct packed {
	decompressor how;
	const uint8_t *in;
	size_t in_size;
	uint64_t out_size;
};

static int cannot_decompress(const struct silt_object *o, const struct silt_object_section *s, struct silt_error *err)
{
	return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s cannot be decompressed", o->path, s->name);
}

static int decompress_alone(struct silt_object *o, struct silt_object_section *s, const struct packed *p, struct silt_error *err)
{
	void *out = mmap(NULL, p->out_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (out == MAP_FAILED)
		return silt_error_set(err, SILT_E_LIMIT, "%s: no memory for the %llu bytes of section %s", o->path,
				      (unsigned long long)p->out_size, s->name);
	/* All of it will be written: in pages of 4 KiB the kernel takes a fifth of the time. Where that is not allowed it is slower. */
	if (p->out_size >= HUGE_FROM)
		(void)madvise(out, p->out_size, MADV_HUGEPAGE);
	if (!p->how(p->in, p->in_size, out, p->out_size)) {
		munmap(out, p->out_size);
		return cannot_decompress(o, s, err);
	}
	s->plain = (struct silt_bytes){out, p->out_size};
	silt_object_relax(o);
	return SILT_OK;
}

/* The bytes that all children of the module share, made by this one or by another. SILT_E_NOT_FOUND: not in this way. */
static int decompress_once(struct silt_object *o, struct silt_object_section *s, const struct packed *p, bool wait,
			   struct silt_error *err)
{
	struct silt_share_key key = {o->dev, o->ino, (uint64_t)(s - o->sections.items), p->out_size};
	enum silt_share_role role;
	uint32_t number;
	uint8_t *out;
	bool good;

	if (!o->share || o->fd < 0)
		return SILT_E_NOT_FOUND;
	role = silt_share_section(o->share, o->share_member, &key, wait, &out, &number);
	if (role != SILT_SHARE_MAKE && role != SILT_SHARE_TAKE)
		return SILT_E_NOT_FOUND;
	if (role == SILT_SHARE_MAKE) {
		good = p->how(p->in, p->in_size, out, p->out_size);
		silt_share_made(o->share, number, good);
		silt_object_relax(o);
		if (!good)
			return cannot_decompress(o, s, err);
	}
	s->plain = (struct silt_bytes){out, p->out_size};
	s->is_shared = true;
	return SILT_OK;
}

/* SHF_COMPRESSED: the section begins with an Elf32_Chdr or Elf64_Chdr. */
static int read_chdr(const struct silt_object *o, const struct silt_object_section *s, const Elf_Data *raw, struct packed *ret,
		     struct silt_error *err)
{
	size_t header = o->is64 ? sizeof(Elf64_Chdr) : sizeof(Elf32_Chdr);
	const uint8_t *in = raw->d_buf;
	uint32_t type;

	if (raw->d_size < header)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s is cut short", o->path, s->name);
	memcpy(&type, in, sizeof(type));
	if (o->is64)
		memcpy(&ret->out_size, in + offsetof(Elf64_Chdr, ch_size), 8);
	else
		memcpy(&ret->out_size, in + offsetof(Elf32_Chdr, ch_size), 4);
	if (type != ELFCOMPRESS_ZLIB && type != COMPRESSED_ZSTD)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "%s: section %s is compressed in an unknown way (type %u)",
				      o->path, s->name, type);
	ret->how = type == ELFCOMPRESS_ZLIB ? silt_inflate : silt_unzstd;
	ret->in = in + header;
	ret->in_size = raw->d_size - header;
	return SILT_OK;
}

static int read_zdebug(const struct silt_object *o, const struct silt_object_section *s, const Elf_Data *raw, struct packed *ret,
		       struct silt_error *err)
{
	const uint8_t *in = raw->d_buf;

	if (raw->d_size < ZDEBUG_HEADER || memcmp(in, "ZLIB", 4) != 0)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s is cut short", o->path, s->name);
	for (int i = 4; i < ZDEBUG_HEADER; i++)
		ret->out_size = ret->out_size << 8 | in[i];
	ret->how = silt_inflate;
	ret->in = in + ZDEBUG_HEADER;
	ret->in_size = raw->d_size - ZDEBUG_HEADER;
	return SILT_OK;
}

/* How a section is compressed, after a look at what it claims to hold. */
static int read_packed(const struct silt_object *o, const struct silt_object_section *s, bool zdebug, const Elf_Data *raw,
		       struct packed *ret, struct silt_error *err)
{
	int r;

	*ret = (struct packed){0};
	r = zdebug ? read_zdebug(o, s, raw, ret, err) : read_chdr(o, s, raw, ret, err);
	if (r)
		return r;
	if (!ret->out_size)
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: section %s is empty", o->path, s->name);
	if (ret->out_size > SIZE_MAX || is_bomb(ret->in_size, ret->out_size))
		return silt_error_set(err, SILT_E_LIMIT, "%s: section %s claims to hold %llu bytes in %zu compressed ones: not believed",
				      o->path, s->name, (unsigned long long)ret->out_size, ret->in_size);
	return SILT_OK;
}

int silt_object_section_bytes(struct silt_object *o, struct silt_object_section *s, bool zdebug, struct silt_bytes *ret,
			      struct silt_error *err)
{
	Elf_Data *raw = s->type == SHT_NOBITS ? NULL : elf_rawdata(s->scn, NULL);
	struct packed packed;
	int r = SILT_OK;

	if (raw && (!raw->d_buf || !raw->d_size))
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: section %s is empty", o->path, s->name);
	if (!raw)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s lies outside the file", o->path, s->name);
	if (!s->plain.data && (zdebug || s->flags & SHF_COMPRESSED)) {
		r = read_packed(o, s, zdebug, raw, &packed, err);
		if (!r)
			r = decompress_once(o, s, &packed, true, err);
		if (r == SILT_E_NOT_FOUND && packed.out_size)
			r = decompress_alone(o, s, &packed, err);
	}
	if (r)
		return r;
	*ret = s->plain.data ? s->plain : (struct silt_bytes){raw->d_buf, raw->d_size};
	return SILT_OK;
}

void silt_object_section_offer(struct silt_object *o, struct silt_object_section *s, bool zdebug)
{
	Elf_Data *raw = s->type == SHT_NOBITS || s->plain.data || !(zdebug || s->flags & SHF_COMPRESSED) ? NULL :
			elf_rawdata(s->scn, NULL);
	struct packed packed;

	/* What is wrong with it is told when it is needed. */
	if (raw && raw->d_buf && raw->d_size && read_packed(o, s, zdebug, raw, &packed, NULL) == SILT_OK)
		(void)decompress_once(o, s, &packed, false, NULL);
}
