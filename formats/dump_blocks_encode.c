/* SPDX-License-Identifier: MIT */
/* Block columns, encoding: what a chunk of blocks costs on disk is decided here. docs/FORMAT.md says what comes out. */
#include <stdlib.h>
#include <string.h>

#include "formats/dump_internal.h"

#define TABLE_SLOTS 16384u /* power of two, at least twice DUMP_DICTIONARY_MAX */

struct dictionary {
	uint32_t count;
	uint64_t keys[DUMP_DICTIONARY_MAX]; /* in order of first sight */
	uint32_t uses[DUMP_DICTIONARY_MAX];
	uint16_t rank[DUMP_DICTIONARY_MAX];  /* 0: the most frequent */
	uint16_t order[DUMP_DICTIONARY_MAX]; /* rank -> place in keys */
	uint64_t slot_key[TABLE_SLOTS];
	uint16_t slot_place[TABLE_SLOTS]; /* place in keys + 1, 0: empty */
};

struct dump_block_encoder {
	struct dump_deflater deflater;
	struct silt_writer scratch;
	struct dictionary dict;
	uint64_t learned[DUMP_LEARNED_SLOTS];
	uint64_t values[DUMP_CHUNK_RECORDS];
	uint64_t sort[DUMP_DICTIONARY_MAX];
	uint8_t plane[DUMP_CHUNK_RECORDS];
};

struct dump_block_encoder *dump_block_encoder_create(int level)
{
	struct dump_block_encoder *e = calloc(1, sizeof(*e));

	if (e)
		e->deflater.level = level;
	return e;
}

void dump_block_encoder_destroy(struct dump_block_encoder *e)
{
	if (!e)
		return;
	dump_deflater_deinit(&e->deflater);
	silt_writer_deinit(&e->scratch);
	free(e);
}

struct dump_deflater *dump_block_encoder_deflater(struct dump_block_encoder *e)
{
	return &e->deflater;
}

/* ---- dictionaries: distinct values, ranked by frequency ---- */

/* Replaces each value by the place of its key. False, with values as they were, when there are too many distinct ones
 * for a dictionary to pay. */
static bool dictionary_build(struct dictionary *d, uint64_t *values, uint32_t n)
{
	uint32_t most = n / 8 < DUMP_DICTIONARY_MAX ? n / 8 : DUMP_DICTIONARY_MAX;
	uint32_t i;

	d->count = 0;
	memset(d->slot_place, 0, sizeof(d->slot_place));
	for (i = 0; i < n; i++) {
		uint64_t key = values[i];
		uint32_t slot = (uint32_t)(key * 0x9e3779b97f4a7c15ull >> 50);

		while (d->slot_place[slot] && d->slot_key[slot] != key)
			slot = (slot + 1) & (TABLE_SLOTS - 1);
		if (!d->slot_place[slot]) {
			if (d->count == most)
				break;
			d->keys[d->count] = key;
			d->uses[d->count] = 0;
			d->slot_key[slot] = key;
			d->slot_place[slot] = (uint16_t)++d->count;
		}
		values[i] = d->slot_place[slot] - 1u;
		d->uses[values[i]]++;
	}
	if (i == n)
		return true;
	while (i--)
		values[i] = d->keys[values[i]];
	return false;
}

static int by_uses(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? 1 : x > y ? -1 : 0;
}

/* Frequent values get small ranks: the high byte planes become nearly constant. Ties go by first sight, which keeps
 * the output the same for the same input. */
static void dictionary_rank(struct dictionary *d, uint64_t *sort)
{
	uint32_t i;

	for (i = 0; i < d->count; i++)
		sort[i] = (uint64_t)d->uses[i] << 32 | (DUMP_DICTIONARY_MAX - i);
	qsort(sort, d->count, sizeof(*sort), by_uses);
	for (i = 0; i < d->count; i++) {
		uint32_t place = DUMP_DICTIONARY_MAX - (uint32_t)sort[i];

		d->order[i] = (uint16_t)place;
		d->rank[place] = (uint16_t)i;
	}
}

/* ---- columns ---- */

static void put_scratch(struct dump_block_encoder *e, struct silt_writer *w)
{
	if (!silt_writer_ok(&e->scratch)) {
		w->failed = true;
		return;
	}
	if (!silt_writer_reserve(&e->scratch, 1)) { /* so that data is not NULL */
		w->failed = true;
		return;
	}
	dump_stream_put(&e->deflater, e->scratch.data, e->scratch.size, w);
}

/* One plane; the rare values of 255 and more stand in a list of exceptions. */
static void values_put_escaped(struct dump_block_encoder *e, const uint64_t *values, uint32_t n, struct silt_writer *w)
{
	uint32_t i;

	silt_writer_clear(&e->scratch);
	for (i = 0; i < n; i++) {
		e->plane[i] = values[i] < 255 ? (uint8_t)values[i] : 255;
		if (values[i] >= 255)
			silt_writer_varint(&e->scratch, values[i] - 255);
	}
	silt_writer_u8(w, DUMP_COLUMN_ESCAPED);
	dump_stream_put(&e->deflater, e->plane, n, w);
	put_scratch(e, w);
}

/* Byte planes, lowest byte first, as many as the largest value needs. */
static void values_put(struct dump_block_encoder *e, const uint64_t *values, uint32_t n, struct silt_writer *w)
{
	uint64_t all = 0;
	uint32_t big = 0, i;
	unsigned planes = 0, p;

	for (i = 0; i < n; i++) {
		all |= values[i];
		big += values[i] >= 255;
	}
	while (planes < 8 && all >> 8 * planes)
		planes++;
	if (planes > 1 && big < n / 16) {
		values_put_escaped(e, values, n, w);
		return;
	}
	silt_writer_u8(w, (uint8_t)planes);
	for (p = 0; p < planes; p++) {
		for (i = 0; i < n; i++)
			e->plane[i] = (uint8_t)(values[i] >> 8 * p);
		dump_stream_put(&e->deflater, e->plane, n, w);
	}
}

