/* SPDX-License-Identifier: MIT */
/* Hooks of the program's own anonymous mappings, kept as a kind of their own. libc's and ld.so's inner mmap calls do not pass
 * here, and the allocator module's are left out, so heap memory is not counted twice. */
#include "capture/agent/real.h"

#include <linux/mman.h>

#include <stdarg.h>

#define KIND_MMAP 1u
#define MAP_STACK_FLAG 0x20000
#define MAP_ANONYMOUS_FLAG 0x20
#define FAILED ((void *)-1)

static bool own_caller(const uint64_t *fp)
{
	return agent_skips(fp[1]) || fp[1] - agent_ranges.libc_lo < agent_ranges.libc_size;
}

static ALWAYS_INLINE void *map(void *p, size_t size, int flags, const uint64_t *fp)
{
	if (p == FAILED || !agent_ready() || own_caller(fp))
		return p;
	size = (size + 4095) & ~(size_t)4095;
	if (flags & 0x10 /* MAP_FIXED: what was there is gone */)
		side_cut((uint64_t)p, (uint64_t)p + size);
	if ((flags & MAP_ANONYMOUS_FLAG) && !(flags & MAP_STACK_FLAG) && size >= agent_hot.options.mmap_min)
		agent_record_kind((uint64_t)p, size, fp, KIND_MMAP);
	return p;
}

EXPORT void *mmap(void *addr, size_t size, int prot, int flags, int fd, long offset)
{
	return map(REAL(mmap)(addr, size, prot, flags, fd, offset), size, flags, FRAME);
}

EXPORT void *mmap64(void *addr, size_t size, int prot, int flags, int fd, long offset)
{
	return map(REAL(mmap)(addr, size, prot, flags, fd, offset), size, flags, FRAME);
}

EXPORT int munmap(void *addr, size_t size)
{
	/* Before the call: another thread may be given the range at once. */
	if (agent_ready() && !own_caller(FRAME) && agent_hot.side_high)
		side_cut((uint64_t)addr, (uint64_t)addr + ((size + 4095) & ~(size_t)4095));
	return REAL(munmap)(addr, size);
}

EXPORT void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
	const uint64_t *fp = FRAME;
	uint64_t size = 0;
	uint32_t context = 0;
	void *target, *p;
	va_list ap;

	va_start(ap, flags);
	target = va_arg(ap, void *);
	va_end(ap);
	if (agent_ready() && !own_caller(fp) && old_size)
		context = side_remove((uint64_t)old, &size);
	p = REAL(mremap)(old, old_size, new_size, flags, target);
	if (!context)
		return p;
	if (p == FAILED) {
		side_insert((uint64_t)old, size, context, true);
		return p;
	}
	if (size > old_size) /* only the front part moved */
		side_insert((uint64_t)old + old_size, size - old_size, context, true);
	if (flags & 2 /* MREMAP_FIXED: what was there is gone */)
		side_cut((uint64_t)p, (uint64_t)p + new_size);
	agent_record_kind((uint64_t)p, (new_size + 4095) & ~(size_t)4095, fp, KIND_MMAP);
	return p;
}

/* Locking "everything" must not fill the sparse database window with zero pages: lock pages as they are touched. */
EXPORT int mlockall(int flags)
{
	return REAL(mlockall)(agent_ready() ? flags | MCL_ONFAULT : flags);
}
