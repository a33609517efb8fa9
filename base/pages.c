/* SPDX-License-Identifier: MIT */
/* Memory by the page: see pages.h. */
#include "base/pages.h"

#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>

/* Where the host of a virtual machine has to find the memory first, clearing a large page takes milliseconds, and what is not filled wholly
 * was cleared for nothing: worth it for arrays of millions of entries. */
#define LARGE_MIN ((size_t)64 << 20)
#define SMALL_PAGE ((size_t)4096)
#define MMAP_THRESHOLD (1 << 20)

void silt_pages_large(void *p, size_t bytes)
{
	uintptr_t start = ((uintptr_t)p + SMALL_PAGE - 1) & ~(SMALL_PAGE - 1), end = ((uintptr_t)p + bytes) & ~(SMALL_PAGE - 1);

	if (bytes >= LARGE_MIN)
		madvise((void *)start, end - start, MADV_HUGEPAGE);
}

void silt_pages_setup(void)
{
	/* Left to itself, glibc raises the threshold with every large block that is freed (mallopt(3)). */
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
}
