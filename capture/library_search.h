/* SPDX-License-Identifier: MIT */
/** Finding shared libraries by name as ld.so would: LD_LIBRARY_PATH, the loader's cache, standard directories. */
#ifndef SILT_CAPTURE_LIBRARY_SEARCH_H
#define SILT_CAPTURE_LIBRARY_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct silt_library_search {
	uint8_t *cache; /* /etc/ld.so.cache, NULL: none */
	size_t cache_size;
	const char *library_path; /* LD_LIBRARY_PATH, borrowed */
	const char *program_dir;  /* borrowed; a library beside the program is found too, whatever its RUNPATH says */
};

void silt_library_search_init(struct silt_library_search *s, const char *library_path, const char *program_dir);
void silt_library_search_deinit(struct silt_library_search *s);
/** A path for name (which may be a path already). */
bool silt_library_search_find(const struct silt_library_search *s, const char *name, char *ret_path, size_t size);

#endif
