/* SPDX-License-Identifier: MIT */
/** Attaching to a running process as a whole: the steps of attach/attach.h in their order, with a trace database. */
#ifndef SILT_CAPTURE_ATTACH_PROCESS_H
#define SILT_CAPTURE_ATTACH_PROCESS_H

#include "capture/attach/attach.h"
#include "capture/capture.h"

/** Tracks pid from here on. *ret holds the database: the caller keeps it, for it must outlive the process and needs a
 *  heartbeat. What a killed attacher left is cleared first. Must not be called by a thread that traces others. */
int silt_attach_process(pid_t pid, const struct silt_db_options *options, struct silt_run **ret,
			struct silt_attach_report *report, struct silt_error *err);
/** Leaves pid as it was, and tells whoever holds the database. As silt_detach. */
int silt_detach_process(pid_t pid, uint64_t *ret_stop_ns, struct silt_error *err);

#endif
