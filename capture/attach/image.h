/* SPDX-License-Identifier: MIT */
/** The agent object, laid out as it will lie in the target. */
#ifndef SILT_CAPTURE_ATTACH_IMAGE_H
#define SILT_CAPTURE_ATTACH_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/types.h"
#include "capture/agent/attach.h"

struct silt_image {
	uint8_t *bytes;		 /* size bytes, as in memory; all zero from file_size on */
	uint64_t size, file_size; /* page-aligned; bytes */
	uint64_t data_at;	 /* where the writable part begins, page-aligned */
	uint64_t text_at, text_size;
	uint64_t eh_frame_hdr; /* offset, 0: none */
	uint64_t attach_at;	 /* of struct silt_agent_attach */
	silt_addr base;		 /* 0 before silt_image_relocate */
	struct silt_elf_rela *relocations;
	uint64_t relocation_count;
};

int silt_image_load(const char *path, struct silt_image *ret, struct silt_error *err);
/** Applies the relocations for an address. Once. */
void silt_image_relocate(struct silt_image *im, silt_addr base);
struct silt_agent_attach *silt_image_attach(const struct silt_image *im);
/** The bytes behind an address of the relocated image; NULL when they are not in it. */
void *silt_image_at(const struct silt_image *im, silt_addr addr, uint64_t size);
/** Hook i of its table; NULL behind the last. Before relocation too. */
const char *silt_image_hook_name(const struct silt_image *im, uint32_t i);
void silt_image_unload(struct silt_image *im);

#endif
