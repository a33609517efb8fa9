/* SPDX-License-Identifier: MIT */
/* Bounded growing writer: see writer.h. */
#include "base/writer.h"

#include <stdlib.h>
#include <string.h>

void silt_writer_init(struct silt_writer *w, size_t limit)
{
	memset(w, 0, sizeof(*w));
	w->limit = limit;
}

void silt_writer_deinit(struct silt_writer *w)
{
	free(w->data);
	silt_writer_init(w, w->limit);
}

void silt_writer_clear(struct silt_writer *w)
{
	w->size = 0;
	w->failed = false;
}

uint8_t *silt_writer_reserve(struct silt_writer *w, size_t n)
{
	size_t need, cap;
	uint8_t *data;

	if (w->failed)
		return NULL;
	if (w->cap - w->size >= n && (!w->limit || w->limit - w->size >= n) && w->data)
		return w->data + w->size;
	if (__builtin_add_overflow(w->size, n, &need) || (w->limit && need > w->limit)) {
		w->failed = true;
		return NULL;
	}
	cap = w->cap < 256 ? 256 : w->cap + w->cap / 2;
	if (cap < need)
		cap = need;
	data = realloc(w->data, cap);
	if (!data) {
		w->failed = true;
		return NULL;
	}
	w->data = data;
	w->cap = cap;
	return data + w->size;
}

void silt_writer_bytes(struct silt_writer *w, const void *data, size_t n)
{
	uint8_t *p = silt_writer_reserve(w, n);

	if (!p || !n)
		return;
	memcpy(p, data, n);
	w->size += n;
}

/* The low n bytes of v, lowest first. */
static void put_le(struct silt_writer *w, uint64_t v, size_t n)
{
	uint8_t *p = silt_writer_reserve(w, n);
	size_t i;

	if (!p)
		return;
	for (i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * i);
	w->size += n;
}

void silt_writer_u8(struct silt_writer *w, uint8_t v)
{
	put_le(w, v, 1);
}

void silt_writer_u16(struct silt_writer *w, uint16_t v)
{
	put_le(w, v, 2);
}

void silt_writer_u32(struct silt_writer *w, uint32_t v)
{
	put_le(w, v, 4);
}

void silt_writer_u64(struct silt_writer *w, uint64_t v)
{
	put_le(w, v, 8);
}

void silt_writer_varint(struct silt_writer *w, uint64_t v)
{
	uint8_t *p = silt_writer_reserve(w, 10);
	size_t n = 0;

	if (!p)
		return;
	while (v >= 0x80) {
		p[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	p[n++] = (uint8_t)v;
	w->size += n;
}

void silt_writer_svarint(struct silt_writer *w, int64_t v)
{
	silt_writer_varint(w, (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0));
}

void silt_writer_text(struct silt_writer *w, const char *text, size_t len)
{
	silt_writer_varint(w, len);
	silt_writer_bytes(w, text, len);
}
