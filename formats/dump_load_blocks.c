/* SPDX-License-Identifier: MIT */
/* Block chunks are independent of each other: threads take them in turn and decode straight into the columns. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "formats/dump_load.h"

#define MAX_THREADS 4u
#define CHUNKS_PER_THREAD 4u /* with fewer, starting a thread costs more than it brings */

struct shared {
	struct dump_block_work *work;
	atomic_size_t next;
	atomic_bool stop;
	pthread_mutex_t lock;
	size_t failed_at; /* the lowest failed chunk, and what it said */
	struct silt_error error;
};

static bool contexts_ok(const uint32_t *context, uint32_t n, uint32_t limit)
{
	uint32_t max = 0, i;

	for (i = 0; i < n; i++)
		if (context[i] > max)
			max = context[i];
	return max < limit;
}

static int decode_one(struct dump_loader *l, struct dump_block_decoder *d, struct dump_block_work *w, size_t i,
		      struct silt_error *err)
{
	struct dump_found *f = w->list[i];
	struct silt_blocks *b = w->blocks;
	uint32_t *context = b->context + w->at[i];
	uint32_t n = f->head.count, k;
	struct silt_reader r;
	int ret = dump_load(l, w->src, f, &r, err);

	if (ret)
		return ret;
	if (!n) {
		if (silt_reader_left(&r))
			silt_reader_fail(&r, "bytes in a chunk without blocks");
		return silt_reader_error(&r, err);
	}
	dump_blocks_decode(d, &r, n, b->addr + w->at[i], b->size + w->at[i], context);
	if (!silt_reader_ok(&r))
		return silt_reader_error(&r, err);
	if (contexts_ok(context, n, w->context_count))
		return 0;
	if (!w->salvage)
		return dump_source_bad(w->src, f->offset, err, "damaged: a block in chunk %" PRIu32 " has no context",
				       f->head.sequence);
	for (k = 0; k < n; k++)
		if (context[k] >= w->context_count)
			context[k] = SILT_NONE; /* the caller knows what stands for lost contexts */
	return 0;
}

static void *worker(void *arg)
{
	struct shared *sh = arg;
	struct dump_block_work *w = sh->work;
	struct dump_block_decoder *d = dump_block_decoder_create();
	struct dump_loader l = {0};
	size_t i;

	while (!atomic_load(&sh->stop) && (i = atomic_fetch_add(&sh->next, 1)) < w->count) {
		struct silt_error e = {0};
		int ret = d ? decode_one(&l, d, w, i, &e) :
			      silt_error_set(&e, SILT_E_NOMEM, "%s: out of memory", w->src->name);

		if (!ret)
			continue;
		if (w->salvage && ret == SILT_E_BAD_DATA) {
			w->list[i]->lost = true;
			continue;
		}
		pthread_mutex_lock(&sh->lock);
		if (!sh->error.code || i < sh->failed_at) {
			sh->failed_at = i;
			sh->error = e;
		}
		pthread_mutex_unlock(&sh->lock);
		/* Chunks below i were all begun before: the lowest damaged one is found whatever the timing. */
		atomic_store(&sh->stop, true);
	}
	dump_loader_deinit(&l);
	dump_block_decoder_destroy(d);
	return NULL;
}

int dump_load_blocks(struct dump_block_work *work, struct silt_error *err)
{
	struct shared sh = {.work = work, .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t thread[MAX_THREADS];
	size_t wanted = work->count / CHUNKS_PER_THREAD, started = 0, i;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	sigset_t all, before;

	if (wanted > MAX_THREADS)
		wanted = MAX_THREADS;
	if (processors > 0 && wanted > (size_t)processors)
		wanted = (size_t)processors;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (started + 1 < wanted && !pthread_create(&thread[started], NULL, worker, &sh))
		started++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	worker(&sh);
	for (i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	if (sh.error.code && err)
		*err = sh.error;
	return sh.error.code;
}
