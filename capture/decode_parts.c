/* SPDX-License-Identifier: MIT */
/*
 * Which parts of the live table's sparse directories were ever written to (trace_db.h, SILT_DB_PART). Reading the others would cost a page
 * fault for each, and give it memory.
 */
#include "capture/decode_internal.h"

static bool part_written(const uint64_t *parts, uint64_t part)
{
	return parts[part / 64] >> part % 64 & 1;
}

/* What the page words of a part can name at most. */
static uint64_t count_entries(const uint64_t *words)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < SILT_DECODE_PART_PAGES; i++) {
		uint32_t capacity = SILT_DB_PAGE_CAPACITY(words[i]);

		if (!words[i])
			continue;
		/* A page names no more than SILT_DECODE_PAGE_SLOTS addresses, whatever its chunk's capacity. */
		count += !(words[i] & SILT_DB_PAGE_CHUNK)	   ? 1 :
			 capacity < SILT_DECODE_PAGE_SLOTS ? capacity :
							     SILT_DECODE_PAGE_SLOTS;
	}
	return count;
}

static int add_leaf(struct silt_decode *d, silt_addr base, const uint64_t *leaf, struct silt_decode_parts *ret, struct silt_error *err)
{
	int rc = silt_decode_spend(d, SILT_DB_LEAF_PAGES * sizeof(*leaf), err);

	for (uint32_t part = 0; !rc && part < SILT_DB_LEAF_PARTS; part++) {
		const uint64_t *words = leaf + (size_t)part * SILT_DECODE_PART_PAGES;
		struct silt_decode_part p = { base + (silt_addr)part * SILT_DECODE_PART_PAGES * 4096, words, 0 };

		if (!part_written(leaf + SILT_DB_LEAF_PAGES, part))
			continue;
		p.entries = count_entries(words);
		if (p.entries && !silt_vec_push(&ret->list, p))
			rc = silt_error_set(err, SILT_E_NOMEM, "out of memory for the live table");
	}
	return rc;
}

int silt_decode_list_parts(struct silt_decode *d, struct silt_decode_parts *ret, struct silt_error *err)
{
	const uint32_t per_part = SILT_DB_PART / sizeof(uint32_t);
	const uint32_t *root = NULL;
	int rc = 0;

	if (d->db->root_ref)
		root = silt_decode_at(d, d->db->root_ref, SILT_DB_ROOT_ENTRIES * sizeof(*root));
	for (uint32_t i = 0; root && !rc && i < SILT_DB_ROOT_ENTRIES; i++) {
		const uint64_t *leaf;

		if (!(i % per_part) && !part_written(d->db->root_parts, i / per_part)) {
			i += per_part - 1;
			continue;
		}
		leaf = root[i] ? silt_decode_at(d, root[i], SILT_DB_LEAF_BYTES) : NULL;
		if (leaf)
			rc = add_leaf(d, (silt_addr)i << 30, leaf, ret, err);
	}
	return rc;
}

uint32_t silt_decode_side_next(const struct silt_decode *d, uint32_t i)
{
	if (i >= d->db->side_high && i < SILT_DB_SIDE_DENSE)
		i = SILT_DB_SIDE_DENSE;
	/* Entries lie across the parts' ends: a part is where one begins. */
	while (i >= SILT_DB_SIDE_DENSE && i < SILT_DB_SIDE_ENTRIES &&
	       !part_written(d->db->side_parts, (i - SILT_DB_SIDE_DENSE) * sizeof(struct silt_db_side) / SILT_DB_PART))
		i++;
	return i;
}
