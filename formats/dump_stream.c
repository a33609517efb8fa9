/* SPDX-License-Identifier: MIT */
/* Byte streams inside chunks: raw, constant or deflated, whichever suits the bytes. */
#include <math.h>
#include <string.h>

#include "formats/dump_internal.h"

enum stream_method { STREAM_RAW = 0, STREAM_DEFLATE = 1, STREAM_CONSTANT = 2 };

#define SMALL_STREAM 1024u /* below this statistics cost more than they save */
#define SAMPLE_BYTES 8192u

bool dump_deflate(struct dump_deflater *d, int strategy, const uint8_t *data, size_t size, struct silt_writer *w)
{
	unsigned which = strategy == Z_HUFFMAN_ONLY;
	z_stream *z = &d->z[which];
	uLong bound;
	uint8_t *out;

	/* Window bits -15: raw deflate. Chunks carry their own checksum, a second one would cost time for nothing. */
	if (!d->ready[which]) {
		if (deflateInit2(z, d->level, Z_DEFLATED, -15, 9, strategy) != Z_OK)
			return false;
		d->ready[which] = true;
	} else if (deflateReset(z) != Z_OK) {
		return false;
	}
	bound = deflateBound(z, size);
	out = silt_writer_reserve(w, bound);
	if (!out)
		return false;
	z->next_in = (Bytef *)(uintptr_t)data; /* zlib without ZLIB_CONST: it does not write there */
	z->avail_in = (uInt)size;
	z->next_out = out;
	z->avail_out = (uInt)bound;
	if (deflate(z, Z_FINISH) != Z_STREAM_END)
		return false;
	w->size += bound - z->avail_out;
	return true;
}

void dump_deflater_deinit(struct dump_deflater *d)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (d->ready[i])
			deflateEnd(&d->z[i]);
		d->ready[i] = false;
	}
}

bool dump_inflater_init(struct dump_inflater *d)
{
	if (!d->ready && inflateInit2(&d->z, -15) == Z_OK)
		d->ready = true;
	return d->ready;
}

bool dump_inflate(struct dump_inflater *d, const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	uint8_t nothing;
	int ret;

	if (inflateReset(&d->z) != Z_OK)
		return false;
	d->z.next_in = (Bytef *)(uintptr_t)in;
	d->z.avail_in = (uInt)in_size;
	d->z.next_out = out_size ? out : &nothing;
	d->z.avail_out = (uInt)out_size;
	ret = inflate(&d->z, Z_FINISH);
	return ret == Z_STREAM_END && !d->z.avail_out && !d->z.avail_in;
}

void dump_inflater_deinit(struct dump_inflater *d)
{
	if (d->ready)
		inflateEnd(&d->z);
	d->ready = false;
}

/* Order-0 entropy in bytes; *ret_constant when all bytes are equal. Four histograms: a run of equal bytes would
 * otherwise make every increment wait for the one before. */
static double stream_entropy(const uint8_t *data, size_t size, bool *ret_constant)
{
	uint32_t h[4][256];
	double bits = 0;
	size_t i;

	memset(h, 0, sizeof(h));
	for (i = 0; i + 4 <= size; i += 4) {
		h[0][data[i]]++;
		h[1][data[i + 1]]++;
		h[2][data[i + 2]]++;
		h[3][data[i + 3]]++;
	}
	for (; i < size; i++)
		h[0][data[i]]++;
	*ret_constant = false;
	for (i = 0; i < 256; i++) {
		uint32_t n = h[0][i] + h[1][i] + h[2][i] + h[3][i];

		if (size && n == size)
			*ret_constant = true;
		if (n)
			bits += n * log2((double)size / n);
	}
	return bits / 8;
}

/* -1: leave the bytes as they are; else a zlib strategy. Bytes near their entropy limit gain nothing from deflate's
 * search for repeats but pay for it, so a sample decides whether there are any. */
