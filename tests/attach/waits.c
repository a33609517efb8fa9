/* SPDX-License-Identifier: MIT */
/*
 * Waits in one system call for some seconds, then says how it ended: "result errno milliseconds".
 * usage: waits KIND SECONDS. It says "waiting" just before. The wait is in the only thread, so an attacher has to borrow this one.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "waits_more.h"

static int seconds;

static int pipe_with_byte_later(void)
{
	int p[2];

	if (pipe(p))
		exit(2);
	if (fork() == 0) {
		sleep(seconds);
		_exit(write(p[1], "x", 1) != 1);
	}
	return p[0];
}

static void on_alarm(int sig)
{
	(void)sig;
}

static long wait_in(const char *kind)
{
	struct timespec t = { seconds, 0 }, at;
	unsigned word = 0;
	sigset_t set;
	char byte;
	sem_t sem;

	sigemptyset(&set);
	if (!strcmp(kind, "nanosleep"))
		return nanosleep(&t, NULL);
	if (!strcmp(kind, "clock_nanosleep"))
		return clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
	if (!strcmp(kind, "usleep"))
		return usleep(seconds * 1000000);
	if (!strcmp(kind, "poll"))
		return poll(NULL, 0, seconds * 1000);
	if (!strcmp(kind, "ppoll"))
		return ppoll(NULL, 0, &t, &set);
	if (!strcmp(kind, "select"))
		return select(0, NULL, NULL, NULL, &(struct timeval){ seconds, 0 });
	if (!strcmp(kind, "pselect"))
		return pselect(0, NULL, NULL, NULL, &t, &set);
	if (!strcmp(kind, "epoll_wait"))
		return epoll_wait(epoll_create1(0), &(struct epoll_event){ 0 }, 1, seconds * 1000);
	if (!strcmp(kind, "epoll_pwait"))
		return epoll_pwait(epoll_create1(0), &(struct epoll_event){ 0 }, 1, seconds * 1000, &set);
	if (!strcmp(kind, "read"))
		return read(pipe_with_byte_later(), &byte, 1) - 1;
	if (!strcmp(kind, "waitpid"))
		return (void)pipe_with_byte_later(), waitpid(-1, NULL, 0) > 0 ? 0 : -1;
	if (!strcmp(kind, "futex"))
		return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT ? 0 : -1;
	if (!strcmp(kind, "futex_bitset")) {
		clock_gettime(CLOCK_MONOTONIC, &at);
		at.tv_sec += seconds;
		return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &at, NULL, ~0u) == -1 && errno == ETIMEDOUT ? 0 : -1;
	}
	if (!strcmp(kind, "sem_timedwait")) {
		sem_init(&sem, 0, 0);
		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_sec += seconds;
		return sem_timedwait(&sem, &at) == -1 && errno == ETIMEDOUT ? 0 : -1;
	}
	if (!strcmp(kind, "sigtimedwait")) {
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		return sigtimedwait(&set, NULL, &t) == -1 && errno == EAGAIN ? 0 : -1;
	}
	if (!strcmp(kind, "sigsuspend")) { /* ends by the alarm, and by nothing else */
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		sigemptyset(&set);
		return sigsuspend(&set) == -1 && errno == EINTR ? 0 : -1;
	}
	if (!strcmp(kind, "pause"))
		return pause() == -1 && errno == EINTR ? 0 : -1;
	if (!strcmp(kind, "recv")) { /* with a timeout of the socket's own */
		struct timeval timeout = { seconds, 0 };
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
		    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)))
			return -1;
		return recv(pair[0], &byte, 1, 0) == -1 && errno == EAGAIN ? 0 : -1;
	}
	if (!strcmp(kind, "inotify")) {
		char path[] = "/tmp/silt-attach-XXXXXX", event[4096];
		int fd = inotify_init1(0), file = mkstemp(path);

		inotify_add_watch(fd, path, IN_MODIFY);
		if (fork() == 0) {
			sleep(seconds);
			_exit(write(file, "x", 1) != 1 || unlink(path));
		}
		return read(fd, event, sizeof(event)) > 0 ? 0 : -1;
	}
	if (!strcmp(kind, "msgrcv")) {
		int queue = msgget(IPC_PRIVATE, 0600);
		struct {
			long type;
			char text[1];
		} message = { 1, "x" };

		if (fork() == 0) {
			sleep(seconds);
			_exit(msgsnd(queue, &message, 1, 0));
		}
		if (msgrcv(queue, &message, 1, 0, 0) != 1)
			return -1;
		return msgctl(queue, IPC_RMID, NULL);
	}
	if (!strcmp(kind, "alarms")) { /* a thousand signals a second, with a handler, in allocations and system calls */
		struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
		time_t end = time(NULL) + seconds + 1;

		signal(SIGALRM, on_alarm);
		setitimer(ITIMER_REAL, &every, NULL);
		while (time(NULL) < end) {
			unsigned char *p = malloc(1000);

			memset(p, 7, 1000);
			getppid();
			for (int i = 0; i < 1000; i++)
				if (p[i] != 7)
					return -1;
			free(p);
		}
		setitimer(ITIMER_REAL, &never, NULL);
		return 0;
	}
	if (!strcmp(kind, "io_uring"))
		return wait_uring(seconds);
	if (!strcmp(kind, "vectors"))
		return wait_vectors(seconds);
	if (!strcmp(kind, "tiles"))
		return wait_tiles(seconds);
	if (!strcmp(kind, "spin")) { /* no system call at all, with values in many registers */
		double x[16] = { 1.5 }, want = 0;
		time_t end = time(NULL) + seconds + 1;

		for (int i = 1; i < 16; i++)
			x[i] = x[i - 1] * 1.25;
		for (int i = 0; i < 16; i++)
			want += x[i];
		while (time(NULL) < end)
			for (int k = 0; k < 100000; k++) {
				double sum = 0;

				for (int i = 0; i < 16; i++)
					sum += x[i];
				if (sum != want)
					return -1;
				__asm__ volatile("" : : "r"(x) : "memory");
			}
		return 0;
	}
	exit(2);
}

int main(int argc, char **argv)
{
	struct timespec a, b;
	long result;

	if (argc != 3)
		return 2;
	seconds = atoi(argv[2]);
	puts("waiting");
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &a);
	if (!strcmp(argv[1], "sigsuspend") || !strcmp(argv[1], "pause")) {
		struct itimerspec when = { .it_value = { seconds, 0 } };
		timer_t timer;

		signal(SIGALRM, on_alarm);
		timer_create(CLOCK_MONOTONIC, NULL, &timer);
		timer_settime(timer, 0, &when, NULL);
	}
	errno = 0;
	result = wait_in(argv[1]);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%ld %d %ld\n", result, result ? errno : 0, (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	free(malloc(100));
	return 0;
}
