/* SPDX-License-Identifier: MIT */
/* The .silt container inside formats/: numbers of the format (docs/FORMAT.md) and the pieces its reader and writer share. */
#ifndef SILT_FORMATS_DUMP_INTERNAL_H
#define SILT_FORMATS_DUMP_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include "base/error.h"
#include "base/reader.h"
#include "base/vec.h"
#include "base/writer.h"
#include "formats/snapshot_internal.h"

/* ---- numbers of the format ---- */

#define DUMP_MAGIC "\x89SILT\r\n\x1a"
#define DUMP_TRAILER_MAGIC "\x1a\n\rTLIS\x89"
#define DUMP_CHUNK_MAGIC 0x4b4e4843u /* "CHNK" */
#define DUMP_VERSION 1u
#define DUMP_FILE_HEADER_SIZE 32u
#define DUMP_CHUNK_HEADER_SIZE 44u
#define DUMP_TRAILER_SIZE 32u
#define DUMP_KNOWN_INCOMPATIBLE 0u
#define DUMP_KNOWN_COMPATIBLE 0u

#define DUMP_CHUNK_RECORDS 65536u        /* records one chunk may hold */
#define DUMP_CHUNK_STACK_FRAMES SILT_STACK_FRAMES_MAX /* frames its stacks may have in all, written out */
#define DUMP_CHUNK_RAW_GOAL (512u << 10) /* the writer begins a new chunk of a table when this is reached */

enum dump_section {
	DUMP_PROCESS = 1,
	DUMP_MODULES = 2,
	DUMP_FRAMES = 3,
	DUMP_STACKS = 4,
	DUMP_THREADS = 5,
	DUMP_CONTEXTS = 6,
	DUMP_REGIONS = 7,
	DUMP_MARKS = 8,
	DUMP_COUNTERS = 9,
	DUMP_NOTES = 10,
	DUMP_BLOCKS = 11,
	DUMP_TYPES = 12, /* in the file: DUMP_OPTIONAL + 1 */
	DUMP_SECTIONS = 13,
	DUMP_UNKNOWN = 254, /* stands for section numbers of a file that have no meaning and may not be skipped */
	DUMP_INDEX = 255,
	DUMP_OPTIONAL = 0x8000, /* sections from here on may be skipped by who does not know them */
};

enum dump_encoding {
	DUMP_STORED = 0,
	DUMP_DEFLATE = 1, /* raw deflate, RFC 1951 */
	DUMP_COLUMNS = 2, /* block columns, compressed one by one */
};

struct dump_chunk { /* a chunk's header */
	uint16_t section;
	uint8_t encoding;
	uint32_t tag; /* the same in the whole file: CRC of its process record */
	uint32_t sequence;
	uint64_t first; /* number of its first record in the section */
	uint32_t count;
	uint32_t stored; /* payload bytes in the file */
	uint32_t raw;    /* … and uncompressed */
	uint32_t payload_crc;
	uint32_t header_crc;
};

struct dump_file_header {
	uint32_t version, incompatible, compatible, tag;
};

struct dump_trailer {
	uint64_t index_offset, file_size;
	uint32_t tag;
};

/** A section's number in the file, and back: sections that older readers may skip have high numbers there. */
unsigned dump_section_to_file(unsigned section);
unsigned dump_section_from_file(unsigned number);
uint32_t dump_crc(const void *data, size_t size);
/** "contexts", or "unknown". */
const char *dump_section_name(unsigned section);

void dump_file_header_put(uint8_t out[DUMP_FILE_HEADER_SIZE], uint32_t tag);
/** False: not a silt dump, or its header is damaged (*ret_is_dump tells which). */
bool dump_file_header_get(const uint8_t in[DUMP_FILE_HEADER_SIZE], struct dump_file_header *ret, bool *ret_is_dump);
/** Fills in header_crc of c too. */
void dump_chunk_put(uint8_t out[DUMP_CHUNK_HEADER_SIZE], struct dump_chunk *c);
/** False when magic, checksum or limits say that this is no chunk header. */
bool dump_chunk_get(const uint8_t in[DUMP_CHUNK_HEADER_SIZE], struct dump_chunk *ret);
void dump_trailer_put(uint8_t out[DUMP_TRAILER_SIZE], const struct dump_trailer *t);
bool dump_trailer_get(const uint8_t in[DUMP_TRAILER_SIZE], struct dump_trailer *ret);

/* ---- byte streams inside chunks ---- */

struct dump_deflater { /* reused: setting zlib up costs more than a small stream */
	z_stream z[2]; /* one searching for repeats, one with Huffman codes only */
	bool ready[2];
	int level;
};

