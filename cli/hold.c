/* SPDX-License-Identifier: MIT */
/* Who holds the trace database of an attached process: its heartbeat, its end, its last state. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "capture/attach/attach.h"
#include "capture/attach_process.h"
#include "cli/attach.h"
#include "cli/commands.h"
#include "formats/dump.h"

#define BEAT_MS 1000
#define LOOK_MS 100 /* how often allocated bytes are looked at */

enum reason { ENDED, TIME, BYTES, ASKED, DETACHED };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Milliseconds until something is to be done without an event. */
static int next_look(const struct silt_hold *h, uint64_t start)
{
	int ms = h->until_bytes ? LOOK_MS : BEAT_MS;
	uint64_t passed = now_ns() - start;

	if (h->duration_ns && passed >= h->duration_ns)
		return 0;
	if (h->duration_ns && (h->duration_ns - passed) / 1000000 < (uint64_t)ms)
		ms = (int)((h->duration_ns - passed) / 1000000) + 1;
	return ms;
}

static enum reason wait_for_end(struct silt_hold *h, int signals)
{
	struct silt_db_run *page = silt_run_page(h->run);
	uint64_t start = now_ns(), beat = start, bytes;
	struct pollfd fds[2] = { { .fd = h->pidfd, .events = POLLIN }, { .fd = signals, .events = POLLIN } };

	for (;;) {
		poll(fds, 2, next_look(h, start));
		if (now_ns() - beat >= BEAT_MS * 1000000ull) {
			__atomic_add_fetch(&page->beat, 1, __ATOMIC_RELAXED);
			beat = now_ns();
		}
		if (fds[0].revents)
			return ENDED;
		if (__atomic_load_n(&page->slots[0].state, __ATOMIC_ACQUIRE) == SILT_SLOT_DONE)
			return DETACHED;
		if (fds[1].revents)
			return ASKED;
		if (h->duration_ns && now_ns() - start >= h->duration_ns)
			return TIME;
		if (h->until_bytes && !silt_run_allocated(h->run, 0, &bytes) && bytes >= h->until_bytes)
			return BYTES;
	}
}

/* The state to be kept: while the process runs with all that /proc tells of it. */
static int take_copy(const struct silt_hold *h, enum reason why, struct silt_copy **ret, struct silt_error *err)
{
	bool over = why == ENDED || why == DETACHED;
	struct silt_stop_report report;
	int rc = over ? silt_copy_create(silt_run_fd(h->run), 0, ret, err) :
			silt_copy_live(silt_run_fd(h->run), 0, h->pid, ret, &report, err);

	if (!rc && over)
		silt_copy_set_ending(*ret, why == ENDED ? "ended" : "detached");
	return rc;
}

static int write_copy(const struct silt_hold *h, const struct silt_copy *copy, struct silt_error *err)
{
	struct silt_snapshot *snap = NULL;
	int rc = silt_copy_decode(copy, silt_run_page(h->run), true, &snap, err);

	if (!rc)
		rc = silt_dump_write(h->output, snap, NULL, err);
	silt_snapshot_destroy(snap);
	return rc;
}

static int finish(const struct silt_hold *h, enum reason why)
{
	struct silt_copy *copy = NULL;
	struct silt_error err = { 0 };
	int rc = 0, detach_rc = 0;

	if (h->output)
		rc = take_copy(h, why, &copy, &err);
	if (rc)
		fprintf(stderr, "silt: %s\n", err.msg);
	if (why != ENDED && why != DETACHED)
		detach_rc = silt_detach(h->pid, NULL, &err);
	if (detach_rc)
		fprintf(stderr, "silt: %s\n", err.msg);
	if (copy) {
		rc = write_copy(h, copy, &err);
		if (rc)
			fprintf(stderr, "silt: %s\n", err.msg);
		else if (!h->quiet)
			fprintf(stderr, "silt: wrote %s\n", h->output);
	}
	silt_copy_destroy(copy);
	return rc || (detach_rc && detach_rc != SILT_E_NOT_FOUND) ? SILT_EXIT_UNUSABLE : SILT_EXIT_OK;
}

static void enter_page(const struct silt_hold *h)
{
	struct silt_db_run *page = silt_run_page(h->run);

	page->launcher_pid = (uint32_t)getpid();
	page->launcher_fd = silt_run_fd(h->run);
}

int silt_hold_here(struct silt_hold *h)
{
	static const char *const reasons[] = { "it ended", "the time is over", "the bytes are allocated", "asked to end",
					       "somebody detached" };
	enum reason why;
	int signals = signals_open();

	enter_page(h);
	why = wait_for_end(h, signals);
	if (!h->quiet)
		fprintf(stderr, "silt: process %d is not tracked any more: %s\n", h->pid, reasons[why]);
	return finish(h, why);
}

/* The process left behind: nothing of the terminal, the working directory or the caller's files stays in use. */
static void run_behind(struct silt_hold *h, int ready)
{
	int null, signals = signals_open();
	enum reason why;

	setsid();
	enter_page(h);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	for (int fd = 3; fd < 1024; fd++)
		if (fd != h->pidfd && fd != signals && fd != silt_run_fd(h->run) && fd != ready)
			close(fd);
	if (chdir("/") || write(ready, "", 1) != 1)
		_exit(SILT_EXIT_UNUSABLE);
	close(ready);
	/* Asked to end, it goes: the process stays attached, and its database lives as long as it does. */
	why = wait_for_end(h, signals);
	_exit(why == ASKED ? SILT_EXIT_OK : finish(h, why));
}

int silt_hold_behind(struct silt_hold *h, struct silt_error *err)
{
	int ready[2];
	pid_t child;
	char byte;
	ssize_t n;

	if (pipe2(ready, O_CLOEXEC))
		return silt_error_os(err, errno, "cannot create a pipe");
	child = fork();
	if (child == 0)
		run_behind(h, ready[1]);
	close(ready[1]);
	if (child < 0) {
		close(ready[0]);
		return silt_error_os(err, errno, "cannot start a process");
	}
	do
		n = read(ready[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	close(ready[0]);
	return n == 1 ? 0 : silt_error_set(err, SILT_E_INTERNAL, "the process that keeps the database did not start");
}
