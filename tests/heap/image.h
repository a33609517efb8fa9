/* SPDX-License-Identifier: MIT */
/** A process's memory made by hand: libc's data, two arenas, a mapped block, a thread, in any layout of glibc's malloc. */
#ifndef SILT_TESTS_HEAP_IMAGE_H
#define SILT_TESTS_HEAP_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture/heap/heap.h"

enum {
	IMAGE_CODE = 0x1000,
	IMAGE_DATA = 0x2000,
	IMAGE_HEAP = 0x3000,
	IMAGE_ARENA = 0x3000,
	IMAGE_MAPPED = 0x2000,
	IMAGE_TLS = 0x1000,
	IMAGE_SIZE = IMAGE_CODE + IMAGE_DATA + IMAGE_HEAP + IMAGE_ARENA + IMAGE_MAPPED + IMAGE_TLS,
	IMAGE_VARIANTS = 5, /* glibc 2.26, 2.28, 2.31, 2.36, 2.43 */
	IMAGE_REGIONS = 6,
	IMAGE_USED_MAX = 32,
};

struct image {
	uint8_t bytes[IMAGE_SIZE];
	struct silt_region regions[IMAGE_REGIONS];
	struct silt_target_module module;
	struct silt_maps maps;
	struct silt_target_modules modules;
	struct silt_heap_thread thread;
	silt_addr used[IMAGE_USED_MAX]; /* blocks that are live, ascending, and their usable sizes */
	uint64_t sizes[IMAGE_USED_MAX];
	unsigned used_count;
};

/** Regions, module and thread alone; the bytes are the caller's. */
void image_init(struct image *m);
/** Fills the bytes as glibc of this variant would. */
void image_fill(struct image *m, unsigned variant);
/** "glibc 2.31" */
const char *image_libc(unsigned variant);
struct silt_heap_reader image_reader(struct image *m);

#endif
