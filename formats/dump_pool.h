/* SPDX-License-Identifier: MIT */
/* Chunks compressed by several threads and written in the order they were begun. */
#ifndef SILT_FORMATS_DUMP_POOL_H
#define SILT_FORMATS_DUMP_POOL_H

#include "formats/dump_internal.h"

struct dump_job {
	enum dump_section section;
	uint64_t first;
	uint32_t count;
	struct silt_writer raw;          /* tables: the records */
	const struct silt_blocks *blocks; /* block sections: where from */
	/* filled by the pool */
	uint32_t sequence;
	struct dump_chunk chunk;
	struct silt_writer out; /* header and payload */
	int state;
};

struct dump_pool;

/** Called in order for every finished chunk, in the thread that fills the pool. */
typedef int (*dump_pool_sink)(void *data, const struct dump_job *job, struct silt_error *err);

/** NULL when out of memory. Fewer threads than asked for (none, even) only make it slower. */
struct dump_pool *dump_pool_create(unsigned threads, int level, uint32_t tag, dump_pool_sink sink, void *data);
/** Stops the threads; unfinished jobs are dropped. */
void dump_pool_destroy(struct dump_pool *p);
/** A job to fill in, with empty writers; may first hand a finished one to the sink. */
int dump_pool_next(struct dump_pool *p, struct dump_job **ret, struct silt_error *err);
/** Starts the job that dump_pool_next gave out. */
void dump_pool_submit(struct dump_pool *p, struct dump_job *job);
/** Hands all that is left to the sink. */
int dump_pool_drain(struct dump_pool *p, struct silt_error *err);

#endif
