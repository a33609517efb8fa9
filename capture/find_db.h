/* SPDX-License-Identifier: MIT */
/** Where a process's trace database is. Internal to capture/. */
#ifndef SILT_CAPTURE_FIND_DB_H
#define SILT_CAPTURE_FIND_DB_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"

struct silt_target_db {
	uint32_t slot;        /* SILT_NONE: not tracked */
	silt_addr run;        /* the run page in the process, 0: not mapped */
	silt_addr start, end; /* the slot's window in the process */
	silt_addr vma_start, vma_end; /* the mapping that holds it */
	uint64_t inode;
};

/** Looks at the process's memory map. NOT_FOUND when it is not tracked: the message says what to do. */
int silt_target_db_find(pid_t pid, struct silt_target_db *ret, struct silt_error *err);
/** Opens the memfd behind it, read and write. Negative code when nobody can hand it out. */
int silt_target_db_open(pid_t pid, const struct silt_target_db *db, int *ret_fd, struct silt_error *err);

#endif
