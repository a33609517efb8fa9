/* SPDX-License-Identifier: MIT */
/*
 * A program whose children know what they allocate. usage: children FOLDER
 * Threads allocate all the time; at a line on standard input one of them forks a child, that one another. Each child makes blocks, gives
 * some back, also inherited ones, and writes lines to FOLDER/PID: "own ADDRESS SIZE" of its blocks, "old ADDRESS SIZE" of those it has
 * from its parent, "gone ADDRESS 0" of such as it gave back, "busy ADDRESS SIZE" of what the parent's threads had when it was forked.
 * Then it waits; at SIGUSR1 once more. The end of the input ends all.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define INHERITED 400
#define KEPT 2000

#define THREADS 3
#define BUSY 50

static void *inherited[INHERITED], *gone[INHERITED];
static void *volatile busy[THREADS][BUSY];
static size_t busy_sizes[THREADS][BUSY];
static void *volatile kept[KEPT];
static size_t sizes[KEPT];
static const char *folder;
static int line[2];

static void *churn(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg + 1;

	for (;;) {
		int i = rand_r(&seed) % BUSY;

		free(busy[(uintptr_t)arg][i]);
		busy_sizes[(uintptr_t)arg][i] = (size_t)(rand_r(&seed) % 500) + 1;
		busy[(uintptr_t)arg][i] = malloc(busy_sizes[(uintptr_t)arg][i]);
		if (rand_r(&seed) % 500 == 0)
			nanosleep(&(struct timespec){ 0, 200000 }, NULL);
	}
	return NULL;
}

/* With nothing of stdio's that allocates. */
static void tell_one(int fd, const char *what, void *p, size_t size)
{
	char text[96];
	int n = p ? snprintf(text, sizeof(text), "%s %p %zu\n", what, p, size) : 0;

	if (write(fd, text, (size_t)n) != n)
		_exit(1);
}

static void tell(void)
{
	char name[4096], to[4096];
	int fd;

	snprintf(name, sizeof(name), "%s/%d.new", folder, (int)getpid());
	snprintf(to, sizeof(to), "%s/%d", folder, (int)getpid());
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	for (int i = 0; i < KEPT; i++)
		tell_one(fd, "own", kept[i], sizes[i]);
	for (int i = 0; i < INHERITED; i++) {
		tell_one(fd, "old", inherited[i], (size_t)(i * 13 % 900) + 1);
		tell_one(fd, "gone", gone[i], 0);
	}
	for (int i = 0; i < THREADS * BUSY; i++)
		tell_one(fd, "busy", busy[i / BUSY][i % BUSY], busy_sizes[i / BUSY][i % BUSY]);
	close(fd);
	rename(name, to);
}

__attribute__((noinline)) static void child_allocates(unsigned *seed)
{
	for (int i = 0; i < 6000; i++) {
		int k = rand_r(seed) % KEPT;

		if (kept[k] && rand_r(seed) % 3 == 0) {
			free(kept[k]);
			kept[k] = NULL;
			continue;
		}
		sizes[k] = (size_t)(rand_r(seed) % 3000) + 1;
		if (!kept[k] && rand_r(seed) % 4 == 0) { /* a block of the parent's becomes one of ours */
			int from = rand_r(seed) % INHERITED;

			kept[k] = realloc(inherited[from], sizes[k]);
			inherited[from] = NULL;
		} else {
			kept[k] = realloc(kept[k], sizes[k]);
		}
		memset(kept[k], k, sizes[k]);
	}
	for (int i = 0; i < INHERITED; i += 3) {
		if (inherited[i])
			gone[i] = inherited[i];
		free(inherited[i]);
		inherited[i] = NULL;
	}
}

static void child(void)
{
	unsigned seed;
	sigset_t set;
	int signal_number;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fork(); /* the grandchild does the same */
	seed = (unsigned)getpid();
	for (;;) {
		child_allocates(&seed);
		tell();
		if (sigwait(&set, &signal_number))
			_exit(1);
	}
}

static void *forks(void *arg)
{
	char c;

	while (read(line[0], &c, 1) == 1)
		if (fork() == 0)
			child();
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t;
	char c;

	if (argc != 2 || pipe(line))
		return 2;
	folder = argv[1];
	for (int i = 0; i < INHERITED; i++)
		inherited[i] = malloc((size_t)(i * 13 % 900) + 1);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t, NULL, churn, (void *)i))
			return 1;
	if (pthread_create(&t, NULL, forks, NULL))
		return 1;
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		if (write(line[1], &c, 1) != 1)
			return 1;
	return 0;
}
