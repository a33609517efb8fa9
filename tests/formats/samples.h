/* SPDX-License-Identifier: MIT */
/* Snapshots made up by a seed, comparison of snapshots, and dumps held in memory files. */
#ifndef SILT_TESTS_FORMATS_SAMPLES_H
#define SILT_TESTS_FORMATS_SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/dump.h"

struct sample_shape { /* how much of what */
	uint32_t modules, frames, stacks, max_depth, contexts, threads, regions, notes;
	uint64_t blocks;
	int heap; /* enum sample_heap */
};

enum sample_heap { /* what the blocks look like */
	HEAP_GLIBC,   /* next to each other, with some holes */
	HEAP_CLASSES, /* power-of-two classes with holes, each context one size */
	HEAP_WILD,    /* any address, any size, equal addresses too */
	HEAP_UNIFORM, /* the measuring stick: sizes 16..271, no holes */
	HEAP_SAME,    /* all alike */
	HEAP_KINDS,
};

uint64_t sample_random(uint64_t *state);
/** Everything filled from seed. Aborts the test when out of memory. */
struct silt_snapshot *sample_snapshot(uint64_t seed, const struct sample_shape *shape);
/** A few of everything. */
extern const struct sample_shape sample_small;

/** Fails the test where two snapshots differ in what they say; layouts of ranges and stack_frames may differ. */
void sample_assert_equal(const struct silt_snapshot *a, const struct silt_snapshot *b, bool blocks);

/** A file without a name; path opens it anew. */
struct sample_file {
	int fd;
	char path[64];
};
void sample_file_open(struct sample_file *f);
void sample_file_close(struct sample_file *f);
/** Replaces its content. */
void sample_file_set(struct sample_file *f, const void *data, size_t size);
/** Its content; the caller frees. */
uint8_t *sample_file_get(const struct sample_file *f, size_t *ret_size);
/** Writes a dump into it. */
void sample_file_dump(struct sample_file *f, const struct silt_snapshot *s, int level, unsigned threads);

#endif
