/* SPDX-License-Identifier: MIT */
/** The address space of a process as /proc/PID/maps tells it. */
#ifndef SILT_CAPTURE_TARGET_MAPS_H
#define SILT_CAPTURE_TARGET_MAPS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "formats/snapshot.h"

struct silt_maps {
	char *text;                  /* owned; the regions' names point into it */
	struct silt_region *regions; /* sorted by address */
	uint32_t count;
};

/** Reads everything a /proc text file holds. The caller frees *ret_text (NUL-terminated). */
int silt_proc_read(const char *path, char **ret_text, size_t *ret_size, struct silt_error *err);
/** Takes ownership of text, whatever happens. Lines that are not understood are skipped. */
int silt_maps_parse(char *text, struct silt_maps *ret, struct silt_error *err);
/** silt_proc_read of /proc/PID/maps, then silt_maps_parse. */
int silt_maps_read(pid_t pid, struct silt_maps *ret, struct silt_error *err);
void silt_maps_deinit(struct silt_maps *m);

#endif
