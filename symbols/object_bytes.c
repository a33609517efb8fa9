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

static int decompress(struct silt_object *o, struct silt_object_section *s, decompressor how, const uint8_t *in,
		      size_t in_size, uint64_t out_size, struct silt_error *err)
{
	void *out;

	if (!out_size)
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: section %s is empty", o->path, s->name);
	if (out_size > SIZE_MAX || is_bomb(in_size, out_size))
		return silt_error_set(err, SILT_E_LIMIT, "%s: section %s claims to hold %llu bytes in %zu compressed ones: not believed",
				      o->path, s->name, (unsigned long long)out_size, in_size);
	out = mmap(NULL, out_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (out == MAP_FAILED)
		return silt_error_set(err, SILT_E_LIMIT, "%s: no memory for the %llu bytes of section %s", o->path,
				      (unsigned long long)out_size, s->name);
	if (!how(in, in_size, out, out_size)) {
		munmap(out, out_size);
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s cannot be decompressed", o->path, s->name);
	}
	s->plain = (struct silt_bytes){out, out_size};
	silt_object_relax(o);
	return SILT_OK;
}

/* SHF_COMPRESSED: the section begins with an Elf32_Chdr or Elf64_Chdr. */
static int decompress_chdr(struct silt_object *o, struct silt_object_section *s, const Elf_Data *raw, struct silt_error *err)
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
	if (type != ELFCOMPRESS_ZLIB && type != COMPRESSED_ZSTD)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "%s: section %s is compressed in an unknown way (type %u)",
				      o->path, s->name, type);
	return decompress(o, s, type == ELFCOMPRESS_ZLIB ? silt_inflate : silt_unzstd, in + header, raw->d_size - header, size,
			  err);
}

static int decompress_zdebug(struct silt_object *o, struct silt_object_section *s, const Elf_Data *raw, struct silt_error *err)
{
	const uint8_t *in = raw->d_buf;
	uint64_t size = 0;

	if (raw->d_size < ZDEBUG_HEADER || memcmp(in, "ZLIB", 4) != 0)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s is cut short", o->path, s->name);
	for (int i = 4; i < ZDEBUG_HEADER; i++)
		size = size << 8 | in[i];
	return decompress(o, s, silt_inflate, in + ZDEBUG_HEADER, raw->d_size - ZDEBUG_HEADER, size, err);
}

int silt_object_section_bytes(struct silt_object *o, struct silt_object_section *s, bool zdebug, struct silt_bytes *ret,
			      struct silt_error *err)
{
	Elf_Data *raw = s->type == SHT_NOBITS ? NULL : elf_rawdata(s->scn, NULL);
	int r = SILT_OK;

	if (raw && (!raw->d_buf || !raw->d_size))
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: section %s is empty", o->path, s->name);
	if (!raw)
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: section %s lies outside the file", o->path, s->name);
	if (!s->plain.data && zdebug)
		r = decompress_zdebug(o, s, raw, err);
	else if (!s->plain.data && s->flags & SHF_COMPRESSED)
		r = decompress_chdr(o, s, raw, err);
	if (r)
		return r;
	*ret = s->plain.data ? s->plain : (struct silt_bytes){raw->d_buf, raw->d_size};
	return SILT_OK;
}
