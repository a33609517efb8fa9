/* SPDX-License-Identifier: MIT */
/** Raw system calls, atomics and the few memory functions the agent needs: it has no C library under it. */
#ifndef SILT_CAPTURE_AGENT_SYS_H
#define SILT_CAPTURE_AGENT_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture/agent/arch.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((noinline, cold))
/* For hooks that need no frame of their own. */
#define LEAF __attribute__((optimize("omit-frame-pointer")))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))

/* Kernel error returns are -4095..-1. */
static inline bool sys_failed(long r)
{
	return (unsigned long)r > -4096ul;
}

long sys_open(const char *path, int flags, int mode);
long sys_read(int fd, void *buf, size_t n);
long sys_close(int fd);
long sys_readlink(const char *path, char *buf, size_t n);
long sys_fstat_inode(int fd, uint64_t *ret_inode);
long sys_mmap(void *addr, size_t n, int prot, int flags, int fd, uint64_t offset);
long sys_munmap(void *addr, size_t n);
long sys_mprotect(void *addr, size_t n, int prot);
long sys_mremap(void *addr, size_t old_size, size_t new_size, int flags, void *new_addr);
long sys_madvise(void *addr, size_t n, int advice);
long sys_getpid(void);
long sys_getppid(void);
long sys_gettid(void);
long sys_futex(uint32_t *word, int op, uint32_t value, const void *timeout);
long sys_clock_gettime(int clock, int64_t ts[2]);
long sys_getrandom(void *buf, size_t n);
/** One byte a page: bit 0 is set where it has memory. */
long sys_mincore(void *addr, size_t n, uint8_t *ret);
/** Holds all signals back from this thread, until they are let go again as they were. */
void sys_signals_block(uint64_t *ret_before);
void sys_signals_restore(const uint64_t *before);
/** Reads own memory without the risk of a fault; false when it is not readable. */
bool sys_peek(uint64_t addr, uint64_t *ret);

void *memset(void *d, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
void *memmove(void *d, const void *s, size_t n);

size_t str_length(const char *s);
bool str_equal(const char *a, const char *b);
bool str_prefix(const char *s, const char *prefix);
/** Copies at most size - 1 bytes and ends with NUL. Returns false when cut. */
bool str_copy(char *dst, size_t size, const char *src);
/** Unsigned number in the given base from *s; moves *s behind it. */
uint64_t str_number(const char **s, unsigned base);

/** What was written before is in memory before what is written after, as far as this thread's own signal handlers can see: one may
 *  leave by a jump, and what it interrupted is then as it was left. */
#define IN_ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define ATOMIC_LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define ATOMIC_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define ATOMIC_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define ATOMIC_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ATOMIC_ADD(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)

static inline bool atomic_cas64(uint64_t *p, uint64_t expected, uint64_t desired)
{
	return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline bool atomic_cas32(uint32_t *p, uint32_t expected, uint32_t desired)
{
	return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

#endif
