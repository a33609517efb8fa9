/* SPDX-License-Identifier: MIT */
/* Writing dumps beside a running program: each in a process of its own, so that supervision never waits for a disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/broker.h"
#include "cli/supervise.h"
#include "formats/dump.h"

/* More writers than processors only take memory from each other. */
#define WRITERS_MAX 2

enum { WRITER_OK = 0, WRITER_FAILED = 3, WRITER_EMPTY = 10 };

void silt_dump_name(const char *output, pid_t pid, const char *part, char *ret, size_t size)
{
	const char *slash = strrchr(output, '/'), *base = slash ? slash + 1 : output;
	const char *dot = strrchr(base, '.');
	char infix[160] = "";

	if (dot == base)
		dot = NULL; /* a name that begins with its only dot has no extension */
	if (pid)
		snprintf(infix, sizeof(infix), ".%d", pid);
	if (part)
		snprintf(infix + strlen(infix), sizeof(infix) - strlen(infix), ".%s", part);
	if (dot)
		snprintf(ret, size, "%.*s%s%s", (int)(dot - output), output, infix, dot);
	else
		snprintf(ret, size, "%s%s", output, infix);
}

static void job_deinit(struct silt_dump_job *j)
{
	silt_copy_destroy(j->copy);
	if (j->conn >= 0)
		close(j->conn);
}

/* A dump for whoever asked over the socket. */
static int answer(const struct silt_dump_job *j, const struct silt_snapshot *s, struct silt_error *err)
{
	int fd = memfd_create("silt-dump", MFD_CLOEXEC), rc;

	if (fd < 0)
		return silt_error_os(err, errno, "cannot create a memfd");
	rc = silt_dump_write_fd(fd, "the dump", s, NULL, err);
	if (!rc)
		rc = silt_broker_answer(j->conn, fd, NULL);
	close(fd);
	return rc;
}

static int write_job(struct silt_dumps *d, struct silt_dump_job *j, struct silt_error *err)
{
	struct silt_snapshot *s = NULL;
	int rc = 0;

	if (!j->copy) {
		rc = silt_copy_create(silt_run_fd(d->run), (uint32_t)j->slot, &j->copy, err);
		if (!rc) {
			silt_copy_set_ending(j->copy, j->ending);
			silt_copy_set_time(j->copy, j->ended_ns);
		}
	}
	if (!rc)
		rc = silt_copy_decode(j->copy, silt_run_page(d->run), true, &s, err);
	if (!rc && j->conn >= 0)
		rc = answer(j, s, err);
	else if (!rc && !j->main && j->slot >= 0 && !s->context_count)
		rc = WRITER_EMPTY; /* a fork that never allocated before it ended or ran another program */
	else if (!rc)
		rc = silt_dump_write(j->path, s, NULL, err);
	/* The process ends right here: taking the snapshot apart would only cost time. */
	return rc;
}

static int run_writer(struct silt_dumps *d, struct silt_dump_job *j)
{
	struct silt_error err = { 0 };
	int rc = write_job(d, j, &err);

	if (rc >= 0)
		return rc;
	if (j->conn >= 0)
		silt_broker_answer(j->conn, -1, &err);
	else
		dprintf(STDERR_FILENO, "silt: no dump %s: %s\n", j->path, err.msg);
	return WRITER_FAILED;
}

unsigned silt_dumps_holding(const struct silt_dumps *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->count; i++)
		n += d->jobs[i].slot < 0;
	return n;
}

/* Jobs that were copied while the program ran come first: they hold memory. */
static struct silt_dump_job *next_job(struct silt_dumps *d)
{
	struct silt_dump_job *found = NULL;

	for (unsigned i = 0; i < d->count; i++)
		if (!d->jobs[i].writer && (!found || (d->jobs[i].copy && !found->copy)))
			found = &d->jobs[i];
	return found;
}

static void finish_job(struct silt_dumps *d, struct silt_dump_job *j, int code)
{
	if (j->slot >= 0)
		silt_run_recycle(d->run, (uint32_t)j->slot, NULL);
	if (code == WRITER_EMPTY) {
		d->empty++;
	} else if (code) {
		if (j->conn < 0)
			d->failed++;
	} else if (j->main) {
		d->main_written = true;
		snprintf(d->main_path, sizeof(d->main_path), "%s", j->path);
	} else if (j->named) {
		d->written++;
		snprintf(d->last, sizeof(d->last), "%s", j->path);
	}
	job_deinit(j);
	*j = d->jobs[--d->count];
}

static void start_writers(struct silt_dumps *d)
{
	struct silt_dump_job *j;

	while (d->running < WRITERS_MAX && (j = next_job(d))) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(run_writer(d, j));
		if (pid < 0) { /* no more processes allowed: then here and now */
			finish_job(d, j, run_writer(d, j));
			continue;
		}
		silt_copy_destroy(j->copy);
		j->copy = NULL;
		if (j->conn >= 0)
			close(j->conn);
		j->conn = -1;
		j->writer = pid;
		d->running++;
	}
}

void silt_dumps_poll(struct silt_dumps *d)
{
	for (unsigned i = 0; i < d->count;) {
		struct silt_dump_job *j = &d->jobs[i];
		int status;

		if (!j->writer || waitpid(j->writer, &status, WNOHANG) != j->writer) {
			i++;
			continue;
		}
		d->running--;
		if (!WIFEXITED(status))
			dprintf(STDERR_FILENO, "silt: no dump %s: its writer was killed by signal %d\n", j->path,
				WTERMSIG(status));
		finish_job(d, j, WIFEXITED(status) ? WEXITSTATUS(status) : WRITER_FAILED);
	}
	start_writers(d);
}

int silt_dumps_add(struct silt_dumps *d, const struct silt_dump_job *job)
{
	if (!d->jobs)
		d->jobs = calloc(SILT_DUMPS_MAX, sizeof(*d->jobs));
	if (!d->jobs || d->count == SILT_DUMPS_MAX) {
		struct silt_dump_job lost = *job;

		dprintf(STDERR_FILENO, "silt: no dump %s: too many dumps are waiting to be written\n", job->path);
		d->failed++;
		job_deinit(&lost);
		return SILT_E_LIMIT;
	}
	d->jobs[d->count] = *job;
	d->jobs[d->count++].writer = 0;
	silt_dumps_poll(d);
	return 0;
}

void silt_dumps_finish(struct silt_dumps *d)
{
	siginfo_t si;

	while (silt_dumps_poll(d), d->count) {
		for (unsigned i = 0; i < d->count; i++) {
			if (!d->jobs[i].writer)
				continue;
			waitid(P_PID, (id_t)d->jobs[i].writer, &si, WEXITED | WNOWAIT);
			break;
		}
	}
	free(d->jobs);
	d->jobs = NULL;
}
