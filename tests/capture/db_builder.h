/* SPDX-License-Identifier: MIT */
/** A writer of trace databases for tests: random content as trace_db.h lays it out, and what a reader must find. */
#ifndef SILT_TESTS_CAPTURE_DB_BUILDER_H
#define SILT_TESTS_CAPTURE_DB_BUILDER_H

#include <stdbool.h>
#include <stdint.h>

#include "capture/agent/trace_db.h"

#define MODEL_MODULES 6
#define MODEL_STACKS 300
#define MODEL_CONTEXTS 500
#define MODEL_THREADS 5
#define MODEL_DEPTH 40

struct model_module {
	uint64_t start, end, bias;
	uint32_t generation;
	bool unloaded;
	char path[64];
};

struct model_frame {
	uint64_t pc;
	uint32_t generation;
	int module; /* -1: in none */
	bool interrupted;
};

struct model_stack {
	uint32_t depth, flags;
	struct model_frame frames[MODEL_DEPTH]; /* innermost first */
	uint32_t node;
};

struct model_context {
	uint32_t stack, epoch, kind, thread; /* thread: index + 1, 0 none */
	uint64_t alloc_count, alloc_bytes;   /* as a reader must report them */
	uint64_t live_count, live_bytes;
	uint32_t twin; /* number of the context that lost the race against this one, 0: none */
};

struct model_block {
	uint64_t addr, size;
	uint32_t context; /* index into contexts */
};

struct model {
	struct model_module modules[MODEL_MODULES];
	struct model_stack stacks[MODEL_STACKS];
	struct model_context contexts[MODEL_CONTEXTS];
	uint32_t tids[MODEL_THREADS];
	struct model_block *blocks; /* sorted by address, heap before others at the same address */
	uint32_t block_count, block_capacity;
	uint64_t random;
};

struct built_db {
	int fd;
	uint32_t slot;
	uint8_t *bytes; /* the slot, mapped shared */
	uint64_t size;  /* bytes mapped */
	struct silt_db *db;
};

/** Random content with about `heap_blocks` heap blocks, and some of every other sort. */
void model_create(struct model *m, uint64_t seed, uint32_t heap_blocks);
void model_destroy(struct model *m);
/** Writes it into a slot of a new memfd. */
void db_build(struct model *m, uint32_t slot, struct built_db *ret);
void db_destroy(struct built_db *b);
uint64_t model_random(struct model *m);

#endif
