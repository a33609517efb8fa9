/* SPDX-License-Identifier: MIT */
/** What /proc tells about a process and its threads, read without stopping it. */
#ifndef SILT_CAPTURE_TARGET_PROCESS_H
#define SILT_CAPTURE_TARGET_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct silt_target_thread {
	uint32_t tid;    /* as we see it */
	uint32_t ns_tid; /* as the process itself sees it */
	char name[20];
};

/** The fields of /proc/PID/status that decide what can be done with a process. */
struct silt_target_status {
	char name[64];
	char state; /* R S D T t Z X */
	uint32_t pid, parent_pid, tracer_pid;
	uint32_t ns_pid; /* its own idea of its pid */
	uint32_t uid;    /* effective */
	uint32_t threads;
	uint32_t seccomp; /* 0 none, 1 strict, 2 filter */
	uint64_t rss_kb;
};

/** NOT_FOUND with a message for people when there is no such process. */
int silt_target_status(pid_t pid, struct silt_target_status *ret, struct silt_error *err);
/** The executable's path ("" when unreadable). */
void silt_target_exe(pid_t pid, char *buf, size_t size);
/** Arguments joined by single spaces. The caller frees; NULL when unreadable. */
char *silt_target_argv(pid_t pid);
/** CLOCK_REALTIME in ns of the process's start, 0 unknown. */
int64_t silt_target_start_ns(pid_t pid);
/** Threads with names, in the order of /proc. The caller frees *ret. */
int silt_target_threads(pid_t pid, bool names, struct silt_target_thread **ret, uint32_t *ret_count,
			struct silt_error *err);

#endif
