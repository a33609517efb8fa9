/* SPDX-License-Identifier: MIT */
/* System calls made by a thread of the target: see inject.h. */
#include "capture/attach/inject.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "capture/agent/attach.h"
#include "capture/agent/trace_db.h"
#include "capture/attach/fault.h"
#include "capture/target/interrupted.h"

#define STOP_NS 2000000000ull /* for a thread to stop */
#define CALL_NS 5000000000ull /* for a system call to return: it may wait for the lock on the address space */
#define SIGNALS_MAX 200	/* signals that arrive in between: each is let through, and the call tried anew */
#define THREADS_TRIED 50u
#define SIGNALS_MANY 20 /* from then on they are held back for the moment it takes to begin */

/* Error codes of interrupted system calls that are inside the kernel until the thread leaves it (include/linux/errno.h). */
enum { RESTART_SYS = -512, RESTART_NOINTR = -513, RESTART_NOHAND = -514, RESTART_BLOCK = -516 };

#define STOPS_MAX 1000000	/* of the agent in one operation: it maps memory as it needs it */

enum { STUB_AGENT_NAME = 108, STUB_DB_NAME = 124, STUB_END = 136, STUB_MAGIC_AT = SILT_STUB_SIZE - 8 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

silt_addr silt_inject_agent_name(const struct silt_inject *in)
{
	return in->stub + STUB_AGENT_NAME;
}

silt_addr silt_inject_db_name(const struct silt_inject *in)
{
	return in->stub + STUB_DB_NAME;
}

static int get_regs(const struct silt_inject *in, struct user_regs_struct *ret, struct silt_error *err)
{
	struct iovec iov = { ret, sizeof(*ret) };

	if (ptrace(PTRACE_GETREGSET, in->tid, NT_PRSTATUS, &iov))
		return silt_error_os(err, errno, "cannot read the registers of thread %d", in->tid);
	if (iov.iov_len != sizeof(*ret) || ret->cs != 0x33)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "thread %d does not run 64-bit code", in->tid);
	return 0;
}

static int set_regs(const struct silt_inject *in, const struct user_regs_struct *regs, struct silt_error *err)
{
	struct iovec iov = { (void *)regs, sizeof(*regs) };

	if (ptrace(PTRACE_SETREGSET, in->tid, NT_PRSTATUS, &iov))
		return silt_error_os(err, errno, "cannot set the registers of thread %d", in->tid);
	return 0;
}

static bool restarts(const struct user_regs_struct *r)
{
	int64_t v = (int64_t)r->rax;

	return (int64_t)r->orig_rax >= 0 &&
	       (v == RESTART_SYS || v == RESTART_NOINTR || v == RESTART_NOHAND || v == RESTART_BLOCK);
}

static uint8_t *put_mov(uint8_t *p, uint8_t rex, uint8_t opcode, uint64_t value)
{
	p[0] = rex;
	p[1] = opcode;
	memcpy(p + 2, &value, 8);
	return p + 10;
}

/* syscall; mov $value, register for all that the call may change; jmp to where the thread stood; names. Flags come back with
 * the system call. */
static void build_stub(const struct user_regs_struct *r, uint8_t stub[SILT_STUB_SIZE])
{
	uint64_t magic = SILT_STUB_MAGIC, rax = r->rax, rip = r->rip;
	uint8_t *p = stub;

	if (restarts(r)) { /* as arch_do_signal_or_restart of arch/x86/kernel/signal.c does */
		rip -= 2;
		rax = (int64_t)r->rax == RESTART_BLOCK ? SYS_restart_syscall : r->orig_rax;
	}
	memset(stub, 0xcc, SILT_STUB_SIZE);
	*p++ = 0x0f;
	*p++ = 0x05;
	p = put_mov(p, 0x48, 0xbf, r->rdi);
	p = put_mov(p, 0x48, 0xbe, r->rsi);
	p = put_mov(p, 0x48, 0xba, r->rdx);
	p = put_mov(p, 0x49, 0xba, r->r10);
	p = put_mov(p, 0x49, 0xb8, r->r8);
	p = put_mov(p, 0x49, 0xb9, r->r9);
	p = put_mov(p, 0x48, 0xb9, r->rcx);
	p = put_mov(p, 0x49, 0xbb, r->r11);
	p = put_mov(p, 0x48, 0xb8, rax);
	memcpy(p, "\xff\x25\0\0\0\0", 6);
	memcpy(p + 6, &rip, 8);
	memcpy(stub + STUB_AGENT_NAME, SILT_AGENT_IMAGE_NAME, sizeof(SILT_AGENT_IMAGE_NAME));
	memcpy(stub + STUB_DB_NAME, SILT_DB_NAME, sizeof(SILT_DB_NAME));
	memcpy(stub + STUB_MAGIC_AT, &magic, 8);
}

