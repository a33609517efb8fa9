/* SPDX-License-Identifier: MIT */
/* A ring of jobs: the filling thread takes slots at the head and empties them at the tail, workers do what is between. */
#include "formats/dump_pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 16u
#define MAX_JOBS (2u * MAX_THREADS + 2u)

enum job_state { JOB_IDLE, JOB_READY, JOB_BUSY, JOB_DONE, JOB_FAILED };

struct dump_pool {
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	bool stop;
	unsigned threads; /* that run */
	pthread_t thread[MAX_THREADS];
	int level;
	uint32_t tag;
	struct dump_block_encoder *own; /* used when there are no threads */
	struct dump_job jobs[MAX_JOBS];
	unsigned job_count;
	uint32_t head, tail, taken; /* jobs ever submitted, sunk, and begun by workers; slot: modulo job_count */
	dump_pool_sink sink;
	void *data;
};

/* Builds the chunk's bytes. False when out of memory. */
static bool job_run(struct dump_block_encoder *e, struct dump_job *job, uint32_t tag)
{
	struct dump_chunk *c = &job->chunk;
	uint8_t *head = silt_writer_reserve(&job->out, DUMP_CHUNK_HEADER_SIZE);

	if (!head || !silt_writer_ok(&job->raw))
		return false;
	job->out.size = DUMP_CHUNK_HEADER_SIZE;
	memset(c, 0, sizeof(*c));
	c->section = (uint16_t)job->section;
	c->tag = tag;
	c->sequence = job->sequence;
	c->first = job->first;
	c->count = job->count;
	if (job->section == DUMP_BLOCKS) {
		if (job->count && !dump_blocks_encode(e, job->blocks, job->first, job->count, &job->out))
			return false;
		c->encoding = DUMP_COLUMNS;
		c->raw = (uint32_t)(job->out.size - DUMP_CHUNK_HEADER_SIZE);
	} else {
		if (!dump_deflate(dump_block_encoder_deflater(e), Z_DEFAULT_STRATEGY, job->raw.data, job->raw.size,
				  &job->out))
			return false;
		c->encoding = DUMP_DEFLATE;
		c->raw = (uint32_t)job->raw.size;
		if (job->out.size - DUMP_CHUNK_HEADER_SIZE >= job->raw.size) {
			job->out.size = DUMP_CHUNK_HEADER_SIZE;
			silt_writer_bytes(&job->out, job->raw.data, job->raw.size);
			c->encoding = DUMP_STORED;
		}
	}
	if (!silt_writer_ok(&job->out))
		return false;
	c->stored = (uint32_t)(job->out.size - DUMP_CHUNK_HEADER_SIZE);
	c->payload_crc = dump_crc(job->out.data + DUMP_CHUNK_HEADER_SIZE, c->stored);
	dump_chunk_put(job->out.data, c);
	return true;
}

static void *worker(void *arg)
{
	struct dump_pool *p = arg;
	struct dump_block_encoder *e = dump_block_encoder_create(p->level);

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct dump_job *job;
		bool ok;

		while (!p->stop && p->taken == p->head)
			pthread_cond_wait(&p->work, &p->lock);
		if (p->stop)
			break;
		job = &p->jobs[p->taken++ % p->job_count];
		job->state = JOB_BUSY;
		pthread_mutex_unlock(&p->lock);
		ok = e && job_run(e, job, p->tag);
		pthread_mutex_lock(&p->lock);
		job->state = ok ? JOB_DONE : JOB_FAILED;
		pthread_cond_signal(&p->done);
	}
	pthread_mutex_unlock(&p->lock);
	dump_block_encoder_destroy(e);
	return NULL;
}

/* Signals stay with the threads that expect them. */
static void threads_start(struct dump_pool *p, unsigned threads)
{
	sigset_t all, before;

	if (threads < 2)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (p->threads < threads && p->threads < MAX_THREADS) {
		if (pthread_create(&p->thread[p->threads], NULL, worker, p))
			break;
		p->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct dump_pool *dump_pool_create(unsigned threads, int level, uint32_t tag, dump_pool_sink sink, void *data)
{
	struct dump_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->level = level;
	p->tag = tag;
	p->sink = sink;
	p->data = data;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->done, NULL);
	threads_start(p, threads);
	p->job_count = p->threads ? 2 * p->threads + 2 : 1;
	if (!p->threads) {
		p->own = dump_block_encoder_create(level);
		if (!p->own) {
			dump_pool_destroy(p);
			return NULL;
		}
	}
	return p;
}

void dump_pool_destroy(struct dump_pool *p)
{
	unsigned i;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	for (i = 0; i < MAX_JOBS; i++) {
		silt_writer_deinit(&p->jobs[i].raw);
		silt_writer_deinit(&p->jobs[i].out);
	}
	dump_block_encoder_destroy(p->own);
	pthread_cond_destroy(&p->done);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Waits for the oldest job and hands it to the sink. */
static int sink_oldest(struct dump_pool *p, struct silt_error *err)
{
	struct dump_job *job = &p->jobs[p->tail % p->job_count];
	bool failed;

	if (p->own) {
		job->state = job_run(p->own, job, p->tag) ? JOB_DONE : JOB_FAILED;
	} else {
		pthread_mutex_lock(&p->lock);
		while (job->state != JOB_DONE && job->state != JOB_FAILED)
			pthread_cond_wait(&p->done, &p->lock);
		pthread_mutex_unlock(&p->lock);
	}
	failed = job->state == JOB_FAILED;
	job->state = JOB_IDLE;
	p->tail++;
	if (failed)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory while compressing the %s of a dump",
				      dump_section_name(job->section));
	return p->sink(p->data, job, err);
}

int dump_pool_next(struct dump_pool *p, struct dump_job **ret, struct silt_error *err)
{
	struct dump_job *job;
	int rc;

	if (p->head - p->tail == p->job_count) {
		rc = sink_oldest(p, err);
		if (rc)
			return rc;
	}
	job = &p->jobs[p->head % p->job_count];
	silt_writer_clear(&job->raw);
	silt_writer_clear(&job->out);
	job->blocks = NULL;
	job->first = 0;
	job->count = 0;
	*ret = job;
	return 0;
}

void dump_pool_submit(struct dump_pool *p, struct dump_job *job)
{
	job->sequence = p->head;
	pthread_mutex_lock(&p->lock);
	job->state = JOB_READY;
	p->head++;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

int dump_pool_drain(struct dump_pool *p, struct silt_error *err)
{
	while (p->tail != p->head) {
		int rc = sink_oldest(p, err);

		if (rc)
			return rc;
	}
	return 0;
}
