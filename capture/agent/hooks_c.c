/* SPDX-License-Identifier: MIT */
/* Hooks of the C allocation functions: every entry point glibc, musl and the common allocators export. */
#include "capture/agent/real.h"

EXPORT void *malloc(size_t size)
{
	void *p = REAL_ALWAYS(malloc)(size);

	if (LIKELY(p != NULL))
		record_fast((uint64_t)p, size, FRAME);
	return p;
}

EXPORT void *calloc(size_t n, size_t size)
{
	/* A product that overflows gives NULL, so it is never recorded. */
	return hook_record(REAL(calloc)(n, size), n * size, FRAME);
}

void hook_forget_slow(void *p)
{
	uint64_t size;

	if (!live_remove((uint64_t)p, &size))
		ATOMIC_ADD(&agent_db()->unknown_frees, 1);
}

static NOINLINE void free_slow(void *p)
{
	if (p && agent_ready())
		hook_forget_slow(p);
	REAL(free)(p);
}

/* The common way has no call in it but the last jump, so nothing need be saved. */
EXPORT LEAF void free(void *p)
{
	if (UNLIKELY(!agent_hot.base || CALLER - agent_ranges.ldso_lo < agent_ranges.ldso_size)) {
		if (agent_hot.base)
			__atomic_fetch_or(&agent_hot.attention, AGENT_MODULES_CHANGED, __ATOMIC_RELAXED);
		free_slow(p);
	} else if (UNLIKELY(!live_remove_fast((uint64_t)p))) {
		free_slow(p);
	} else {
		agent_real.free(p);
	}
}

EXPORT void cfree(void *p)
{
	hook_forget(p, CALLER);
	if (REAL(cfree))
		agent_real.cfree(p);
	else
		agent_real.free(p);
}

EXPORT void free_sized(void *p, size_t size)
{
	hook_forget(p, CALLER);
	if (REAL(free_sized))
		agent_real.free_sized(p, size);
	else
		agent_real.free(p);
}

EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size)
{
	hook_forget(p, CALLER);
	if (REAL(free_aligned_sized))
		agent_real.free_aligned_sized(p, alignment, size);
	else
		agent_real.free(p);
}

void hook_set_aside(struct hook_aside *a, void *old)
{
	struct silt_db_thread *shared;

	a->context = 0;
	a->addr = (uint64_t)old;
	a->thread = thread_get(arch_thread_pointer());
	a->context = live_remove(a->addr, &a->size);
	if (!a->context || !a->thread)
		return;
	shared = a->thread->shared;
	shared->aside_addr = a->addr;
	shared->aside_size = a->size;
	ATOMIC_RELEASE(&shared->aside_context, a->context);
}

void *hook_settle(struct hook_aside *a, void *p, size_t size, bool gone, const uint64_t *fp)
{
	struct silt_db_thread *shared = a->context && a->thread ? a->thread->shared : NULL; /* recording may set a fork's child up anew */

	if (p)
		agent_record((uint64_t)p, size, fp);
	else if (a->context && !gone)
		live_insert(a->addr, a->size, a->context);
	if (shared)
		ATOMIC_RELEASE(&shared->aside_context, 0);
	return p;
}

static ALWAYS_INLINE void *resize(void *old, size_t size, const uint64_t *fp)
{
	struct hook_aside aside;

	if (!old)
		return hook_record(REAL(realloc)(NULL, size), size, fp);
	if (!agent_ready())
		return REAL(realloc)(old, size);
	if (UNLIKELY(fp[1] - agent_ranges.ldso_lo < agent_ranges.ldso_size))
		__atomic_fetch_or(&agent_hot.attention, AGENT_MODULES_CHANGED, __ATOMIC_RELAXED);
	hook_set_aside(&aside, old);
	/* glibc: a size of 0 frees. */
	return hook_settle(&aside, REAL(realloc)(old, size), size, size == 0, fp);
}

EXPORT void *realloc(void *old, size_t size)
{
	return resize(old, size, FRAME);
}

EXPORT void *reallocarray(void *old, size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total))
		return REAL(reallocarray) ? agent_real.reallocarray(old, n, size) : NULL; /* sets errno */
	return resize(old, total, FRAME);
}

EXPORT void *memalign(size_t alignment, size_t size)
{
	return hook_record(REAL(memalign)(alignment, size), size, FRAME);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	return hook_record(REAL(aligned_alloc)(alignment, size), size, FRAME);
}

EXPORT int posix_memalign(void **ret, size_t alignment, size_t size)
{
	int r = REAL(posix_memalign)(ret, alignment, size);

	if (r == 0)
		hook_record(*ret, size, FRAME);
	return r;
}

EXPORT void *valloc(size_t size)
{
	return hook_record(REAL(valloc)(size), size, FRAME);
}

EXPORT void *pvalloc(size_t size)
{
	return hook_record(REAL(pvalloc)(size), size, FRAME);
}

/* libc's own strdup and the like call malloc and are seen there; mimalloc's allocate inside. */
EXPORT char *strdup(const char *s)
{
	char *p = REAL(strdup)(s);

	if (agent_real.strdup_allocates && p)
		hook_record(p, str_length(p) + 1, FRAME);
	return p;
}

EXPORT char *strndup(const char *s, size_t n)
{
	char *p = REAL(strndup)(s, n);

	if (agent_real.strdup_allocates && p)
		hook_record(p, str_length(p) + 1, FRAME);
	return p;
}

EXPORT char *realpath(const char *path, char *resolved)
{
	char *p = REAL(realpath)(path, resolved);

	if (agent_real.strdup_allocates && p && !resolved)
		hook_record(p, str_length(p) + 1, FRAME);
	return p;
}
