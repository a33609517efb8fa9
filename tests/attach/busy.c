/* SPDX-License-Identifier: MIT */
/*
 * A program to attach to: threads that allocate in every way, check what they wrote, and count their rounds in a file that a
 * test can read while they work. Ends with status 1 and a message when a block is not as it was left.
 * usage: busy COUNTERS THREADS [storm|large]: with storm they start threads that end at once; with large it keeps 200,000 blocks more.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 200
#define MORE 200000

static void *more[MORE];

static volatile uint64_t *counters;

struct slot {
	unsigned char *p;
	size_t size;
	unsigned char mark;
};

static void *allocate(unsigned *seed, size_t size)
{
	void *p = NULL;

	switch (rand_r(seed) % 6) {
	case 0:
		return calloc(1, size);
	case 1:
		return posix_memalign(&p, 64, size) ? NULL : p;
	case 2:
		return aligned_alloc(32, (size + 31) & ~(size_t)31);
	case 3:
		return realloc(NULL, size);
	case 4:
		return memalign(128, size);
	default:
		return malloc(size);
	}
}

static void check(const struct slot *s)
{
	for (size_t i = 0; i < s->size; i++)
		if (s->p[i] != s->mark) {
			fprintf(stderr, "busy: byte %zu of a block of %zu changed\n", i, s->size);
			_exit(1);
		}
}

static void *work(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg + 1;
	volatile uint64_t *counter = &counters[(uintptr_t)arg];
	struct slot slots[SLOTS] = { { 0 } };

	for (;;) {
		struct slot *s = &slots[rand_r(&seed) % SLOTS];

		check(s);
		if (s->p && rand_r(&seed) % 4 == 0) {
			size_t size = (size_t)(rand_r(&seed) % 900) + 1, keep = size < s->size ? size : s->size;

			s->p = realloc(s->p, size);
			s->size = keep;
			check(s);
			s->size = size;
		} else {
			free(s->p);
			s->size = rand_r(&seed) % 3000 == 0 ? 300000 : (size_t)(rand_r(&seed) % 600) + 1;
			s->p = allocate(&seed, s->size);
		}
		if (!s->p) {
			fprintf(stderr, "busy: no memory\n");
			_exit(1);
		}
		s->mark = (unsigned char)rand_r(&seed);
		memset(s->p, s->mark, s->size);
		if (++*counter % 2000 == 0)
			nanosleep(&(struct timespec){ 0, 300000 }, NULL);
	}
	return NULL;
}

static void *short_life(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < 20; i++)
		free(allocate(&seed, (size_t)(rand_r(&seed) % 600) + 1));
	return NULL;
}

/* Most threads live for less than a millisecond. */
static void *storm(void *arg)
{
	for (uintptr_t n = 0;; n += 8) {
		pthread_t t[8];

		for (uintptr_t i = 0; i < 8; i++)
			if (pthread_create(&t[i], NULL, short_life, (void *)(n + i)))
				_exit(1);
		for (int i = 0; i < 8; i++)
			pthread_join(t[i], NULL);
		++counters[(uintptr_t)arg];
	}
	return NULL;
}

int main(int argc, char **argv)
{
	bool storms = argc == 4 && !strcmp(argv[3], "storm"), large = argc == 4 && !strcmp(argv[3], "large");
	bool good = argc == 3 || storms || large;
	int fd = good ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
	long threads = good ? strtol(argv[2], NULL, 10) : 0;
	pthread_t t;

	if (fd < 0 || threads < 1 || threads > 500 || ftruncate(fd, 4096)) {
		fprintf(stderr, "usage: busy COUNTERS THREADS [storm|large]\n");
		return 2;
	}
	counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	for (int i = 0; large && i < MORE; i++)
		more[i] = malloc(40 + (size_t)i % 100);
	for (long i = 1; i < threads; i++)
		if (pthread_create(&t, NULL, storms ? storm : work, (void *)(uintptr_t)i))
			return 1;
	if (storms)
		storm(NULL);
	work(NULL);
	return 0;
}
