/* SPDX-License-Identifier: MIT */
/* The whole of `silt capture PID`: find the database, stop and copy or have the launcher do it, decode. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "capture/broker.h"
#include "capture/capture.h"
#include "capture/copy_internal.h"
#include "capture/find_db.h"
#include "formats/dump.h"

/* The run page: options and marks. Without it they are unknown, which only costs detail. */
static struct silt_db_run *read_run(pid_t pid, const struct silt_target_db *db, int fd)
{
	struct silt_db_run *run = calloc(1, sizeof(*run));
	struct iovec local = { run, sizeof(*run) }, remote = { (void *)(uintptr_t)db->run, sizeof(*run) };

	if (!run)
		return NULL;
	if (fd >= 0 && silt_pread_full(fd, run, sizeof(*run), 0) == (ssize_t)sizeof(*run) &&
	    run->magic == SILT_DB_RUN_MAGIC)
		return run;
	if (db->run && process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)sizeof(*run) &&
	    run->magic == SILT_DB_RUN_MAGIC)
		return run;
	free(run);
	return NULL;
}

/* The launcher may stop what we may not. It hands over a finished dump. */
static int capture_by_launcher(const struct silt_db_run *run, pid_t pid, struct silt_snapshot **ret,
			       struct silt_stop_report *ret_report, struct silt_error *err)
{
	const struct silt_read_options opts = { .flags = SILT_READ_BLOCKS };
	char name[sizeof(run->socket) + 1], path[64];
	int fd, rc;

	snprintf(name, sizeof(name), "%.*s", (int)sizeof(run->socket), run->socket);
	if (!name[0])
		return silt_error_set(err, SILT_E_NOT_FOUND, "the process has no launcher");
	rc = silt_broker_request(name, pid, &fd, err);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = silt_dump_read(path, &opts, ret, err);
	close(fd);
	if (!rc && ret_report) {
		ret_report->pause_ns = (*ret)->process.pause_ns;
		ret_report->threads = (*ret)->thread_count;
		ret_report->stopped = ret_report->pause_ns != 0;
	}
	return rc;
}

static int capture_db(pid_t pid, const struct silt_target_db *db, struct silt_snapshot **ret,
		      struct silt_stop_report *ret_report, struct silt_error *err)
{
	struct silt_db_run *run;
	struct silt_copy *copy = NULL;
	int fd = -1, rc;

	if (silt_target_db_open(pid, db, &fd, NULL))
		fd = -1;
	run = read_run(pid, db, fd);
	rc = silt_copy_live_mode(fd, db->slot, pid, true, &copy, ret_report, err);
	if (rc == SILT_E_OS || rc == SILT_E_LIMIT) {
		if (run && rc == SILT_E_OS && !capture_by_launcher(run, pid, ret, ret_report, NULL)) {
			rc = 0;
			goto out;
		}
		rc = silt_copy_live_mode(fd, db->slot, pid, false, &copy, ret_report, err);
	}
	if (!rc)
		rc = silt_copy_decode(copy, run, true, ret, err);
out:
	silt_copy_destroy(copy);
	free(run);
	if (fd >= 0)
		close(fd);
	return rc;
}

int silt_capture_process(pid_t pid, struct silt_snapshot **ret, struct silt_stop_report *ret_report,
			 struct silt_error *err)
{
	struct silt_stop_report report = { 0 };
	struct silt_target_status st;
	struct silt_target_db db;
	struct silt_copy *copy;
	int rc = silt_target_status(pid, &st, err);

	if (rc)
		return rc;
	if (st.pid != (uint32_t)pid)
		return silt_error_set(err, SILT_E_INVAL, "%d is a thread of process %u: name the process", pid, st.pid);
	if (pid == getpid())
		return silt_error_set(err, SILT_E_INVAL, "silt cannot capture itself");
	if (st.state == 'Z' || st.state == 'X')
		return silt_error_set(err, SILT_E_NOT_FOUND, "process %d (%s) has ended", pid, st.name);
	rc = silt_target_db_find(pid, &db, err);
	if (!rc) {
		rc = capture_db(pid, &db, ret, &report, err);
	} else if (rc == SILT_E_NOT_FOUND) {
		rc = silt_copy_untracked(pid, &copy, &report, err);
		if (!rc) {
			if (copy->maps.count)
				rc = silt_copy_decode(copy, NULL, true, ret, err);
			else
				rc = silt_error_set(err, SILT_E_UNSUPPORTED,
						    "process %d (%s) has no memory of its own: it is part of the kernel or "
						    "just ending",
						    pid, st.name);
			silt_copy_destroy(copy);
		}
	}
	if (!rc && ret_report)
		*ret_report = report;
	return rc;
}