_Static_assert(2 + 9 * 10 + 6 + 8 <= STUB_AGENT_NAME && STUB_AGENT_NAME + sizeof(SILT_AGENT_IMAGE_NAME) <= STUB_DB_NAME &&
		       STUB_DB_NAME + sizeof(SILT_DB_NAME) <= STUB_END && STUB_END <= STUB_MAGIC_AT,
	       "the stub's parts overlap");

static int write_stub(struct silt_inject *in, struct silt_error *err)
{
	uint8_t stub[SILT_STUB_SIZE];

	build_stub(&in->regs, stub);
	if (pwrite(in->mem, stub, sizeof(stub), (off_t)in->stub) != sizeof(stub))
		return silt_error_os(err, errno, "cannot write to the memory of process %d", in->pid);
	in->written = true;
	silt_fault_point();
	return 0;
}

/* Waits for the next stop, looking often first. What is waited for takes microseconds. */
static int wait_stop(struct silt_inject *in, uint64_t limit_ns, int *ret_status, struct silt_error *err)
{
	uint64_t start = now_ns();
	struct user_regs_struct regs;

	for (unsigned round = 0;; round++) {
		pid_t r = waitpid(in->tid, ret_status, __WALL | WNOHANG);

		if (r == in->tid && WIFSTOPPED(*ret_status)) {
			if (WSTOPSIG(*ret_status) != (SIGTRAP | 0x80))
				silt_interrupted_restart(in->tid, &regs);
			return 0;
		}
		if (r == in->tid || (r < 0 && errno == ECHILD)) {
			in->attached = false;
			if (r == in->tid && WIFSIGNALED(*ret_status))
				return silt_error_set(err, SILT_E_NOT_FOUND, "thread %d of process %d was killed by signal %d", in->tid,
						      in->pid, WTERMSIG(*ret_status));
			return silt_error_set(err, SILT_E_NOT_FOUND, "thread %d of process %d ended", in->tid, in->pid);
		}
		if (now_ns() - start > limit_ns)
			return silt_error_set(err, SILT_E_LIMIT, "thread %d of process %d did not stop within %llu seconds",
					      in->tid, in->pid, limit_ns / 1000000000ull);
		if (round > 200) {
			struct timespec t = { 0, 50000 };

			nanosleep(&t, NULL);
		}
	}
}

static bool is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

/* A signal's own stop: to be let through before anything else. */
static int signal_of(int status)
{
	return status >> 16 || WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
}

/* From any stop to one from which the kernel looks at restarts again: all signals that wait are delivered on the way. The
 * registers may be the stub's before a signal is met: then give its own back first. */
static int settle(struct silt_inject *in, int status, struct silt_error *err)
{
	for (int n = 0; n < SIGNALS_MAX; n++) {
		int sig = signal_of(status);
		int rc;

		if (is_event_stop(status))
			return 0;
		if (ptrace(PTRACE_INTERRUPT, in->tid, 0, 0) || ptrace(PTRACE_CONT, in->tid, 0, (long)sig))
			return silt_error_os(err, errno, "cannot direct thread %d", in->tid);
		rc = wait_stop(in, STOP_NS, &status, err);
		if (rc)
			return rc;
	}
	return silt_error_set(err, SILT_E_LIMIT, "process %d gets signals faster than it can be attached to", in->pid);
}

/* A signal came before the call could begin: as if we were not there, with the thread's own registers. */
static int let_signal_through(struct silt_inject *in, int status, struct silt_error *err)
{
	int rc = set_regs(in, &in->regs, err);

	if (!rc)
		rc = settle(in, status, err);
	if (!rc)
		rc = get_regs(in, &in->regs, err);
	return rc ? rc : write_stub(in, err);
}

static char thread_state(pid_t pid, pid_t tid)
{
	char path[80], text[512], *p;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return 'X';
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	p = strrchr(text, ')');
	return p && p[1] == ' ' ? p[2] : 'X';
}

