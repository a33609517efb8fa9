/* SPDX-License-Identifier: MIT */
/* jemalloc's own entry points (jemalloc(3), "Non-standard API"). */
#include "capture/agent/extra.h"

EXTRA_ALLOC(mallocx, (size_t n, int flags), (n, flags), n)
EXTRA_RESIZE(rallocx, (void *p, size_t n, int flags), (p, n, flags), p, n, false)
EXTRA_FREE(dallocx, (void *p, int flags), (p, flags))
EXTRA_FREE(sdallocx, (void *p, size_t n, int flags), (p, n, flags))

/* Resizes in place; the result is the real size, at least n when it worked. */
EXTRA_DECLARE(xallocx, size_t, (void *, size_t, size_t, int))
EXPORT size_t xallocx(void *p, size_t n, size_t extra, int flags)
{
	EXTRA_REAL(xallocx, size_t, (void *, size_t, size_t, int))
	struct hook_aside aside;
	size_t r;

	if (!agent_ready())
		return real(p, n, extra, flags);
	hook_set_aside(&aside, p);
	r = real(p, n, extra, flags);
	hook_settle(&aside, r >= n && aside.context ? p : NULL, n, false, FRAME);
	return r;
}
