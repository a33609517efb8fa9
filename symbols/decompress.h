/* SPDX-License-Identifier: MIT */
/**
 * Decompression of what nobody vouches for, into memory of bounded size: ELF sections (zlib, Zstandard) and
 * .gnu_debugdata (xz, lzma). For parsing children only.
 */
#ifndef SILT_SYMBOLS_DECOMPRESS_H
#define SILT_SYMBOLS_DECOMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/** Fills exactly out_size bytes; false when the input is damaged or holds fewer. */
bool silt_inflate(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);
/** The same for Zstandard: one or several frames. */
bool silt_unzstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);
/** Goes on with a CRC-32 as of zlib's crc32(), from 0 on; several times as fast where libdeflate is. */
uint32_t silt_crc32(uint32_t crc, const void *data, size_t size);
/** Decompresses one or several xz streams, or one of the older lzma form, whose size is not known before. name is for
 *  messages. *ret is a mapping of *ret_capacity bytes (munmap it), *ret_size of them filled. SILT_E_BAD_DATA: damaged or
 *  cut short; SILT_E_LIMIT: more than max_size bytes, or a dictionary that large. */
int silt_unxz(const uint8_t *in, size_t in_size, size_t max_size, const char *name, uint8_t **ret, size_t *ret_size,
	      size_t *ret_capacity, struct silt_error *err);

#endif