/* Seizes the first thread that is neither ending nor in an uninterruptible wait. LIMIT: there is none. */
static int look_for_one(struct silt_inject *in, struct silt_error *err)
{
	char path[64];
	struct dirent *de;
	DIR *dir;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/task", in->pid);
	dir = opendir(path);
	if (!dir)
		return silt_error_set(err, SILT_E_NOT_FOUND, "there is no process %d", in->pid);
	rc = silt_error_set(err, SILT_E_LIMIT,
			    "no thread of process %d can be stopped now: all of them wait uninterruptibly in the kernel (for a "
			    "disk, or for a child started with vfork); try again later",
			    in->pid);
	while (rc && (de = readdir(dir))) {
		pid_t tid = (pid_t)strtol(de->d_name, NULL, 10);
		char state = tid > 0 ? thread_state(in->pid, tid) : 'X';

		if (state == 'X' || state == 'Z' || state == 'D')
			continue;
		if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD)) {
			rc = silt_error_os(err, errno, "cannot attach to thread %d of process %d", tid, in->pid);
			continue;
		}
		in->tid = tid;
		in->attached = true;
		rc = 0;
	}
	closedir(dir);
	return rc;
}

/* Most such waits are short: for a page, for the lock on the address space. */
static int seize_one(struct silt_inject *in, struct silt_error *err)
{
	uint64_t start = now_ns();
	int rc;

	while ((rc = look_for_one(in, err)) == SILT_E_LIMIT && now_ns() - start < STOP_NS)
		nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
	return rc;
}

static int begin_with_one(struct silt_inject *in, struct silt_error *err)
{
	int status, rc = seize_one(in, err);

	if (rc)
		return rc;
	in->since_ns = now_ns();
	if (ptrace(PTRACE_INTERRUPT, in->tid, 0, 0))
		rc = silt_error_os(err, errno, "cannot stop thread %d", in->tid);
	if (!rc)
		rc = wait_stop(in, STOP_NS, &status, err);
	if (!rc)
		rc = settle(in, status, err);
	if (!rc)
		rc = get_regs(in, &in->regs, err);
	if (rc)
		silt_inject_end(in);
	return rc;
}

/* Where threads come and go, the one taken may end before it has stopped. */
int silt_inject_begin(struct silt_inject *in, pid_t pid, int mem, struct silt_error *err)
{
	int rc = SILT_E_NOT_FOUND;

	for (unsigned n = 0; n < THREADS_TRIED && rc == SILT_E_NOT_FOUND; n++) {
		memset(in, 0, sizeof(*in));
		in->pid = pid;
		in->mem = mem;
		rc = begin_with_one(in, err);
	}
	return rc;
}

int silt_inject_adopt(struct silt_inject *in, const struct silt_stop *stop, int mem, uint32_t *ret_index, struct silt_error *err)
{
	memset(in, 0, sizeof(*in));
	in->pid = stop->pid;
	in->mem = mem;
	*ret_index = 0;
	for (uint32_t i = 0; !in->attached && i < stop->count; i++) {
		const struct silt_stopped_thread *t = &stop->threads[i];

		in->tid = t->tid;
		*ret_index = i;
		in->attached = t->state == SILT_HELD_STOPPED && !t->signal && !get_regs(in, &in->regs, NULL) &&
			       !ptrace(PTRACE_SETOPTIONS, t->tid, 0, PTRACE_O_TRACESYSGOOD);
	}
	in->adopted = true;
	if (in->attached)
		return 0;
	return silt_error_set(err, SILT_E_LIMIT, "no thread of process %d can be directed now; try again later", in->pid);
}

int silt_inject_arm(struct silt_inject *in, silt_addr stub, struct silt_error *err)
{
	in->stub = stub;
	if (pread(in->mem, in->saved, sizeof(in->saved), (off_t)stub) != sizeof(in->saved))
		return silt_error_os(err, errno, "cannot read the memory of process %d", in->pid);
	return write_stub(in, err);
}

static int resume(struct silt_inject *in, struct silt_error *err)
{
	return ptrace(PTRACE_SYSCALL, in->tid, 0, 0) ? silt_error_os(err, errno, "cannot direct thread %d", in->tid) : 0;
}

/* Sends the thread to rip and waits for its first system call to begin. Signals before that are let through. Under a storm of them
 * they are blocked meanwhile, which is a last resort: killed in just these microseconds, we would leave them blocked. */
