/* SPDX-License-Identifier: MIT */
/** An ELF file laid out in memory the way the loader would, but not run or relocated: a module for the CFI reader. */
#ifndef SILT_TESTS_AGENT_CFI_IMAGE_H
#define SILT_TESTS_AGENT_CFI_IMAGE_H

#include <stddef.h>

#include "capture/agent/cfi.h"

struct cfi_image {
	uint8_t *base;
	size_t size;
	uint64_t bias; /* address in memory - address in the file */
	struct cfi_module module;
};

/** Maps path; 0, or -1 with errno. Gaps between segments read as zero. */
int cfi_image_load(const char *path, struct cfi_image *ret);
void cfi_image_unload(struct cfi_image *image);

#endif
