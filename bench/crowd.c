/* SPDX-License-Identifier: MIT */
/*
 * A process with many threads and many live blocks, for the attach row. usage: crowd THREADS BLOCKS
 * Prints "ready" when all are there, then allocates a little now and then until its input ends.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	long threads = argc == 3 ? strtol(argv[1], NULL, 10) : 0, blocks = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
	struct pollfd input = { .fd = 0, .events = POLLIN };
	pthread_attr_t attr;
	void **keep;

	if (threads < 1 || blocks < 1) {
		fprintf(stderr, "usage: crowd THREADS BLOCKS\n");
		return 2;
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (long i = 1; i < threads; i++) {
		pthread_t t;

		if (pthread_create(&t, &attr, wait_for_ever, NULL))
			return 1;
	}
	keep = malloc((size_t)blocks * sizeof(*keep));
	for (long i = 0; i < blocks; i++)
		keep[i] = malloc(40 + (size_t)(i * 7 % 100));
	puts("ready");
	fflush(stdout);
	while (poll(&input, 1, 1) <= 0)
		free(malloc(100));
	return keep[0] == NULL;
}
