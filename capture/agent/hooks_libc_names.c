/* SPDX-License-Identifier: MIT */
/* glibc's public aliases of the allocation functions, which programs can reach directly. */
#include "capture/agent/extra.h"

EXTRA_ALLOC(__libc_malloc, (size_t n), (n), n)
EXTRA_ALLOC(__libc_calloc, (size_t k, size_t n), (k, n), k * n)
EXTRA_RESIZE(__libc_realloc, (void *p, size_t n), (p, n), p, n, n == 0)
EXTRA_ALLOC(__libc_memalign, (size_t al, size_t n), (al, n), n)
EXTRA_ALLOC(__libc_valloc, (size_t n), (n), n)
EXTRA_ALLOC(__libc_pvalloc, (size_t n), (n), n)
EXTRA_FREE(__libc_free, (void *p), (p))
