/* SPDX-License-Identifier: MIT */
/** Following a stopped thread's frames from outside, by the call frame information of the files it runs. */
#ifndef SILT_CAPTURE_ATTACH_UNWIND_H
#define SILT_CAPTURE_ATTACH_UNWIND_H

#include <stdbool.h>
#include <sys/user.h>

#include "capture/attach/survey.h"

struct silt_unwind_module {
	uint8_t *bytes; /* laid out as in memory; NULL: not tried yet, or cannot be */
	uint64_t size;
	silt_addr first; /* where bytes[0] is in the target */
	bool tried;
};

struct silt_unwind {
	const struct silt_survey *survey;
	struct silt_unwind_module *modules; /* by number of the survey's */
};

int silt_unwind_open(struct silt_unwind *u, const struct silt_survey *s, struct silt_error *err);
void silt_unwind_close(struct silt_unwind *u);

/** A frame's pc and stack pointer, innermost first; false ends the walk. */
typedef bool (*silt_unwind_visit)(void *data, silt_addr pc, silt_addr sp);
/** regs: of the thread; with_all: not only rsp and rip are known. Returns true when the outermost frame was reached or visit
 *  ended it, false where no rule led on. */
bool silt_unwind_walk(struct silt_unwind *u, const struct user_regs_struct *regs, bool with_all, silt_unwind_visit visit, void *data);

#endif