/** Appends data[size] to w as raw deflate; strategy Z_DEFAULT_STRATEGY or Z_HUFFMAN_ONLY. False: out of memory. */
bool dump_deflate(struct dump_deflater *d, int strategy, const uint8_t *data, size_t size, struct silt_writer *w);
void dump_deflater_deinit(struct dump_deflater *d);

struct dump_inflater {
	z_stream z;
	bool ready;
};

/** False when out of memory. May be called again. Before everything else, so that later failures mean bad data. */
bool dump_inflater_init(struct dump_inflater *d);
/** Uncompresses in[in_size] to exactly out_size bytes. False when the data is bad. */
bool dump_inflate(struct dump_inflater *d, const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);
void dump_inflater_deinit(struct dump_inflater *d);

/** Writes one stream: raw, constant or deflated, whichever suits the bytes. */
void dump_stream_put(struct dump_deflater *d, const uint8_t *data, size_t size, struct silt_writer *w);
/** Reads one that must hold exactly size bytes into out (dump_stream_get), or at most max bytes into a fresh
 *  place of scratch (dump_stream_get_sized), which should have that room already. Failures mark the reader. */
void dump_stream_get(struct dump_inflater *d, struct silt_reader *r, uint8_t *out, size_t size);
size_t dump_stream_get_sized(struct dump_inflater *d, struct silt_reader *r, struct silt_writer *scratch, size_t max);

/* ---- block columns ---- */

struct dump_block_encoder;
struct dump_block_encoder *dump_block_encoder_create(int level);
void dump_block_encoder_destroy(struct dump_block_encoder *e);
struct dump_deflater *dump_block_encoder_deflater(struct dump_block_encoder *e);
/** Encodes blocks [first, first + count) of b, count in 1..DUMP_CHUNK_RECORDS, sorted by address. False: out of memory. */
bool dump_blocks_encode(struct dump_block_encoder *e, const struct silt_blocks *b, uint64_t first, uint32_t count,
			struct silt_writer *w);

struct dump_block_decoder;
struct dump_block_decoder *dump_block_decoder_create(void);
void dump_block_decoder_destroy(struct dump_block_decoder *d);
/** Decodes a payload into the three columns at their start. Contexts are not checked here. Failures mark r. */
void dump_blocks_decode(struct dump_block_decoder *d, struct silt_reader *r, uint32_t count, silt_addr *addr,
			uint64_t *size, uint32_t *context);

/** How a block's distance to the next one is guessed. */
enum dump_predictor {
	DUMP_PREDICT_NONE = 0,
	DUMP_PREDICT_GLIBC = 1,   /* max(32, (size + 8) rounded up to 16) */
	DUMP_PREDICT_LEARNED = 2, /* the smallest distance seen so far after a block of this size */
	DUMP_PREDICTORS = 3,
};
#define DUMP_LEARNED_SLOTS 4096u

static inline uint64_t dump_predict_glibc(uint64_t size)
{
	uint64_t chunk = (size + 23) & ~15ull;

	return chunk < 32 ? 32 : chunk;
}

static inline uint32_t dump_learned_slot(uint64_t size)
{
	return (uint32_t)(size * 0x9e3779b97f4a7c15ull >> 52);
}

enum { /* first byte of a block chunk */
	DUMP_BLOCKS_JOINT = 1, /* context and size share one column of pairs */
	DUMP_BLOCKS_PREDICTOR_SHIFT = 1,
};
#define DUMP_COLUMN_ESCAPED 0x80u /* instead of a number of planes: one plane, 255 = see the exceptions */
#define DUMP_DICTIONARY_MAX 4096u

/* ---- tables ---- */

uint64_t dump_table_count(const struct silt_snapshot *s, enum dump_section section);
/** Appends records of a section from number `first` on until the chunk is full or the section ends. Returns how many. */
uint32_t dump_table_encode(const struct silt_snapshot *s, enum dump_section section, uint64_t first,
			   struct silt_writer *w);

/** What grows while tables are read, before it is copied into the snapshot. */
struct dump_tables {
	struct silt_snapshot *s;
	SILT_VEC(struct silt_range) ranges;
	SILT_VEC(uint32_t) stack_frames;
	uint64_t limit;        /* bytes all of it may take; 0: none */
	bool no_memory;        /* set when a reader was failed for want of memory, not for bad data */
	const char *last_name; /* of the region before: mappings of one file follow each other */
};

/** Makes room for count records of a section. False: out of memory or over the limit. */
bool dump_table_allocate(struct dump_tables *t, enum dump_section section, uint64_t count);
/** Reads count records from r into places first … of their array. Failures mark r. */
void dump_table_decode(struct dump_tables *t, enum dump_section section, uint64_t first, uint32_t count,
		       struct silt_reader *r);
/** Puts records into the state of "lost": harmless to who uses them. */
void dump_table_lose(struct dump_tables *t, enum dump_section section, uint64_t first, uint64_t count);

#endif
