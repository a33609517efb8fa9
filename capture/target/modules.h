/* SPDX-License-Identifier: MIT */
/** The ELF files mapped into a process, out of its memory map. */
#ifndef SILT_CAPTURE_TARGET_MODULES_H
#define SILT_CAPTURE_TARGET_MODULES_H

#include <stdint.h>
#include <sys/types.h>

#include "capture/target/maps.h"

struct silt_target_module {
	char *path; /* as the kernel names it, without " (deleted)" */
	uint8_t build_id[64];
	uint32_t build_id_len;               /* 0: none, or the file could not be read */
	uint32_t region_first, region_count; /* into the map; only those of the same file belong to it */
	silt_addr start, end;
	silt_addr bias;
};

struct silt_target_modules {
	struct silt_target_module *list; /* sorted by address */
	uint32_t count;
};

/** Groups the map's executable files. pid > 0: their build-ids are read, each from the very file that is mapped. */
int silt_modules_collect(const struct silt_maps *maps, pid_t pid, struct silt_target_modules *ret,
			 struct silt_error *err);
/** True when region r belongs to the same file as module m's first region. */
bool silt_modules_same_file(const struct silt_region *a, const struct silt_region *b);
/** Opens the very file that is mapped at r, whatever became of its name. Returns a descriptor or -1. */
int silt_region_open(pid_t pid, const struct silt_region *r);
void silt_modules_deinit(struct silt_target_modules *m);

#endif
