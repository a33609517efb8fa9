/* SPDX-License-Identifier: MIT */
/* The launcher's event loop: one thread waits for signals, requests and process ends, another only for the agents' futex. */
#include "cli/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "capture/broker.h"
#include "cli/waker.h"

/* Everything has an event; this is the bound on what an event lost for whatever reason can delay. */
#define TICK_MS 2000

/* Copies of running processes waiting for the disk before periodic dumps are left out. */
#define HOLDING_MAX 8

struct launcher {
	const struct silt_launch *launch;
	struct silt_signals signals;
	struct silt_images images;
	struct silt_dumps dumps;
	struct silt_db_run *page;
	pid_t child;
	int status;
	int stopped; /* the signal that stopped the child, 0: it runs */
	bool ended;
	struct silt_waker waker;
	int broker_fd;
	uint64_t next_dump_ns; /* CLOCK_MONOTONIC, 0: none */
	unsigned dump_number;
	char output[4096];
};

/* ---- names of dumps ---- */

static void dump_name(const struct launcher *l, pid_t pid, const char *part, char *ret, size_t size)
{
	silt_dump_name(l->output, pid == l->child ? 0 : pid, part, ret, size);
}

/* ---- dumps ---- */

/* Called for an image whose process has ended; how it ended is known of our own child alone. */
static void image_ended(void *data, uint32_t slot)
{
	struct launcher *l = data;
	struct silt_image *i = &l->images.slots[slot];
	struct silt_dump_job job = { .slot = (int)slot, .conn = -1, .named = true };
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	job.ended_ns = t.tv_sec * 1000000000ll + t.tv_nsec;
	if (i->pid == l->child && l->ended) {
		job.main = true;
		if (WIFSIGNALED(l->status))
			snprintf(job.ending, sizeof(job.ending), "killed by SIG%s", sigabbrev_np(WTERMSIG(l->status)));
		else
			snprintf(job.ending, sizeof(job.ending), "exited with status %d", WEXITSTATUS(l->status));
	} else {
		snprintf(job.ending, sizeof(job.ending), "ended");
	}
	dump_name(l, i->pid, NULL, job.path, sizeof(job.path));
	__atomic_store_n(&l->page->slots[slot].state, SILT_SLOT_DONE, __ATOMIC_RELEASE);
	silt_images_forget(&l->images, slot);
	silt_dumps_add(&l->dumps, &job);
}

/* Stops the image's process for the moment of copying; a writer does the rest. */
static int dump_live(struct launcher *l, uint32_t slot, const char *part, int conn, const char *note,
		     struct silt_error *err)
{
	const struct silt_image *i = &l->images.slots[slot];
	struct silt_dump_job job = { .slot = -1, .conn = conn, .named = true };
	struct silt_stop_report report;
	int rc = silt_copy_live(silt_run_fd(l->launch->run), slot, i->pid, &job.copy, &report, err);

	if (rc)
		return rc;
	if (report.stopped)
		silt_copy_set_method(job.copy, "launcher");
	if (note)
		silt_copy_set_note(job.copy, note);
	dump_name(l, i->pid, part, job.path, sizeof(job.path));
	return silt_dumps_add(&l->dumps, &job);
}

static void dump_all_live(struct launcher *l, const char *part, const char *note)
{
	struct silt_error err;

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		if (!l->images.slots[i].used)
			continue;
		if (!dump_live(l, i, part, -1, note, &err))
			continue;
		if (err.code != SILT_E_NOT_FOUND)
			dprintf(STDERR_FILENO, "silt: process %d: %s\n", l->images.slots[i].pid, err.msg);
		else if (!part) /* it has just ended, and nobody will look again */
			image_ended(l, i);
	}
}

static void periodic_dump(struct launcher *l)
{
	uint64_t now = silt_now_ns();
	char number[16];

	if (!l->next_dump_ns || now < l->next_dump_ns)
		return;
	while (l->next_dump_ns <= now)
		l->next_dump_ns += l->launch->every_ns;
	snprintf(number, sizeof(number), "%04u", ++l->dump_number);
	if (silt_dumps_holding(&l->dumps) > HOLDING_MAX)
		dprintf(STDERR_FILENO, "silt: dump %s left out: earlier ones are still being written\n", number);
	else
		dump_all_live(l, number, NULL);
}