static int stream_strategy(struct dump_deflater *d, const uint8_t *data, size_t size, double entropy,
			   struct silt_writer *scratch)
{
	double huffman = entropy > (double)size / 8 ? entropy : (double)size / 8; /* at least a bit per byte */
	size_t before = scratch->size, sample = size < SAMPLE_BYTES ? size : SAMPLE_BYTES, packed;

	if (size < SMALL_STREAM || d->level > 1)
		return Z_DEFAULT_STRATEGY;
	if (!dump_deflate(d, Z_DEFAULT_STRATEGY, data + (size - sample) / 2, sample, scratch))
		return -1;
	packed = scratch->size - before;
	scratch->size = before;
	if ((double)packed < 0.9 * huffman * (double)sample / (double)size)
		return Z_DEFAULT_STRATEGY;
	return huffman < 0.97 * (double)size ? Z_HUFFMAN_ONLY : -1;
}

void dump_stream_put(struct dump_deflater *d, const uint8_t *data, size_t size, struct silt_writer *w)
{
	bool constant = false;
	double entropy = stream_entropy(data, size, &constant);
	size_t start, head;
	int strategy;

	if (constant) {
		silt_writer_u8(w, STREAM_CONSTANT);
		silt_writer_varint(w, size);
		silt_writer_u8(w, data[0]);
		return;
	}
	strategy = stream_strategy(d, data, size, entropy, w);
	start = w->size;
	if (strategy >= 0) {
		uint8_t *p;
		size_t packed;

		silt_writer_u8(w, STREAM_DEFLATE);
		silt_writer_varint(w, size);
		head = w->size;
		silt_writer_u32(w, 0); /* room for the length, which is known afterwards */
		if (!dump_deflate(d, strategy, data, size, w)) {
			w->failed = true;
			return;
		}
		packed = w->size - head - 4;
		if (packed < size) {
			p = w->data + head;
			p[0] = (uint8_t)packed;
			p[1] = (uint8_t)(packed >> 8);
			p[2] = (uint8_t)(packed >> 16);
			p[3] = (uint8_t)(packed >> 24);
			return;
		}
		w->size = start;
	}
	silt_writer_u8(w, STREAM_RAW);
	silt_writer_varint(w, size);
	silt_writer_bytes(w, data, size);
}

/* The part behind method and length; out has room for size bytes. */
static void stream_body(struct dump_inflater *d, struct silt_reader *r, uint8_t method, uint8_t *out, size_t size)
{
	const uint8_t *p;
	uint32_t packed;

	switch (method) {
	case STREAM_RAW:
		p = silt_reader_bytes(r, size);
		if (p)
			memcpy(out, p, size);
		return;
	case STREAM_CONSTANT:
		memset(out, silt_reader_u8(r), size);
		return;
	case STREAM_DEFLATE:
		packed = silt_reader_u32(r);
		p = silt_reader_bytes(r, packed);
		if (p && !dump_inflate(d, p, packed, out, size))
			silt_reader_fail(r, "compressed data is damaged");
		return;
	default:
		silt_reader_fail(r, "unknown way of storing a stream");
	}
}

void dump_stream_get(struct dump_inflater *d, struct silt_reader *r, uint8_t *out, size_t size)
{
	uint8_t method = silt_reader_u8(r);
	uint64_t length = silt_reader_varint(r);

	if (silt_reader_ok(r) && length != size)
		silt_reader_fail(r, "stream of another length than its column");
	if (silt_reader_ok(r))
		stream_body(d, r, method, out, size);
}

size_t dump_stream_get_sized(struct dump_inflater *d, struct silt_reader *r, struct silt_writer *scratch, size_t max)
{
	uint8_t method = silt_reader_u8(r);
	size_t size = silt_reader_varint_max(r, max, "stream longer than possible");
	uint8_t *out;

	silt_writer_clear(scratch);
	if (!silt_reader_ok(r))
		return 0;
	out = silt_writer_reserve(scratch, size ? size : 1);
	if (!out) {
		silt_reader_fail(r, "out of memory");
		return 0;
	}
	stream_body(d, r, method, out, size);
	if (!silt_reader_ok(r))
		return 0;
	scratch->size = size;
	return size;
}
