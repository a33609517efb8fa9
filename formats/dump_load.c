/* SPDX-License-Identifier: MIT */
/* Payloads: read, checked against their checksum, uncompressed. */
#include "formats/dump_load.h"

#include <inttypes.h>
#include <stdio.h>

#define RATIO_MAX 1040u /* deflate cannot do better than 1032 */

static int get_stored(struct dump_loader *l, struct dump_source *src, const struct dump_found *f, const uint8_t **ret,
		      struct silt_error *err)
{
	const struct dump_chunk *c = &f->head;
	uint8_t *p = f->payload;
	size_t got = c->stored;
	int rc;

	if (!p) {
		silt_writer_clear(&l->stored);
		p = silt_writer_reserve(&l->stored, (size_t)c->stored + 1);
		if (!p)
			return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", src->name);
		rc = dump_source_get(src, f->offset + DUMP_CHUNK_HEADER_SIZE, p, c->stored, &got, err);
		if (rc)
			return rc;
	}
	if (got != c->stored)
		return dump_source_bad(src, f->offset, err, "the file became shorter while it was read");
	if (dump_crc(p, got) != c->payload_crc)
		return dump_source_bad(src, f->offset, err, "damaged: wrong checksum of chunk %" PRIu32 " (%s)",
				       c->sequence, dump_section_name(c->section));
	*ret = p;
	return 0;
}

int dump_load(struct dump_loader *l, struct dump_source *src, const struct dump_found *f, struct silt_reader *ret,
	      struct silt_error *err)
{
	const struct dump_chunk *c = &f->head;
	uint64_t base = f->offset + DUMP_CHUNK_HEADER_SIZE;
	const uint8_t *p = NULL;
	uint8_t *raw;
	int rc = get_stored(l, src, f, &p, err);

	if (rc)
		return rc;
	snprintf(l->name, sizeof(l->name), "%.200s: %s, chunk %" PRIu32 " at 0x%" PRIx64, src->name,
		 dump_section_name(c->section), c->sequence, f->offset);
	if (c->section == DUMP_BLOCKS ? c->encoding == DUMP_COLUMNS : c->encoding == DUMP_STORED) {
		if (c->raw != c->stored)
			return dump_source_bad(src, f->offset, err, "damaged: sizes of chunk %" PRIu32 " differ", c->sequence);
		silt_reader_init(ret, p, c->stored, l->name, base);
		return 0;
	}
	if (c->section == DUMP_BLOCKS || c->encoding != DUMP_DEFLATE)
		return dump_source_bad(src, f->offset, err, "chunk %" PRIu32 " is encoded in an unknown way (%u)",
				       c->sequence, c->encoding);
	if (c->raw > (uint64_t)c->stored * RATIO_MAX + 64)
		return dump_source_bad(src, f->offset, err, "damaged: chunk %" PRIu32 " claims to be larger than it can be",
				       c->sequence);
	silt_writer_clear(&l->raw);
	raw = silt_writer_reserve(&l->raw, (size_t)c->raw + 1);
	if (!raw || !dump_inflater_init(&l->inflater))
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", src->name);
	if (!dump_inflate(&l->inflater, p, c->stored, raw, c->raw))
		return dump_source_bad(src, f->offset, err, "damaged: chunk %" PRIu32 " (%s) cannot be uncompressed",
				       c->sequence, dump_section_name(c->section));
	/* Offsets in messages count uncompressed bytes from the payload's start. */
	silt_reader_init(ret, raw, c->raw, l->name, base);
	return 0;
}

void dump_loader_deinit(struct dump_loader *l)
{
	dump_inflater_deinit(&l->inflater);
	silt_writer_deinit(&l->stored);
	silt_writer_deinit(&l->raw);
}
