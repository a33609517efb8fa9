/* SPDX-License-Identifier: MIT */
/**
 * Stopping every thread of a process with ptrace, and letting them go again.
 *
 * PTRACE_SEIZE and PTRACE_INTERRUPT, never SIGSTOP: nothing is visible to the process or its parent, and a process that
 * was stopped (Ctrl-Z) stays stopped. All calls must come from one and the same thread. When that thread ends, however it
 * ends, the kernel lets go of every thread still held: run the whole of it in a thread of its own.
 */
#ifndef SILT_CAPTURE_TARGET_STOP_H
#define SILT_CAPTURE_TARGET_STOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/error.h"
#include "base/types.h"

struct silt_stopped_thread {
	pid_t tid;
	int signal; /* to be delivered on resuming: it arrived just before our stop */
	enum { SILT_HELD_SEIZED, SILT_HELD_STOPPED, SILT_HELD_ASLEEP, SILT_HELD_GONE } state;
	uint64_t since_ns; /* CLOCK_MONOTONIC when it was asked to stop */
	bool has_regs;	   /* STOPPED, and it runs 64-bit code */
	struct user_regs_struct regs;
};

struct silt_stop {
	pid_t pid;
	bool own_child; /* its exit status belongs to another part of this program: never reap it here */
	struct silt_stopped_thread *threads;
	uint32_t count, capacity;
	uint64_t pause_ns; /* longest stop of a thread, known after release */
};

/** Takes hold of the threads without stopping them. SILT_E_OS with errnum EPERM when the kernel refuses. */
int silt_stop_seize(struct silt_stop *s, pid_t pid, struct silt_error *err);
/** Stops them all, new ones included. Bounded in time; on failure everything is released. */
int silt_stop_all(struct silt_stop *s, struct silt_error *err);
/** To be called when a held thread was let run, or directed, and stands again: reads its registers anew. A system call that ended for
 *  no other reason than our stop will begin again, as after any stop. */
void silt_stop_read_registers(struct silt_stopped_thread *t);
/** Where a thread stands that sleeps too deeply to be stopped, by /proc: call is the number of its system call, ~0: none (it waits for a
 *  page). False: it is not known. */
bool silt_stop_asleep_place(pid_t pid, pid_t tid, uint64_t *ret_call, silt_addr *ret_sp, silt_addr *ret_pc);
/** Resumes all as they were (stopped ones stay stopped) and fills pause_ns. Frees the list. */
void silt_stop_release(struct silt_stop *s);

#endif
