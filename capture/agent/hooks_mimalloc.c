/* SPDX-License-Identifier: MIT */
/* mimalloc's own names (mimalloc.h). h: a heap, o: an offset. */
#include "capture/agent/extra.h"

#define HEAP void *h

/* Returns a new string only where the caller gives no room for it. */
#define EXTRA_PATH(name, params, args)                                              \
	EXTRA_DECLARE(name, char *, params)                                         \
	EXPORT char *name params                                                    \
	{                                                                           \
		EXTRA_REAL(name, char *, params)                                    \
		char *p = real args;                                                \
                                                                                    \
		return resolved ? p : hook_record(p, p ? str_length(p) + 1 : 0, FRAME); \
	}

/* Gives p another size where it stands; NULL: it did not. */
#define EXTRA_IN_PLACE(name)                                                        \
	EXTRA_DECLARE(name, void *, (void *, size_t))                               \
	EXPORT void *name(void *p, size_t n)                                        \
	{                                                                           \
		EXTRA_REAL(name, void *, (void *, size_t))                          \
		struct hook_aside aside;                                            \
		void *r;                                                            \
                                                                                    \
		if (!p || !agent_ready())                                           \
			return real(p, n);                                          \
		hook_set_aside(&aside, p);                                          \
		r = real(p, n);                                                     \
		hook_settle(&aside, aside.context ? r : NULL, n, false, FRAME);     \
		return r;                                                           \
	}

/* NetBSD's: resizes the block that *p holds; 0 is success. */
#define EXTRA_RESIZE_AT(name)                                                       \
	EXTRA_DECLARE(name, int, (void **, size_t, size_t))                         \
	EXPORT int name(void **p, size_t k, size_t n)                               \
	{                                                                           \
		EXTRA_REAL(name, int, (void **, size_t, size_t))                    \
		struct hook_aside aside;                                            \
		int r;                                                              \
                                                                                    \
		if (!p || !agent_ready())                                           \
			return real(p, k, n);                                       \
		hook_set_aside(&aside, *p);                                         \
		r = real(p, k, n);                                                  \
		hook_settle(&aside, r == 0 ? *p : NULL, k * n, false, FRAME);       \
		return r;                                                           \
	}

