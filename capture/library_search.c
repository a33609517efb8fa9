/* SPDX-License-Identifier: MIT */
/* Shared libraries by name. A guess at ld.so's search, good enough to see which allocator a program brings along. */
#include "capture/library_search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

#define CACHE_PATH "/etc/ld.so.cache"
#define CACHE_MAX (64u << 20)

/* The cache of glibc 2.2 and newer (sysdeps/generic/dl-cache.h): a header, entries, strings; offsets from the header. */
struct cache_header {
	char magic[20]; /* "glibc-ld.so.cache1.1" */
	uint32_t count;
	uint32_t strings_size;
	uint32_t unused[5];
};

struct cache_entry {
	int32_t flags;
	uint32_t key, value;
	uint32_t os_version;
	uint64_t hwcap;
};

#define CACHE_MAGIC "glibc-ld.so.cache1.1"
/* FLAG_ELF_LIBC6 | FLAG_X8664_LIB64 (0x0300) and FLAG_AARCH64_LIB64 (0x0a00) */
#if defined(__x86_64__)
#define CACHE_FLAGS 0x0303
#else
#define CACHE_FLAGS 0x0a03
#endif

void silt_library_search_init(struct silt_library_search *s, const char *library_path, const char *program_dir)
{
	memset(s, 0, sizeof(*s));
	s->library_path = library_path;
	s->program_dir = program_dir;
	if (silt_read_file(CACHE_PATH, CACHE_MAX, &s->cache, &s->cache_size, NULL))
		s->cache = NULL;
}

void silt_library_search_deinit(struct silt_library_search *s)
{
	free(s->cache);
	s->cache = NULL;
}

/* A string inside the cache, with its end inside too. */
static const char *cache_string(const uint8_t *base, size_t size, uint32_t offset)
{
	if (offset >= size || !memchr(base + offset, '\0', size - offset))
		return NULL;
	return (const char *)base + offset;
}

static bool find_in_cache(const struct silt_library_search *s, const char *name, char *ret, size_t size)
{
	const uint8_t *base = s->cache ? memmem(s->cache, s->cache_size, CACHE_MAGIC, sizeof(CACHE_MAGIC) - 1) : NULL;
	struct cache_header head;
	size_t left;

	if (!base)
		return false;
	left = s->cache_size - (size_t)(base - s->cache);
	if (left < sizeof(head))
		return false;
	memcpy(&head, base, sizeof(head));
	for (uint32_t i = 0; i < head.count && sizeof(head) + (i + 1ull) * sizeof(struct cache_entry) <= left; i++) {
		struct cache_entry e;
		const char *key, *value;

		memcpy(&e, base + sizeof(head) + i * sizeof(e), sizeof(e));
		if (e.flags != CACHE_FLAGS)
			continue;
		key = cache_string(base, left, e.key);
		value = cache_string(base, left, e.value);
		if (key && value && !strcmp(key, name) && !access(value, R_OK)) {
			snprintf(ret, size, "%s", value);
			return true;
		}
	}
	return false;
}

static bool try_dir(const char *dir, size_t dir_size, const char *name, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%.*s/%s", (int)dir_size, dir, name);

	return n > 0 && (size_t)n < size && !access(ret, R_OK);
}

static bool find_in_path(const char *path, const char *name, char *ret, size_t size)
{
	while (path && *path) {
		size_t n = strcspn(path, ":;");

		if (n && try_dir(path, n, name, ret, size))
			return true;
		path += n + !!path[n];
	}
	return false;
}

bool silt_library_search_find(const struct silt_library_search *s, const char *name, char *ret, size_t size)
{
	static const char *const dirs[] = { "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64",
					    "/lib", "/usr/lib", "/usr/local/lib" };
	char beside[4200];

	if (strchr(name, '/')) {
		snprintf(ret, size, "%s", name);
		return !access(ret, R_OK);
	}
	if (find_in_path(s->library_path, name, ret, size))
		return true;
	if (s->program_dir) {
		if (try_dir(s->program_dir, strlen(s->program_dir), name, ret, size))
			return true;
		snprintf(beside, sizeof(beside), "%s/../lib", s->program_dir);
		if (try_dir(beside, strlen(beside), name, ret, size))
			return true;
	}
	if (find_in_cache(s, name, ret, size))
		return true;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (try_dir(dirs[i], strlen(dirs[i]), name, ret, size))
			return true;
	return false;
}
