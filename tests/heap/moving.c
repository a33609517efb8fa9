/* SPDX-License-Identifier: MIT */
/*
 * Threads that allocate and free all the time, while some blocks of a size of their own stay. usage: moving THREADS KEPT
 * Prints "ready", then the addresses of the kept blocks, then "end"; goes on until it is killed.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_SIZE 1240 /* nothing else comes near it */
#define HELD 400

static unsigned kept_each;
static pthread_barrier_t filled;
static void **kept;

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static size_t pick(uint64_t *x)
{
	uint64_t kind = next(x) % 100;

	if (kind < 90)
		return 1 + next(x) % 1000;
	return kind < 99 ? 2000 + next(x) % 30000 : 140000 + next(x) % 200000;
}

static void *run(void *arg)
{
	uint64_t x = 88172645463325252ull + (uintptr_t)arg * 7919;
	void *held[HELD] = { 0 };

	for (unsigned i = 0; i < kept_each; i++) {
		kept[(uintptr_t)arg * kept_each + i] = malloc(KEPT_SIZE);
		held[next(&x) % HELD] = malloc(pick(&x)); /* some are lost: they stay, too */
	}
	pthread_barrier_wait(&filled);
	for (;;) {
		unsigned at = (unsigned)(next(&x) % HELD);

		free(held[at]);
		held[at] = malloc(pick(&x));
		if (next(&x) % 5000 == 0)
			for (unsigned i = 0; i < HELD; i++) { /* waves of frees fill fast bins and join chunks */
				free(held[i]);
				held[i] = NULL;
			}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned threads = argc > 2 ? (unsigned)atoi(argv[1]) : 1;
	pthread_t thread;

	kept_each = argc > 2 ? (unsigned)atoi(argv[2]) : 1000;
	kept = calloc((size_t)threads * kept_each, sizeof(*kept));
	pthread_barrier_init(&filled, NULL, threads + (threads > 1));
	for (unsigned i = 1; i < threads; i++)
		pthread_create(&thread, NULL, run, (void *)(uintptr_t)i);
	if (threads > 1) {
		pthread_create(&thread, NULL, run, NULL);
		pthread_barrier_wait(&filled);
	} else {
		/* One thread: no locks. Its blocks are made here, so that they can be listed before it begins. */
		for (unsigned i = 0; i < kept_each; i++)
			kept[i] = malloc(KEPT_SIZE);
	}
	puts("ready");
	for (size_t i = 0; i < (size_t)threads * kept_each; i++)
		printf("%lx\n", (unsigned long)kept[i]);
	puts("end");
	fflush(stdout);
	if (threads > 1)
		pthread_join(thread, NULL);
	kept_each = 0;
	run(NULL);
}
