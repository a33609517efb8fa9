/* SPDX-License-Identifier: MIT */
/*
 * Who holds the trace database of an attached process and of the children that it forks since: its heartbeat, their ends, their last
 * states. One thread, beside one that only waits for the agents' futex.
 */
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

#include "base/clock.h"
#include "capture/attach/attach.h"
#include "capture/attach_process.h"
#include "cli/attach.h"
#include "cli/commands.h"
#include "cli/supervise.h"
#include "cli/waker.h"

#define BEAT_MS 1000
#define LOOK_MS 100 /* how often allocated bytes are looked at */

enum reason { GOES_ON, ENDED, TIME, BYTES, ASKED, DETACHED };

struct holder {
	const struct silt_hold *h;
	struct silt_db_run *page;
	struct silt_images images;
	struct silt_dumps dumps;
	bool finishing[SILT_DB_SLOTS]; /* its dump is under way */
	enum reason over;	       /* how the process that was attached to came to be tracked no more */
	int signals;
	struct silt_waker waker;
	uint64_t start, beat;
	bool failed;
};

/* ---- slots ---- */

/* Nothing writes to a slot any more: its last state is kept, where that is wanted. */
static void slot_over(struct holder *k, uint32_t slot, pid_t pid, const char *ending)
{
	struct silt_dump_job job = { .slot = (int)slot, .conn = -1, .named = true, .main = slot == 0 };
	struct timespec t;

	__atomic_store_n(&k->page->slots[slot].state, SILT_SLOT_DONE, __ATOMIC_RELEASE);
	silt_images_forget(&k->images, slot);
	if (!k->h->output) {
		silt_run_recycle(k->h->run, slot, NULL);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &t);
	job.ended_ns = t.tv_sec * 1000000000ll + t.tv_nsec;
	snprintf(job.ending, sizeof(job.ending), "%s", ending);
	silt_dump_name(k->h->output, slot ? pid : 0, NULL, job.path, sizeof(job.path));
	k->finishing[slot] = true;
	silt_dumps_add(&k->dumps, &job);
}

static void image_ended(void *data, uint32_t slot)
{
	struct holder *k = data;

	if (slot == 0 && !k->over)
		k->over = ENDED;
	slot_over(k, slot, k->images.slots[slot].pid, "ended");
}

/* Whoever detaches marks the slot; a child may be detached from before we have ever seen it. */
static void look_for_detached(struct holder *k)
{
	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		bool done = __atomic_load_n(&k->page->slots[i].state, __ATOMIC_ACQUIRE) == SILT_SLOT_DONE;

		if (!done)
			k->finishing[i] = false;
		if (!done || k->finishing[i])
			continue;
		if (i == 0 && !k->over)
			k->over = DETACHED;
		slot_over(k, i, (pid_t)k->page->slots[i].pid, "detached");
	}
}

/* ---- waiting ---- */

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD); /* a dump is written */
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Who detaches sends SIGHUP: look now. A terminal that goes sends it too, but as the kernel. */
static bool asked_to_end(struct holder *k)
{
	struct signalfd_siginfo si;
	bool asked = false;

	while (read(k->signals, &si, sizeof(si)) == sizeof(si))
		asked |= si.ssi_signo != SIGCHLD && !(si.ssi_signo == SIGHUP && si.ssi_code == SI_USER);
	return asked;
}

/* Milliseconds until something is to be done without an event. */
static int next_look(const struct holder *k)
{
	const struct silt_hold *h = k->h;
	int ms = h->until_bytes && !k->over ? LOOK_MS : BEAT_MS;
	uint64_t passed = silt_now_ns() - k->start;

	if (h->duration_ns && passed >= h->duration_ns)
		return 0;
	if (h->duration_ns && (h->duration_ns - passed) / 1000000 < (uint64_t)ms)
		ms = (int)((h->duration_ns - passed) / 1000000) + 1;
	return ms;
}

static void wait_for_event(struct holder *k)
{
	static struct pollfd fds[SILT_DB_SLOTS + 2];
	uint64_t drained;
	nfds_t n = 2;

	fds[0] = (struct pollfd){ .fd = k->signals, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = k->waker.fd, .events = POLLIN };
	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++)
		if (k->images.slots[i].used && k->images.slots[i].pidfd >= 0)
			fds[n++] = (struct pollfd){ .fd = k->images.slots[i].pidfd, .events = POLLIN };
	poll(fds, n, next_look(k));
	if (fds[1].revents && read(k->waker.fd, &drained, sizeof(drained)) < 0)
		return; /* nothing to read after all */
}

static void beat(struct holder *k)
{
	if (silt_now_ns() - k->beat < BEAT_MS * 1000000ull)
		return;
	__atomic_add_fetch(&k->page->beat, 1, __ATOMIC_RELAXED);
	k->beat = silt_now_ns();
}

