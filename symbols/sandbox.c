/* SPDX-License-Identifier: MIT */
/* Limits and a system call filter for parsing children. */
#include "symbols/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/types.h"

#if defined(__x86_64__)
#define SANDBOX_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define SANDBOX_ARCH AUDIT_ARCH_AARCH64
#endif

static void set_limit(__rlimit_resource_t what, uint64_t value)
{
	struct rlimit old, limit = {value, value};

	if (!getrlimit(what, &old) && old.rlim_max < value)
		limit.rlim_cur = limit.rlim_max = old.rlim_max;
	setrlimit(what, &limit);
}

/* Private writable memory in use, which is what RLIMIT_DATA counts: the parent's, for it was inherited. */
static uint64_t data_in_use(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f) {
		if (fscanf(f, "%*u %*u %*u %*u %*u %lu", &pages) != 1)
			pages = 0;
		fclose(f);
	}
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

#ifdef SANDBOX_ARCH
#define ALLOW(name) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Allowed unless an argument has one of these bits. */
#define ALLOW_WITHOUT(name, argument, bits)                                                    \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 4),                                  \
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[argument])), \
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

/* Everything else fails with EPERM: no sockets, no programs, no signals, no writing of files. */
static void filter_system_calls(void)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SANDBOX_ARCH, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read), ALLOW(write), ALLOW(pread64), ALLOW(close), ALLOW(fstat), ALLOW(newfstatat), ALLOW(statx),
		ALLOW(lseek), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise), ALLOW(brk), ALLOW(mprotect),
		ALLOW(futex), ALLOW(getpid), ALLOW(gettid), ALLOW(clock_gettime), ALLOW(sched_yield), ALLOW(getrandom),
		ALLOW(rt_sigaction), ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn), ALLOW(exit), ALLOW(exit_group),
		ALLOW(faccessat), ALLOW(readlinkat), ALLOW(getcwd), ALLOW(sysinfo),
#ifdef SYS_access
		ALLOW(access), ALLOW(readlink), ALLOW(stat), ALLOW(lstat),
#endif
#ifdef SYS_faccessat2
		ALLOW(faccessat2),
#endif
		/* Opening for reading only. */
		ALLOW_WITHOUT(openat, 2, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_TMPFILE),
		/* libelf asks whether a descriptor is open; fcntl can also make the kernel send signals. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_GETFD, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		/* Shared memory counts against no limit. */
		ALLOW_WITHOUT(mmap, 3, MAP_SHARED),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = {SILT_ARRAY_LEN(code), code};

	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
#else
static void filter_system_calls(void)
{
}
#endif

/* Whatever handlers the program has are not for a child. */
void silt_child_reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void silt_child_limit_memory(uint64_t max_memory)
{
	set_limit(RLIMIT_DATA, data_in_use() + max_memory);
}

void silt_sandbox_enter(int keep_fd, uint64_t max_memory, unsigned cpu_seconds)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (keep_fd > 0)
		close_range(0, (unsigned)keep_fd - 1, 0);
	close_range((unsigned)keep_fd + 1, ~0u, 0);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_FSIZE, 0);
	silt_child_limit_memory(max_memory);
	set_limit(RLIMIT_CPU, cpu_seconds);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1);
	filter_system_calls();
}
