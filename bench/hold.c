/* SPDX-License-Identifier: MIT */
/**
 * A process that holds many live blocks and stands still, for measuring memory, captures and diffs. The main thread
 * makes the first half of the blocks, a second thread the other half; then the main thread obeys commands on standard
 * input and the second one sleeps, or with --spin watches the clock for gaps: a stop of the process is a gap.
 *
 * usage: hold [--blocks N] [--size BYTES | --step BYTES] [--half] [--spin]     (without --size: 16 to 271 bytes)
 *   --step   rounds the sizes down to multiples of BYTES
 *   --half   makes twice as many blocks and frees every second one at random
 * Prints "ready PID BLOCKS". Commands, one a line:
 *   gap      prints the longest gap in ns the spinning thread saw since the last "gap", and the longest stop: a gap
 *            less the time in it that the thread was ready to run and waited for a processor
 *   grow P   frees P percent of the blocks at random and makes 2 P percent new ones; prints "ready PID BLOCKS"
 *   quit     exits without freeing anything, as the end of input does
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "descend.h"

enum {
	DEPTH = 20,
	BLOCKS_PER_DESCENT = 4,
	GAP_NS = 200000,   /* shorter ones are not worth a look */
	LOOK_NS = 1000000, /* how often the time waited for a processor is read anew */
	GROW_PATHS = 32,   /* growth comes from few stacks, as a leak does */
};

struct holder {
	uint64_t random;
	void **blocks;
	size_t from, to; /* fills blocks[from, to) */
	uint32_t paths;  /* how many distinct stacks */
};

static size_t fixed_size; /* 0: 16 to 271 bytes */
static size_t step = 1;   /* sizes are multiples of it */
static bool spin;
static _Atomic uint64_t largest_gap, largest_stop;
static pthread_barrier_t filled;

static size_t next_size(uint64_t *random)
{
	size_t size = 16 + (bench_random(random) & 255);

	return fixed_size ? fixed_size : size - size % step;
}

__attribute__((noipa)) static void work(void *arg)
{
	struct holder *h = arg;

	for (int i = 0; i < BLOCKS_PER_DESCENT && h->from < h->to; i++) {
		void *p = malloc(next_size(&h->random));

		if (!p)
			abort();
		*(uint64_t *)p = h->from;
		h->blocks[h->from++] = p;
	}
}

static void fill(struct holder *h)
{
	struct descent d = {.depth = DEPTH, .leaf = work, .arg = h};

	while (h->from < h->to) {
		d.path = (uint32_t)(bench_random(&h->random) >> 40) % h->paths;
		descend(&d);
	}
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds this thread has waited for a processor so far. */
static uint64_t waited_ns(int schedstat)
{
	char text[96];
	ssize_t n = pread(schedstat, text, sizeof(text) - 1, 0);
	unsigned long long waited = 0;

	if (n > 0) {
		text[n] = 0;
		sscanf(text, "%*u %llu", &waited);
	}
	return waited;
}

static void raise_to(_Atomic uint64_t *largest, uint64_t value)
{
	if (value > *largest)
		*largest = value;
}

/* A gap in which the thread waited for a processor was the scheduler's doing; what is left of it was a stop. */
static void watch_clock(void)
{
	int schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	uint64_t waited = waited_ns(schedstat), last = now_ns(), looked = last;

	for (;;) {
		uint64_t now = now_ns(), gap = now - last;

		if (gap > GAP_NS || now - looked > LOOK_NS) {
			uint64_t waited_now = waited_ns(schedstat), wait = waited_now - waited;

			raise_to(&largest_gap, gap);
			raise_to(&largest_stop, gap > wait ? gap - wait : 0);
			waited = waited_now;
			now = looked = now_ns();
		}
		last = now;
	}
}

static void *second_thread(void *arg)
{
	fill(arg);
	pthread_barrier_wait(&filled);
	if (spin)
		watch_clock();
	for (;;)
		pause();
	return NULL;
}

/* Frees n of the first *count blocks, chosen at random, and closes the gaps. */
static void free_some(void **blocks, size_t *count, size_t n, uint64_t *random)
{
	while (n-- > 0) {
		size_t i = (size_t)(bench_random(random) % *count);

		free(blocks[i]);
		blocks[i] = blocks[--*count];
	}
}

static void ready(size_t count)
{
	printf("ready %d %zu\n", (int)getpid(), count);
	fflush(stdout);
}

static void obey(void **blocks, size_t count, size_t room, uint64_t *random)
{
	char line[64];

	ready(count);
	while (fgets(line, sizeof(line), stdin)) {
		if (strncmp(line, "gap", 3) == 0) {
			printf("gap %llu %llu\n", (unsigned long long)largest_gap,
			       (unsigned long long)largest_stop);
			fflush(stdout);
			largest_gap = largest_stop = 0;
		} else if (strncmp(line, "grow ", 5) == 0) {
			size_t part = count / 100 * (size_t)strtoul(line + 5, NULL, 10);
			struct holder h = {.random = *random, .blocks = blocks, .paths = GROW_PATHS};

			free_some(blocks, &count, part < count ? part : count, random);
			h.from = count;
			h.to = count + 2 * part < room ? count + 2 * part : room;
			fill(&h);
			count = h.to;
			ready(count);
		} else if (strncmp(line, "quit", 4) == 0) {
			return;
		}
	}
}

int main(int argc, char **argv)
{
	size_t count = 2000000, room;
	bool half = false;
	uint64_t random = 88172645463325252ull;
	pthread_t thread;
	void **blocks;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--blocks") == 0 && i + 1 < argc) {
			count = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--size") == 0 && i + 1 < argc) {
			fixed_size = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--step") == 0 && i + 1 < argc) {
			step = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--half") == 0) {
			half = true;
		} else if (strcmp(argv[i], "--spin") == 0) {
			spin = true;
		} else {
			fprintf(stderr,
				"usage: hold [--blocks N] [--size BYTES | --step BYTES] [--half] [--spin]\n");
			return 2;
		}
	}
	if (count < 2 || count > 1000000000 || (fixed_size && fixed_size < sizeof(uint64_t)) || step < 1 ||
	    step > 16) {
		fprintf(stderr, "hold: --blocks wants 2 to 10^9, --size at least 8, --step 1 to 16\n");
		return 2;
	}
	if (half)
		count *= 2;
	room = count + count / 2;
	/* The list of blocks shall not be a heap block itself. */
	blocks = mmap(NULL, room * sizeof(*blocks), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (blocks == MAP_FAILED) {
		perror("hold: mmap");
		return 1;
	}
	struct holder first = {.random = 1, .blocks = blocks, .to = count / 2, .paths = 1u << BENCH_PATH_BITS};
	struct holder second = {
		.random = 2, .blocks = blocks, .from = count / 2, .to = count, .paths = 1u << BENCH_PATH_BITS};

	pthread_barrier_init(&filled, NULL, 2);
	if (pthread_create(&thread, NULL, second_thread, &second) != 0)
		abort();
	fill(&first);
	pthread_barrier_wait(&filled);
	if (half)
		free_some(blocks, &count, count / 2, &random);
	obey(blocks, count, room, &random);
	return 0;
}
