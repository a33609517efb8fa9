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

#include "base/clock.h"
#include "capture/agent/attach.h"
#include "capture/agent/trace_db.h"
#include "capture/attach/fault.h"
#include "capture/target/interrupted.h"

#define STOP_NS 2000000000ull /* for a thread to stop */
#define CALL_NS 5000000000ull /* for a system call to return: it may wait for the lock on the address space */
#define SIGNALS_MAX 200	/* signals that arrive in between: each is let through, and the call tried anew */
#define THREADS_TRIED 50u
#define SIGNALS_MANY 20 /* from then on they are held back for the moment it takes to begin */

#define STOPS_MAX 1000000	/* of the agent in one operation: it maps memory as it needs it */

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

static int write_stub(struct silt_inject *in, struct silt_error *err)
{
	uint8_t stub[SILT_STUB_SIZE];

	silt_stub_build(&in->regs, stub);
	if (pwrite(in->mem, stub, sizeof(stub), (off_t)in->stub) != sizeof(stub))
		return silt_error_os(err, errno, "cannot write to the memory of process %d", in->pid);
	in->written = true;
	silt_fault_point();
	return 0;
}

/* Waits for the next stop, looking often first. What is waited for takes microseconds. */
static int wait_stop(struct silt_inject *in, uint64_t limit_ns, int *ret_status, struct silt_error *err)
{
	uint64_t start = silt_now_ns();
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
		if (silt_now_ns() - start > limit_ns)
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

/* ---- the agent's own faults ---- */

/* What a thread has that the agent changes while it runs, and gives back at its end. */
struct kept {
	uint64_t mask;
	struct iovec extended; /* iov_len 0: unknown */
	uint8_t bytes[SILT_AGENT_XSTATE];
	uint32_t held; /* signals that are to be sent again */
};

static int keep(const struct silt_inject *in, struct kept *k, struct silt_error *err)
{
	k->held = 0;
	k->extended = (struct iovec){ k->bytes, sizeof(k->bytes) };
	if (ptrace(PTRACE_GETREGSET, in->tid, NT_X86_XSTATE, &k->extended))
		k->extended.iov_len = 0;
	if (ptrace(PTRACE_GETSIGMASK, in->tid, sizeof(k->mask), &k->mask))
		return silt_error_os(err, errno, "cannot read the signal mask of thread %d", in->tid);
	return 0;
}

/* Signals that an instruction causes. The agent leaves them unblocked: the kernel would take the program's handler away. */
static bool is_fault_signal(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGTRAP;
}

/* The agent runs on behalf of us alone: what it does wrong, or what memory does to it that only looks as if it could be read, must not
 * end the program. The thread goes home as if nothing had been. */
static int survive(struct silt_inject *in, struct kept *k, const siginfo_t *si, const struct user_regs_struct *at,
		   struct silt_error *err)
{
	int rc = set_regs(in, &in->regs, err);

	in->faulted = true;
	if (!rc && k->extended.iov_len)
		ptrace(PTRACE_SETREGSET, in->tid, NT_X86_XSTATE, &k->extended);
	ptrace(PTRACE_SETSIGMASK, in->tid, sizeof(k->mask), &k->mask);
	if (!rc)
		rc = settle(in, 0, err); /* the signal is not delivered */
	if (!rc)
		rc = get_regs(in, &in->regs, err);
	if (rc)
		return rc;
	return silt_error_set(err, SILT_E_INTERNAL,
			      "the agent got signal %d at 0x%llx in process %d, from address %p; the process goes on without it",
			      si->si_signo, (unsigned long long)at->rip, in->pid, si->si_addr);
}

/* The thread has stopped with a signal while it ran the agent: that of a fault, or one that somebody sent. */
static int meet_signal(struct silt_inject *in, struct kept *k, int sig, const struct user_regs_struct *at, int status,
		       struct silt_error *err)
{
	siginfo_t si = { 0 };

	if (!is_fault_signal(sig))
		return let_signal_through(in, status, err); /* the agent has unblocked them: it is done */
	if (ptrace(PTRACE_GETSIGINFO, in->tid, 0, &si) || si.si_code > 0)
		return survive(in, k, &si, at, err);
	k->held |= 1u << sig;
	return 0;
}

static void send_held(const struct silt_inject *in, const struct kept *k)
{
	for (int sig = 1; sig < 32; sig++)
		if (k->held >> sig & 1)
			syscall(SYS_tgkill, in->pid, in->tid, sig);
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
	uint64_t start = silt_now_ns();
	int rc;

	while ((rc = look_for_one(in, err)) == SILT_E_LIMIT && silt_now_ns() - start < STOP_NS)
		nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
	return rc;
}

static int begin_with_one(struct silt_inject *in, struct silt_error *err)
{
	int status, rc = seize_one(in, err);

	if (rc)
		return rc;
	in->since_ns = silt_now_ns();
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

/* Stops at each end of each system call the agent makes. The last is the stub's getpid. Signals, but those of faults, are blocked from the
 * first to the last but one, where all is done but a few registers: one that comes then finds the thread back home. */
int silt_inject_enter(struct silt_inject *in, silt_addr entry, struct silt_error *err)
{
	struct user_regs_struct r = { 0 };
	struct kept kept;
	int status = 0, rc = keep(in, &kept, err), sig = 0;

	if (!rc)
		rc = start_at(in, entry, SYS_getpid, NULL, err);
	for (int stops = 0; !rc; stops++) {
		rc = get_regs(in, &r, err);
		if (rc || (!sig && r.rip == in->stub + 2 && r.orig_rax == SYS_getpid))
			break;
		if (sig && ((rc = meet_signal(in, &kept, sig, &r, status, err)) || !is_fault_signal(sig)))
			break;
		if (stops > STOPS_MAX)
			rc = silt_error_set(err, SILT_E_INTERNAL, "the agent does not come to an end in process %d", in->pid);
		if (stops < 80)
			silt_fault_point();
		if (!rc)
			rc = next_stop(in, &status, err);
		sig = rc ? 0 : signal_of(status);
	}
	if (!rc && !sig)
		rc = next_stop(in, &status, err);
	send_held(in, &kept);
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
	in->stop_ns = silt_now_ns() - in->since_ns;
	in->attached = false;
}