/* silt_capture(name): the thread that asked waits until done is set. */
static void serve_marks(struct launcher *l)
{
	for (uint32_t i = 0; i < SILT_DB_RUN_MARKS; i++) {
		struct silt_db_mark *m = &l->page->marks[i];
		char name[sizeof(m->name) + 1];
		struct silt_error err;

		if (__atomic_load_n(&m->state, __ATOMIC_ACQUIRE) != 2 || m->capture != 1 || m->done)
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)sizeof(m->name), m->name);
		for (char *p = name; *p; p++)
			if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-", *p))
				*p = '_';
		if (m->slot >= SILT_DB_SLOTS || !l->images.slots[m->slot].used)
			dprintf(STDERR_FILENO, "silt: no dump %s: its process is not tracked\n", name);
		else if (dump_live(l, m->slot, name[0] ? name : "mark", -1, NULL, &err))
			dprintf(STDERR_FILENO, "silt: no dump %s: %s\n", name, err.msg);
		__atomic_store_n(&m->done, 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &m->done, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	}
}

static void serve_broker(struct launcher *l)
{
	struct silt_error err;
	pid_t pid;
	int conn, slot, rc;

	rc = silt_broker_accept(l->broker_fd, &conn, &pid, &err);
	if (rc)
		return;
	slot = silt_images_find(&l->images, pid);
	if (slot < 0)
		rc = silt_error_set(&err, SILT_E_NOT_FOUND, "process %d is not tracked by this launcher", pid);
	else
		rc = dump_live(l, (uint32_t)slot, NULL, conn, NULL, &err);
	if (rc) {
		silt_broker_answer(conn, -1, &err);
		close(conn);
	}
}

/* ---- the program ---- */

