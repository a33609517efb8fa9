/* SPDX-License-Identifier: MIT */
/*
 * A consistent copy of a running process's trace database: copy, stop, copy again into the memory that is now warm, bump
 * the epoch, resume.
 *
 * All of it happens in a thread of its own: ptrace binds tracees to the tracing thread, and when that thread ends the
 * kernel lets go of whatever it still holds. Signals are blocked there, so that an interrupted caller finishes the stop.
 */
#include "capture/copy_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "capture/find_db.h"
#include "capture/target/stop.h"

struct job {
	struct silt_copy *c;
	int db_fd; /* -1: the database can only be read through the process */
	struct silt_target_db db;
	volatile uint32_t *epoch; /* shared with the process, or NULL */
	bool must_stop;
	struct silt_stop_report report;
	struct silt_error err;
	int rc;
};

static int64_t realtime_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Reading through the process, where nobody can hand us the memfd (its launcher is gone and we are not privileged). */
static int copy_through_process(struct job *j)
{
	struct silt_copy *c = j->c;
	uint64_t used = 0, done = 0, limit = j->db.end - j->db.start;
	struct iovec local = { &used, sizeof(used) };
	struct iovec remote = { (void *)(uintptr_t)(j->db.start + offsetof(struct silt_db, used)), sizeof(used) };
	int rc;

	if (process_vm_readv(c->pid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(used))
		return silt_error_os(&j->err, errno, "cannot read the memory of process %d", c->pid);
	if (used > limit)
		used = limit;
	if (used < sizeof(struct silt_db))
		return silt_error_set(&j->err, SILT_E_BAD_DATA, "the trace database of process %d is not set up", c->pid);
	rc = silt_copy_reserve(c, (used + 65535) & ~65535ull, &j->err);
	while (!rc && done < used) {
		uint64_t part = used - done > (64u << 20) ? 64u << 20 : used - done;
		ssize_t n;

		local = (struct iovec){ c->bytes + done, part };
		remote = (struct iovec){ (void *)(uintptr_t)(j->db.start + done), part };
		n = process_vm_readv(c->pid, &local, 1, &remote, 1, 0);
		if (n <= 0)
			return silt_error_os(&j->err, n ? errno : EIO, "cannot read the memory of process %d", c->pid);
		done += (uint64_t)n;
	}
	c->size = used;
	return rc;
}

static int copy_pass(struct job *j)
{
	uint64_t used;
	int rc;

	if (j->db_fd < 0)
		return copy_through_process(j);
	rc = silt_slot_used(j->db_fd, j->c->slot, &used, &j->err);
	return rc ? rc : silt_copy_pass(j->c, j->db_fd, used, &j->err);
}

/* Blocks allocated from now on belong to the time after this snapshot. */
static void bump_epoch(struct job *j)
{
	uint32_t epoch;
	struct iovec local = { &epoch, sizeof(epoch) };
	struct iovec remote = { (void *)(uintptr_t)(j->db.start + offsetof(struct silt_db, epoch)), sizeof(epoch) };

	if (j->epoch) {
		__atomic_add_fetch(j->epoch, 1, __ATOMIC_SEQ_CST);
	} else if (j->db_fd < 0) {
		memcpy(&epoch, j->c->bytes + offsetof(struct silt_db, epoch), sizeof(epoch));
		epoch++;
		process_vm_writev(j->c->pid, &local, 1, &remote, 1, 0);
	}
}

static int copy_stopped(struct job *j, struct silt_stop *stop)
{
	char path[64], *maps = NULL;
	int rc;

	rc = silt_stop_all(stop, &j->err);
	if (rc)
		return rc;
	j->report.threads = stop->count;
	j->c->capture_ns = realtime_ns();
	rc = copy_pass(j);
	if (!rc) {
		bump_epoch(j);
		snprintf(path, sizeof(path), "/proc/%d/maps", j->c->pid);
		if (silt_proc_read(path, &maps, NULL, NULL))
			maps = NULL;
	}
	silt_stop_release(stop);
	j->report.pause_ns = stop->pause_ns;
	j->report.stopped = !rc;
	if (maps)
		rc = silt_maps_parse(maps, &j->c->maps, &j->err);
	return rc;
}

static int copy_running(struct job *j)
{
	int rc;

	j->c->method = "read";
	snprintf(j->c->note, sizeof(j->c->note), "copied without stopping the process (%.400s): figures may be slightly off",
		 j->err.msg);
	j->c->capture_ns = realtime_ns();
	rc = copy_pass(j);
	if (rc)
		return rc;
	bump_epoch(j);
	if (silt_maps_read(j->c->pid, &j->c->maps, NULL))
		memset(&j->c->maps, 0, sizeof(j->c->maps));
	return 0;
}

static void *run_job(void *arg)
{
	struct job *j = arg;
	struct silt_stop stop;

	j->rc = copy_pass(j); /* warms our memory, so that the second pass takes no page faults */
	if (j->rc)
		return NULL;
	j->rc = silt_stop_seize(&stop, j->c->pid, &j->err);
	if (!j->rc)
		j->rc = copy_stopped(j, &stop);
	if (j->rc && !j->report.stopped && !j->must_stop && (j->rc == SILT_E_OS || j->rc == SILT_E_LIMIT))
		j->rc = copy_running(j);
	return NULL;
}

/* The slot's first page alone is mapped shared, for the epoch: a mapping of more would turn holes into memory. */
static void *map_header(int db_fd, uint32_t slot)
{
	void *p;

	if (db_fd < 0 || slot >= SILT_DB_SLOTS)
		return NULL;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, db_fd,
		 (off_t)(SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE));
	return p == MAP_FAILED ? NULL : p;
}

static int run_in_thread(struct job *j)
{
	sigset_t all, old;
	pthread_t thread;
	int e;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	e = pthread_create(&thread, NULL, run_job, j);
	if (!e)
		pthread_join(thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e ? silt_error_os(&j->err, e, "cannot start a thread") : j->rc;
}

int silt_copy_live_mode(int db_fd, uint32_t slot, pid_t pid, bool must_stop, struct silt_copy **ret,
			struct silt_stop_report *ret_report, struct silt_error *err)
{
	struct job j = { .c = silt_copy_new(pid), .db_fd = db_fd, .must_stop = must_stop };
	struct silt_error note;
	void *header = NULL;
	int rc = 0;

	if (!j.c)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	j.c->slot = slot;
	j.c->method = "ptrace";
	j.db.slot = slot;
	if (db_fd < 0)
		rc = silt_target_db_find(pid, &j.db, &j.err);
	silt_copy_read_process(j.c);
	header = map_header(db_fd, slot);
	if (header)
		j.epoch = (volatile uint32_t *)((char *)header + offsetof(struct silt_db, epoch));
	if (!rc && db_fd >= 0)
		silt_copy_map_source(j.c, db_fd);
	if (!rc)
		rc = run_in_thread(&j);
	if (header)
		munmap(header, 4096);
	if (!rc && silt_modules_collect(&j.c->maps, pid, &j.c->modules, &note))
		memset(&j.c->modules, 0, sizeof(j.c->modules));
	if (rc) {
		silt_copy_destroy(j.c);
		if (err)
			*err = j.err;
		return rc;
	}
	j.c->pause_ns = j.report.pause_ns;
	if (ret_report)
		*ret_report = j.report;
	*ret = j.c;
	return 0;
}

int silt_copy_live(int db_fd, uint32_t slot, pid_t pid, struct silt_copy **ret, struct silt_stop_report *ret_report,
		   struct silt_error *err)
{
	return silt_copy_live_mode(db_fd, slot, pid, false, ret, ret_report, err);
}
