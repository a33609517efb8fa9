/* SPDX-License-Identifier: MIT */
/*
 * Reading ahead: a second thread copies the target's memory into a ring of pieces while the first walks the piece before. The
 * target stands still meanwhile, and copying takes about as long as walking.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "capture/heap/heap_internal.h"

#define PIECES 4u
#define PIECE (256u << 10) /* so that what one processor copied is still in its cache when the other looks at it */
#define OVERLAP 64u        /* a header may stand across the edge of two pieces */

struct piece {
	silt_addr start;
	size_t size; /* what could be read of it */
	uint8_t *bytes;
};

struct silt_heap_ahead {
	struct silt_heap_reader reader;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	bool quit, reading;
	bool waits_for_work, waits_for_piece;
	silt_addr next, limit; /* still to be read */
	unsigned made, taken;  /* pieces, counted from the stream's start; the one taken last is in use */
	struct piece ring[PIECES];
};

/* The next piece to be read; false: there is none, or no room for it. */
static bool next_piece(struct silt_heap_ahead *a, struct piece **ret)
{
	struct piece *p = &a->ring[a->made % PIECES];

	if (a->next >= a->limit || a->made - a->taken >= PIECES - 1)
		return false;
	p->start = a->next;
	p->size = a->limit - a->next < PIECE ? (size_t)(a->limit - a->next) : PIECE;
	*ret = p;
	return true;
}

static void *read_on(void *arg)
{
	struct silt_heap_ahead *a = arg;
	struct piece *p;

	pthread_mutex_lock(&a->lock);
	while (!a->quit) {
		size_t wanted, got;

		if (!next_piece(a, &p)) {
			a->waits_for_work = true;
			pthread_cond_wait(&a->work, &a->lock);
			a->waits_for_work = false;
			continue;
		}
		a->reading = true;
		wanted = p->size;
		pthread_mutex_unlock(&a->lock);
		got = a->reader.read(a->reader.data, p->start, p->bytes, wanted);
		pthread_mutex_lock(&a->lock);
		a->reading = false;
		p->size = got;
		/* Where memory cannot be read the stream ends: the walker finds its own way round. */
		a->next = got < wanted || wanted < PIECE ? a->limit : p->start + wanted - OVERLAP;
		a->made++;
		if (a->waits_for_piece)
			pthread_cond_signal(&a->done);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static bool second_processor(void)
{
	cpu_set_t set;

	return !sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) > 1;
}

struct silt_heap_ahead *silt_heap_ahead_create(const struct silt_heap_reader *reader)
{
	struct silt_heap_ahead *a = second_processor() ? calloc(1, sizeof(*a)) : NULL;
	uint8_t *bytes = a ? malloc((size_t)PIECES * PIECE) : NULL;
	sigset_t all, old;
	int e;

	if (!bytes) {
		free(a);
		return NULL;
	}
	a->reader = *reader;
	for (unsigned i = 0; i < PIECES; i++)
		a->ring[i].bytes = bytes + (size_t)i * PIECE;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->work, NULL);
	pthread_cond_init(&a->done, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	e = pthread_create(&a->thread, NULL, read_on, a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!e)
		return a;
	free(bytes);
	free(a);
	return NULL;
}

void silt_heap_ahead_destroy(struct silt_heap_ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->quit = true;
	pthread_cond_signal(&a->work);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->work);
	pthread_cond_destroy(&a->done);
	pthread_mutex_destroy(&a->lock);
	free(a->ring[0].bytes);
	free(a);
}

/* The first piece not yet taken, once it is there. */
static struct piece *wait_for_piece(struct silt_heap_ahead *a)
{
	while (a->made == a->taken && (a->reading || a->next < a->limit)) {
		a->waits_for_piece = true;
		pthread_cond_wait(&a->done, &a->lock);
		a->waits_for_piece = false;
	}
	return a->made == a->taken ? NULL : &a->ring[a->taken % PIECES];
}

static void wake_reader(struct silt_heap_ahead *a)
{
	if (a->waits_for_work)
		pthread_cond_signal(&a->work);
}

bool silt_heap_ahead_take(struct silt_heap_ahead *a, silt_addr addr, size_t need, silt_addr limit, const uint8_t **ret_bytes,
			  silt_addr *ret_start, size_t *ret_size)
{
	struct piece *p;
	bool found = false;

	pthread_mutex_lock(&a->lock);
	p = wait_for_piece(a);
	if (!p || a->limit != limit || addr < p->start || addr - p->start > PIECE - OVERLAP) {
		/* Another place: begin anew there, when the reader has let go of the ring. */
		a->limit = 0;
		while (a->reading) {
			a->waits_for_piece = true;
			pthread_cond_wait(&a->done, &a->lock);
			a->waits_for_piece = false;
		}
		a->made = a->taken = 0;
		a->next = addr;
		a->limit = limit;
		wake_reader(a);
		p = wait_for_piece(a);
	}
	if (p && p->size >= need && addr - p->start <= p->size - need) {
		*ret_bytes = p->bytes;
		*ret_start = p->start;
		*ret_size = p->size;
		found = true;
	}
	if (p)
		a->taken++;
	wake_reader(a);
	pthread_mutex_unlock(&a->lock);
	return found;
}
