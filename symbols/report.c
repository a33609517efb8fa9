/* SPDX-License-Identifier: MIT */
/* Encoding answers for the parent. */
#include "symbols/report.h"

#include <string.h>

#include "base/io.h"

enum { FLUSH_BYTES = 1 << 16 };

bool silt_report_init(struct silt_report *r, int fd)
{
	memset(r, 0, sizeof(*r));
	r->fd = fd;
	r->strings = silt_intern_create();
	return r->strings;
}

void silt_report_deinit(struct silt_report *r)
{
	silt_writer_deinit(&r->out);
	silt_intern_destroy(r->strings);
}

static void flush(struct silt_report *r)
{
	if (!silt_writer_ok(&r->out) || silt_write_all(r->fd, "pipe", r->out.data, r->out.size, NULL))
		r->failed = true;
	silt_writer_clear(&r->out);
}

/* Opens a record; its length is filled in by end_record. */
static size_t begin_record(struct silt_report *r, enum silt_wire_type type)
{
	size_t at = r->out.size;

	silt_writer_u32(&r->out, 0);
	silt_writer_u8(&r->out, (uint8_t)type);
	return at;
}

static void end_record(struct silt_report *r, size_t at)
{
	uint32_t length;

	if (!silt_writer_ok(&r->out)) {
		r->failed = true;
		return;
	}
	length = (uint32_t)(r->out.size - at - sizeof(length));
	memcpy(r->out.data + at, &length, sizeof(length));
	if (r->out.size >= FLUSH_BYTES)
		flush(r);
}

void silt_report_text(struct silt_report *r, enum silt_wire_type type, const char *text)
{
	size_t at = begin_record(r, type);

	silt_writer_bytes(&r->out, text, strnlen(text, SILT_WIRE_MAX_STRING));
	end_record(r, at);
}

uint32_t silt_report_string(struct silt_report *r, const char *text)
{
	uint32_t before = silt_intern_count(r->strings), id;

	if (!text || !*text || strnlen(text, SILT_WIRE_MAX_STRING) == SILT_WIRE_MAX_STRING)
		return 0;
	id = silt_intern_add(r->strings, text);
	if (id == SILT_INTERN_NONE) {
		r->failed = true;
		return 0;
	}
	if (id == before)
		silt_report_text(r, SILT_WIRE_STRING, text);
	return id + 1;
}

void silt_report_answer(struct silt_report *r, size_t index, const struct silt_report_frame *frames, size_t count)
{
	size_t at = begin_record(r, SILT_WIRE_ANSWER);

	silt_writer_varint(&r->out, index);
	silt_writer_varint(&r->out, count);
	for (size_t i = 0; i < count; i++) {
		silt_writer_varint(&r->out, frames[i].function);
		silt_writer_varint(&r->out, frames[i].linkage);
		silt_writer_varint(&r->out, frames[i].file);
		silt_writer_varint(&r->out, frames[i].line);
		silt_writer_varint(&r->out, frames[i].column);
		silt_writer_varint(&r->out, frames[i].discriminator);
		silt_writer_varint(&r->out, frames[i].start);
	}
	end_record(r, at);
}

void silt_report_source(struct silt_report *r, unsigned kind, const char *path)
{
	size_t at = begin_record(r, SILT_WIRE_SOURCE);

	silt_writer_u8(&r->out, (uint8_t)kind);
	silt_writer_bytes(&r->out, path, strlen(path));
	end_record(r, at);
}

void silt_report_wanted(struct silt_report *r, bool is_alt, const uint8_t *id, size_t id_len)
{
	size_t at = begin_record(r, SILT_WIRE_WANTED);

	silt_writer_u8(&r->out, is_alt);
	silt_writer_bytes(&r->out, id, id_len);
	end_record(r, at);
}

void silt_report_mark(struct silt_report *r, enum silt_wire_type type)
{
	end_record(r, begin_record(r, type));
}

void silt_report_dependency(struct silt_report *r, const struct silt_dependency *d)
{
	size_t at = begin_record(r, SILT_WIRE_DEPENDS);

	silt_writer_varint(&r->out, d->identity.inode);
	silt_writer_varint(&r->out, d->identity.size);
	silt_writer_svarint(&r->out, d->identity.modified);
	silt_writer_svarint(&r->out, d->identity.changed);
	silt_writer_u8(&r->out, d->fresh);
	silt_writer_text(&r->out, d->root, strlen(d->root));
	silt_writer_text(&r->out, d->path, strlen(d->path));
	end_record(r, at);
}

bool silt_report_end(struct silt_report *r)
{
	if (!r->failed) {
		silt_report_mark(r, SILT_WIRE_END);
	}
	flush(r);
	return !r->failed;
}
