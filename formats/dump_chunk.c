/* SPDX-License-Identifier: MIT */
/* Fixed-size headers of the .silt container, byte by byte. */
#include <string.h>

#include "base/limits.h"
#include "formats/dump_internal.h"

uint32_t dump_crc(const void *data, size_t size)
{
	return (uint32_t)crc32_z(0, data, size);
}

const char *dump_section_name(unsigned section)
{
	static const char *const names[DUMP_SECTIONS] = {
		[DUMP_PROCESS] = "process",   [DUMP_MODULES] = "modules",   [DUMP_FRAMES] = "frames",
		[DUMP_STACKS] = "stacks",     [DUMP_THREADS] = "threads",   [DUMP_CONTEXTS] = "contexts",
		[DUMP_REGIONS] = "regions",   [DUMP_MARKS] = "marks",       [DUMP_COUNTERS] = "counters",
		[DUMP_NOTES] = "notes",       [DUMP_BLOCKS] = "blocks",     [DUMP_TYPES] = "types",
	};

	if (section == DUMP_INDEX)
		return "index";
	return section < DUMP_SECTIONS && names[section] ? names[section] : "unknown";
}

unsigned dump_section_to_file(unsigned section)
{
	return section == DUMP_TYPES ? DUMP_OPTIONAL + 1 : section;
}

unsigned dump_section_from_file(unsigned number)
{
	if (number == DUMP_OPTIONAL + 1)
		return DUMP_TYPES;
	return number == DUMP_TYPES ? DUMP_UNKNOWN : number;
}

static void put(uint8_t *p, uint64_t v, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	size_t i;

	for (i = 0; i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

void dump_file_header_put(uint8_t out[DUMP_FILE_HEADER_SIZE], uint32_t tag)
{
	memcpy(out, DUMP_MAGIC, 8);
	put(out + 8, DUMP_VERSION, 4);
	put(out + 12, 0, 4); /* incompatible features */
	put(out + 16, 0, 4); /* compatible features */
	put(out + 20, tag, 4);
	put(out + 24, 0, 4);
	put(out + 28, dump_crc(out, 28), 4);
}

bool dump_file_header_get(const uint8_t in[DUMP_FILE_HEADER_SIZE], struct dump_file_header *ret, bool *ret_is_dump)
{
	*ret_is_dump = !memcmp(in, DUMP_MAGIC, 8);
	if (!*ret_is_dump || get(in + 28, 4) != dump_crc(in, 28))
		return false;
	ret->version = (uint32_t)get(in + 8, 4);
	ret->incompatible = (uint32_t)get(in + 12, 4);
	ret->compatible = (uint32_t)get(in + 16, 4);
	ret->tag = (uint32_t)get(in + 20, 4);
	return true;
}

void dump_chunk_put(uint8_t out[DUMP_CHUNK_HEADER_SIZE], struct dump_chunk *c)
{
	put(out, DUMP_CHUNK_MAGIC, 4);
	put(out + 4, dump_section_to_file(c->section), 2);
	put(out + 6, c->encoding, 1);
	put(out + 7, 0, 1);
	put(out + 8, c->tag, 4);
	put(out + 12, c->sequence, 4);
	put(out + 16, c->first, 8);
	put(out + 24, c->count, 4);
	put(out + 28, c->stored, 4);
	put(out + 32, c->raw, 4);
	put(out + 36, c->payload_crc, 4);
	c->header_crc = dump_crc(out, 40);
	put(out + 40, c->header_crc, 4);
}

bool dump_chunk_get(const uint8_t in[DUMP_CHUNK_HEADER_SIZE], struct dump_chunk *ret)
{
	uint64_t limit = silt_limit_default(SILT_LIMIT_CHUNK_BYTES);

	if (get(in, 4) != DUMP_CHUNK_MAGIC || get(in + 40, 4) != dump_crc(in, 40))
		return false;
	ret->section = (uint16_t)dump_section_from_file((unsigned)get(in + 4, 2));
	ret->encoding = in[6];
	ret->tag = (uint32_t)get(in + 8, 4);
	ret->sequence = (uint32_t)get(in + 12, 4);
	ret->first = get(in + 16, 8);
	ret->count = (uint32_t)get(in + 24, 4);
	ret->stored = (uint32_t)get(in + 28, 4);
	ret->raw = (uint32_t)get(in + 32, 4);
	ret->payload_crc = (uint32_t)get(in + 36, 4);
	ret->header_crc = (uint32_t)get(in + 40, 4);
	return ret->stored <= limit && ret->raw <= limit && ret->count <= DUMP_CHUNK_RECORDS;
}

void dump_trailer_put(uint8_t out[DUMP_TRAILER_SIZE], const struct dump_trailer *t)
{
	memcpy(out, DUMP_TRAILER_MAGIC, 8);
	put(out + 8, t->index_offset, 8);
	put(out + 16, t->file_size, 8);
	put(out + 24, t->tag, 4);
	put(out + 28, dump_crc(out, 28), 4);
}

bool dump_trailer_get(const uint8_t in[DUMP_TRAILER_SIZE], struct dump_trailer *ret)
{
	if (memcmp(in, DUMP_TRAILER_MAGIC, 8) || get(in + 28, 4) != dump_crc(in, 28))
		return false;
	ret->index_offset = get(in + 8, 8);
	ret->file_size = get(in + 16, 8);
	ret->tag = (uint32_t)get(in + 24, 4);
	return true;
}
