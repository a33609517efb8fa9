/* SPDX-License-Identifier: MIT */
/* Block columns, decoding: the mirror of dump_blocks_encode.c, believing nothing. */
#include <stdlib.h>
#include <string.h>

#include "formats/dump_internal.h"

#define VARINT_MAX 10u /* bytes of the longest number */

struct dump_block_decoder {
	struct dump_inflater inflater;
	struct silt_writer scratch;
	uint64_t learned[DUMP_LEARNED_SLOTS];
	uint64_t values[DUMP_CHUNK_RECORDS];
	uint64_t keys[DUMP_DICTIONARY_MAX];
	uint64_t keys2[DUMP_DICTIONARY_MAX];
	uint8_t plane[DUMP_CHUNK_RECORDS];
};

struct dump_block_decoder *dump_block_decoder_create(void)
{
	struct dump_block_decoder *d = calloc(1, sizeof(*d));

	/* All memory now: what fails while decoding is then the data's fault. */
	if (d && (!dump_inflater_init(&d->inflater) || !silt_writer_reserve(&d->scratch, DUMP_CHUNK_RECORDS * VARINT_MAX))) {
		dump_block_decoder_destroy(d);
		return NULL;
	}
	return d;
}

void dump_block_decoder_destroy(struct dump_block_decoder *d)
{
	if (!d)
		return;
	dump_inflater_deinit(&d->inflater);
	silt_writer_deinit(&d->scratch);
	free(d);
}

static void values_get_escaped(struct dump_block_decoder *d, struct silt_reader *r, uint32_t n)
{
	struct silt_reader list;
	uint32_t i;
	size_t size;

	dump_stream_get(&d->inflater, r, d->plane, n);
	size = dump_stream_get_sized(&d->inflater, r, &d->scratch, (size_t)n * VARINT_MAX);
	if (!silt_reader_ok(r))
		return;
	silt_reader_init(&list, d->scratch.data, size, r->name, silt_reader_offset(r));
	for (i = 0; i < n; i++) {
		d->values[i] = d->plane[i];
		if (d->plane[i] == 255)
			d->values[i] += silt_reader_varint(&list);
	}
	if (!silt_reader_ok(&list) || silt_reader_left(&list))
		silt_reader_fail(r, "list of large values does not fit its column");
}

/* n values into d->values. */
static void values_get(struct dump_block_decoder *d, struct silt_reader *r, uint32_t n)
{
	uint8_t planes = silt_reader_u8(r);
	unsigned p;
	uint32_t i;

	if (planes == DUMP_COLUMN_ESCAPED) {
		values_get_escaped(d, r, n);
		return;
	}
	if (planes > 8) {
		silt_reader_fail(r, "unknown column layout");
		return;
	}
	if (!planes)
		memset(d->values, 0, n * sizeof(*d->values));
	for (p = 0; p < planes && silt_reader_ok(r); p++) {
		dump_stream_get(&d->inflater, r, d->plane, n);
		if (!p)
			for (i = 0; i < n; i++)
				d->values[i] = d->plane[i];
		else
			for (i = 0; i < n; i++)
				d->values[i] |= (uint64_t)d->plane[i] << 8 * p;
	}
}

/* count entries of one or (pairs) two numbers each. */
static void dictionary_get(struct dump_block_decoder *d, struct silt_reader *r, uint64_t count, bool pairs)
{
	struct silt_reader list;
	size_t size;
	uint64_t i;

	if (count > DUMP_DICTIONARY_MAX) {
		silt_reader_fail(r, "dictionary larger than possible");
		return;
	}
	size = dump_stream_get_sized(&d->inflater, r, &d->scratch, count * 2 * VARINT_MAX);
	if (!silt_reader_ok(r))
		return;
	silt_reader_init(&list, d->scratch.data, size, r->name, silt_reader_offset(r));
	for (i = 0; i < count; i++) {
		d->keys[i] = silt_reader_varint(&list);
		if (pairs)
			d->keys2[i] = silt_reader_varint(&list);
	}
	if (!silt_reader_ok(&list) || silt_reader_left(&list))
		silt_reader_fail(r, "damaged dictionary");
}

static bool ranks_ok(const struct dump_block_decoder *d, uint32_t n, uint64_t count)
{
	uint64_t max = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		if (d->values[i] > max)
			max = d->values[i];
	return max < count;
}

