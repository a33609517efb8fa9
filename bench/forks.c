/* SPDX-License-Identifier: MIT */
/*
 * A process with many blocks that forks children one after another and waits for each.
 * usage: forks BLOCKS CHILDREN exit|exec|work
 * What a child does: end at once, run /bin/true at once, or free and allocate a hundred blocks and end. Prints "SECONDS" for all children.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void **blocks;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noinline)) static void *make(size_t size, int depth)
{
	void *volatile p = depth ? make(size, depth - 1) : malloc(size);

	return p;
}

static void child(const char *what, long count)
{
	if (!strcmp(what, "exec")) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	for (long i = 0; !strcmp(what, "work") && i < 100; i++) {
		free(blocks[i * 7919 % count]);
		blocks[i * 7919 % count] = make(100, (int)(i % 10));
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	long count = argc == 4 ? atol(argv[1]) : 0, children = argc == 4 ? atol(argv[2]) : 0;
	double start;

	if (count < 1000 || children < 1)
		return 2;
	blocks = calloc((size_t)count, sizeof(*blocks));
	for (long i = 0; blocks && i < count; i++)
		blocks[i] = make((size_t)(16 + i * 37 % 200), (int)(i % 30));
	start = now();
	for (long i = 0; i < children; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			child(argv[3], count);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			return 1;
		for (int k = 0; k < 100; k++)
			free(make(50, 3)); /* the parent goes on */
	}
	printf("%.9f\n", now() - start);
	return 0;
}
