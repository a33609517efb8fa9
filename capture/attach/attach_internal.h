/* SPDX-License-Identifier: MIT */
/** What the steps of attaching share. Internal to capture/attach/. */
#ifndef SILT_CAPTURE_ATTACH_ATTACH_INTERNAL_H
#define SILT_CAPTURE_ATTACH_ATTACH_INTERNAL_H

#include "capture/attach/attach.h"
#include "capture/attach/head.h"
#include "capture/attach/image.h"
#include "capture/attach/inject.h"
#include "capture/attach/survey.h"
#include "capture/target/stop.h"

#define SILT_CODE_MAX 4096u /* bytes of a function that are looked at */
#define SILT_ISLAND_SLOT 160u /* bytes of executable memory per function */

/* A function that will be hooked. */
struct silt_plan {
	uint32_t hook;	 /* its number in the agent's table */
	uint32_t island; /* where its trampoline goes: 0 beside the agent */
	silt_addr addr;
	uint64_t size; /* 0: unknown */
	uint32_t have;
	uint8_t *code;
	bool needed; /* without it nothing makes sense */
};

struct silt_attach {
	struct silt_survey survey;
	struct silt_survey_symbol malloc;
	const char *variant;
	struct silt_image image;
	struct silt_survey_symbol *found; /* by number of the hook */
	struct silt_plan plans[SILT_HEAD_SITES];
	uint32_t plan_count;
	uint64_t island_size[SILT_HEAD_ISLANDS];
	silt_addr island_near[SILT_HEAD_ISLANDS];
	uint32_t island_count;
	struct silt_inject inject;
	silt_addr stub;
	uint64_t first_stop_ns; /* of the thread that mapped the agent */
	struct silt_head head;
	int db_fd; /* in the target; -1: closed */
	char note[400];
};

/** Chooses what to hook (plan.c). */
int silt_plan_make(struct silt_attach *a, struct silt_error *err);
/** Writes trampolines and bridges into `islands` (their bytes, one after another) and fills the head's sites; the image is
 *  relocated, the islands' addresses stand in the head. A function that cannot be moved is left out, unless it is needed. */
int silt_plan_build(struct silt_attach *a, uint8_t *const islands[SILT_HEAD_ISLANDS], struct silt_error *err);

/** Where threads stand in, and return to (threads.c). */
enum silt_move {
	SILT_MOVE_IN,  /* from bytes that will be overwritten to the trampolines */
	SILT_MOVE_OUT, /* and back */
};
/** Moves stopped threads, and the frames of signals they handle, out of the way. */
int silt_threads_move(const struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head,
		      enum silt_move how, struct silt_error *err);

struct silt_thread_place {
	uint64_t sp, pc;
	struct user_regs_struct regs; /* rsp and rip always */
	bool settable;		      /* all of them, and they can be set */
};
bool silt_threads_place(const struct silt_stop *stop, const struct silt_stopped_thread *t, struct silt_thread_place *ret);
#define SILT_STACK_LOOK (1u << 20) /* bytes above a stack pointer that are looked at, at most */
/** The stack from sp on, as far as it is mapped, into room for SILT_STACK_LOOK bytes. Returns how many words there are. */
size_t silt_threads_stack(const struct silt_survey *s, uint64_t sp, uint64_t *words);
/** Do these words look like the rip of a signal handler's frame and what stands behind it? */
bool silt_threads_is_frame(const uint64_t words[3]);
/** (inside.c) A stopped thread that is inside the agent, a stub or returns there, or 0. head: NULL: only the stub (0: none) matters. */
pid_t silt_threads_inside(const struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head, silt_addr stub);

#endif
