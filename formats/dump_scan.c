/* SPDX-License-Identifier: MIT */
/* Walking a dump from header to header; past damage, searching for the next intact header. */
#include "formats/dump_scan.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

#define SEARCH_FIRST 512u
#define SEARCH_WINDOW (256u << 10)
/* Damaged payloads are searched for headers inside them. A hostile file could make every one overlap the next: when
 * this many bytes beyond the size of the file were read for that, damaged payloads are skipped as a whole. */
#define SEARCH_BUDGET (64u << 20)

void dump_scan_deinit(struct dump_scan *sc)
{
	size_t i;

	for (i = 0; i < sc->chunks.count; i++)
		free(sc->chunks.items[i].payload);
	silt_vec_free(&sc->chunks);
	silt_vec_free(&sc->holes);
}

static int no_memory(const struct dump_source *src, struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", src->name);
}

static int check_header(struct dump_scan *sc, struct dump_source *src, bool salvage, struct silt_error *err)
{
	uint8_t bytes[DUMP_FILE_HEADER_SIZE];
	struct dump_file_header h;
	bool is_dump = false;
	size_t got;
	int ret = dump_source_get(src, 0, bytes, sizeof(bytes), &got, err);

	if (ret)
		return ret;
	if (!got)
		return dump_source_bad(src, 0, err, "the file is empty, not a silt dump");
	if (got == sizeof(bytes) && dump_file_header_get(bytes, &h, &is_dump)) {
		if (h.version != DUMP_VERSION || h.incompatible & ~DUMP_KNOWN_INCOMPATIBLE)
			return silt_error_set(err, SILT_E_UNSUPPORTED,
					      "%s: a dump of format version %u with features 0x%x, which this silt (version %u) "
					      "cannot read; use the silt that wrote it",
					      src->name, h.version, h.incompatible, DUMP_VERSION);
		sc->tag = h.tag;
		sc->tag_known = true;
		return 0;
	}
	sc->header_lost = true;
	if (salvage)
		return 0;
	if (got < sizeof(bytes) && !memcmp(bytes, DUMP_MAGIC, got < 8 ? got : 8))
		return dump_source_bad(src, got, err, "a silt dump cut short inside its header");
	if (!is_dump)
		return dump_source_bad(src, 0, err, "not a silt dump");
	return dump_source_bad(src, 0, err, "the header of this dump is damaged");
}

/* A header that belongs to this dump and to this place in it. */
static bool head_fits(const struct dump_scan *sc, const struct dump_chunk *c, uint64_t offset)
{
	if (sc->tag_known && c->tag != sc->tag)
		return false;
	/* Every chunk before it took its header's bytes, and holds so many records at most: bounds what a forged
	 * header can claim to be lost. */
	if (offset < DUMP_FILE_HEADER_SIZE || c->sequence > (offset - DUMP_FILE_HEADER_SIZE) / DUMP_CHUNK_HEADER_SIZE ||
	    c->first > (uint64_t)c->sequence * DUMP_CHUNK_RECORDS)
		return false;
	return !sc->chunks.count || c->sequence > sc->chunks.items[sc->chunks.count - 1].head.sequence;
}

