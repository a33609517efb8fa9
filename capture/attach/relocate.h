/* SPDX-License-Identifier: MIT */
/** Moving a function's first instructions elsewhere, so that a jump can stand in their place. */
#ifndef SILT_CAPTURE_ATTACH_RELOCATE_H
#define SILT_CAPTURE_ATTACH_RELOCATE_H

#include <stdint.h>

#include "base/error.h"
#include "base/types.h"

#define SILT_JUMP_SIZE 5u	/* jmp rel32 */
#define SILT_MOVED_MAX 20u	/* bytes of the original: at most four bytes and an instruction of 15, plus endbr64 left alone */
#define SILT_TRAMPOLINE_MAX 96u /* bytes of code they become */

struct silt_moved {
	silt_addr at;	   /* where the jump goes: behind an endbr64 */
	uint32_t size;	   /* bytes of whole instructions from there that are moved, at least SILT_JUMP_SIZE */
	uint32_t out_size; /* bytes written */
	uint32_t count;	   /* instructions */
	uint8_t from[8];   /* where each began, from `at` on */
	uint8_t to[8];	   /* and where it begins now, from the trampoline's start on */
};

/**
 * Decodes code (the bytes at address entry, have bytes, function_size of them the function's own; 0: unknown) and writes into out what does
 * the same when it runs at `to`, ending with a jump to the rest of the function. Relative addresses are kept, so `to` must be
 * within two gigabytes of everything they reach. UNSUPPORTED, with the reason, when that cannot be done: the function is
 * shorter than the jump, or jumps back into the bytes to be replaced.
 */
int silt_relocate(const uint8_t *code, uint32_t have, uint64_t function_size, silt_addr entry, silt_addr to,
		  uint8_t out[SILT_TRAMPOLINE_MAX], struct silt_moved *ret, struct silt_error *err);

#endif