/* Ranks and, before them, the dictionary in rank order. e->values holds places. */
static void dictionary_put(struct dump_block_encoder *e, uint32_t n, bool joint, struct silt_writer *w)
{
	struct dictionary *d = &e->dict;
	uint32_t i;

	dictionary_rank(d, e->sort);
	silt_writer_clear(&e->scratch);
	for (i = 0; i < d->count; i++) {
		uint64_t key = d->keys[d->order[i]];

		if (joint)
			silt_writer_varint(&e->scratch, key >> 32);
		silt_writer_varint(&e->scratch, joint ? key & UINT32_MAX : key);
	}
	silt_writer_varint(w, d->count);
	put_scratch(e, w);
	for (i = 0; i < n; i++)
		e->values[i] = d->rank[e->values[i]];
	values_put(e, e->values, n, w);
}

/* e->values, with a dictionary where that pays, else as distances from the smallest. */
static void column_put(struct dump_block_encoder *e, uint32_t n, struct silt_writer *w)
{
	uint64_t min = UINT64_MAX;
	uint32_t i;

	if (dictionary_build(&e->dict, e->values, n)) {
		dictionary_put(e, n, false, w);
		return;
	}
	for (i = 0; i < n; i++)
		if (e->values[i] < min)
			min = e->values[i];
	for (i = 0; i < n; i++)
		e->values[i] -= min;
	silt_writer_varint(w, 0);
	silt_writer_varint(w, min);
	values_put(e, e->values, n, w);
}

/* Where a context always asks for the same size, or few sizes, pairs are far fewer than the product. */
static bool joint_put(struct dump_block_encoder *e, const struct silt_blocks *b, uint64_t first, uint32_t n,
		      struct silt_writer *w)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		uint64_t size = b->size[first + i];

		if (size > UINT32_MAX)
			return false;
		e->values[i] = (uint64_t)b->context[first + i] << 32 | size;
	}
	if (!dictionary_build(&e->dict, e->values, n))
		return false;
	dictionary_put(e, n, true, w);
	return true;
}

/* ---- addresses ---- */

static uint64_t zigzag(uint64_t difference)
{
	return difference << 1 ^ (0 - (difference >> 63));
}

/* What each predictor leaves of the distances, in out[0 .. n - 2]; returns how many it did not guess exactly. */
static uint32_t residuals(struct dump_block_encoder *e, enum dump_predictor how, const silt_addr *addr,
			  const uint64_t *size, uint32_t n, uint64_t *out)
{
	uint32_t misses = 0, i;

	memset(e->learned, 0, sizeof(e->learned));
	for (i = 0; i + 1 < n; i++) {
		uint64_t distance = addr[i + 1] - addr[i], guess = 0;

		if (how == DUMP_PREDICT_GLIBC) {
			guess = dump_predict_glibc(size[i]);
		} else if (how == DUMP_PREDICT_LEARNED) {
			uint64_t *known = &e->learned[dump_learned_slot(size[i])];

			guess = *known;
			if (distance && (!guess || distance < guess))
				*known = distance;
		}
		out[i] = distance - guess;
		misses += out[i] != 0;
	}
	return misses;
}

static void addresses_put(struct dump_block_encoder *e, enum dump_predictor how, const silt_addr *addr,
			  const uint64_t *size, uint32_t n, struct silt_writer *w)
{
	uint64_t all = 0;
	unsigned shift;
	uint32_t i;

	residuals(e, how, addr, size, n, e->values);
	for (i = 0; i + 1 < n; i++)
		all |= e->values[i];
	shift = all ? (unsigned)__builtin_ctzll(all) : 0;
	for (i = 0; i + 1 < n; i++) /* arithmetic shift: the sign must survive */
		e->values[i] = zigzag((uint64_t)((int64_t)e->values[i] >> shift));
	silt_writer_u8(w, (uint8_t)shift);
	silt_writer_varint(w, addr[0]);
	values_put(e, e->values, n - 1, w);
}

static enum dump_predictor predictor_choose(struct dump_block_encoder *e, const silt_addr *addr, const uint64_t *size,
					    uint32_t n)
{
	uint32_t fewest = UINT32_MAX;
	int how, best = 0;

	/* Backwards: of equals the simpler one wins. */
	for (how = DUMP_PREDICTORS - 1; how >= 0; how--) {
		uint32_t misses = residuals(e, (enum dump_predictor)how, addr, size, n, e->values);

		if (misses <= fewest) {
			fewest = misses;
			best = how;
		}
	}
	return (enum dump_predictor)best;
}

bool dump_blocks_encode(struct dump_block_encoder *e, const struct silt_blocks *b, uint64_t first, uint32_t count,
			struct silt_writer *w)
{
	enum dump_predictor how = predictor_choose(e, b->addr + first, b->size + first, count);
	uint8_t head = (uint8_t)(how << DUMP_BLOCKS_PREDICTOR_SHIFT);
	size_t start = w->size;
	uint32_t i;

	silt_writer_u8(w, head | DUMP_BLOCKS_JOINT);
	if (!joint_put(e, b, first, count, w)) {
		if (!silt_writer_ok(w))
			return false;
		w->data[start] = head;
		for (i = 0; i < count; i++)
			e->values[i] = b->context[first + i];
		column_put(e, count, w);
		for (i = 0; i < count; i++)
			e->values[i] = b->size[first + i];
		column_put(e, count, w);
	}
	addresses_put(e, how, b->addr + first, b->size + first, count, w);
	return silt_writer_ok(w);
}