EXTRA_ALLOC(mi_malloc, (size_t n), (n), n)
EXTRA_ALLOC(mi_zalloc, (size_t n), (n), n)
EXTRA_ALLOC(mi_malloc_small, (size_t n), (n), n)
EXTRA_ALLOC(mi_zalloc_small, (size_t n), (n), n)
EXTRA_ALLOC(mi_mallocn, (size_t k, size_t n), (k, n), k * n)
EXTRA_ALLOC(mi_calloc, (size_t k, size_t n), (k, n), k * n)
EXTRA_RESIZE(mi_realloc, (void *p, size_t n), (p, n), p, n, false)
EXTRA_RESIZE(mi_reallocn, (void *p, size_t k, size_t n), (p, k, n), p, k * n, false)
EXTRA_RESIZE(mi_reallocarray, (void *p, size_t k, size_t n), (p, k, n), p, k * n, false)
EXTRA_RESIZE(mi_reallocf, (void *p, size_t n), (p, n), p, n, true)
EXTRA_RESIZE(reallocf, (void *p, size_t n), (p, n), p, n, true)
EXTRA_RESIZE(mi_rezalloc, (void *p, size_t n), (p, n), p, n, false)
EXTRA_RESIZE(mi_recalloc, (void *p, size_t k, size_t n), (p, k, n), p, k * n, false)
EXTRA_STRING(mi_strdup, (const char *s), (s))
EXTRA_STRING(mi_strndup, (const char *s, size_t n), (s, n))
EXTRA_STRING(mi_mbsdup, (const char *s), (s))
EXTRA_PATH(mi_realpath, (const char *path, char *resolved), (path, resolved))
EXTRA_ALLOC(mi_malloc_aligned, (size_t n, size_t al), (n, al), n)
EXTRA_ALLOC(mi_malloc_aligned_at, (size_t n, size_t al, size_t o), (n, al, o), n)
EXTRA_ALLOC(mi_zalloc_aligned, (size_t n, size_t al), (n, al), n)
EXTRA_ALLOC(mi_zalloc_aligned_at, (size_t n, size_t al, size_t o), (n, al, o), n)
EXTRA_ALLOC(mi_calloc_aligned, (size_t k, size_t n, size_t al), (k, n, al), k * n)
EXTRA_ALLOC(mi_calloc_aligned_at, (size_t k, size_t n, size_t al, size_t o), (k, n, al, o), k * n)
EXTRA_RESIZE(mi_realloc_aligned, (void *p, size_t n, size_t al), (p, n, al), p, n, false)
EXTRA_RESIZE(mi_realloc_aligned_at, (void *p, size_t n, size_t al, size_t o), (p, n, al, o), p, n, false)
EXTRA_RESIZE(mi_rezalloc_aligned, (void *p, size_t n, size_t al), (p, n, al), p, n, false)
EXTRA_RESIZE(mi_rezalloc_aligned_at, (void *p, size_t n, size_t al, size_t o), (p, n, al, o), p, n, false)
EXTRA_RESIZE(mi_recalloc_aligned, (void *p, size_t k, size_t n, size_t al), (p, k, n, al), p, k * n, false)
EXTRA_RESIZE(mi_recalloc_aligned_at, (void *p, size_t k, size_t n, size_t al, size_t o), (p, k, n, al, o), p, k * n, false)
EXTRA_RESIZE(mi_aligned_recalloc, (void *p, size_t k, size_t n, size_t al), (p, k, n, al), p, k * n, false)
EXTRA_RESIZE(mi_aligned_offset_recalloc, (void *p, size_t k, size_t n, size_t al, size_t o), (p, k, n, al, o), p, k * n, false)
EXTRA_POSIX(mi_posix_memalign)
EXTRA_POSIX(__posix_memalign)
EXTRA_ALLOC(mi_memalign, (size_t al, size_t n), (al, n), n)
EXTRA_ALLOC(mi_aligned_alloc, (size_t al, size_t n), (al, n), n)
EXTRA_ALLOC(_aligned_malloc, (size_t al, size_t n), (al, n), n)
EXTRA_ALLOC(mi_valloc, (size_t n), (n), n)
EXTRA_ALLOC(mi_pvalloc, (size_t n), (n), n)
EXTRA_FREE(mi_free, (void *p), (p))
EXTRA_FREE(mi_cfree, (void *p), (p))
EXTRA_FREE(vfree, (void *p), (p))
EXTRA_FREE(__libc_cfree, (void *p), (p))
EXTRA_FREE(mi_free_size, (void *p, size_t n), (p, n))
EXTRA_FREE(mi_free_aligned, (void *p, size_t al), (p, al))
EXTRA_FREE(mi_free_size_aligned, (void *p, size_t n, size_t al), (p, n, al))
EXTRA_ALLOC(mi_new, (size_t n), (n), n)
EXTRA_ALLOC(mi_new_n, (size_t k, size_t n), (k, n), k * n)
EXTRA_ALLOC(mi_new_nothrow, (size_t n), (n), n)
EXTRA_ALLOC(mi_new_aligned, (size_t n, size_t al), (n, al), n)
EXTRA_ALLOC(mi_new_aligned_nothrow, (size_t n, size_t al), (n, al), n)
EXTRA_RESIZE(mi_new_realloc, (void *p, size_t n), (p, n), p, n, false)
EXTRA_RESIZE(mi_new_reallocn, (void *p, size_t k, size_t n), (p, k, n), p, k * n, false)
EXTRA_ALLOC(mi_heap_alloc_new, (HEAP, size_t n), (h, n), n)
EXTRA_ALLOC(mi_heap_alloc_new_n, (HEAP, size_t k, size_t n), (h, k, n), k * n)
EXTRA_ALLOC(mi_heap_malloc, (HEAP, size_t n), (h, n), n)
EXTRA_ALLOC(mi_heap_zalloc, (HEAP, size_t n), (h, n), n)
EXTRA_ALLOC(mi_heap_malloc_small, (HEAP, size_t n), (h, n), n)
EXTRA_ALLOC(mi_heap_mallocn, (HEAP, size_t k, size_t n), (h, k, n), k * n)
EXTRA_ALLOC(mi_heap_calloc, (HEAP, size_t k, size_t n), (h, k, n), k * n)
EXTRA_RESIZE(mi_heap_realloc, (HEAP, void *p, size_t n), (h, p, n), p, n, false)
EXTRA_RESIZE(mi_heap_reallocn, (HEAP, void *p, size_t k, size_t n), (h, p, k, n), p, k * n, false)
EXTRA_RESIZE(mi_heap_reallocf, (HEAP, void *p, size_t n), (h, p, n), p, n, true)
EXTRA_RESIZE(mi_heap_rezalloc, (HEAP, void *p, size_t n), (h, p, n), p, n, false)
EXTRA_RESIZE(mi_heap_recalloc, (HEAP, void *p, size_t k, size_t n), (h, p, k, n), p, k * n, false)
EXTRA_STRING(mi_heap_strdup, (HEAP, const char *s), (h, s))
EXTRA_STRING(mi_heap_strndup, (HEAP, const char *s, size_t n), (h, s, n))
EXTRA_PATH(mi_heap_realpath, (HEAP, const char *path, char *resolved), (h, path, resolved))
EXTRA_ALLOC(mi_heap_malloc_aligned, (HEAP, size_t n, size_t al), (h, n, al), n)
EXTRA_ALLOC(mi_heap_malloc_aligned_at, (HEAP, size_t n, size_t al, size_t o), (h, n, al, o), n)
EXTRA_ALLOC(mi_heap_zalloc_aligned, (HEAP, size_t n, size_t al), (h, n, al), n)
EXTRA_ALLOC(mi_heap_zalloc_aligned_at, (HEAP, size_t n, size_t al, size_t o), (h, n, al, o), n)
EXTRA_ALLOC(mi_heap_calloc_aligned, (HEAP, size_t k, size_t n, size_t al), (h, k, n, al), k * n)
EXTRA_ALLOC(mi_heap_calloc_aligned_at, (HEAP, size_t k, size_t n, size_t al, size_t o), (h, k, n, al, o), k * n)
EXTRA_RESIZE(mi_heap_realloc_aligned, (HEAP, void *p, size_t n, size_t al), (h, p, n, al), p, n, false)
EXTRA_RESIZE(mi_heap_realloc_aligned_at, (HEAP, void *p, size_t n, size_t al, size_t o), (h, p, n, al, o), p, n, false)
EXTRA_RESIZE(mi_heap_rezalloc_aligned, (HEAP, void *p, size_t n, size_t al), (h, p, n, al), p, n, false)
EXTRA_RESIZE(mi_heap_rezalloc_aligned_at, (HEAP, void *p, size_t n, size_t al, size_t o), (h, p, n, al, o), p, n, false)
EXTRA_RESIZE(mi_heap_recalloc_aligned, (HEAP, void *p, size_t k, size_t n, size_t al), (h, p, k, n, al), p, k * n, false)
EXTRA_RESIZE(mi_heap_recalloc_aligned_at, (HEAP, void *p, size_t k, size_t n, size_t al, size_t o), (h, p, k, n, al, o), p, k * n,
	     false)
