/* SPDX-License-Identifier: MIT */
/** What the steps of attaching share. Internal to capture/attach/. */
#ifndef SILT_CAPTURE_ATTACH_ATTACH_INTERNAL_H
#define SILT_CAPTURE_ATTACH_ATTACH_INTERNAL_H

#include <pthread.h>

#include "base/vec.h"
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

/** Into the target's memory, with its protections disregarded. */
int silt_attach_write(struct silt_attach *a, silt_addr addr, const void *data, uint64_t size, struct silt_error *err);
/** The target's own descriptor, by the thread that is held. */
int silt_attach_close_in_target(struct silt_attach *a, int64_t fd, struct silt_error *err);
/** One operation of the agent's (enum silt_agent_operation), with what silt_image_attach(&a->image) tells it; ret: what it says then. */
int silt_attach_run_agent(struct silt_attach *a, uint32_t operation, struct silt_agent_attach *ret, struct silt_error *err);

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
/** What a stopped thread, and the frames of signals it handles, must be moved by. */
struct silt_move_item {
	uint32_t thread; /* its number in the stop */
	silt_addr at;	 /* the word on its stack; 0: its program counter */
	silt_addr to;
};
struct silt_moves {
	SILT_VEC(struct silt_move_item) items;
};
struct silt_stacks;
/** Finds that for one thread; only reads, and may be done by any one thread of ours. In the stacks as read it is done already. False: out
 *  of memory. */
bool silt_threads_find(struct silt_stacks *stacks, uint32_t thread, const struct silt_head *h, enum silt_move how, struct silt_moves *ret);
/** Moves, and empties the list. */
int silt_threads_apply(struct silt_stop *stop, const struct silt_survey *s, struct silt_moves *m, struct silt_error *err);

struct silt_thread_place {
	uint64_t sp, pc;
	struct user_regs_struct regs; /* rsp and rip always */
	bool settable;		      /* all of them, and they can be set */
};
bool silt_threads_place(const struct silt_stop *stop, const struct silt_stopped_thread *t, struct silt_thread_place *ret);
#define SILT_STACK_LOOK (1u << 20) /* bytes above a stack pointer that are looked at, at most */
/** Reads the stacks of stopped threads, those of many at a time. */
#define SILT_STACKS_BATCH 64u
#define SILT_STACKS_BYTES (SILT_STACKS_BATCH * 16384u)
struct silt_stacks {
	const struct silt_stop *stop;
	const struct silt_survey *survey;
	uint64_t *words, *batch;
	uint32_t first, end; /* threads whose stacks the batch may hold … */
	size_t have[SILT_STACKS_BATCH]; /* … and bytes of each, 0: it does not */
};
bool silt_stacks_open(struct silt_stacks *r, const struct silt_stop *stop, const struct silt_survey *s);
void silt_stacks_close(struct silt_stacks *r);
/** The stack of thread number `thread`, which stands at sp, from there on, as far as it is mapped. Returns how many words there are;
 *  ret is good until the next call. To be called with ascending numbers, for speed. */
size_t silt_stacks_read(struct silt_stacks *r, uint32_t thread, uint64_t sp, uint64_t **ret);
/** Do these words look like the rip of a signal handler's frame and what stands behind it? */
bool silt_threads_is_frame(const uint64_t words[3]);
/** Finding what moves in, for all threads, while one of them (number `except`) is directed: by a thread of ours, for it takes milliseconds
 *  with a thousand. */
struct silt_finder {
	const struct silt_stop *stop;
	const struct silt_survey *survey;
	const struct silt_head *head;
	uint32_t except;
	pthread_t thread;
	bool running, fine;
	struct silt_moves moves;
};
void silt_finder_begin(struct silt_finder *f, const struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head,
		       uint32_t except);
/** Once the one thread stands still again. moves is complete then; false: out of memory. */
bool silt_finder_end(struct silt_finder *f);
void silt_finder_free(struct silt_finder *f);

/** (inside.c) Moves all threads out of the trampolines, then looks whether one is inside the agent, a stub (0: there is none) or returns
 *  there: ret_inside, or 0. head: NULL: only the stub matters. */
int silt_threads_leave(struct silt_stop *stop, const struct silt_survey *s, const struct silt_head *head, silt_addr stub,
		       pid_t *ret_inside, struct silt_error *err);

#endif
