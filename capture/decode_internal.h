/* SPDX-License-Identifier: MIT */
/**
 * Turning a raw copy of a trace database into a snapshot. Internal to capture/.
 *
 * Nothing in the copy is believed: every ref goes through silt_decode_at, every count is cut to what its table can hold,
 * walks are bounded by a budget of bytes, and everything odd is counted for a note.
 */
#ifndef SILT_CAPTURE_DECODE_INTERNAL_H
#define SILT_CAPTURE_DECODE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/vec.h"
#include "capture/copy_internal.h"

/** Where pcs of one load of one module lie. */
struct silt_pc_range {
	silt_addr start, end;
	silt_addr reach; /* highest end of this and all earlier ranges: where a backward search may stop */
	uint32_t generation;
	uint32_t module;
	bool any_generation; /* from the memory map: the load that is there now */
};

struct silt_decode_sums { /* of one database context */
	uint64_t alloc_count, alloc_bytes;
	uint64_t live_count, live_bytes;
};

struct silt_decode_estimate { /* of one database context, when sampling */
	double count, bytes;
};

/* Where a node's frame stands among the stacks' frames, and how many there are from it to the end of its stack. Most stacks share
 * their outer frames with one before: those are copied from there, many times as fast as following the nodes. */
struct silt_decode_place {
	uint32_t at, count; /* count 0: not met yet */
	uint32_t stack;     /* the first stack that begins at the node, + 1 */
};

struct silt_decode {
	const struct silt_copy *copy;
	const uint8_t *bytes; /* NULL: no database */
	uint64_t size;
	const struct silt_db *db;
	struct silt_db_options options;
	struct silt_snapshot *s;
	uint64_t budget; /* bytes of the live table that may still be walked */

	uint32_t node_count, context_count, thread_count;
	uint8_t *kinds;                         /* of the contexts: context_count + 1 */
	bool has_pools;                         /* some context is of kind pool */
	struct silt_decode_sums *sums;          /* context_count + 1: the last one is for indices out of range */
	struct silt_decode_estimate *estimates; /* the same, or NULL when not sampling */
	uint32_t *context_out;                  /* database context -> snapshot context */
	uint32_t *thread_out;                   /* database thread -> snapshot thread */
	struct silt_decode_place *places;       /* by node; while contexts are decoded */

	SILT_VEC(struct silt_pc_range) ranges;
	SILT_VEC(struct silt_frame) frames;
	SILT_VEC(uint32_t) stack_frames;
	SILT_VEC(struct silt_stack) stacks;
	SILT_VEC(struct silt_context) contexts;
	struct silt_map frame_of_pc;

	uint64_t bad_refs, bad_contexts, duplicates, unknown_sizes, cut_stacks, cut_paths;
};

/** `bytes` bytes at ref, or NULL (counted) when they are not all inside the copy. */
static inline const void *silt_decode_at(struct silt_decode *d, uint32_t ref, uint64_t bytes)
{
	uint64_t offset = (uint64_t)ref * SILT_DB_UNIT;

	if (!ref || offset >= d->size || bytes > d->size - offset) {
		d->bad_refs++;
		return NULL;
	}
	return d->bytes + offset;
}

int silt_decode_modules(struct silt_decode *d, struct silt_error *err);
/** Finds the module load that pc belonged to in this generation; SILT_NONE when it lay in none. */
uint32_t silt_decode_module_of(const struct silt_decode *d, silt_addr pc, uint32_t generation);
int silt_decode_threads(struct silt_decode *d, struct silt_error *err);
/** Sums what contexts and the threads' caches counted into d->sums. */
int silt_decode_counts(struct silt_decode *d, struct silt_error *err);
/** Takes bytes off what may still be read of the live table. */
int silt_decode_spend(struct silt_decode *d, uint64_t bytes, struct silt_error *err);

#define SILT_DECODE_PAGE_SLOTS 512u /* addresses a page's entries can name: 4096 / 8 */
#define SILT_DECODE_PART_PAGES (SILT_DB_PART / 8)
/** A part of the live table that was written to. */
struct silt_decode_part {
	silt_addr base;		/* of its first page */
	const uint64_t *words;	/* of its pages: SILT_DECODE_PART_PAGES */
	uint64_t entries;	/* at most so many blocks */
};
struct silt_decode_parts {
	SILT_VEC(struct silt_decode_part) list;
};
/** All of them that are not empty, in the order of addresses, put behind those in ret. */
int silt_decode_list_parts(struct silt_decode *d, struct silt_decode_parts *ret, struct silt_error *err);
/** The first entry of the side table at or behind number i that may have been written to, or their number. */
uint32_t silt_decode_side_next(const struct silt_decode *d, uint32_t i);
/** Walks the live table: live sums into d->sums, and with_blocks the blocks' columns, still with database contexts. */
int silt_decode_blocks(struct silt_decode *d, bool with_blocks, struct silt_error *err);
/** Contexts, stacks and frames of the snapshot; fills d->context_out. */
int silt_decode_contexts(struct silt_decode *d, struct silt_error *err);

struct silt_walked;
/** Contexts, types, blocks and notes of a heap that was walked; takes w's columns over. */
int silt_decode_walked(struct silt_decode *d, struct silt_walked *w, bool with_blocks, struct silt_error *err);

#endif
