/* SPDX-License-Identifier: MIT */
/**
 * Letting one thread of a process make system calls for us, so that the thread finds its way back even when we are killed
 * in the middle.
 *
 * A stub is written into the unused bytes behind a module's code (the rest of its last executable page): a system call
 * instruction, and behind it instructions that give every register the call may change its value back and jump to where
 * the thread stood. An interrupted system call of the thread's own is begun again there, as the kernel would do it. So at
 * any moment at which the thread stands in the stub it may be let go. Nothing is written to its stack, and its extended
 * registers are not touched.
 *
 * All calls come from one thread, the one that called begin (ptrace's rule).
 */
#ifndef SILT_CAPTURE_ATTACH_INJECT_H
#define SILT_CAPTURE_ATTACH_INJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/error.h"
#include "base/types.h"
#include "capture/target/stop.h"

#define SILT_STUB_SIZE 160u
/* The last eight bytes of a stub: by them one that was left behind is known. */
#define SILT_STUB_MAGIC 0x627574532b746c69ull

struct silt_inject {
	pid_t pid, tid;
	int mem; /* /proc/PID/mem, read and write; borrowed */
	silt_addr stub;
	uint8_t saved[SILT_STUB_SIZE]; /* what stood where the stub is */
	bool written, attached;
	bool adopted; /* it stays stopped at the end */
	bool faulted; /* the agent did, in enter: it must not be run again, and cannot be relied on */
	struct user_regs_struct regs; /* the thread's own: what it goes on with */
	uint64_t since_ns; /* when it was asked to stop */
	uint64_t stop_ns;  /* how long it stood, known after end */
};

/** Where the name of the target's memfds stand in the stub, for memfd_create. */
silt_addr silt_inject_agent_name(const struct silt_inject *in);
silt_addr silt_inject_db_name(const struct silt_inject *in);

/** Seizes one thread of pid that can be stopped, and stops it. */
int silt_inject_begin(struct silt_inject *in, pid_t pid, int mem, struct silt_error *err);
/** Takes over a thread that is stopped already, and gives it back stopped: end does not let it go.
 *  ret_index: its number in stop. */
int silt_inject_adopt(struct silt_inject *in, const struct silt_stop *stop, int mem, uint32_t *ret_index, struct silt_error *err);
/** Writes the stub; stub must be SILT_STUB_SIZE unused executable bytes. */
int silt_inject_arm(struct silt_inject *in, silt_addr stub, struct silt_error *err);
/** One system call. *ret_value is what the kernel returned: -4095..-1 are errors. */
int silt_inject_call(struct silt_inject *in, long number, const uint64_t args[6], int64_t *ret_value,
		     struct silt_error *err);
/** Lets the thread run the agent's code at entry, which ends by way of the stub with getpid: see agent/attach_enter.S. INTERNAL, and
 *  faulted is set: the agent met a fault (memory that cannot be read although the memory map says so); the thread is as it was. */
int silt_inject_enter(struct silt_inject *in, silt_addr entry, struct silt_error *err);
/** Fills a stub for a thread with these registers (stub.c). */
void silt_stub_build(const struct user_regs_struct *r, uint8_t stub[SILT_STUB_SIZE]);
/** Puts the thread's registers and the stub's bytes back, and lets go. Safe after any failure. */
void silt_inject_end(struct silt_inject *in);

#endif
