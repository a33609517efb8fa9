/* SPDX-License-Identifier: MIT */
/*
 * Starting a program stopped: see start.h. It is followed from system call to system call; nothing in it is changed, so whatever
 * happens to silt meanwhile, it just goes on (the kernel lets go of it when its tracer ends).
 */
#include "capture/start.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "capture/target/maps.h"

#define SYSCALL_STOP (SIGTRAP | 0x80)
#define CALLS_MAX 100000 /* a loader makes some ten for every library */

struct starting {
	pid_t pid;
	uint64_t ldso_lo, ldso_hi;
	bool inside;     /* a system call was entered */
	bool cache_goes; /* the call unmaps /etc/ld.so.cache, which is the last thing that glibc's loader does */
};

/* Waits until it is traced. PTRACE_TRACEME would not do: its exec sends a SIGTRAP, which would kill where the tracer has gone. */
static void child(const char *path, char *const argv[], int go, int report)
{
	char byte;
	ssize_t n;
	int e;

	prctl(PR_SET_PDEATHSIG, SIGCONT);
	do
		n = read(go, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(127);
	execvp(path, argv);
	e = errno;
	n = write(report, &e, sizeof(e));
	_exit(n == sizeof(e) ? 127 : 126);
}

static int wait_for(pid_t pid, int *status)
{
	while (waitpid(pid, status, WUNTRACED) < 0)
		if (errno != EINTR)
			return -1;
	return 0;
}

/* Lets the child go on to its exec, traced. 0, or what stood against it; *pid is 0 when it has ended. */
static int trace_exec(pid_t *child_pid, int go, int report)
{
	pid_t pid = *child_pid;
	int status, e = 0;
	ssize_t n;

	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)(PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD)))
		return errno;
	if (write(go, "", 1) != 1)
		return EPIPE;
	for (;;) {
		if (wait_for(pid, &status))
			return errno;
		if (!WIFSTOPPED(status))
			break;
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8))
			return 0;
		if (ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)(status >> 16 ? 0 : WSTOPSIG(status))))
			return errno;
	}
	*child_pid = 0;
	do
		n = read(report, &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	return n == sizeof(e) ? e : ECHILD;
}

static void end(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int spawn(const char *path, char *const argv[], pid_t *ret, struct silt_error *err)
{
	int report[2], go[2], e = 0;

	if (pipe2(report, O_CLOEXEC))
		return silt_error_os(err, errno, "cannot create a pipe");
	if (pipe2(go, O_CLOEXEC)) {
		e = errno;
		close(report[0]);
		close(report[1]);
		return silt_error_os(err, e, "cannot create a pipe");
	}
	*ret = fork();
	if (*ret == 0) {
		close(go[1]); /* else it would wait for itself */
		child(path, argv, go[0], report[1]);
	}
	if (*ret < 0)
		e = errno;
	close(go[0]);
	close(report[1]);
	if (!e)
		e = trace_exec(ret, go[1], report[0]);
	close(go[1]);
	close(report[0]);
	if (!e)
		return 0;
	end(*ret);
	return silt_error_os(err, e, "cannot start it stopped");
}

static const char *name_at(const struct silt_maps *maps, uint64_t addr)
{
	for (uint32_t i = 0; i < maps->count; i++)
		if (addr - maps->regions[i].start < maps->regions[i].end - maps->regions[i].start)
			return maps->regions[i].name;
	return NULL;
}

/* Where the loader is: the auxiliary vector says where it begins (AT_BASE), the memory map where it ends. */
static int find_loader(struct starting *s, struct silt_error *err)
{
	struct silt_maps maps = {0};
	const char *name;
	char path[64], *text;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/auxv", s->pid);
	rc = silt_proc_read(path, &text, &size, err);
	if (rc)
		return rc;
	for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= size; at += sizeof(Elf64_auxv_t)) {
		Elf64_auxv_t a;

		memcpy(&a, text + at, sizeof(a));
		if (a.a_type == AT_BASE)
			s->ldso_lo = a.a_un.a_val;
	}
	free(text);
	rc = silt_maps_read(s->pid, &maps, err);
	if (rc)
		return rc;
	name = name_at(&maps, s->ldso_lo);
	for (uint32_t i = 0; name && i < maps.count; i++)
		if (maps.regions[i].name && !strcmp(maps.regions[i].name, name))
			s->ldso_hi = maps.regions[i].end;
	silt_maps_deinit(&maps);
	return name ? 0
		    : silt_error_set(err, SILT_E_NOT_FOUND, "process %d has no loader that can be found", s->pid);
}

