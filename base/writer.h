/* SPDX-License-Identifier: MIT */
/**
 * A growing, bounded, sticky byte buffer. After a failure (out of memory, limit) nothing more is added; check
 * silt_writer_ok() once at the end. All numbers are little-endian.
 */
#ifndef SILT_BASE_WRITER_H
#define SILT_BASE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct silt_writer {
	uint8_t *data;
	size_t size, cap;
	size_t limit; /* most bytes it may hold; 0: no limit */
	bool failed;
};

/** All zero is a valid empty writer too. */
void silt_writer_init(struct silt_writer *w, size_t limit);
/** Frees the bytes; the writer is empty and well again. */
void silt_writer_deinit(struct silt_writer *w);
/** Forgets the bytes and any failure, keeps the memory. */
void silt_writer_clear(struct silt_writer *w);
/** Room for n more bytes at data + size, not yet counted in size; NULL on failure. */
uint8_t *silt_writer_reserve(struct silt_writer *w, size_t n);

static inline bool silt_writer_ok(const struct silt_writer *w)
{
	return !w->failed;
}

void silt_writer_bytes(struct silt_writer *w, const void *data, size_t n);
void silt_writer_u8(struct silt_writer *w, uint8_t v);
void silt_writer_u16(struct silt_writer *w, uint16_t v);
void silt_writer_u32(struct silt_writer *w, uint32_t v);
void silt_writer_u64(struct silt_writer *w, uint64_t v);
/** Unsigned LEB128, minimal. */
void silt_writer_varint(struct silt_writer *w, uint64_t v);
/** Zigzag-coded signed number. */
void silt_writer_svarint(struct silt_writer *w, int64_t v);
/** varint length + bytes. */
void silt_writer_text(struct silt_writer *w, const char *text, size_t len);

#endif
