/* SPDX-License-Identifier: MIT */
/* Writing .silt dumps, front to back, so that a pipe will do. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/limits.h"
#include "base/vec.h"
#include "formats/dump.h"
#include "formats/dump_pool.h"

#define DEFAULT_LEVEL 1

struct dump_writer {
	int fd;
	const char *name;
	uint64_t offset; /* bytes written */
	uint64_t last_offset;
	uint32_t tag;
	struct silt_writer index;
	uint64_t index_count;
};

static int put_bytes(struct dump_writer *dw, const void *data, size_t size, struct silt_error *err)
{
	int ret = silt_write_all(dw->fd, dw->name, data, size, err);

	if (!ret)
		dw->offset += size;
	return ret;
}

/* Writes a finished chunk and notes it in the index. */
static int put_chunk(void *data, const struct dump_job *job, struct silt_error *err)
{
	struct dump_writer *dw = data;

	silt_writer_varint(&dw->index, dump_section_to_file(job->chunk.section));
	silt_writer_varint(&dw->index, dw->offset - dw->last_offset);
	silt_writer_varint(&dw->index, job->chunk.stored);
	silt_writer_varint(&dw->index, job->chunk.count);
	silt_writer_u32(&dw->index, job->chunk.header_crc);
	dw->last_offset = dw->offset;
	dw->index_count++;
	return put_bytes(dw, job->out.data, job->out.size, err);
}

static int put_table(struct dump_pool *p, const struct silt_snapshot *s, enum dump_section section,
		     struct silt_error *err)
{
	uint64_t first = 0, total = dump_table_count(s, section);

	while (first < total) {
		struct dump_job *job;
		int ret = dump_pool_next(p, &job, err);

		if (ret)
			return ret;
		job->section = section;
		job->first = first;
		job->count = dump_table_encode(s, section, first, &job->raw);
		if (!silt_writer_ok(&job->raw) || !job->count)
			return silt_error_set(err, SILT_E_NOMEM, "out of memory while encoding the %s of a dump",
					      dump_section_name(section));
		first += job->count;
		dump_pool_submit(p, job);
	}
	return 0;
}

/* A snapshot that has blocks, none of them live, gets one empty chunk: "none" differs from "not known". */
static int put_blocks(struct dump_pool *p, const struct silt_snapshot *s, struct silt_error *err)
{
	uint64_t first = 0;

	if (!s->has_blocks && !s->blocks.count)
		return 0;
	do {
		struct dump_job *job;
		uint64_t left = s->blocks.count - first;
		int ret = dump_pool_next(p, &job, err);

		if (ret)
			return ret;
		job->section = DUMP_BLOCKS;
		job->blocks = &s->blocks;
		job->first = first;
		job->count = left < DUMP_CHUNK_RECORDS ? (uint32_t)left : DUMP_CHUNK_RECORDS;
		first += job->count;
		dump_pool_submit(p, job);
	} while (first < s->blocks.count);
	return 0;
}

static int put_sections(struct dump_pool *p, const struct silt_snapshot *s, struct silt_error *err)
{
	/* What is referred to comes before what refers to it; the blocks, which few readers want, last. */
	static const enum dump_section order[] = {
		DUMP_PROCESS,  DUMP_MODULES, DUMP_FRAMES, DUMP_STACKS,   DUMP_THREADS,
		DUMP_CONTEXTS, DUMP_REGIONS, DUMP_MARKS,  DUMP_COUNTERS, DUMP_NOTES,
		DUMP_TYPES,
	};
	size_t i;
	int ret = 0;

	for (i = 0; i < SILT_ARRAY_LEN(order) && !ret; i++)
		ret = put_table(p, s, order[i], err);
	if (!ret)
		ret = put_blocks(p, s, err);
	if (!ret)
		ret = dump_pool_drain(p, err);
	return ret;
}

/* The index, as one more chunk, and the trailer that leads to it. */
static int put_end(struct dump_pool *p, struct dump_writer *dw, struct silt_error *err)
{
	struct dump_trailer trailer = {dw->offset, 0, dw->tag};
	uint8_t bytes[DUMP_TRAILER_SIZE];
	struct dump_job *job;
	int ret = dump_pool_next(p, &job, err);

	if (ret)
		return ret;
	job->section = DUMP_INDEX;
	silt_writer_varint(&job->raw, dw->index_count);
	silt_writer_bytes(&job->raw, dw->index.data, dw->index.size);
	if (!silt_writer_ok(&dw->index) || !silt_writer_ok(&job->raw))
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory for the index", dw->name);
	if (job->raw.size > silt_limit_default(SILT_LIMIT_CHUNK_BYTES))
		return silt_error_set(err, SILT_E_LIMIT, "%s: %" PRIu64 " chunks are more than an index can hold",
				      dw->name, dw->index_count);
	dump_pool_submit(p, job);
	ret = dump_pool_drain(p, err);
	if (ret)
		return ret;
	trailer.file_size = dw->offset + DUMP_TRAILER_SIZE;
	dump_trailer_put(bytes, &trailer);
	return put_bytes(dw, bytes, sizeof(bytes), err);
}

