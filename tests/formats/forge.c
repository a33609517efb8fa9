/* SPDX-License-Identifier: MIT */
/* A writer of hostile dumps. */
#include "forge.h"

#include <string.h>

void forge_process(struct silt_writer *w)
{
	unsigned i;

	silt_writer_varint(w, 1);
	silt_writer_varint(w, 1);
	for (i = 0; i < 8; i++)
		silt_writer_varint(w, 0);
	for (i = 0; i < 3; i++)
		silt_writer_varint(w, 0);
	silt_writer_u64(w, 1);
	silt_writer_u64(w, 2);
	for (i = 0; i < 4; i++)
		silt_writer_varint(w, 0);
	silt_writer_u8(w, 0);
}

void forge_begin(struct forge *f)
{
	struct silt_writer w = {0};
	uint8_t header[DUMP_FILE_HEADER_SIZE];

	memset(f, 0, sizeof(*f));
	dump_file_header_put(header, FORGE_TAG);
	silt_writer_bytes(&f->file, header, sizeof(header));
	forge_process(&w);
	forge_section(f, DUMP_PROCESS, 0, 1, &w);
	silt_writer_deinit(&w);
}

void forge_chunk(struct forge *f, struct dump_chunk head, const void *payload, size_t size)
{
	uint8_t bytes[DUMP_CHUNK_HEADER_SIZE];

	head.tag = FORGE_TAG;
	head.sequence = f->sequence++;
	head.stored = (uint32_t)size;
	if (!head.raw)
		head.raw = (uint32_t)size;
	head.payload_crc = dump_crc(payload, size);
	dump_chunk_put(bytes, &head);
	silt_writer_varint(&f->index, dump_section_to_file(head.section));
	silt_writer_varint(&f->index, f->file.size - f->last_offset);
	silt_writer_varint(&f->index, head.stored);
	silt_writer_varint(&f->index, head.count);
	silt_writer_u32(&f->index, head.header_crc);
	f->last_offset = f->file.size;
	f->chunks++;
	silt_writer_bytes(&f->file, bytes, sizeof(bytes));
	silt_writer_bytes(&f->file, payload, size);
}

void forge_section(struct forge *f, unsigned section, uint64_t first, uint32_t count, const struct silt_writer *w)
{
	struct dump_chunk head = {.section = (uint16_t)section, .first = first, .count = count};

	head.encoding = section == DUMP_BLOCKS ? DUMP_COLUMNS : DUMP_STORED;
	forge_chunk(f, head, w->data ? (const void *)w->data : "", w->size);
}

void forge_end(struct forge *f)
{
	struct dump_trailer t = {f->file.size, 0, FORGE_TAG};
	uint8_t bytes[DUMP_TRAILER_SIZE];
	struct silt_writer w = {0};

	silt_writer_varint(&w, f->chunks);
	silt_writer_bytes(&w, f->index.data, f->index.size);
	forge_section(f, DUMP_INDEX, 0, 0, &w);
	silt_writer_deinit(&w);
	t.file_size = f->file.size + sizeof(bytes);
	dump_trailer_put(bytes, &t);
	silt_writer_bytes(&f->file, bytes, sizeof(bytes));
}

void forge_deinit(struct forge *f)
{
	silt_writer_deinit(&f->file);
	silt_writer_deinit(&f->index);
}

void forge_frames(struct forge *f, uint32_t count)
{
	struct silt_writer w = {0};
	uint32_t i;

	for (i = 0; i < count; i++) { /* no module, no flags, offset one more than before */
		silt_writer_varint(&w, 0);
		silt_writer_varint(&w, 0);
		silt_writer_svarint(&w, 1);
	}
	forge_section(f, DUMP_FRAMES, 0, count, &w);
	silt_writer_deinit(&w);
}

void forge_stacks(struct forge *f, uint32_t count)
{
	struct silt_writer w = {0};
	uint32_t i;

	for (i = 0; i < count; i++) { /* no flags, one frame, not shared, the first */
		silt_writer_varint(&w, 0);
		silt_writer_varint(&w, 1);
		silt_writer_varint(&w, 0);
		silt_writer_svarint(&w, 0);
	}
	forge_section(f, DUMP_STACKS, 0, count, &w);
	silt_writer_deinit(&w);
}

void forge_contexts(struct forge *f, uint32_t count)
{
	struct silt_writer w = {0};
	uint32_t i, k;

	for (i = 0; i < count; i++)
		for (k = 0; k < 8; k++)
			silt_writer_varint(&w, 0);
	forge_section(f, DUMP_CONTEXTS, 0, count, &w);
	silt_writer_deinit(&w);
}
