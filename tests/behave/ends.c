/* SPDX-License-Identifier: MIT */
/* A program that ends in the way its argument names, after some allocations; or tells what it sees of its world. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static void *kept[100];
static volatile int *volatile nowhere;

static void *killer(void *arg)
{
	(void)arg;
	kill(getpid(), SIGTERM);
	return NULL;
}

static void tell_environment(void)
{
	for (char **e = environ; *e; e++)
		puts(*e);
	printf("LD_PRELOAD is %s\n", getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "not set");
}

static void tell_descriptors(void)
{
	struct stat st;

	for (int fd = 0; fd < 1024; fd++)
		if (fstat(fd, &st) == 0)
			printf("%d type %o flags %x\n", fd, st.st_mode & S_IFMT, fcntl(fd, F_GETFD));
}

/* What of the process's state a launcher could spoil. */
static void tell_state(void)
{
	sigset_t blocked;
	struct sigaction action;
	struct rlimit limit;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (int sig = 1; sig < 65; sig++) {
		if (sigismember(&blocked, sig) == 1)
			printf("signal %d is blocked\n", sig);
		if (sigaction(sig, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
			printf("signal %d is not default\n", sig);
	}
	for (int r = 0; r < RLIM_NLIMITS; r++)
		if (getrlimit((enum __rlimit_resource)r, &limit) == 0)
			printf("limit %d: %llu %llu\n", r, (unsigned long long)limit.rlim_cur,
			       (unsigned long long)limit.rlim_max);
	printf("own group: %d, session of the parent: %d\n", getpgrp() == getpid(),
	       getsid(0) == getsid(getppid()));
	printf("umask %o, nice %d, errno %d\n", umask(0), getpriority(PRIO_PROCESS, 0), errno);
	printf("children: %d\n", waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "return";
	pthread_t thread;

	for (size_t i = 0; i < 100; i++)
		kept[i] = malloc(i * 10);
	if (strcmp(how, "environment") == 0)
		tell_environment();
	else if (strcmp(how, "descriptors") == 0)
		tell_descriptors();
	else if (strcmp(how, "state") == 0)
		tell_state();
	else if (strcmp(how, "exit") == 0)
		exit(argc > 2 ? atoi(argv[2]) : 3);
	else if (strcmp(how, "_exit") == 0)
		_exit(4);
	else if (strcmp(how, "quick_exit") == 0)
		quick_exit(5);
	else if (strcmp(how, "abort") == 0)
		abort();
	else if (strcmp(how, "segv") == 0)
		raise(SIGSEGV);
	else if (strcmp(how, "fault") == 0)
		*nowhere = 1;
	else if (strcmp(how, "kill") == 0)
		raise(SIGKILL);
	else if (strcmp(how, "term") == 0)
		raise(SIGTERM);
	else if (strcmp(how, "thread") == 0) {
		pthread_create(&thread, NULL, killer, NULL);
		pause();
	} else if (strcmp(how, "thread-exit") == 0) {
		/* The main thread ends first. */
		pthread_create(&thread, NULL, (void *(*)(void *))(void *)sleep, NULL);
		pthread_exit(NULL);
	} else if (strcmp(how, "double-free") == 0) {
		/* Through a volatile so that the compiler does not know. */
		void *volatile p = kept[5];

		free(p);
		free(p);
	}
	return 0;
}
