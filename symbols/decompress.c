/* SPDX-License-Identifier: MIT */
/* zlib, Zstandard and xz into bounded memory. */
#include "symbols/decompress.h"

#include <lzma.h>
#include <sys/mman.h>
#include <zstd.h>
#ifdef SILT_HAVE_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

enum {
	FIRST_BYTES = 1 << 20,       /* the symbols that a mini debug information holds: some hundred kilobytes */
	LZMA_MEMORY = 256 << 20,     /* xz -9 needs 65 MiB to decompress, its largest preset */
};

#ifdef SILT_HAVE_LIBDEFLATE
/* Twice as fast as zlib, because it has the whole of both buffers. */
bool silt_inflate(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	bool good = d && libdeflate_zlib_decompress(d, in, in_size, out, out_size, NULL) == LIBDEFLATE_SUCCESS;

	libdeflate_free_decompressor(d);
	return good;
}

uint32_t silt_crc32(uint32_t crc, const void *data, size_t size)
{
	return libdeflate_crc32(crc, data, size);
}
#else
uint32_t silt_crc32(uint32_t crc, const void *data, size_t size)
{
	return (uint32_t)crc32_z(crc, data, size);
}

bool silt_inflate(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	z_stream z = {0};
	int r;

	if (inflateInit(&z) != Z_OK)
		return false;
	/* zlib counts in 32 bits: hand over at most 1 GiB at a time. */
	do {
		uInt give = in_size > 1u << 30 ? 1u << 30 : (uInt)in_size;
		uInt room = out_size > 1u << 30 ? 1u << 30 : (uInt)out_size;

		z.next_in = (Bytef *)(uintptr_t)in;
		z.avail_in = give;
		z.next_out = out;
		z.avail_out = room;
		r = inflate(&z, Z_NO_FLUSH);
		in += give - z.avail_in;
		in_size -= give - z.avail_in;
		out += room - z.avail_out;
		out_size -= room - z.avail_out;
		if (give == z.avail_in && room == z.avail_out)
			break;
	} while (r == Z_OK && out_size);
	inflateEnd(&z);
	return out_size == 0;
}
#endif

bool silt_unzstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	/* Errors come as sizes above any buffer's. The window is the output itself: no memory beside it. */
	return ZSTD_decompress(out, out_size, in, in_size) == out_size;
}

struct growing {
	uint8_t *data;
	size_t capacity, max;
};

static bool grow(struct growing *g)
{
	size_t wanted = g->capacity ? g->capacity * 2 : FIRST_BYTES;
	void *data;

	if (wanted > g->max)
		wanted = g->max;
	if (wanted <= g->capacity)
		return false;
	data = g->data ? mremap(g->data, g->capacity, wanted, MREMAP_MAYMOVE) :
			 mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return false;
	g->data = data;
	g->capacity = wanted;
	return true;
}

static lzma_ret run(lzma_stream *z, struct growing *g)
{
	lzma_ret r = LZMA_OK;

	while (r == LZMA_OK) {
		size_t filled = z->total_out;

		if (filled == g->capacity && !grow(g))
			return LZMA_MEMLIMIT_ERROR;
		z->next_out = g->data + filled;
		z->avail_out = g->capacity - filled;
		r = lzma_code(z, LZMA_FINISH);
	}
	return r;
}

int silt_unxz(const uint8_t *in, size_t in_size, size_t max_size, const char *name, uint8_t **ret, size_t *ret_size,
	      size_t *ret_capacity, struct silt_error *err)
{
	lzma_stream z = LZMA_STREAM_INIT;
	struct growing g = {.max = max_size};
	lzma_ret r = lzma_auto_decoder(&z, LZMA_MEMORY, LZMA_CONCATENATED);

	if (r == LZMA_OK) {
		z.next_in = in;
		z.avail_in = in_size;
		r = run(&z, &g);
	}
	*ret_size = z.total_out;
	lzma_end(&z);
	if (r == LZMA_STREAM_END && *ret_size) {
		*ret = g.data;
		*ret_capacity = g.capacity;
		return SILT_OK;
	}
	if (g.data)
		munmap(g.data, g.capacity);
	if (r == LZMA_MEMLIMIT_ERROR || r == LZMA_MEM_ERROR)
		return silt_error_set(err, SILT_E_LIMIT, "%s: decompressing it takes too much memory", name);
	return silt_error_set(err, SILT_E_BAD_DATA, "%s: it is damaged and cannot be decompressed", name);
}
