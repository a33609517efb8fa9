/* SPDX-License-Identifier: MIT */
/* The whole of `silt attach PID` and `silt detach PID`: what stands in the way is looked at, cleared or refused. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "capture/attach_process.h"
#include "capture/before.h"
#include "capture/find_db.h"
#include "capture/program.h"
#include "capture/target/process.h"

#define ALONE_TRIES 1000u
#define ALONE_NS 10000000l

/* One at a time: between two stops of one that attaches, another would take its half-done work for what a killed silt left, and unmap
 * it. The lock is on the process's directory in /proc, and goes with whoever holds it. -1 in *ret: it cannot be had there at all. */
static int begin_alone(pid_t pid, int *ret, struct silt_error *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	*ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned n = 0; *ret >= 0 && flock(*ret, LOCK_EX | LOCK_NB); n++) {
		if (errno == EWOULDBLOCK && n < ALONE_TRIES) {
			nanosleep(&(struct timespec){ 0, ALONE_NS }, NULL);
			continue;
		}
		n = errno == EWOULDBLOCK;
		close(*ret);
		*ret = -1;
		if (n)
			return silt_error_set(err, SILT_E_LIMIT, "another silt is attaching to process %d, or detaching from it", pid);
	}
	return 0;
}

/* By name: a process that was forked meanwhile may have the descriptor, too. */
static void end_alone(int lock)
{
	if (lock < 0)
		return;
	flock(lock, LOCK_UN);
	close(lock);
}

/* What is there already: 0 when the way is free. */
static int clear_way(pid_t pid, struct silt_error *err)
{
	enum silt_attach_state state;
	struct silt_target_db db;
	int rc = silt_attach_look(pid, &state, err);
	bool tracked = !rc && !silt_target_db_find(pid, &db, NULL);

	if (rc)
		return rc;
	if (state == SILT_ATTACH_WHOLE && tracked)
		return silt_error_set(err, SILT_E_INVAL, "silt is attached to process %d already", pid);
	if (state == SILT_ATTACH_NONE && tracked)
		return silt_error_set(err, SILT_E_INVAL, "process %d is tracked already, by `silt run`", pid);
	/* A child forked by an attached process, or what a killed silt left. */
	return state == SILT_ATTACH_NONE ? 0 : silt_detach(pid, NULL, err);
}

static int attach(struct silt_attach *a, struct silt_before *before, const struct silt_db_options *options, struct silt_run **ret,
		  struct silt_attach_report *report, struct silt_error *err)
{
	struct silt_run *run = NULL;
	struct silt_attach_walk walk = silt_before_walk(before);
	char agent[4096];
	int fd, rc;

	rc = silt_agent_find(silt_attach_variant(a), agent, sizeof(agent), err);
	if (!rc)
		rc = silt_attach_prepare(a, agent, err);
	if (!rc)
		rc = silt_attach_map(a, &fd, err);
	if (!rc)
		rc = silt_run_adopt(fd, options, &run, err);
	if (!rc)
		rc = silt_attach_start(a, err);
	if (!rc) {
		silt_before_ready(before, silt_run_fd(run));
		rc = silt_attach_ready(a, before->expected, err);
	}
	if (!rc) {
		rc = silt_attach_hook(a, &walk, report, err);
		silt_before_note(before, report->before_note, sizeof(report->before_note));
		silt_before_close(before);
	}
	if (rc)
		silt_run_destroy(run);
	else
		*ret = run;
	return rc;
}

#define START_TRIES 100u /* a program without a C library is refused half a second late */
#define START_NS 5000000l

/* A process may be just about to start its program. */
static int open_started(pid_t pid, struct silt_attach **ret, struct silt_error *err)
{
	for (unsigned n = 0;; n++) {
		int rc = silt_attach_open(pid, ret, err);

		if (rc || n == START_TRIES || !silt_attach_starting(*ret))
			return rc;
		silt_attach_close(*ret);
		*ret = NULL;
		nanosleep(&(struct timespec){ 0, START_NS }, NULL);
	}
}

static int attach_once(pid_t pid, bool outside, const struct silt_db_options *options, struct silt_run **ret,
		       struct silt_attach_report *report, struct silt_error *err)
{
	struct silt_attach *a = NULL;
	struct silt_before before;
	int rc = open_started(pid, &a, err);

	if (!rc) {
		silt_before_open(&before, pid);
		before.outside = outside;
		rc = attach(a, &before, options, ret, report, err);
		silt_before_close(&before);
	}
	silt_attach_close(a);
	if (rc && a)
		silt_detach(pid, NULL, NULL); /* what was mapped so far; nothing when nothing was */
	return rc;
}

