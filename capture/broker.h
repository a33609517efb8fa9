/* SPDX-License-Identifier: MIT */
/**
 * Asking the launcher for a capture.
 *
 * With Yama's ptrace_scope 1 only an ancestor may stop a process: `silt capture` is none, `silt run` is. So the launcher
 * listens on an abstract unix socket (its name is in the run page) for requests of its own user or root, and answers with
 * the descriptor of a finished dump.
 */
#ifndef SILT_CAPTURE_BROKER_H
#define SILT_CAPTURE_BROKER_H

#include <sys/types.h>

#include "base/error.h"

/** The launcher's side: a listening socket that never blocks. */
int silt_broker_listen(const char *name, int *ret_fd, struct silt_error *err);
/** Takes one request. NOT_FOUND when there is none, or none that may be answered. */
int silt_broker_accept(int listen_fd, int *ret_conn, pid_t *ret_pid, struct silt_error *err);
/** Sends a dump (fd) or, with fd -1, the failure. Closes neither. */
int silt_broker_answer(int conn, int fd, const struct silt_error *failure);
/** The other side: a descriptor of a finished dump of pid. Waits at most a minute. */
int silt_broker_request(const char *name, pid_t pid, int *ret_fd, struct silt_error *err);

#endif
