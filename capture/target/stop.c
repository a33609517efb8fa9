/* SPDX-License-Identifier: MIT */
/* PTRACE_SEIZE, PTRACE_INTERRUPT and PTRACE_DETACH over all threads of a process. */
#include "capture/target/stop.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "capture/target/interrupted.h"
#include "capture/target/process.h"

/* New threads can only come from threads that are not stopped yet, so a handful of passes is the usual case; a storm of
 * threads that start threads needs more. LeakSanitizer stops at 30. */
#define MAX_PASSES 100
/* A running thread stops within microseconds. One that sleeps uninterruptibly cannot run program code before it has
 * stopped, so after a short wait it counts as stopped. A machine under load may need longer for a running one. */
#define ASLEEP_NS 20000000ull
#define GIVE_UP_NS 2000000000ull

static void sleep_ns(long ns)
{
	struct timespec t = { 0, ns };

	nanosleep(&t, NULL);
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

/* /proc lists threads in the same order every time: next is where the last one was found, so that a pass over ten thousand
 * threads is not a hundred million comparisons while they stand still. */
static bool is_held(const struct silt_stop *s, pid_t tid, uint32_t *next)
{
	for (uint32_t n = 0; n < s->count; n++) {
		uint32_t i = (*next + n) % s->count;

		if (s->threads[i].tid == tid) {
			*next = i + 1;
			return true;
		}
	}
	return false;
}

static int add_thread(struct silt_stop *s, pid_t tid, struct silt_error *err)
{
	if (s->count == s->capacity) {
		uint32_t capacity = s->capacity ? s->capacity * 2 : 64;
		struct silt_stopped_thread *more = realloc(s->threads, capacity * sizeof(*more));

		if (!more)
			return silt_error_set(err, SILT_E_NOMEM, "out of memory for the thread list");
		s->threads = more;
		s->capacity = capacity;
	}
	s->threads[s->count++] = (struct silt_stopped_thread){ .tid = tid, .state = SILT_HELD_SEIZED };
	return 0;
}

/* Seizes the threads not yet held. A thread that is exiting cannot be seized, does not matter, and must not be mistaken
 * for a refusal: the kernel answers EPERM for it too. */
static int seize_new(struct silt_stop *s, uint32_t *ret_new, struct silt_error *err)
{
	char path[64];
	struct dirent *de;
	DIR *dir;
	uint32_t next = 0;
	int rc = 0;

	*ret_new = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", s->pid);
	dir = opendir(path);
	if (!dir)
		return silt_error_set(err, SILT_E_NOT_FOUND, "process %d has ended", s->pid);
	while (!rc && (de = readdir(dir))) {
		pid_t tid = (pid_t)strtol(de->d_name, NULL, 10);
		int e;
		char state;

		if (tid <= 0 || is_held(s, tid, &next))
			continue;
		if (!ptrace(PTRACE_SEIZE, tid, 0, 0)) {
			++*ret_new;
			rc = add_thread(s, tid, err);
			continue;
		}
		e = errno;
		state = thread_state(s->pid, tid);
		if (e != ESRCH && state != 'Z' && state != 'X')
			rc = silt_error_os(err, e, "cannot stop thread %d of process %d", tid, s->pid);
	}
	closedir(dir);
	return rc;
}

int silt_stop_seize(struct silt_stop *s, pid_t pid, struct silt_error *err)
{
	struct silt_target_status st;
	uint32_t found;
	int rc;

	memset(s, 0, sizeof(*s));
	s->pid = pid;
	rc = silt_target_status(pid, &st, err);
	if (rc)
		return rc;
	if (st.state == 'Z' || st.state == 'X')
		return silt_error_set(err, SILT_E_NOT_FOUND, "process %d has ended", pid);
	if (st.tracer_pid)
		return silt_error_os(err, EPERM, "process %d is already traced by process %u (a debugger?)", pid,
				     st.tracer_pid);
	s->own_child = st.parent_pid == (uint32_t)getpid();
	for (int pass = 0; pass < 3; pass++) {
		rc = seize_new(s, &found, err);
		if (rc) {
			silt_stop_release(s);
			return rc;
		}
		if (!found)
			break;
	}
	return 0;
}

void silt_stop_read_registers(struct silt_stopped_thread *t)
{
	t->has_regs = silt_interrupted_restart(t->tid, &t->regs);
}

/* "number arguments sp pc", or "-1 sp pc" (Documentation/filesystems/proc.rst; fs/proc/base.c, proc_pid_syscall). */
bool silt_stop_asleep_place(pid_t pid, pid_t tid, uint64_t *ret_call, silt_addr *ret_sp, silt_addr *ret_pc)
{
	char path[80], text[512], *sp = NULL, *pc = NULL, *p;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	for (p = strchr(text, ' '); p; p = strchr(p + 1, ' ')) {
		sp = pc;
		pc = p + 1;
	}
	if (!sp)
		return false;
	*ret_call = (uint64_t)strtoll(text, NULL, 10);
	*ret_sp = strtoull(sp, NULL, 16);
	*ret_pc = strtoull(pc, NULL, 16);
	return *ret_sp != 0;
}

/* Looks whether a thread has stopped or ended. The exit status of a child of ours belongs to our own supervision, and the kernel
 * reports a stop of a traced thread even to who asked for exits alone: so there looking comes first and taking then. */
static void collect(struct silt_stop *s, struct silt_stopped_thread *t)
{
	bool look_first = t->tid == s->pid && s->own_child;
	siginfo_t si = { 0 };

	if (waitid(P_PID, (id_t)t->tid, &si, WSTOPPED | WEXITED | __WALL | WNOHANG | (look_first ? WNOWAIT : 0))) {
		t->state = SILT_HELD_GONE;
		return;
	}
	if (!si.si_pid)
		return;
	if (si.si_code == CLD_STOPPED || si.si_code == CLD_TRAPPED) {
		/* si_status is the stop's code: event << 8 | signal. An event is our own doing or a group stop, which
		 * detaching leaves in place; without one the signal is still to be delivered. */
		t->signal = si.si_status >> 8 ? 0 : si.si_status & 0x7f;
		t->state = SILT_HELD_STOPPED;
		if (look_first)
			waitid(P_PID, (id_t)t->tid, &si, WSTOPPED | __WALL | WNOHANG);
		silt_stop_read_registers(t);
		return;
	}
	t->state = SILT_HELD_GONE;
}

/* Waits for the threads that were asked to stop. */
static int wait_stopped(struct silt_stop *s, struct silt_error *err)
{
	uint64_t start = silt_now_ns();

	for (unsigned round = 0;; round++) {
		struct silt_stopped_thread *waiting = NULL;
		uint64_t waited = silt_now_ns() - start;

		for (uint32_t i = 0; i < s->count; i++) {
			struct silt_stopped_thread *t = &s->threads[i];

			if (t->state != SILT_HELD_SEIZED)
				continue;
			collect(s, t);
			if (t->state == SILT_HELD_SEIZED && waited > ASLEEP_NS) {
				char state = thread_state(s->pid, t->tid);

				if (state == 'D')
					t->state = SILT_HELD_ASLEEP;
				else if (state == 'Z' || state == 'X')
					t->state = SILT_HELD_GONE;
			}
			if (t->state == SILT_HELD_SEIZED)
				waiting = t;
		}
		if (!waiting)
			return 0;
		if (waited > GIVE_UP_NS)
			return silt_error_set(err, SILT_E_LIMIT,
					      "thread %d of process %d did not stop within %llu seconds", waiting->tid,
					      s->pid, GIVE_UP_NS / 1000000000ull);
		if (round > 2)
			sleep_ns(round < 50 ? 20000 : 500000);
	}
}

/* The directory's link count tells how many threads there are: where all are held and stand still, no others can come, and thousands
 * need not be looked up while everybody waits. Anything else is no proof. */
static bool holds_all(const struct silt_stop *s)
{
	char path[64];
	struct stat st;
	uint32_t held = 0;

	for (uint32_t i = 0; i < s->count; i++)
		held += s->threads[i].state == SILT_HELD_STOPPED;
	snprintf(path, sizeof(path), "/proc/%d/task", s->pid);
	return held == s->count && !stat(path, &st) && st.st_nlink == 2 + (nlink_t)held;
}

int silt_stop_all(struct silt_stop *s, struct silt_error *err)
{
	uint32_t interrupted = 0, found = 1;
	int rc = 0;

	for (int pass = 0; found && !rc; pass++) {
		if (pass == MAX_PASSES) {
			rc = silt_error_set(err, SILT_E_LIMIT, "process %d starts threads faster than they can be stopped",
					    s->pid);
			break;
		}
		for (; interrupted < s->count; interrupted++) {
			struct silt_stopped_thread *t = &s->threads[interrupted];

			t->since_ns = silt_now_ns();
			if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) && errno == ESRCH)
				collect(s, t); /* it may have died, and must then be reaped */
		}
		rc = wait_stopped(s, err);
		if (!rc && holds_all(s))
			break;
		if (!rc)
			rc = seize_new(s, &found, err);
	}
	if (rc)
		silt_stop_release(s);
	return rc;
}

