/* SPDX-License-Identifier: MIT */
/* Where the bytes of a dump come from, and where in them its chunks are. */
#ifndef SILT_FORMATS_DUMP_SCAN_H
#define SILT_FORMATS_DUMP_SCAN_H

#include "base/vec.h"
#include "formats/dump_internal.h"

struct dump_source {
	const char *name; /* for messages */
	int fd;
	bool close_fd;
	bool seekable; /* a regular file: read by offset, from any thread */
	uint64_t base; /* seekable: where in the file the dump begins */
	uint64_t size; /* seekable or in memory: bytes in all; else bytes read so far */
	uint8_t *mem;  /* everything, when a pipe is to be salvaged */
	bool at_end;   /* pipes */
};

/** in_memory: if it is no regular file, read all of it now, at most that many bytes; 0: do not. path "-" is standard
 *  input. */
int dump_source_open(struct dump_source *src, const char *path, uint64_t in_memory, struct silt_error *err);
void dump_source_close(struct dump_source *src);
/** Copies up to size bytes at offset; fewer only at the end. Pipes can only be read forward, in one thread. */
int dump_source_get(struct dump_source *src, uint64_t offset, void *out, size_t size, size_t *ret_got,
		    struct silt_error *err);
/** SILT_E_BAD_DATA with name and offset in front of the message. */
int dump_source_bad(const struct dump_source *src, uint64_t offset, struct silt_error *err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

struct dump_found {
	struct dump_chunk head;
	uint64_t offset;  /* of the header */
	uint8_t *payload; /* pipes: the stored bytes, owned; else NULL */
	bool lost;        /* its content turned out to be damaged */
};

struct dump_hole { /* bytes that are no part of an intact chunk */
	uint64_t offset, size;
};

struct dump_scan {
	SILT_VEC(struct dump_found) chunks;
	SILT_VEC(struct dump_hole) holes; /* salvage only */
	bool complete;                    /* ended with its trailer */
	bool header_lost;                 /* salvage: the file header is damaged */
	uint32_t tag;
	bool tag_known;
};

/** Finds all chunks. Without salvage any damage is an error. Payloads of block chunks are kept (pipes) only with blocks. */
int dump_scan_run(struct dump_scan *sc, struct dump_source *src, bool blocks, bool salvage, struct silt_error *err);
void dump_scan_deinit(struct dump_scan *sc);

#endif
