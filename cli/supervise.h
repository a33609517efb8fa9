/* SPDX-License-Identifier: MIT */
/** Starting a program and standing beside it until it ends, as if it had been started alone. Internal to cli/. */
#ifndef SILT_CLI_SUPERVISE_H
#define SILT_CLI_SUPERVISE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "capture/capture.h"

struct silt_launch {
	const char *program; /* path to execute */
	char **argv;
	const char *agent;  /* path of the agent object */
	const char *output; /* path of the last dump, NULL: silt.<program>.<pid>.silt */
	uint64_t every_ns;  /* 0: no periodic dumps */
	bool quiet;
	struct silt_run *run;
	pid_t started; /* it is there already, stopped; 0: it is to be started */
};

/** Runs it to its end, writing all dumps. Returns the exit status for this process; when the program was killed by a
 *  signal this process dies of the same one and the call does not return. */
int silt_supervise(const struct silt_launch *launch);

/* ---- the signals of the launcher (signals.c) ---- */

struct silt_signals {
	int fd; /* signalfd */
	sigset_t old_mask;
	struct sigaction old_child; /* SIGCHLD's disposition as inherited */
	bool stop_seen;             /* a stop signal came by here too since the last stop: the whole job is meant */
};

int silt_signals_open(struct silt_signals *s, struct silt_error *err);
/** In the forked child, before exec: everything as it was. */
void silt_signals_restore(const struct silt_signals *s);
/** Handles what has arrived: forwards to child what was meant for it. */
void silt_signals_forward(struct silt_signals *s, pid_t child);
/** The child has stopped: whether this process should stop as well, because the job and not the program alone was meant. */
bool silt_signals_job_stops(const struct silt_signals *s, int stop_signal);
/** Stops this process until somebody continues it. */
void silt_signals_stop_self(struct silt_signals *s, int stop_signal);
/** Ends this process by the signal that killed the child, without a core dump of our own. */
void silt_signals_die(int signal_number);

/* ---- dumps being written (dumps.c) ---- */

#define SILT_DUMPS_MAX 2048

/** The name of a process's dump: out.silt, pid 12 and part "0001" make out.12.0001.silt. pid 0 and part NULL are left out. */
void silt_dump_name(const char *output, pid_t pid, const char *part, char *ret, size_t size);

struct silt_dump_job {
	pid_t writer; /* 0: waiting */
	int slot;     /* to be recycled when written, -1: none */
	bool main;    /* the dump the user asked for: written even when empty */
	bool named;   /* printed at the end */
	int conn;     /* >= 0: answer here instead of writing a file */
	struct silt_copy *copy; /* NULL: the writer copies the slot itself */
	char path[4096];
	char ending[96];
	int64_t ended_ns; /* CLOCK_REALTIME */
};

struct silt_dumps {
	struct silt_run *run;
	bool quiet;
	struct silt_dump_job *jobs;
	unsigned count, running;
	unsigned written, failed, empty;
	char last[4096]; /* path of the last one written that is not the main one */
	bool main_written;
	char main_path[4096];
};

/** Queues a dump; takes over copy and conn whatever happens. */
int silt_dumps_add(struct silt_dumps *d, const struct silt_dump_job *job);
/** Dumps of running processes that are not written yet: each holds a copy in somebody's memory. */
unsigned silt_dumps_holding(const struct silt_dumps *d);
/** Starts waiting writers, takes the results of finished ones. */
void silt_dumps_poll(struct silt_dumps *d);
/** Waits until all are written. */
void silt_dumps_finish(struct silt_dumps *d);

/* ---- the process images with a slot (images.c) ---- */

struct silt_image {
	bool used;
	bool gone; /* its process had ended before it could be watched */
	pid_t pid;
	int pidfd; /* -1: the main program, or none could be had */
	int64_t start_ns;
	uint64_t serial; /* of the claim: higher is later */
};

struct silt_images {
	struct silt_run *run;
	pid_t main_pid;  /* our own child: waitpid tells of its end; 0: none */
	pid_t first_pid; /* slot 0 is this process's, however it numbers itself; 0: as it says */
	struct silt_image *slots; /* SILT_DB_SLOTS */
	void (*ended)(void *data, uint32_t slot); /* an image's process has ended */
	void *data;
};

int silt_images_init(struct silt_images *im, struct silt_run *run, pid_t main_pid);
void silt_images_deinit(struct silt_images *im);
/** Looks for new slots, images that replaced older ones, and processes that ended. */
void silt_images_scan(struct silt_images *im);
/** Whether any image is watched. */
bool silt_images_any(const struct silt_images *im);
/** The slot of pid's current image, or -1. */
int silt_images_find(const struct silt_images *im, pid_t pid);
/** Forgets a slot (its dump is under way, or not wanted). */
void silt_images_forget(struct silt_images *im, uint32_t slot);

#endif
