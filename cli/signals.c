/* SPDX-License-Identifier: MIT */
/* The launcher's signals: what arrives here was meant for the program. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/supervise.h"

/* Signals that say something is wrong with the launcher itself stay with it. */
static const int own_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGKILL, SIGSTOP };

int silt_signals_open(struct silt_signals *s, struct silt_error *err)
{
	struct sigaction child = { .sa_handler = SIG_DFL };
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < SILT_ARRAY_LEN(own_signals); i++)
		sigdelset(&set, own_signals[i]);
	sigprocmask(SIG_BLOCK, &set, &s->old_mask);
	/* With SIGCHLD ignored the kernel would reap the program for us, and its status would be lost. */
	sigaction(SIGCHLD, &child, &s->old_child);
	s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->fd < 0)
		return silt_error_os(err, errno, "cannot watch for signals");
	return 0;
}

void silt_signals_restore(const struct silt_signals *s)
{
	sigaction(SIGCHLD, &s->old_child, NULL);
	sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
}

/* The terminal sends Ctrl-C and Ctrl-Z to the whole process group: the program has them already. A hang-up it tells the leader of
 * the session alone, and with it to go on where it is stopped: the program would have been that. Else only what a process sent to us
 * is passed on; what the program itself sent is not sent back. */
static bool is_for_child(const struct signalfd_siginfo *si, pid_t child)
{
	if (si->ssi_code == SI_KERNEL && (si->ssi_signo == SIGHUP || si->ssi_signo == SIGCONT))
		return getsid(0) == getpid();
	if (si->ssi_signo == SIGCHLD || si->ssi_pid == (uint32_t)child)
		return false;
	return si->ssi_code == SI_USER || si->ssi_code == SI_QUEUE || si->ssi_code == SI_TKILL;
}

void silt_signals_forward(struct silt_signals *s, pid_t child)
{
	struct signalfd_siginfo si;

	while (read(s->fd, &si, sizeof(si)) == sizeof(si)) {
		union sigval value = { .sival_ptr = (void *)(uintptr_t)si.ssi_ptr };

		if (si.ssi_signo == SIGTSTP || si.ssi_signo == SIGTTIN || si.ssi_signo == SIGTTOU)
			s->stop_seen = true;
		if (!child || !is_for_child(&si, child))
			continue;
		if (si.ssi_code == SI_QUEUE)
			sigqueue(child, (int)si.ssi_signo, value);
		else
			kill(child, (int)si.ssi_signo);
	}
}

/* Somebody who stops the program alone (a debugger, a test) will continue it alone, and nobody would continue us. */
bool silt_signals_job_stops(const struct silt_signals *s, int stop_signal)
{
	int tty;
	bool foreground;

	if (s->stop_seen)
		return true;
	if (stop_signal != SIGSTOP)
		return false;
	tty = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (tty < 0)
		return false;
	foreground = tcgetpgrp(tty) == getpgrp(); /* a shell waits for us, not knowing why nothing happens */
	close(tty);
	return foreground;
}

void silt_signals_stop_self(struct silt_signals *s, int stop_signal)
{
	struct sigaction deflt = { .sa_handler = SIG_DFL }, old;
	sigset_t set, before;

	s->stop_seen = false;
	if (stop_signal != SIGTSTP && stop_signal != SIGTTIN && stop_signal != SIGTTOU) {
		raise(SIGSTOP);
		return;
	}
	/* The same signal, so that the shell sees what it would see of the program alone. */
	sigemptyset(&set);
	sigaddset(&set, stop_signal);
	sigaction(stop_signal, &deflt, &old);
	sigprocmask(SIG_UNBLOCK, &set, &before);
	raise(stop_signal);
	sigprocmask(SIG_SETMASK, &before, NULL);
	sigaction(stop_signal, &old, NULL);
}

void silt_signals_die(int signal_number)
{
	struct sigaction deflt = { .sa_handler = SIG_DFL };
	struct rlimit no_core = { 0, 0 };
	sigset_t set;

	setrlimit(RLIMIT_CORE, &no_core);
	sigaction(signal_number, &deflt, NULL);
	sigemptyset(&set);
	sigaddset(&set, signal_number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(signal_number);
	_exit(128 + signal_number);
}
