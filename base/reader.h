/* SPDX-License-Identifier: MIT */
/**
 * A bounded, sticky reader over bytes in memory that nobody vouches for.
 *
 * After the first failure every read returns 0 and nothing moves, so a whole record can be read and checked once
 * with silt_reader_ok(). Check before using any count. All numbers are little-endian.
 */
#ifndef SILT_BASE_READER_H
#define SILT_BASE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

struct silt_reader {
	const uint8_t *start, *pos, *end;
	const char *name;    /* "x.silt: section heap": stands in front of messages; borrowed */
	uint64_t base;       /* offset of start in the file, for messages */
	const char *failure; /* what the first failed read expected; NULL while all is well */
	uint64_t failed_at;  /* offset of it */
};

void silt_reader_init(struct silt_reader *r, const void *data, size_t size, const char *name, uint64_t base);
/** Marks the reader failed here, unless it has failed already. expected is a string constant. */
void silt_reader_fail(struct silt_reader *r, const char *expected);
/** 0 when all reads so far succeeded, else SILT_E_BAD_DATA: "name: +0x1234: expected …". */
int silt_reader_error(const struct silt_reader *r, struct silt_error *err);

static inline bool silt_reader_ok(const struct silt_reader *r)
{
	return !r->failure;
}

static inline size_t silt_reader_left(const struct silt_reader *r)
{
	return r->failure ? 0 : (size_t)(r->end - r->pos);
}

/** Offset of the next byte, base included. */
static inline uint64_t silt_reader_offset(const struct silt_reader *r)
{
	return r->base + (uint64_t)(r->pos - r->start);
}

/** n bytes in place, or NULL. */
static inline const uint8_t *silt_reader_bytes(struct silt_reader *r, uint64_t n)
{
	const uint8_t *p = r->pos;

	if (r->failure || n > (size_t)(r->end - r->pos)) {
		silt_reader_fail(r, "more bytes than are left");
		return NULL;
	}
	r->pos += n;
	return p;
}

static inline void silt_reader_skip(struct silt_reader *r, uint64_t n)
{
	(void)silt_reader_bytes(r, n);
}

static inline uint8_t silt_reader_u8(struct silt_reader *r)
{
	const uint8_t *p = silt_reader_bytes(r, 1);

	return p ? *p : 0;
}

static inline uint16_t silt_reader_u16(struct silt_reader *r)
{
	const uint8_t *p = silt_reader_bytes(r, 2);

	return p ? (uint16_t)(p[0] | p[1] << 8) : 0;
}

static inline uint32_t silt_reader_u32(struct silt_reader *r)
{
	const uint8_t *p = silt_reader_bytes(r, 4);

	return p ? (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24 : 0;
}

static inline uint64_t silt_reader_u64(struct silt_reader *r)
{
	uint64_t low = silt_reader_u32(r);

	return low | (uint64_t)silt_reader_u32(r) << 32;
}

/** Behind silt_reader_varint: numbers of more than one byte, and failures. */
uint64_t silt_reader_varint_long(struct silt_reader *r);

/** Unsigned LEB128 of at most 64 bits. Padded (non-minimal) forms are refused. */
static inline uint64_t silt_reader_varint(struct silt_reader *r)
{
	if (!r->failure && r->pos < r->end && *r->pos < 0x80)
		return *r->pos++;
	return silt_reader_varint_long(r);
}

/** Zigzag-coded signed number. */
static inline int64_t silt_reader_svarint(struct silt_reader *r)
{
	uint64_t z = silt_reader_varint(r);

	return (int64_t)(z >> 1 ^ (0 - (z & 1)));
}

/** A varint that must be at most max. */
uint64_t silt_reader_varint_max(struct silt_reader *r, uint64_t max, const char *expected);
/** A varint that fits uint32_t. */
uint32_t silt_reader_varint32(struct silt_reader *r);
/** A count of records of at least min_record bytes each: refused when the bytes left cannot hold them. */
uint64_t silt_reader_count(struct silt_reader *r, size_t min_record);
/** A string of varint length + bytes, in place, not terminated; no NUL inside, at most max bytes. NULL on failure. */
const char *silt_reader_text(struct silt_reader *r, uint64_t max, size_t *ret_len);

#endif
