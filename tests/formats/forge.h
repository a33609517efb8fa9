/* SPDX-License-Identifier: MIT */
/* A writer of hostile dumps: every checksum is right, what stands in it is up to the test. */
#ifndef SILT_TESTS_FORMATS_FORGE_H
#define SILT_TESTS_FORMATS_FORGE_H

#include "formats/dump_internal.h"

#define FORGE_TAG 0x51747361u

struct forge {
	struct silt_writer file;
	struct silt_writer index;
	uint64_t chunks, last_offset;
	uint32_t sequence;
};

/** File header and a process record. */
void forge_begin(struct forge *f);
/** Appends a chunk with this header (tag, sequence, sizes and checksums are filled in; raw only when it is 0). */
void forge_chunk(struct forge *f, struct dump_chunk head, const void *payload, size_t size);
/** The usual: stored records of a section. */
void forge_section(struct forge *f, unsigned section, uint64_t first, uint32_t count, const struct silt_writer *w);
/** Index and trailer. */
void forge_end(struct forge *f);
void forge_deinit(struct forge *f);

/** A record of each kind with harmless values, for tests to build on. */
void forge_process(struct silt_writer *w);
void forge_frames(struct forge *f, uint32_t count);
void forge_stacks(struct forge *f, uint32_t count);
void forge_contexts(struct forge *f, uint32_t count);

#endif