EXTRA_IN_PLACE(mi_expand)
EXTRA_IN_PLACE(mi__expand)
EXTRA_RESIZE_AT(mi_reallocarr)
EXTRA_RESIZE_AT(reallocarr)

/* Strings of two-byte characters, and a copy of an environment variable that is stored where the caller says. */
EXTRA_DECLARE(mi_wcsdup, uint16_t *, (const uint16_t *))
EXPORT uint16_t *mi_wcsdup(const uint16_t *s)
{
	EXTRA_REAL(mi_wcsdup, uint16_t *, (const uint16_t *))
	uint16_t *p = real(s);
	size_t n = 0;

	while (p && p[n])
		n++;
	return hook_record(p, (n + 1) * sizeof(*p), FRAME);
}

EXTRA_DECLARE(mi_dupenv_s, int, (char **, size_t *, const char *))
EXPORT int mi_dupenv_s(char **p, size_t *size, const char *name)
{
	EXTRA_REAL(mi_dupenv_s, int, (char **, size_t *, const char *))
	int r = real(p, size, name);

	if (r == 0 && *p)
		hook_record(*p, str_length(*p) + 1, FRAME);
	return r;
}

/* A visitor as mimalloc calls it: for each area first, with no block, then for each block. */
static bool forget_block(const void *heap, const void *area, void *block, size_t size, void *arg)
{
	uint64_t unused;

	(void)heap;
	(void)area;
	(void)arg;
	if (block && !live_remove((uint64_t)block, &unused))
		live_remove_range((uint64_t)block, (uint64_t)block + size); /* aligned: it begins further in */
	return true;
}

static bool (*visit)(const void *, bool, bool (*)(const void *, const void *, void *, size_t, void *), void *);
ATTACH_HOOK(mi_heap_visit_blocks, NULL, visit, SILT_HOOK_LOOKUP)

/* Destroying a heap frees its blocks without a call for each: mimalloc is asked to visit them first. */
EXTRA_DECLARE(mi_heap_destroy, void, (void *))
EXPORT void mi_heap_destroy(void *h)
{
	EXTRA_REAL(mi_heap_destroy, void, (void *))

	if (!visit)
		visit = (bool (*)(const void *, bool, bool (*)(const void *, const void *, void *, size_t, void *), void *))
			agent_next("mi_heap_visit_blocks", NULL);
	if (visit && agent_ready())
		visit(h, true, forget_block, NULL);
	real(h);
}