/* Until nobody is tracked any more, or it is time. */
static enum reason wait_for_end(struct holder *k)
{
	const struct silt_hold *h = k->h;
	uint64_t bytes;

	for (;;) {
		bool asked = asked_to_end(k);

		beat(k);
		look_for_detached(k);
		silt_images_scan(&k->images);
		silt_dumps_poll(&k->dumps);
		if (k->over && !silt_images_any(&k->images) && !k->dumps.count)
			return k->over;
		if (asked)
			return ASKED;
		if (h->duration_ns && silt_now_ns() - k->start >= h->duration_ns)
			return TIME;
		if (h->until_bytes && !k->over && !silt_run_allocated(h->run, 0, &bytes) && bytes >= h->until_bytes)
			return BYTES;
		wait_for_event(k);
	}
}

/* ---- the end ---- */

/* The state of a running process, with all that /proc tells of it. */
static void keep_live(struct holder *k, uint32_t slot)
{
	const struct silt_image *i = &k->images.slots[slot];
	struct silt_dump_job job = { .slot = -1, .conn = -1, .named = true, .main = slot == 0 };
	struct silt_stop_report report;
	struct silt_error err;

	if (silt_copy_live(silt_run_fd(k->h->run), slot, i->pid, &job.copy, &report, &err)) {
		fprintf(stderr, "silt: process %d: %s\n", i->pid, err.msg);
		k->failed = true;
		return;
	}
	silt_dump_name(k->h->output, slot ? i->pid : 0, NULL, job.path, sizeof(job.path));
	silt_dumps_add(&k->dumps, &job);
}

static void let_go_of_all(struct holder *k)
{
	struct silt_error err;

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		int rc;

		if (!k->images.slots[i].used)
			continue;
		if (k->h->output)
			keep_live(k, i);
		rc = silt_detach(k->images.slots[i].pid, NULL, &err);
		if (rc && rc != SILT_E_NOT_FOUND) {
			fprintf(stderr, "silt: %s\n", err.msg);
			k->failed = true;
		}
	}
}

static int finish(struct holder *k)
{
	silt_waker_stop(&k->waker);
	silt_dumps_finish(&k->dumps);
	if (!k->h->quiet && k->dumps.main_written)
		fprintf(stderr, "silt: wrote %s\n", k->dumps.main_path);
	if (!k->h->quiet && k->dumps.written)
		fprintf(stderr, "silt: wrote %u more dump%s of child processes, the last one %s\n", k->dumps.written,
			k->dumps.written > 1 ? "s" : "", k->dumps.last);
	return k->failed || k->dumps.failed ? SILT_EXIT_UNUSABLE : SILT_EXIT_OK;
}

static int begin(struct holder *k, const struct silt_hold *h)
{
	memset(k, 0, sizeof(*k));
	k->h = h;
	k->page = silt_run_page(h->run);
	k->dumps.run = h->run;
	k->dumps.quiet = true;
	k->signals = open_signals();
	k->start = k->beat = silt_now_ns();
	if (k->signals < 0 || silt_images_init(&k->images, h->run, 0))
		return SILT_E_NOMEM;
	k->images.first_pid = h->pid;
	k->images.ended = image_ended;
	k->images.data = k;
	k->page->launcher_pid = (uint32_t)getpid();
	k->page->launcher_fd = silt_run_fd(h->run);
	/* Without that thread children are seen at the next beat. */
	silt_waker_start(&k->waker, k->page);
	return 0;
}

static struct holder holder; /* large */

int silt_hold_here(struct silt_hold *h)
{
	static const char *const reasons[] = { "", "it ended", "the time is over", "the bytes are allocated", "asked to end",
					       "somebody detached" };
	enum reason why;

	if (begin(&holder, h)) {
		fprintf(stderr, "silt: cannot watch process %d: it stays attached\n", h->pid);
		return SILT_EXIT_UNUSABLE;
	}
	why = wait_for_end(&holder);
	if (!h->quiet)
		fprintf(stderr, "silt: process %d is not tracked any more: %s\n", h->pid, reasons[why]);
	if (why != ENDED && why != DETACHED)
		let_go_of_all(&holder);
	return finish(&holder);
}

/* The process left behind: nothing of the terminal, the working directory or the caller's files stays in use. */
static void run_behind(struct silt_hold *h, int ready)
{
	enum reason why;
	int null;

	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	for (int fd = 3; fd < 1024; fd++)
		if (fd != silt_run_fd(h->run) && fd != ready)
			close(fd);
	if (begin(&holder, h) || chdir("/") || write(ready, "", 1) != 1)
		_exit(SILT_EXIT_UNUSABLE);
	close(ready);
	/* Asked to end, it goes: the process stays attached, and its database lives as long as it does. */
	why = wait_for_end(&holder);
	_exit(why == ASKED ? SILT_EXIT_OK : finish(&holder));
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