static int start_child(struct launcher *l, struct silt_error *err)
{
	int report[2], e = 0;
	ssize_t n;

	if (pipe2(report, O_CLOEXEC))
		return silt_error_os(err, errno, "cannot create a pipe");
	l->child = fork();
	if (l->child < 0) {
		e = errno;
		close(report[0]);
		close(report[1]);
		return silt_error_os(err, e, "cannot start a process");
	}
	if (l->child == 0) {
		silt_signals_restore(&l->signals);
		execvp(l->launch->program, l->launch->argv);
		e = errno;
		n = write(report[1], &e, sizeof(e));
		_exit(n == sizeof(e) ? 127 : 126);
	}
	close(report[1]);
	do
		n = read(report[0], &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	close(report[0]);
	if (n != sizeof(e))
		return 0;
	waitpid(l->child, NULL, 0);
	return silt_error_os(err, e, "cannot run %s", l->launch->program);
}

static void watch_child(struct launcher *l)
{
	int status;
	pid_t pid;

	while (!l->ended && (pid = waitpid(l->child, &status, WNOHANG | WUNTRACED | WCONTINUED)) == l->child) {
		l->stopped = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
		if (WIFSTOPPED(status) || WIFCONTINUED(status))
			continue;
		l->status = status;
		l->ended = true;
	}
	silt_signals_forward(&l->signals, l->ended ? 0 : l->child);
	if (l->stopped && silt_signals_job_stops(&l->signals, l->stopped)) {
		silt_signals_stop_self(&l->signals, l->stopped);
		l->stopped = 0;
		kill(l->child, SIGCONT); /* whoever continued us meant the program */
	}
}

static int poll_timeout(const struct launcher *l)
{
	uint64_t now = silt_now_ns(), ms;

	if (!l->next_dump_ns)
		return TICK_MS;
	if (l->next_dump_ns <= now)
		return 0;
	ms = (l->next_dump_ns - now) / 1000000 + 1;
	return ms < TICK_MS ? (int)ms : TICK_MS;
}

static void loop(struct launcher *l)
{
	static struct pollfd fds[SILT_DB_SLOTS + 3];
	uint64_t drained;

	while (watch_child(l), !l->ended) {
		nfds_t n = 3;

		fds[0] = (struct pollfd){ .fd = l->signals.fd, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = l->waker.fd, .events = POLLIN };
		fds[2] = (struct pollfd){ .fd = l->broker_fd, .events = POLLIN };
		for (uint32_t i = 0; i < SILT_DB_SLOTS; i++)
			if (l->images.slots[i].used && l->images.slots[i].pidfd >= 0)
				fds[n++] = (struct pollfd){ .fd = l->images.slots[i].pidfd, .events = POLLIN };
		poll(fds, n, poll_timeout(l));
		if (fds[1].revents && read(l->waker.fd, &drained, sizeof(drained)) < 0)
			continue;
		__atomic_store_n(&l->page->beat, (uint32_t)(silt_now_ns() / 1000000000), __ATOMIC_RELAXED);
		silt_images_scan(&l->images);
		serve_marks(l);
		if (fds[2].revents & POLLIN)
			serve_broker(l);
		periodic_dump(l);
		silt_dumps_poll(&l->dumps);
	}
}

/* ---- the end ---- */

static void last_dumps(struct launcher *l)
{
	int slot;

	silt_images_scan(&l->images);
	serve_marks(l);
	slot = silt_images_find(&l->images, l->child);
	if (slot >= 0)
		image_ended(l, (uint32_t)slot);
	dump_all_live(l, NULL, "the process was still running when the program that was started had ended");
	silt_dumps_finish(&l->dumps);
}

static void say_result(const struct launcher *l)
{
	const struct silt_dumps *d = &l->dumps;

	if (!d->main_written && !d->failed)
		dprintf(STDERR_FILENO,
			"silt: %s was not tracked: the agent was not loaded into it (a set-user-ID program, LD_PRELOAD "
			"cleared, or it ran a static program)\n",
			l->launch->argv[0]);
	if (l->launch->quiet)
		return;
	if (d->main_written)
		dprintf(STDERR_FILENO, "silt: wrote %s\n", d->main_path);
	if (d->written == 1)
		dprintf(STDERR_FILENO, "silt: wrote %s\n", d->last);
	else if (d->written > 1)
		dprintf(STDERR_FILENO, "silt: wrote %u more dumps, the last one %s\n", d->written, d->last);
}

static int launcher_init(struct launcher *l, const struct silt_launch *launch, struct silt_error *err)
{
	int rc;

	memset(l, 0, sizeof(*l));
	l->launch = launch;
	l->page = silt_run_page(launch->run);
	l->dumps.run = launch->run;
	l->dumps.quiet = launch->quiet;
	rc = silt_signals_open(&l->signals, err);
	if (rc)
		return rc;
	/* Without the socket only captures under Yama's restriction go without a stop. */
	if (silt_broker_listen(l->page->socket, &l->broker_fd, NULL)) {
		l->broker_fd = -1;
		l->page->socket[0] = '\0';
	}
	return 0;
}

static void choose_output(struct launcher *l)
{
	const char *base = strrchr(l->launch->argv[0], '/');

	if (l->launch->output)
		snprintf(l->output, sizeof(l->output), "%s", l->launch->output);
	else
		snprintf(l->output, sizeof(l->output), "silt.%s.%d.silt", base ? base + 1 : l->launch->argv[0], l->child);
}

int silt_supervise(const struct silt_launch *launch)
{
	static struct launcher l;
	struct silt_error err = { 0 };
	int rc = launcher_init(&l, launch, &err);

	if (!rc && launch->started)
		l.child = launch->started;
	else if (!rc)
		rc = start_child(&l, &err);
	if (rc) {
		dprintf(STDERR_FILENO, "silt: %s\n", err.msg);
		return err.errnum == ENOENT ? 127 : err.errnum == EACCES || err.errnum == ENOEXEC ? 126 : 3;
	}
	choose_output(&l);
	if (silt_images_init(&l.images, launch->run, l.child)) {
		dprintf(STDERR_FILENO, "silt: out of memory: %s runs on without dumps\n", launch->argv[0]);
		kill(l.child, SIGCONT);
		waitpid(l.child, &l.status, 0);
		return 3;
	}
	l.images.ended = image_ended;
	l.images.data = &l;
	if (launch->every_ns)
		l.next_dump_ns = silt_now_ns() + launch->every_ns;
	if (silt_waker_start(&l.waker, l.page))
		dprintf(STDERR_FILENO, "silt: cannot start a thread: requests are served late\n");
	if (launch->started)
		kill(launch->started, SIGCONT);
	loop(&l);
	silt_waker_stop(&l.waker);
	last_dumps(&l);
	say_result(&l);
	silt_images_deinit(&l.images);
	if (WIFSIGNALED(l.status))
		silt_signals_die(WTERMSIG(l.status));
	if (WEXITSTATUS(l.status) == 0 && !l.dumps.main_written)
		return 3;
	return WEXITSTATUS(l.status);
}