/* A thread in no ptrace stop cannot be detached: interrupt it, wait a little. What remains is let go by the kernel when
 * the calling thread ends. */
static void detach(struct silt_stop *s, struct silt_stopped_thread *t, uint64_t start)
{
	while (t->state == SILT_HELD_SEIZED || t->state == SILT_HELD_ASLEEP) {
		if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) && errno != ESRCH)
			break;
		collect(s, t);
		if (silt_now_ns() - start > 2 * ASLEEP_NS)
			break;
		if (t->state != SILT_HELD_STOPPED && t->state != SILT_HELD_GONE)
			sleep_ns(100000);
	}
	if (t->state == SILT_HELD_STOPPED && ptrace(PTRACE_DETACH, t->tid, 0, (long)t->signal) && errno == ESRCH) {
		t->state = SILT_HELD_SEIZED; /* killed while it was held: take its exit */
		collect(s, t);
	}
}

void silt_stop_release(struct silt_stop *s)
{
	uint64_t start = silt_now_ns();

	/* Threads that stand still first; those that need waiting for must not prolong their stop. */
	for (int waiting = 0; waiting < 2; waiting++) {
		for (uint32_t i = 0; i < s->count; i++) {
			struct silt_stopped_thread *t = &s->threads[i];
			bool still = t->state == SILT_HELD_STOPPED;
			uint64_t held;

			if (t->state == SILT_HELD_GONE || still == (waiting == 1))
				continue;
			detach(s, t, start);
			held = t->since_ns ? silt_now_ns() - t->since_ns : 0;
			if (still && held > s->pause_ns)
				s->pause_ns = held;
			t->state = SILT_HELD_GONE;
		}
	}
	free(s->threads);
	s->threads = NULL;
	s->count = s->capacity = 0;
}
