/* SPDX-License-Identifier: MIT */
/** Keeping the database of a process that was attached to. */
#ifndef SILT_CLI_ATTACH_H
#define SILT_CLI_ATTACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "capture/capture.h"

struct silt_hold {
	pid_t pid;
	struct silt_run *run;
	const char *output;   /* its last state goes here, its children's beside it; NULL: nowhere */
	uint64_t duration_ns; /* 0: as long as the process lives */
	uint64_t until_bytes; /* detach when so many were allocated; 0: never */
	bool quiet;
};

/** Waits in the foreground until the time is over, the bytes are allocated, we are asked to end, or nobody is tracked any more;
 *  detaches from the process and its children, writes the output. Returns an exit status. Once in a program. */
int silt_hold_here(struct silt_hold *h);
/** Leaves a process behind that keeps the database until the tracked process and its children have ended or been detached from. */
int silt_hold_behind(struct silt_hold *h, struct silt_error *err);

#endif
