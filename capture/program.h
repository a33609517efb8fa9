/* SPDX-License-Identifier: MIT */
/** The program that is about to be started: where it is, whether it can be tracked, and with which agent object. */
#ifndef SILT_CAPTURE_PROGRAM_H
#define SILT_CAPTURE_PROGRAM_H

#include <stddef.h>

#include "base/error.h"

/** Looks name up as execvp does. Failure: SILT_E_NOT_FOUND with errnum ENOENT or EACCES. */
int silt_program_find(const char *name, char *ret_path, size_t size, struct silt_error *err);
enum silt_program_way {
	SILT_PROGRAM_LOADED, /* the agent is loaded into it at its start */
	SILT_PROGRAM_PRIVATE, /* so it is, but what the program allocates by an allocator linked in under other names is not seen */
	SILT_PROGRAM_HOOKED, /* that would not do, for it has its allocator linked in: its functions are hooked when it is there */
};
/**
 * Checks that a program (for a script: its interpreter) can be tracked, and how: 64-bit, of this machine, dynamically linked.
 * UNSUPPORTED with what to do where it cannot. Files that are no ELF and no script are left to execve.
 * ret_variant gets the allocator it brings along ("jemalloc", "tcmalloc", "mimalloc") or "", found by name among what
 * preload (may be NULL) and its needed libraries, searched as ld.so does, hold.
 */
int silt_program_check(const char *path, const char *preload, char *ret_variant, size_t size, enum silt_program_way *ret_way,
		       struct silt_error *err);
/** The agent object for a variant: beside the executable, then in ../lib/silt. The plain one where there is no special one. */
int silt_agent_find(const char *variant, char *ret_path, size_t size, struct silt_error *err);

#endif
