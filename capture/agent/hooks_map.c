/* SPDX-License-Identifier: MIT */
/* Hooks of the program's own anonymous mappings, kept as a kind of their own. libc's and ld.so's inner mmap calls do not pass
 * here, and the allocator module's are left out, so heap memory is not counted twice. */
#include "capture/agent/real.h"
#include "capture/agent/recover.h"

#include <asm/unistd.h>
#include <linux/mman.h>

#include <stdarg.h>

#define KIND_MMAP 1u
#define MAP_STACK_FLAG 0x20000
#define MAP_ANONYMOUS_FLAG 0x20
#define MREMAP_DONTUNMAP 4
#define FAILED ((void *)-1)

static bool own_caller(const uint64_t *fp)
{
	return agent_skips(fp[1]) || fp[1] - agent_ranges.libc_lo < agent_ranges.libc_size;
}

/* Does the program's own allocator map this? It was called by a hook then. */
static bool for_heap(const uint64_t *fp)
{
	return UNLIKELY(agent_ranges.linked_in) && walk_finds_agent(fp) == WALK_AGENT_THERE;
}

static ALWAYS_INLINE void *map(void *p, size_t size, int flags, const uint64_t *fp)
{
	if (p == FAILED || !agent_ready() || own_caller(fp))
		return p;
	size = (size + 4095) & ~(size_t)4095;
	if (agent_db()->side_high) /* what was there is gone, by MAP_FIXED or by a system call that nobody saw */
		side_cut((uint64_t)p, (uint64_t)p + size, NULL, 0);
	if ((flags & MAP_ANONYMOUS_FLAG) && !(flags & MAP_STACK_FLAG) && size >= agent_hot.options.mmap_min && !for_heap(fp))
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

/* What a call takes away goes out of the table before the call, for another thread may be given the range at once, and comes back
 * when it fails. Of more pieces than there is room for here the rest goes out for good: that takes a call that fails although its
 * arguments are valid. */
#define PIECES 16u
struct taken {
	struct side_piece piece[PIECES];
	uint32_t count;
	struct silt_db_thread *shared; /* shows the only piece as live meanwhile */
};

static bool valid_range(uint64_t addr, uint64_t size)
{
	return !(addr & 4095) && size && size < 1ull << 47 && addr + size < 1ull << 47;
}

static void take(struct taken *x, uint64_t addr, uint64_t size, bool keep)
{
	struct agent_thread *t;

	x->count = side_cut(addr, addr + size, x->piece, PIECES);
	x->shared = NULL;
	if (!keep || x->count != 1 || !(t = thread_get(arch_thread_pointer())))
		return;
	x->shared = t->shared;
	x->shared->aside_addr = x->piece[0].addr;
	x->shared->aside_size = x->piece[0].size;
	ATOMIC_RELEASE(&x->shared->aside_context, x->piece[0].context);
}

static void give_back(const struct taken *x)
{
	for (uint32_t i = 0; i < x->count && i < PIECES; i++)
		side_insert(x->piece[i].addr, x->piece[i].size, x->piece[i].context, true);
}

static ALWAYS_INLINE int unmap(int (*real)(void *, size_t), void *addr, size_t size, const uint64_t *fp)
{
	uint64_t whole = (size + 4095) & ~(size_t)4095;
	struct taken x;
	int r;

	if (!agent_ready() || own_caller(fp) || !agent_db()->side_high || !valid_range((uint64_t)addr, whole))
		return real(addr, size);
	take(&x, (uint64_t)addr, whole, false);
	r = real(addr, size);
	if (UNLIKELY(r))
		give_back(&x);
	return r;
}

EXPORT int munmap(void *addr, size_t size)
{
	return unmap(REAL(munmap), addr, size, FRAME);
}

static ALWAYS_INLINE void *remap(void *(*real)(void *, size_t, size_t, int, void *), void *old, size_t old_size, size_t new_size,
				 int flags, void *target, const uint64_t *fp)
{
	uint64_t old_whole = (old_size + 4095) & ~(size_t)4095, new_whole = (new_size + 4095) & ~(size_t)4095;
	struct taken x = { .count = 0 };
	bool known = false;
	void *p;

	if (!agent_ready() || own_caller(fp) || !agent_db()->side_high || (uint64_t)old & 4095)
		return real(old, old_size, new_size, flags, target);
	if (!old_size || flags & MREMAP_DONTUNMAP) { /* what was there stays */
		known = side_has((uint64_t)old);
	} else if (valid_range((uint64_t)old, old_whole)) {
		take(&x, (uint64_t)old, old_whole, true);
		known = x.count != 0;
	}
	p = real(old, old_size, new_size, flags, target);
	if (p == FAILED)
		give_back(&x);
	else
		side_cut((uint64_t)p, (uint64_t)p + new_whole, NULL, 0);
	if (p != FAILED && known)
		agent_record_kind((uint64_t)p, new_whole, fp, KIND_MMAP);
	if (x.shared)
		ATOMIC_RELEASE(&x.shared->aside_context, 0);
	return p;
}

EXPORT void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
	void *target;
	va_list ap;

	va_start(ap, flags);
	target = va_arg(ap, void *);
	va_end(ap);
	return remap(REAL(mremap), old, old_size, new_size, flags, target, FRAME);
}

/* The same by number: stub.S jumps here, with the number taken off. They go on to syscall(2), not to the functions above, for an
 * allocator that brings those along may get here from them. */
extern long (*agent_syscall_real)(long, ...) __attribute__((visibility("hidden")));

static int munmap_call(void *addr, size_t size)
{
	return (int)agent_syscall_real(__NR_munmap, addr, size);
}

static void *mremap_call(void *old, size_t old_size, size_t new_size, int flags, void *target)
{
	return (void *)agent_syscall_real(__NR_mremap, old, old_size, new_size, (long)flags, target);
}

__attribute__((visibility("hidden"), used)) void *agent_mmap_by_number(void *addr, size_t size, long prot, long flags, long fd,
									long offset)
{
	return map((void *)agent_syscall_real(__NR_mmap, addr, size, prot, flags, fd, offset), size, (int)flags, FRAME);
}

__attribute__((visibility("hidden"), used)) long agent_munmap_by_number(void *addr, size_t size)
{
	return unmap(munmap_call, addr, size, FRAME);
}

__attribute__((visibility("hidden"), used)) void *agent_mremap_by_number(void *old, size_t old_size, size_t new_size, int flags,
									  void *target)
{
	return remap(mremap_call, old, old_size, new_size, flags, target, FRAME);
}

/* Locking "everything" must not fill the sparse database window with zero pages: lock pages as they are touched. */
EXPORT int mlockall(int flags)
{
	return REAL(mlockall)(agent_ready() ? flags | MCL_ONFAULT : flags);
}
