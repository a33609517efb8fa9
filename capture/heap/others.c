/* SPDX-License-Identifier: MIT */
/* Naming the allocator, and saying which ones cannot be walked. */
#include <stdio.h>

#include "capture/heap/glibc.h"

static const struct {
	const char *file; /* how the library's name begins */
	const char *name;
} known[] = {
	{ "libjemalloc", "jemalloc" }, { "libtcmalloc", "tcmalloc" }, { "libmimalloc", "mimalloc" },
	{ "libsnmalloc", "snmalloc" }, { "libhoard", "Hoard" },	      { "librpmalloc", "rpmalloc" },
	{ "libasan", "AddressSanitizer's allocator" },
};

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* What allocator a module is or holds, other than libc's: NULL for none. */
static const char *allocator_of(struct silt_heap *h, const struct silt_target_module *m)
{
	/* Names that only these allocators export, for copies linked into a program. */
	static const struct {
		const char *symbol, *name;
	} marks[] = { { "je_malloc", "jemalloc" }, { "mallctl", "jemalloc" }, { "mi_malloc", "mimalloc" },
		      { "tc_malloc", "tcmalloc" }, { "MallocExtension_Internal_GetNumericProperty", "tcmalloc" } };
	const char *file = file_name(m->path);
	silt_addr addr;
	uint64_t size;

	for (size_t i = 0; i < SILT_ARRAY_LEN(known); i++)
		if (begins(file, known[i].file))
			return known[i].name;
	if (begins(file, "libc.so") || begins(file, "libc-") || begins(file, "ld-") || begins(file, "ld.so") ||
	    begins(file, "silt") || begins(file, "libsilt") || file[0] == '[' || strstr(m->path, "musl"))
		return NULL;
	for (size_t i = 0; i < SILT_ARRAY_LEN(marks); i++)
		if (silt_heap_symbol(h, m, marks[i].symbol, &addr, &size) && addr >= m->start && addr < m->end)
			return marks[i].name;
	if (silt_heap_symbol(h, m, "malloc", &addr, &size) && addr >= m->start && addr < m->end)
		return "an allocator of its own";
	return NULL;
}

static void name_libc(struct silt_heap *h)
{
	if (h->glibcs.count) {
		if (h->glibcs.items[0]->version)
			snprintf(h->libc, sizeof(h->libc), "glibc 2.%u", h->glibcs.items[0]->version);
		else
			snprintf(h->libc, sizeof(h->libc), "glibc");
		snprintf(h->allocator, sizeof(h->allocator), "glibc");
	} else if (h->musls.count) {
		snprintf(h->libc, sizeof(h->libc), "musl");
		snprintf(h->allocator, sizeof(h->allocator), "musl mallocng");
	} else {
		snprintf(h->allocator, sizeof(h->allocator), "unknown");
	}
}

void silt_heap_find_others(struct silt_heap *h)
{
	const struct silt_target_modules *modules = h->target.modules;
	bool musl = false, other = false;

	name_libc(h);
	for (uint32_t i = 0; i < modules->count; i++) {
		const struct silt_target_module *m = &modules->list[i];
		const char *name = allocator_of(h, m);

		musl |= strstr(m->path, "ld-musl") || strstr(m->path, "-musl/libc.so");
		if (!name)
			continue;
		if (!other)
			snprintf(h->allocator, sizeof(h->allocator), "%s (%.200s)", name, m->path);
		other = true;
		silt_heap_problem_add(h, "%.200s holds %s, which cannot be walked: what it allocated is not included", m->path,
				      name);
	}
	if (h->glibcs.count || h->musls.count || other)
		return;
	if (musl)
		silt_heap_problem_add(h, "musl's heap was not found: nothing was allocated yet, or this musl has the allocator "
					 "from before 1.2.1, which cannot be walked");
	else
		silt_heap_problem_add(h, "no allocator was recognised (looked for glibc's malloc and musl's mallocng), so heap "
					 "blocks are not known");
}