static int start_at(struct silt_inject *in, uint64_t rip, long number, const uint64_t args[6], struct silt_error *err)
{
	const uint64_t none = UINT64_MAX;
	uint64_t mask = 0;

	for (int n = 0; n < SIGNALS_MAX; n++) {
		struct user_regs_struct r = in->regs;
		int status, rc;

		if (n >= SIGNALS_MANY && ptrace(PTRACE_GETSIGMASK, in->tid, sizeof(mask), &mask))
			return silt_error_os(err, errno, "cannot read the signal mask of thread %d", in->tid);

		r.rip = rip;
		r.orig_rax = UINT64_MAX;
		r.rax = (uint64_t)number;
		if (args) {
			r.rdi = args[0];
			r.rsi = args[1];
			r.rdx = args[2];
			r.r10 = args[3];
			r.r8 = args[4];
			r.r9 = args[5];
		}
		rc = set_regs(in, &r, err);
		if (n < SIGNALS_MANY)
			silt_fault_point();
		else
			ptrace(PTRACE_SETSIGMASK, in->tid, sizeof(none), &none);
		if (!rc)
			rc = resume(in, err);
		if (!rc)
			rc = wait_stop(in, CALL_NS, &status, err);
		if (n >= SIGNALS_MANY) /* before the call is made: it may be one that looks at the mask */
			ptrace(PTRACE_SETSIGMASK, in->tid, sizeof(mask), &mask);
		if (rc)
			return rc;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			return 0;
		if (is_event_stop(status)) /* a group stop, or an interrupt left over */
			continue;
		rc = let_signal_through(in, status, err);
		if (rc)
			return rc;
	}
	return silt_error_set(err, SILT_E_LIMIT, "process %d gets signals faster than it can be attached to", in->pid);
}

/* On to the next stop that is no interrupt. */
static int next_stop(struct silt_inject *in, int *ret_status, struct silt_error *err)
{
	int rc;

	do {
		rc = resume(in, err);
		if (!rc)
			rc = wait_stop(in, CALL_NS, ret_status, err);
	} while (!rc && is_event_stop(*ret_status));
	return rc;
}

int silt_inject_call(struct silt_inject *in, long number, const uint64_t args[6], int64_t *ret_value,
		     struct silt_error *err)
{
	struct user_regs_struct r;
	int status, rc = start_at(in, in->stub, number, args, err);

	silt_fault_point();
	if (!rc)
		rc = next_stop(in, &status, err); /* no signal comes between the two stops of a call */
	silt_fault_point();
	if (!rc)
		rc = get_regs(in, &r, err);
	if (!rc)
		*ret_value = (int64_t)r.rax;
	return rc;
}

/* Stops at each end of each system call the agent makes. The last is the stub's getpid. Signals are blocked from the first to the
 * last but one, where all is done but a few registers: one that comes then finds the thread back home. */
int silt_inject_enter(struct silt_inject *in, silt_addr entry, struct silt_error *err)
{
	struct user_regs_struct r = { 0 };
	int status = 0, rc = start_at(in, entry, SYS_getpid, NULL, err);

	for (int stops = 0; !rc && !signal_of(status); stops++) {
		rc = get_regs(in, &r, err);
		if (rc || (r.rip == in->stub + 2 && r.orig_rax == SYS_getpid))
			break;
		if (stops > STOPS_MAX)
			rc = silt_error_set(err, SILT_E_INTERNAL, "the agent does not come to an end in process %d", in->pid);
		if (stops < 80)
			silt_fault_point();
		if (!rc)
			rc = next_stop(in, &status, err);
	}
	if (!rc && signal_of(status))
		rc = let_signal_through(in, status, err);
	else if (!rc)
		rc = next_stop(in, &status, err);
	silt_fault_point();
	return rc;
}

/* Back to where it stood, at a stop from which the kernel restarts interrupted calls. */
static int go_home(struct silt_inject *in)
{
	int status, rc;

	if (!in->written)
		return 0;
	if (ptrace(PTRACE_INTERRUPT, in->tid, 0, 0) || ptrace(PTRACE_CONT, in->tid, 0, 0))
		return SILT_E_OS;
	rc = wait_stop(in, STOP_NS, &status, NULL);
	if (!rc)
		rc = set_regs(in, &in->regs, NULL);
	return rc || is_event_stop(status) ? rc : settle(in, status, NULL);
}

void silt_inject_end(struct silt_inject *in)
{
	bool home;

	if (!in->attached)
		return;
	home = !go_home(in);
	silt_fault_point();
	if (in->written && home && pwrite(in->mem, in->saved, sizeof(in->saved), (off_t)in->stub) == sizeof(in->saved))
		in->written = false;
	silt_fault_point();
	if (in->adopted) {
		ptrace(PTRACE_SETOPTIONS, in->tid, 0, 0);
		in->attached = false;
		return;
	}
	/* Where it is not home, the stub stays: the thread goes home by itself, and the next attach or detach cleans up. */
	ptrace(PTRACE_DETACH, in->tid, 0, 0);
	in->stop_ns = now_ns() - in->since_ns;
	in->attached = false;
}
