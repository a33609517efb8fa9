/* SPDX-License-Identifier: MIT */
/* One chunk's payload out of a source: checked, uncompressed, ready to be read. */
#ifndef SILT_FORMATS_DUMP_LOAD_H
#define SILT_FORMATS_DUMP_LOAD_H

#include "formats/dump_scan.h"

struct dump_loader { /* one per thread; all zero to begin with */
	struct dump_inflater inflater;
	struct silt_writer stored, raw;
	char name[320]; /* for messages of the reader */
};

/** Gives a reader over the chunk's records, valid until the next load. */
int dump_load(struct dump_loader *l, struct dump_source *src, const struct dump_found *f, struct silt_reader *ret,
	      struct silt_error *err);
void dump_loader_deinit(struct dump_loader *l);

/** Decodes all block chunks of a scan, on several threads, into columns that have room for them: chunk i of `list` goes
 *  to records at[i]. Without salvage the first damaged chunk (in file order) is the error; with it, they are marked
 *  lost. Contexts must be below context_count; with salvage others become SILT_NONE. */
struct dump_block_work {
	struct dump_source *src;
	struct dump_found **list;
	uint64_t *at;
	size_t count;
	struct silt_blocks *blocks;
	uint32_t context_count;
	bool salvage;
};
int dump_load_blocks(struct dump_block_work *work, struct silt_error *err);

#endif
