/* SPDX-License-Identifier: MIT */
/* A target for killing: threads that allocate and free at full speed and count; the count is shared with the test, so that
 * a stopped or dead target shows. Ends by itself after the seconds given, or when the third word of COUNTER is not 0,
 * with status 0. Usage: churn COUNTER SECONDS */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define THREADS 3
#define KEPT 2000

static _Atomic uint64_t *counter;
static atomic_int stop;

static __attribute__((noinline)) void *deeper(unsigned depth, size_t size)
{
	void *p = depth ? deeper(depth - 1, size) : malloc(size);

	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
	return p;
}

static void *churn(void *arg)
{
	void *kept[KEPT] = {NULL};
	uint64_t x = (uint64_t)arg * 88172645463325252ull + 1;

	while (!stop) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		size_t i = x % KEPT;

		if (x & 1 << 20)
			kept[i] = realloc(kept[i], x >> 32 & 0x3ff);
		free(kept[i]);
		kept[i] = deeper(x >> 24 & 15, x >> 40 & 0x7ff);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	const struct timespec moment = {.tv_nsec = 20000000};
	int moments = 50 * (argc > 2 ? atoi(argv[2]) : 10);
	int fd = argc > 1 ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd < 0 || ftruncate(fd, 4096) != 0)
		return 2;
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (counter == MAP_FAILED)
		return 2;
	counter[1] = (uint64_t)getpid();
	for (uint64_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, churn, (void *)i) != 0)
			return 2;
	while (moments-- > 0 && !counter[2])
		nanosleep(&moment, NULL);
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
