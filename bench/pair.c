/* SPDX-License-Identifier: MIT */
/**
 * Nanoseconds per free/malloc pair: threads that descend, do four pairs on random slots, return to the top and descend
 * anew along another path. Prints one line of JSON; with `turns`, "ready" and then one line for every line that it reads:
 * contestants that are alive at once and take short turns meet the same machine, however its speed changes.
 *
 * usage: pair DEPTH THREADS [SECONDS [turns]]
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "descend.h"

enum {
	SLOTS = 20000,
	PAIRS_PER_DESCENT = 4,
	THREADS_MAX = 64,
	WARM_DESCENTS = 15000, /* each of the 1024 stacks is met several times; 60,000 pairs touch every slot */
	CHUNK_DESCENTS = 512,  /* between two looks at the clock */
	LEAD_DESCENTS = 2500,  /* begin a turn: the others' turns have emptied the caches */
};

struct worker {
	pthread_t thread;
	uint64_t random;
	uint64_t pairs;   /* of the turn */
	uint64_t ns;      /* wall time of them */
	uint64_t cpu_ns;  /* processor time of them */
	uint64_t mallocs; /* all ever made, warm-up included */
	void **slots;
};

static unsigned depth;
static double seconds = 0.5;   /* of a turn */
static bool turns;             /* until the input ends; else one */
static bool over;              /* no turn follows; written between two barriers */
static pthread_barrier_t gate; /* all threads begin a turn together, and end it */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noipa)) static void work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < PAIRS_PER_DESCENT; i++) {
		uint64_t r = bench_random(&w->random);
		void **slot = &w->slots[(uint32_t)(r >> 32) % SLOTS];

		free(*slot);
		*slot = malloc(16 + (r & 255));
		if (!*slot)
			abort();
		*(uint64_t *)*slot = r;
	}
	w->mallocs += PAIRS_PER_DESCENT;
}

static void run_descents(struct worker *w, unsigned n)
{
	struct descent d = {.depth = depth, .leaf = work, .arg = w};

	for (unsigned i = 0; i < n; i++) {
		d.path = (uint32_t)(bench_random(&w->random) >> 40) & ((1u << BENCH_PATH_BITS) - 1);
		descend(&d);
	}
}

static void take_turn(struct worker *w)
{
	uint64_t start, cpu, end;

	if (turns)
		run_descents(w, LEAD_DESCENTS);
	w->pairs = 0;
	start = clock_ns(CLOCK_MONOTONIC);
	cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	end = start + (uint64_t)(seconds * 1e9);
	do {
		run_descents(w, CHUNK_DESCENTS);
		w->pairs += CHUNK_DESCENTS * PAIRS_PER_DESCENT;
		w->ns = clock_ns(CLOCK_MONOTONIC) - start;
	} while (start + w->ns < end);
	w->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

static void warm_up(struct worker *w)
{
	w->slots = calloc(SLOTS, sizeof(*w->slots));
	if (!w->slots)
		abort();
	for (int i = 0; i < SLOTS; i++)
		w->slots[i] = malloc(16 + (bench_random(&w->random) & 255));
	w->mallocs = SLOTS;
	run_descents(w, WARM_DESCENTS);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	warm_up(w);
	for (;;) {
		pthread_barrier_wait(&gate);
		if (over)
			return NULL;
		take_turn(w);
		pthread_barrier_wait(&gate);
	}
}

/** Whether another turn is wanted. */
static bool next_turn(unsigned taken)
{
	char line[64];

	return turns ? fgets(line, sizeof(line), stdin) != NULL : taken == 0;
}

static void tell(const struct worker *workers, unsigned threads)
{
	double ns = 0, cpu_ns = 0;
	uint64_t mallocs = 0;

	for (unsigned i = 0; i < threads; i++) {
		ns += (double)workers[i].ns / (double)workers[i].pairs / threads;
		cpu_ns += (double)workers[i].cpu_ns / (double)workers[i].pairs / threads;
		mallocs += workers[i].mallocs;
	}
	printf("{\"ns_per_pair\": %.2f, \"cpu_ns_per_pair\": %.2f, \"mallocs\": %llu}\n", ns, cpu_ns,
	       (unsigned long long)mallocs);
	fflush(stdout);
}

static void ready(void)
{
	if (turns) {
		puts("ready");
		fflush(stdout);
	}
}

/** One thread: the main thread of a program that has no other, where malloc takes its fastest way. */
static void alone(struct worker *w)
{
	warm_up(w);
	ready();
	for (unsigned taken = 0; next_turn(taken); taken++) {
		take_turn(w);
		tell(w, 1);
	}
}

static void together(struct worker *workers, unsigned threads)
{
	pthread_barrier_init(&gate, NULL, threads + 1);
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
			abort();
	ready();
	for (unsigned taken = 0; next_turn(taken); taken++) {
		pthread_barrier_wait(&gate);
		pthread_barrier_wait(&gate);
		tell(workers, threads);
	}
	over = true;
	pthread_barrier_wait(&gate);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS_MAX];
	unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

	depth = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	if (argc > 3)
		seconds = strtod(argv[3], NULL);
	turns = argc > 4 && strcmp(argv[4], "turns") == 0;
	if (depth < 1 || depth > BENCH_DEPTH_MAX || threads < 1 || threads > THREADS_MAX || seconds <= 0) {
		fprintf(stderr, "usage: pair DEPTH(1..%d) THREADS(1..%d) [SECONDS [turns]]\n", BENCH_DEPTH_MAX,
			THREADS_MAX);
		return 2;
	}
	if (getenv("PAIR_STOP")) /* to be attached to */
		raise(SIGSTOP);
	for (unsigned i = 0; i < threads; i++)
		workers[i].random = 0x9e3779b97f4a7c15ull * (i + 1);
	if (threads == 1)
		alone(&workers[0]);
	else
		together(workers, threads);
	return 0;
}
