/* SPDX-License-Identifier: MIT */
/* mimalloc's own names (mimalloc.h). h: a heap, o: an offset. */
#include "capture/agent/extra.h"

#define HEAP void *h

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
EXTRA_ALLOC(mi_heap_malloc_aligned, (HEAP, size_t n, size_t al), (h, n, al), n)
EXTRA_ALLOC(mi_heap_malloc_aligned_at, (HEAP, size_t n, size_t al, size_t o), (h, n, al, o), n)
EXTRA_ALLOC(mi_heap_zalloc_aligned, (HEAP, size_t n, size_t al), (h, n, al), n)
EXTRA_ALLOC(mi_heap_zalloc_aligned_at, (HEAP, size_t n, size_t al, size_t o), (h, n, al, o), n)
EXTRA_ALLOC(mi_heap_calloc_aligned, (HEAP, size_t k, size_t n, size_t al), (h, k, n, al), k * n)
EXTRA_ALLOC(mi_heap_calloc_aligned_at, (HEAP, size_t k, size_t n, size_t al, size_t o), (h, k, n, al, o), k * n)
EXTRA_RESIZE(mi_heap_realloc_aligned, (HEAP, void *p, size_t n, size_t al), (h, p, n, al), p, n, false)
EXTRA_RESIZE(mi_heap_realloc_aligned_at, (HEAP, void *p, size_t n, size_t al, size_t o), (h, p, n, al, o), p, n, false)
EXTRA_RESIZE(mi_heap_rezalloc_aligned, (HEAP, void *p, size_t n, size_t al), (h, p, n, al), p, n, false)
EXTRA_RESIZE(mi_heap_recalloc_aligned, (HEAP, void *p, size_t k, size_t n, size_t al), (h, p, k, n, al), p, k * n, false)

/* A visitor as mimalloc calls it: for each area first, with no block, then for each block. */
static bool forget_block(const void *heap, const void *area, void *block, size_t size, void *arg)
{
	uint64_t unused;

	(void)heap;
	(void)area;
	(void)size;
	(void)arg;
	if (block)
		live_remove((uint64_t)block, &unused);
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