static bool is_cache(const struct starting *s, uint64_t addr)
{
	struct silt_maps maps = {0};
	const char *name;
	bool is;

	if (silt_maps_read(s->pid, &maps, NULL))
		return false;
	name = name_at(&maps, addr);
	is = name && strstr(name, "/ld.so.cache");
	silt_maps_deinit(&maps);
	return is;
}

/* At a system call's stop: is this the place? Only behind a call, for the one that is being made would be lost. */
static bool arrived(struct starting *s)
{
	struct __ptrace_syscall_info i;
	bool outside;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, s->pid, (void *)sizeof(i), &i) <= 0)
		return false;
	outside = i.instruction_pointer - s->ldso_lo >= s->ldso_hi - s->ldso_lo;
	if (i.op == PTRACE_SYSCALL_INFO_ENTRY) {
		s->cache_goes = !outside && i.entry.nr == SYS_munmap && is_cache(s, i.entry.args[0]);
		s->inside = true;
		return false;
	}
	if (i.op != PTRACE_SYSCALL_INFO_EXIT || !s->inside) /* the exec itself */
		return false;
	s->inside = false;
	/* Where the loader has not asked the cache, the program's own first call has to do. */
	return s->cache_goes || outside;
}

static int ended(struct starting *s, struct silt_error *err)
{
	s->pid = 0;
	return silt_error_set(err, SILT_E_NOT_FOUND, "it ended before it was ready");
}

/* From one stop to the next. Signals are the program's own. */
static int follow(struct starting *s, struct silt_error *err)
{
	int status, sig = 0;

	for (unsigned n = 0; n < CALLS_MAX; n++) {
		if (ptrace(PTRACE_SYSCALL, s->pid, NULL, (void *)(intptr_t)sig) || wait_for(s->pid, &status))
			return silt_error_os(err, errno, "cannot trace process %d", s->pid);
		if (!WIFSTOPPED(status))
			return ended(s, err);
		sig = WSTOPSIG(status) == SYSCALL_STOP || status >> 16 ? 0 : WSTOPSIG(status);
		if (WSTOPSIG(status) == SYSCALL_STOP && arrived(s))
			return 0;
	}
	return silt_error_set(err, SILT_E_NOT_FOUND, "its loader did not come to an end");
}

/* Lets go of it, stopped. */
static int leave_stopped(struct starting *s, struct silt_error *err)
{
	int status;

	/* Sent first, not by the detach, which the program would take as a signal of its own only later: should this process end now,
	 * the SIGCONT that then comes must find it. */
	if (kill(s->pid, SIGSTOP) || ptrace(PTRACE_DETACH, s->pid, NULL, NULL) || wait_for(s->pid, &status))
		return silt_error_os(err, errno, "cannot leave process %d stopped", s->pid);
	return WIFSTOPPED(status) ? 0 : ended(s, err);
}

int silt_start_stopped(const char *path, char *const argv[], pid_t *ret, struct silt_error *err)
{
	struct starting s = {0};
	int rc = spawn(path, argv, &s.pid, err);

	if (rc)
		return rc;
	rc = find_loader(&s, err);
	if (!rc)
		rc = follow(&s, err);
	if (!rc)
		rc = leave_stopped(&s, err);
	if (rc) {
		end(s.pid);
		return rc;
	}
	*ret = s.pid;
	return 0;
}
