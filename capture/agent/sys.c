/* SPDX-License-Identifier: MIT */
/* System calls and memory functions of the agent: see sys.h. */
#include "capture/agent/sys.h"

#include <asm/unistd.h>
#include <linux/stat.h>

long sys_open(const char *path, int flags, int mode)
{
	return arch_syscall6(__NR_openat, -100, (long)path, flags, mode, 0, 0);
}

long sys_read(int fd, void *buf, size_t n)
{
	long r;

	do
		r = arch_syscall3(__NR_read, fd, (long)buf, (long)n);
	while (r == -4); /* EINTR */
	return r;
}

long sys_close(int fd)
{
	return arch_syscall3(__NR_close, fd, 0, 0);
}

long sys_readlink(const char *path, char *buf, size_t n)
{
	return arch_syscall6(__NR_readlinkat, -100, (long)path, (long)buf, (long)n, 0, 0);
}

long sys_fstat_inode(int fd, uint64_t *ret_inode)
{
	struct statx sx;
	long r = arch_syscall6(__NR_statx, fd, (long)"", 0x1000 /* AT_EMPTY_PATH */, STATX_INO, (long)&sx, 0);

	if (!sys_failed(r))
		*ret_inode = sx.stx_ino;
	return r;
}

long sys_mmap(void *addr, size_t n, int prot, int flags, int fd, uint64_t offset)
{
	return arch_syscall6(__NR_mmap, (long)addr, (long)n, prot, flags, fd, (long)offset);
}

long sys_munmap(void *addr, size_t n)
{
	return arch_syscall3(__NR_munmap, (long)addr, (long)n, 0);
}

long sys_mprotect(void *addr, size_t n, int prot)
{
	return arch_syscall3(__NR_mprotect, (long)addr, (long)n, prot);
}

long sys_mincore(void *addr, size_t n, uint8_t *ret)
{
	return arch_syscall3(__NR_mincore, (long)addr, (long)n, (long)ret);
}

void sys_signals_block(uint64_t *ret_before)
{
	static const uint64_t all = UINT64_MAX;

	arch_syscall6(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, (long)ret_before, sizeof(all), 0, 0);
}

void sys_signals_restore(const uint64_t *before)
{
	arch_syscall6(__NR_rt_sigprocmask, 2, (long)before, 0, sizeof(*before), 0, 0);
}

long sys_mremap(void *addr, size_t old_size, size_t new_size, int flags, void *new_addr)
{
	return arch_syscall6(__NR_mremap, (long)addr, (long)old_size, (long)new_size, flags, (long)new_addr, 0);
}

long sys_madvise(void *addr, size_t n, int advice)
{
	return arch_syscall3(__NR_madvise, (long)addr, (long)n, advice);
}

long sys_getpid(void)
{
	return arch_syscall3(__NR_getpid, 0, 0, 0);
}

long sys_getppid(void)
{
	return arch_syscall3(__NR_getppid, 0, 0, 0);
}

long sys_gettid(void)
{
	return arch_syscall3(__NR_gettid, 0, 0, 0);
}

long sys_futex(uint32_t *word, int op, uint32_t value, const void *timeout)
{
	return arch_syscall6(__NR_futex, (long)word, op, (long)value, (long)timeout, 0, 0);
}

long sys_clock_gettime(int clock, int64_t ts[2])
{
	return arch_syscall3(__NR_clock_gettime, clock, (long)ts, 0);
}

long sys_getrandom(void *buf, size_t n)
{
	return arch_syscall3(__NR_getrandom, (long)buf, (long)n, 1 /* GRND_NONBLOCK */);
}

bool sys_peek(uint64_t addr, uint64_t *ret)
{
	uint64_t local[2] = { (uint64_t)(uintptr_t)ret, sizeof(*ret) };
	uint64_t remote[2] = { addr, sizeof(*ret) };
	long pid = sys_getpid();

	return arch_syscall6(__NR_process_vm_readv, pid, (long)local, 1, (long)remote, 1, 0) == (long)sizeof(*ret);
}

size_t str_length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

bool str_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

bool str_prefix(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return false;
	return true;
}

bool str_copy(char *dst, size_t size, const char *src)
{
	size_t i = 0;

	while (src[i] && i + 1 < size) {
		dst[i] = src[i];
		i++;
	}
	dst[i] = 0;
	return src[i] == 0;
}

uint64_t str_number(const char **s, unsigned base)
{
	uint64_t v = 0;

	for (;; (*s)++) {
		unsigned c = (unsigned char)**s, digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (base == 16 && c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else
			return v;
		v = v * base + digit;
	}
}

/* The compiler emits calls to these even in freestanding code (C11 4p6, gcc manual "Standards"). */
__attribute__((visibility("hidden"), used)) void *memset(void *d, int c, size_t n)
{
	void *dst = d;

	__asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(c) : "memory");
	return d;
}

__attribute__((visibility("hidden"), used)) void *memcpy(void *d, const void *s, size_t n)
{
	void *dst = d;

	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(s), "+c"(n) : : "memory");
	return d;
}

__attribute__((visibility("hidden"), used)) void *memmove(void *d, const void *s, size_t n)
{
	unsigned char *dst = d;
	const unsigned char *src = s;

	if (dst <= src || dst >= src + n)
		return memcpy(d, s, n);
	while (n--)
		dst[n] = src[n];
	return d;
}

__attribute__((visibility("hidden"), used)) int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}