/* A column of plain values into d->values. */
static void column_get(struct dump_block_decoder *d, struct silt_reader *r, uint32_t n)
{
	uint64_t count = silt_reader_varint(r), min = 0;
	uint32_t i;

	if (count)
		dictionary_get(d, r, count, false);
	else
		min = silt_reader_varint(r);
	if (silt_reader_ok(r))
		values_get(d, r, n);
	if (!silt_reader_ok(r))
		return;
	if (!count) {
		for (i = 0; i < n; i++)
			d->values[i] += min;
	} else if (ranks_ok(d, n, count)) {
		for (i = 0; i < n; i++)
			d->values[i] = d->keys[d->values[i]];
	} else {
		silt_reader_fail(r, "value outside its dictionary");
	}
}

static void joint_get(struct dump_block_decoder *d, struct silt_reader *r, uint32_t n, uint64_t *size,
		      uint32_t *context)
{
	uint64_t count = silt_reader_varint(r);
	uint32_t i;

	dictionary_get(d, r, count, true);
	if (silt_reader_ok(r))
		values_get(d, r, n);
	if (!silt_reader_ok(r))
		return;
	for (i = 0; i < count; i++)
		if (d->keys[i] > UINT32_MAX) {
			silt_reader_fail(r, "context number of more than 32 bits");
			return;
		}
	if (!ranks_ok(d, n, count)) {
		silt_reader_fail(r, "value outside its dictionary");
		return;
	}
	for (i = 0; i < n; i++) {
		context[i] = (uint32_t)d->keys[d->values[i]];
		size[i] = d->keys2[d->values[i]];
	}
}

static void separate_get(struct dump_block_decoder *d, struct silt_reader *r, uint32_t n, uint64_t *size,
			 uint32_t *context)
{
	uint64_t all = 0;
	uint32_t i;

	column_get(d, r, n);
	if (!silt_reader_ok(r))
		return;
	for (i = 0; i < n; i++) {
		all |= d->values[i];
		context[i] = (uint32_t)d->values[i];
	}
	if (all > UINT32_MAX) {
		silt_reader_fail(r, "context number of more than 32 bits");
		return;
	}
	column_get(d, r, n);
	if (silt_reader_ok(r))
		memcpy(size, d->values, n * sizeof(*size));
}

static void addresses_get(struct dump_block_decoder *d, struct silt_reader *r, enum dump_predictor how, uint32_t n,
			  const uint64_t *size, silt_addr *addr)
{
	uint8_t shift = silt_reader_u8(r);
	uint32_t i;

	addr[0] = silt_reader_varint(r);
	if (shift > 63)
		silt_reader_fail(r, "shift of more than 63 bits");
	if (silt_reader_ok(r))
		values_get(d, r, n - 1);
	if (!silt_reader_ok(r))
		return;
	if (how == DUMP_PREDICT_LEARNED)
		memset(d->learned, 0, sizeof(d->learned));
	for (i = 0; i + 1 < n; i++) {
		uint64_t z = d->values[i], distance = (z >> 1 ^ (0 - (z & 1))) << shift;

		if (how == DUMP_PREDICT_GLIBC) {
			distance += dump_predict_glibc(size[i]);
		} else if (how == DUMP_PREDICT_LEARNED) {
			uint64_t *known = &d->learned[dump_learned_slot(size[i])];

			distance += *known;
			if (distance && (!*known || distance < *known))
				*known = distance;
		}
		addr[i + 1] = addr[i] + distance;
		if (addr[i + 1] < addr[i]) {
			silt_reader_fail(r, "addresses out of order");
			return;
		}
	}
}

void dump_blocks_decode(struct dump_block_decoder *d, struct silt_reader *r, uint32_t count, silt_addr *addr,
			uint64_t *size, uint32_t *context)
{
	uint8_t head = silt_reader_u8(r);
	unsigned how = head >> DUMP_BLOCKS_PREDICTOR_SHIFT;

	if (how >= DUMP_PREDICTORS || !count || count > DUMP_CHUNK_RECORDS) {
		silt_reader_fail(r, "unknown block layout");
		return;
	}
	if (head & DUMP_BLOCKS_JOINT)
		joint_get(d, r, count, size, context);
	else
		separate_get(d, r, count, size, context);
	if (silt_reader_ok(r))
		addresses_get(d, r, (enum dump_predictor)how, count, size, addr);
	if (silt_reader_ok(r) && silt_reader_left(r))
		silt_reader_fail(r, "bytes after the end of the columns");
}
