/* SPDX-License-Identifier: MIT */
/**
 * What the attacher writes down inside the target: the first pages of the mapping named SILT_AGENT_IMAGE_NAME. Whoever attaches
 * or detaches later finds here what to put back, also when the first attacher was killed in the middle. A forked child has
 * its own copy, as it has of everything else that was changed.
 */
#ifndef SILT_CAPTURE_ATTACH_HEAD_H
#define SILT_CAPTURE_ATTACH_HEAD_H

#include <stdint.h>

#include "capture/attach/relocate.h"

#define SILT_HEAD_MAGIC 0x6461654874416953ull
#define SILT_HEAD_VERSION 2u
#define SILT_HEAD_SIZE 32768u
#define SILT_HEAD_SITES 240u
#define SILT_HEAD_ISLANDS 4u

enum silt_head_state {
	SILT_HEAD_MAPPED = 0,
	SILT_HEAD_HOOKED = 1, /* all functions are patched */
	SILT_HEAD_LEAVING = 2,
};

/* One patched function. It is patched when its bytes say so. */
struct silt_site {
	silt_addr hook;	      /* in the agent */
	silt_addr trampoline; /* moved instructions */
	silt_addr bridge;     /* jump to the hook, where the hook is too far for the function's own; 0: none */
	struct silt_moved moved;
	uint8_t original[SILT_JUMP_SIZE];
	uint8_t patched[SILT_JUMP_SIZE];
};

struct silt_head_island { /* executable memory near the functions: bridges and trampolines */
	silt_addr addr;
	uint64_t size;
};

struct silt_head {
	uint64_t magic;
	uint32_t version;
	uint32_t site_count;
	silt_addr base; /* of the whole mapping; the head stands here */
	uint64_t size;
	silt_addr image; /* the agent object */
	uint64_t image_size;
	silt_addr attach; /* its struct silt_agent_attach */
	silt_addr text;	/* its code */
	uint64_t text_size;
	uint32_t island_count;
	uint32_t state; /* enum silt_head_state */
	struct silt_head_island islands[SILT_HEAD_ISLANDS];
	struct silt_site sites[SILT_HEAD_SITES];
};
_Static_assert(sizeof(struct silt_head) <= SILT_HEAD_SIZE, "the head does not fit its pages");

#endif