static int attach_alone(pid_t pid, const struct silt_db_options *options, struct silt_run **ret,
			struct silt_attach_report *report, struct silt_error *err)
{
	struct silt_db_options own = *options;
	struct silt_target_status status;
	int rc;

	memset(report, 0, sizeof(*report));
	/* Its children number themselves in its pid namespace: nobody here would know who they are. */
	if (!silt_target_status(pid, &status, NULL) && status.ns_pid != (uint32_t)pid)
		own.flags |= SILT_DB_NO_FOLLOW;
	rc = clear_way(pid, err);
	if (!rc)
		rc = attach_once(pid, false, &own, ret, report, err);
	/* Memory that the map calls readable need not be (guard regions, protection keys). The kernel reads it for us, and says no. */
	if (rc && report->walk_faulted)
		rc = attach_once(pid, true, &own, ret, report, err);
	return rc;
}

int silt_attach_process(pid_t pid, const struct silt_db_options *options, struct silt_run **ret,
			struct silt_attach_report *report, struct silt_error *err)
{
	int lock, rc = begin_alone(pid, &lock, err);

	if (!rc)
		rc = attach_alone(pid, options, ret, report, err);
	end_alone(lock);
	return rc;
}

#define HOLDER_MS 5000 /* it may be writing a dump */
#define LOOK_MS 1

/* The process that holds the database has it open under the number that the run page says. */
static int open_holder(const struct silt_db_run *page)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%u/fd/%d", page->launcher_pid, page->launcher_fd);
	if (stat(path, &st) || st.st_ino != page->inode)
		return -1;
	return (int)syscall(SYS_pidfd_open, page->launcher_pid, 0);
}

/* Tells the holder that this is over, and waits until it is done with the slot: its dump is written then. */
static void tell_holder(struct silt_db_run *page, uint32_t slot)
{
	int holder = open_holder(page);
	struct pollfd p = { .fd = holder, .events = POLLIN };

	__atomic_store_n(&page->slots[slot].state, SILT_SLOT_DONE, __ATOMIC_RELEASE);
	if (holder < 0 || page->launcher_pid == (uint32_t)getpid()) {
		if (holder >= 0)
			close(holder);
		return;
	}
	syscall(SYS_pidfd_send_signal, holder, SIGHUP, NULL, 0); /* look now */
	for (int ms = 0; ms < HOLDER_MS && __atomic_load_n(&page->slots[slot].state, __ATOMIC_ACQUIRE) == SILT_SLOT_DONE; ms += LOOK_MS)
		if (poll(&p, 1, LOOK_MS))
			break;
	close(holder);
}

static bool is_held(const struct silt_db_run *page)
{
	int holder = open_holder(page);

	if (holder >= 0)
		close(holder);
	return holder >= 0;
}

static int started_by_run(pid_t pid, struct silt_error *err)
{
	return silt_error_set(err, SILT_E_INVAL, "process %d was started by `silt run`: it can only be tracked to its end", pid);
}

static int detach_alone(pid_t pid, uint64_t *ret_stop_ns, struct silt_error *err)
{
	struct silt_db_run *page = MAP_FAILED;
	enum silt_attach_state state;
	struct silt_target_db db;
	int fd = -1, rc = silt_attach_look(pid, &state, err);
	bool tracked = !rc && !silt_target_db_find(pid, &db, NULL);

	if (rc)
		return rc;
	if (state == SILT_ATTACH_NONE && tracked)
		return started_by_run(pid, err);
	/* A forked child that has not allocated yet has none of its own. */
	if (tracked && !silt_target_db_open(pid, &db, &fd, NULL))
		page = mmap(NULL, SILT_DB_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (page != MAP_FAILED && page->from_start && is_held(page)) {
		munmap(page, SILT_DB_RUN_SIZE);
		return started_by_run(pid, err);
	}
	rc = silt_detach(pid, ret_stop_ns, err);
	if (page == MAP_FAILED)
		return rc;
	if (!rc && page->magic == SILT_DB_RUN_MAGIC)
		tell_holder(page, db.slot);
	munmap(page, SILT_DB_RUN_SIZE);
	return rc;
}

int silt_detach_process(pid_t pid, uint64_t *ret_stop_ns, struct silt_error *err)
{
	int lock, rc = begin_alone(pid, &lock, err);

	if (!rc)
		rc = detach_alone(pid, ret_stop_ns, err);
	end_alone(lock);
	return rc;
}