static int read_payload(struct dump_source *src, const struct dump_chunk *c, uint64_t offset, uint8_t **ret,
			size_t *ret_got, struct silt_error *err)
{
	uint8_t *p = malloc(c->stored ? c->stored : 1);
	int rc;

	if (!p)
		return no_memory(src, err);
	rc = dump_source_get(src, offset, p, c->stored, ret_got, err);
	if (rc) {
		free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static bool wanted(const struct dump_chunk *c, bool blocks)
{
	return c->section == DUMP_INDEX || (c->section < DUMP_SECTIONS && (c->section != DUMP_BLOCKS || blocks));
}

/* Takes the chunk at offset in. *ret_whole says whether its bytes are all there (and, in salvage, intact). */
static int take_chunk(struct dump_scan *sc, struct dump_source *src, const struct dump_chunk *c, uint64_t offset,
		      bool blocks, bool salvage, bool *ret_whole, struct silt_error *err)
{
	struct dump_found f = {*c, offset, NULL, false};
	uint64_t body = offset + DUMP_CHUNK_HEADER_SIZE;
	bool piped = !src->seekable && !src->mem;
	size_t got;
	int ret;

	*ret_whole = true;
	if (!piped && (body > src->size || c->stored > src->size - body)) {
		*ret_whole = false;
	} else if (salvage || (piped && wanted(c, blocks))) {
		ret = read_payload(src, c, body, &f.payload, &got, err);
		if (ret)
			return ret;
		*ret_whole = got == c->stored && (!salvage || dump_crc(f.payload, got) == c->payload_crc);
		if (!piped) {
			free(f.payload);
			f.payload = NULL;
		}
	}
	if (!*ret_whole) {
		free(f.payload);
		return 0;
	}
	if (!silt_vec_push(&sc->chunks, f)) {
		free(f.payload);
		return no_memory(src, err);
	}
	sc->tag = c->tag;
	sc->tag_known = true;
	return 0;
}

/* The next place in a window that holds an intact header or trailer of this dump, or could if more were seen. */
static const uint8_t *find_in(const struct dump_scan *sc, const uint8_t *p, const uint8_t *end, uint64_t offset)
{
	const uint8_t *start = p;

	for (; p < end; p++) {
		struct dump_trailer t;
		struct dump_chunk c;
		size_t left = (size_t)(end - p);

		if (*p != 'C' && *p != DUMP_TRAILER_MAGIC[0])
			continue;
		if (left < DUMP_CHUNK_HEADER_SIZE || (*p != 'C' && dump_trailer_get(p, &t)) ||
		    (*p == 'C' && dump_chunk_get(p, &c) && head_fits(sc, &c, offset + (uint64_t)(p - start))))
			return p;
	}
	return NULL;
}

/* The next place from `from` on where it is worth to look; the end of the source if there is none. The window begins
 * small: where headers are many, each must not cost a large read. */
static int find_next(const struct dump_scan *sc, struct dump_source *src, uint64_t from, uint8_t *window, uint64_t *ret,
		     struct silt_error *err)
{
	size_t size = SEARCH_FIRST;

	while (from < src->size) {
		const uint8_t *p;
		size_t got;
		int rc = dump_source_get(src, from, window, size, &got, err);

		if (rc)
			return rc;
		if (!got)
			break;
		p = find_in(sc, window, window + got, from);
		if (p && (p == window || p + DUMP_CHUNK_HEADER_SIZE <= window + got)) {
			*ret = from + (uint64_t)(p - window);
			return 0;
		}
		from += p ? (size_t)(p - window) : got;
		if (size < SEARCH_WINDOW)
			size *= 2;
	}
	*ret = src->size;
	return 0;
}

static int add_hole(struct dump_scan *sc, const struct dump_source *src, uint64_t from, uint64_t to,
		    struct silt_error *err)
{
	struct dump_hole hole = {from, to - from};
	struct dump_hole *last = sc->holes.count ? &sc->holes.items[sc->holes.count - 1] : NULL;

	if (last && last->offset + last->size == from) {
		last->size += to - from;
		return 0;
	}
	return silt_vec_push(&sc->holes, hole) ? 0 : no_memory(src, err);
}

/* What stands at offset: reads a header and says which. */
enum what { WHAT_END, WHAT_CHUNK, WHAT_TRAILER, WHAT_CUT, WHAT_GARBAGE };

static int look(struct dump_source *src, uint64_t offset, struct dump_chunk *ret_chunk, struct dump_trailer *ret_trailer,
		enum what *ret, size_t *ret_got, struct silt_error *err)
{
	uint8_t bytes[DUMP_CHUNK_HEADER_SIZE];
	int rc = dump_source_get(src, offset, bytes, sizeof(bytes), ret_got, err);

	if (rc)
		return rc;
	if (!*ret_got)
		*ret = WHAT_END;
	else if (*ret_got >= DUMP_TRAILER_SIZE && dump_trailer_get(bytes, ret_trailer))
		*ret = WHAT_TRAILER;
	else if (*ret_got < sizeof(bytes))
		*ret = WHAT_CUT;
	else
		*ret = dump_chunk_get(bytes, ret_chunk) ? WHAT_CHUNK : WHAT_GARBAGE;
	return 0;
}

static int scan_strict(struct dump_scan *sc, struct dump_source *src, bool blocks, struct silt_error *err)
{
	uint64_t offset = DUMP_FILE_HEADER_SIZE;
	struct dump_trailer trailer;
	struct dump_chunk c;
	enum what what;
	bool whole;
	size_t got;
	int ret;

	for (;;) {
		ret = look(src, offset, &c, &trailer, &what, &got, err);
		if (ret)
			return ret;
		if (what == WHAT_TRAILER)
			break;
		if (what == WHAT_END || what == WHAT_CUT)
			return dump_source_bad(src, offset + got, err,
					       "the dump is cut short here: writing it was interrupted, or a copy is incomplete");
		if (what == WHAT_GARBAGE || !head_fits(sc, &c, offset) || c.sequence != sc->chunks.count)
			return dump_source_bad(src, offset, err, "damaged: no chunk header where one should be");
		ret = take_chunk(sc, src, &c, offset, blocks, false, &whole, err);
		if (ret)
			return ret;
		if (!whole)
			return dump_source_bad(src, src->size, err,
					       "the dump is cut short here, inside its %s: writing it was interrupted, or a "
					       "copy is incomplete", dump_section_name(c.section));
		offset += DUMP_CHUNK_HEADER_SIZE + (uint64_t)c.stored;
	}
	if (got > DUMP_TRAILER_SIZE || (src->seekable && src->size != offset + DUMP_TRAILER_SIZE))
		return dump_source_bad(src, offset + DUMP_TRAILER_SIZE, err, "bytes after the end of the dump");
	if (!sc->chunks.count || trailer.tag != sc->tag || trailer.file_size != offset + DUMP_TRAILER_SIZE ||
	    trailer.index_offset != sc->chunks.items[sc->chunks.count - 1].offset)
		return dump_source_bad(src, offset, err, "damaged: the trailer does not belong to this dump");
	sc->complete = true;
	return 0;
}

/* The same, but stepping over whatever is not in order. Never a pipe: those are in memory by now. */
static int scan_salvage(struct dump_scan *sc, struct dump_source *src, bool blocks, struct silt_error *err)
{
	uint64_t offset = sc->header_lost ? 0 : DUMP_FILE_HEADER_SIZE, next;
	uint64_t budget = SEARCH_BUDGET + src->size;
	uint8_t *window = malloc(SEARCH_WINDOW);
	int ret = window ? 0 : no_memory(src, err);

	while (!ret && offset < src->size) {
		struct dump_trailer trailer;
		struct dump_chunk c;
		enum what what;
		bool whole = false;
		size_t got;

		ret = look(src, offset, &c, &trailer, &what, &got, err);
		if (ret)
			break;
		if (what == WHAT_TRAILER && (!sc->tag_known || trailer.tag == sc->tag)) {
			sc->complete = true;
			break;
		}
		if (what == WHAT_CHUNK && head_fits(sc, &c, offset))
			ret = take_chunk(sc, src, &c, offset, blocks, true, &whole, err);
		if (ret)
			break;
		if (whole) {
			offset += DUMP_CHUNK_HEADER_SIZE + (uint64_t)c.stored;
			continue;
		}
		next = offset + 1;
		if (what == WHAT_CHUNK && budget < c.stored)
			next += c.stored;
		else if (what == WHAT_CHUNK)
			budget -= c.stored;
		ret = find_next(sc, src, next, window, &next, err);
		if (!ret)
			ret = add_hole(sc, src, offset, next, err);
		offset = next;
	}
	free(window);
	return ret;
}

int dump_scan_run(struct dump_scan *sc, struct dump_source *src, bool blocks, bool salvage, struct silt_error *err)
{
	int ret;

	memset(sc, 0, sizeof(*sc));
	ret = check_header(sc, src, salvage, err);
	if (ret)
		return ret;
	if (!salvage)
		return scan_strict(sc, src, blocks, err);
	ret = scan_salvage(sc, src, blocks, err);
	if (!ret && !sc->chunks.count)
		ret = dump_source_bad(src, 0, err, sc->header_lost ? "not a silt dump" :
								      "nothing of this dump is left that could be salvaged");
	return ret;
}
