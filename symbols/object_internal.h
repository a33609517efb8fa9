/* SPDX-License-Identifier: MIT */
/** Inside of struct silt_object, for the files that implement object.h. */
#ifndef SILT_SYMBOLS_OBJECT_INTERNAL_H
#define SILT_SYMBOLS_OBJECT_INTERNAL_H

#include <libelf.h>

#include "symbols/object.h"

struct silt_object_section {
	const char *name; /* NULL: unreadable */
	Elf_Scn *scn;
	uint64_t addr, size, flags;
	uint32_t type, link;
	struct silt_bytes plain; /* decompressed: a mapping of ours, or shared with other children */
	bool is_shared;
};

struct silt_object {
	char *path;
	int fd;         /* -1: an image in memory */
	uint8_t *image; /* a mapping of ours, or NULL */
	size_t image_size, image_capacity;
	bool is_mapped; /* of the file: its pages can be read again */
	Elf *elf;
	dev_t dev;
	ino_t ino;
	int64_t changed;
	struct silt_share *share; /* borrowed, or NULL */
	unsigned share_member;
	bool is64;
	uint8_t build_id[64];
	size_t build_id_len;
	SILT_VEC(struct silt_object_section) sections; /* ELF section i is at i - 1 */
	SILT_VEC(struct silt_span) code;
};

/** Plain bytes of one section (object_bytes.c). zdebug: it is in binutils' form before SHF_COMPRESSED. */
int silt_object_section_bytes(struct silt_object *o, struct silt_object_section *s, bool zdebug, struct silt_bytes *ret,
			      struct silt_error *err);

/** Decompresses a section into what the object shares, unless it is not compressed, or another child is at it. */
void silt_object_section_offer(struct silt_object *o, struct silt_object_section *s, bool zdebug);

#endif
