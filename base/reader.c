/* SPDX-License-Identifier: MIT */
/* Bounded sticky reader: see reader.h. */
#include "base/reader.h"

#include <inttypes.h>

void silt_reader_init(struct silt_reader *r, const void *data, size_t size, const char *name, uint64_t base)
{
	static const uint8_t nothing;

	r->start = r->pos = data ? data : &nothing;
	r->end = r->start + (data ? size : 0);
	r->name = name;
	r->base = base;
	r->failure = NULL;
	r->failed_at = 0;
}

void silt_reader_fail(struct silt_reader *r, const char *expected)
{
	if (r->failure)
		return;
	r->failure = expected;
	r->failed_at = silt_reader_offset(r);
}

int silt_reader_error(const struct silt_reader *r, struct silt_error *err)
{
	if (!r->failure)
		return 0;
	silt_error_set(err, SILT_E_BAD_DATA, "%s: +0x%" PRIx64 ": %s", r->name, r->failed_at, r->failure);
	if (err)
		err->offset = r->failed_at;
	return SILT_E_BAD_DATA;
}

uint64_t silt_reader_varint_long(struct silt_reader *r)
{
	const uint8_t *p = r->pos;
	uint64_t value = 0;
	unsigned shift = 0;

	if (r->failure)
		return 0;
	for (;;) {
		uint8_t byte;

		if (p == r->end) {
			silt_reader_fail(r, "number cut short");
			return 0;
		}
		byte = *p++;
		if (shift == 63 && byte > 1) {
			silt_reader_fail(r, "number of more than 64 bits");
			return 0;
		}
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			if (!byte && shift) {
				silt_reader_fail(r, "padded number");
				return 0;
			}
			break;
		}
		shift += 7;
	}
	r->pos = p;
	return value;
}

uint64_t silt_reader_varint_max(struct silt_reader *r, uint64_t max, const char *expected)
{
	const uint8_t *before = r->pos;
	uint64_t value = silt_reader_varint(r);

	if (value <= max)
		return value;
	r->pos = before;
	silt_reader_fail(r, expected);
	return 0;
}

uint32_t silt_reader_varint32(struct silt_reader *r)
{
	return (uint32_t)silt_reader_varint_max(r, UINT32_MAX, "number of more than 32 bits");
}

uint64_t silt_reader_count(struct silt_reader *r, size_t min_record)
{
	const uint8_t *before = r->pos;
	uint64_t count = silt_reader_varint(r);

	if (count <= silt_reader_left(r) / (min_record ? min_record : 1))
		return count;
	if (!r->failure)
		r->pos = before;
	silt_reader_fail(r, "count of more records than the bytes left can hold");
	return 0;
}

const char *silt_reader_text(struct silt_reader *r, uint64_t max, size_t *ret_len)
{
	uint64_t len = silt_reader_varint_max(r, max, "string longer than the limit");
	const uint8_t *p = silt_reader_bytes(r, len);

	if (!p)
		return NULL;
	if (memchr(p, 0, len)) {
		r->pos = p;
		silt_reader_fail(r, "NUL byte inside a string");
		return NULL;
	}
	*ret_len = len;
	return (const char *)p;
}