/* Compressing less than this takes a thread less time than starting one. */
#define ALONE_MAX 50000u

static unsigned thread_count(const struct silt_snapshot *s, const struct silt_write_options *opts)
{
	uint64_t limit = silt_limit_default(SILT_LIMIT_WRITE_THREADS);
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (opts && opts->threads)
		return opts->threads;
	if (s->blocks.count + s->stack_frame_count + s->context_count + s->region_count < ALONE_MAX)
		return 1;
	return processors < 1 ? 1 : (unsigned)((uint64_t)processors < limit ? (uint64_t)processors : limit);
}

/* Names the dump in every chunk, so that chunks of two files can never be mixed up. */
static int process_tag(const struct silt_snapshot *s, uint32_t *ret, struct silt_error *err)
{
	struct silt_writer w;

	silt_writer_init(&w, 0);
	dump_table_encode(s, DUMP_PROCESS, 0, &w);
	if (!silt_writer_ok(&w)) {
		silt_writer_deinit(&w);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory while encoding the process of a dump");
	}
	*ret = dump_crc(w.data, w.size);
	silt_writer_deinit(&w);
	return 0;
}

static int check_blocks(const struct silt_snapshot *s, const char *name, struct silt_error *err)
{
	const struct silt_blocks *b = &s->blocks;
	uint64_t i;

	for (i = 0; i < b->count; i++) {
		if (b->context[i] >= s->context_count)
			return silt_error_set(err, SILT_E_BAD_DATA, "%s: block %" PRIu64 " has no context", name, i);
		if (i && b->addr[i] < b->addr[i - 1])
			return silt_error_set(err, SILT_E_BAD_DATA, "%s: block %" PRIu64 " is out of order", name, i);
	}
	return 0;
}

int silt_dump_write_fd(int fd, const char *name, const struct silt_snapshot *s,
		       const struct silt_write_options *opts, struct silt_error *err)
{
	struct dump_writer dw = {.fd = fd, .name = name};
	uint8_t header[DUMP_FILE_HEADER_SIZE];
	struct dump_pool *p = NULL;
	int level = opts && opts->level ? opts->level : DEFAULT_LEVEL;
	int ret;

	if (level < 1 || level > 9)
		return silt_error_set(err, SILT_E_INVAL, "%s: compression level %d is not in 1..9", name, level);
	ret = silt_snapshot_check(s, name, err);
	if (!ret)
		ret = check_blocks(s, name, err);
	if (!ret)
		ret = process_tag(s, &dw.tag, err);
	if (ret)
		return ret;
	p = dump_pool_create(thread_count(s, opts), level, dw.tag, put_chunk, &dw);
	if (!p)
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", name);
	dump_file_header_put(header, dw.tag);
	ret = put_bytes(&dw, header, sizeof(header), err);
	if (!ret)
		ret = put_sections(p, s, err);
	if (!ret)
		ret = put_end(p, &dw, err);
	dump_pool_destroy(p);
	silt_writer_deinit(&dw.index);
	return ret;
}

/* Devices and pipes are written to, not replaced. */
static int write_special(const char *path, const struct silt_snapshot *s, const struct silt_write_options *opts,
			 struct silt_error *err)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	int ret;

	if (fd < 0)
		return silt_error_os(err, errno, "%s: cannot open", path);
	ret = silt_dump_write_fd(fd, path, s, opts, err);
	if (close(fd) && !ret)
		ret = silt_error_os(err, errno, "%s: cannot write", path);
	return ret;
}

int silt_dump_write(const char *path, const struct silt_snapshot *s, const struct silt_write_options *opts,
		    struct silt_error *err)
{
	struct silt_temp temp;
	struct stat st;
	int ret;

	if (!strcmp(path, "-"))
		return silt_dump_write_fd(STDOUT_FILENO, "standard output", s, opts, err);
	if (!stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return write_special(path, s, opts, err);
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return silt_error_os(err, EISDIR, "%s: cannot write a dump", path);
	ret = silt_temp_create(path, &temp, err);
	if (ret)
		return ret;
	ret = silt_dump_write_fd(temp.fd, path, s, opts, err);
	if (ret) {
		silt_temp_discard(&temp);
		return ret;
	}
	return silt_temp_commit(&temp, err);
}
