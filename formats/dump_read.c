/* SPDX-License-Identifier: MIT */
/* Reading .silt dumps: scan for chunks, decode the tables, check every reference, decode the blocks if asked for. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "formats/dump.h"
#include "formats/dump_load.h"
#include "formats/dump_salvage.h"

struct dump_reader {
	struct dump_source src;
	struct dump_scan scan;
	struct dump_loader loader;
	struct dump_tables tables;
	struct silt_snapshot *s;
	bool blocks, salvage;
	uint64_t limit;
	uint64_t held[DUMP_SECTIONS]; /* records read */
	struct dump_losses lost;      /* salvage */
};

static int no_room(const struct dump_reader *dr, struct silt_error *err)
{
	return silt_error_set(err, SILT_E_LIMIT,
			      "%s: the snapshot does not fit the memory there is, or the limit of %" PRIu64 " bytes for a "
			      "file of this size",
			      dr->src.name, dr->limit);
}

/* Lists the chunks of a section, in order and without overlap; *ret_total is the number behind their last record. */
static int section_chunks(struct dump_reader *dr, enum dump_section section, struct dump_found ***ret, size_t *ret_count,
			  uint64_t *ret_total, struct silt_error *err)
{
	struct dump_found **list = malloc((dr->scan.chunks.count + 1) * sizeof(*list));
	uint64_t total = 0;
	size_t n = 0, i;

	if (!list)
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", dr->src.name);
	for (i = 0; i < dr->scan.chunks.count; i++) {
		struct dump_found *f = &dr->scan.chunks.items[i];

		if (f->head.section != section)
			continue;
		if (f->head.first != total && !(dr->salvage && f->head.first > total)) {
			if (dr->salvage)
				continue;
			free(list);
			return dump_source_bad(&dr->src, f->offset, err, "damaged: the %s do not continue here",
					       dump_section_name(section));
		}
		total = f->head.first + f->head.count;
		list[n++] = f;
	}
	*ret = list;
	*ret_count = n;
	*ret_total = total;
	return 0;
}

static int decode_chunk(struct dump_reader *dr, enum dump_section section, const struct dump_found *f,
			struct silt_error *err)
{
	struct silt_reader r;
	int ret = dump_load(&dr->loader, &dr->src, f, &r, err);

	if (ret)
		return ret;
	dump_table_decode(&dr->tables, section, f->head.first, f->head.count, &r);
	if (dr->tables.no_memory)
		return no_room(dr, err);
	return silt_reader_error(&r, err);
}

/* A chunk holds at least a byte for every record: refused before memory is taken for them. */
static int check_counts(struct dump_reader *dr, struct dump_found **list, size_t n, struct silt_error *err)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (list[i]->head.count > list[i]->head.raw)
			return dump_source_bad(&dr->src, list[i]->offset, err,
					       "damaged: a chunk of %" PRIu32 " bytes cannot hold %" PRIu32 " records",
					       list[i]->head.raw, list[i]->head.count);
	return 0;
}

static int read_chunks(struct dump_reader *dr, enum dump_section section, struct dump_found **list, size_t n,
		       uint64_t total, struct silt_error *err)
{
	uint64_t next = 0;
	size_t i;
	int ret = check_counts(dr, list, n, err);

	if (ret)
		return ret;
	if (total >= UINT32_MAX || !dump_table_allocate(&dr->tables, section, total + 1))
		return no_room(dr, err);
	for (i = 0; i < n; i++) {
		struct dump_found *f = list[i];

		if (f->head.first > next) {
			dump_table_lose(&dr->tables, section, next, f->head.first - next);
			dr->lost.records[section] += f->head.first - next;
		}
		next = f->head.first + f->head.count;
		ret = decode_chunk(dr, section, f, err);
		if (ret && (!dr->salvage || ret != SILT_E_BAD_DATA))
			return ret;
		if (ret) {
			dump_table_lose(&dr->tables, section, f->head.first, f->head.count);
			dr->lost.records[section] += f->head.count;
		} else {
			dr->held[section] += f->head.count;
		}
	}
	return 0;
}

/* Tables are allocated with room for one more record: salvage may need a placeholder behind the last. */
static void set_count(struct silt_snapshot *s, enum dump_section section, uint32_t count)
{
	uint32_t *const where[DUMP_SECTIONS] = {
		[DUMP_MODULES] = &s->module_count,   [DUMP_FRAMES] = &s->frame_count,
		[DUMP_STACKS] = &s->stack_count,     [DUMP_THREADS] = &s->thread_count,
		[DUMP_CONTEXTS] = &s->context_count, [DUMP_REGIONS] = &s->region_count,
		[DUMP_MARKS] = &s->mark_count,       [DUMP_COUNTERS] = &s->counter_count,
		[DUMP_NOTES] = &s->note_count,	     [DUMP_TYPES] = &s->type_count,
	};

	if (where[section])
		*where[section] = count;
}

static int read_section(struct dump_reader *dr, enum dump_section section, struct silt_error *err)
{
	struct dump_found **list;
	uint64_t total;
	size_t n;
	int ret = section_chunks(dr, section, &list, &n, &total, err);

	if (ret)
		return ret;
	ret = read_chunks(dr, section, list, n, total, err);
	free(list);
	if (ret)
		return ret;
	set_count(dr->s, section, (uint32_t)total);
	if (section == DUMP_PROCESS && total != 1) {
		if (!dr->salvage)
			return dump_source_bad(&dr->src, DUMP_FILE_HEADER_SIZE, err,
					       "damaged: %" PRIu64 " processes, not one", total);
		dump_table_lose(&dr->tables, DUMP_PROCESS, 0, 1);
		dr->lost.records[DUMP_PROCESS] = 1;
	}
	return 0;
}

/* Copies what grew while reading into the snapshot. */
static int finish_tables(struct dump_reader *dr, struct silt_error *err)
{
	struct dump_tables *t = &dr->tables;
	struct silt_snapshot *s = dr->s;

	s->ranges = silt_snapshot_array(s, t->ranges.count, sizeof(*s->ranges));
	s->stack_frames = silt_snapshot_array(s, t->stack_frames.count, sizeof(*s->stack_frames));
	if (!s->ranges || !s->stack_frames)
		return no_room(dr, err);
	if (t->ranges.count)
		memcpy(s->ranges, t->ranges.items, t->ranges.count * sizeof(*s->ranges));
	if (t->stack_frames.count)
		memcpy(s->stack_frames, t->stack_frames.items, t->stack_frames.count * sizeof(*s->stack_frames));
	s->range_count = (uint32_t)t->ranges.count;
	s->stack_frame_count = (uint32_t)t->stack_frames.count;
	silt_vec_free(&t->ranges);
	silt_vec_free(&t->stack_frames);
	if (dr->salvage)
		dr->lost.dangling += dump_salvage_references(s);
	return silt_snapshot_check(s, dr->src.name, err);
}

static int read_tables(struct dump_reader *dr, struct silt_error *err)
{
	int section, ret = 0;

	for (section = DUMP_PROCESS; section < DUMP_BLOCKS && !ret; section++)
		ret = read_section(dr, (enum dump_section)section, err);
	if (!ret)
		ret = read_section(dr, DUMP_TYPES, err);
	return ret ? ret : finish_tables(dr, err);
}

/* The columns close up over chunks that were lost, and over those that are out of order. */
static void compact_blocks(struct dump_reader *dr, const struct dump_block_work *work)
{
	struct silt_blocks *b = work->blocks;
	uint64_t to = 0;
	size_t i;

	for (i = 0; i < work->count; i++) {
		uint64_t from = work->at[i], n = work->list[i]->head.count;

		if (work->list[i]->lost || (n && to && b->addr[from] < b->addr[to - 1])) {
			dr->lost.records[DUMP_BLOCKS] += n;
			continue;
		}
		memmove(b->addr + to, b->addr + from, n * sizeof(*b->addr));
		memmove(b->size + to, b->size + from, n * sizeof(*b->size));
		memmove(b->context + to, b->context + from, n * sizeof(*b->context));
		to += n;
	}
	b->count = to;
}

static int check_block_order(const struct dump_reader *dr, const struct dump_block_work *work, struct silt_error *err)
{
	const struct silt_blocks *b = work->blocks;
	size_t i;

	for (i = 1; i < work->count; i++)
		if (work->list[i]->head.count && b->addr[work->at[i]] < b->addr[work->at[i] - 1])
			return dump_source_bad(&dr->src, work->list[i]->offset, err,
					       "damaged: the blocks do not continue in order here");
	return 0;
}

static int load_blocks(struct dump_reader *dr, struct dump_found **list, size_t n, struct silt_error *err)
{
	struct silt_blocks *b = &dr->s->blocks;
	struct dump_block_work work = {&dr->src, list, NULL, n, b, dr->s->context_count, dr->salvage};
	uint64_t total = 0;
	size_t i;
	int ret;

	work.at = malloc((n + 1) * sizeof(*work.at));
	if (!work.at)
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", dr->src.name);
	for (i = 0; i < n; i++) {
		work.at[i] = total;
		total += list[i]->head.count;
	}
	b->addr = silt_snapshot_array(dr->s, total, sizeof(*b->addr));
	b->size = silt_snapshot_array(dr->s, total, sizeof(*b->size));
	b->context = silt_snapshot_array(dr->s, total, sizeof(*b->context));
	b->count = total;
	ret = b->addr && b->size && b->context ? dump_load_blocks(&work, err) : no_room(dr, err);
	if (!ret && dr->salvage)
		compact_blocks(dr, &work);
	else if (!ret)
		ret = check_block_order(dr, &work, err);
	if (!ret && dr->salvage)
		dr->lost.dangling += dump_salvage_contexts(dr->s);
	free(work.at);
	return ret;
}

static int read_blocks(struct dump_reader *dr, struct silt_error *err)
{
	struct dump_found **list;
	uint64_t total, *held = &dr->held[DUMP_BLOCKS];
	size_t n, i;
	int ret = section_chunks(dr, DUMP_BLOCKS, &list, &n, &total, err);

	if (ret)
		return ret;
	dr->s->has_blocks = n > 0;
	for (i = 0; i < n; i++)
		*held += list[i]->head.count;
	dr->lost.records[DUMP_BLOCKS] += total - *held;
	if (n && dr->blocks) {
		ret = load_blocks(dr, list, n, err);
		*held = dr->s->blocks.count;
	}
	free(list);
	return ret;
}

/* Sections from a later version: to skip, or to refuse. */
static int check_sections(const struct dump_reader *dr, struct silt_error *err)
{
	size_t i;

	for (i = 0; i < dr->scan.chunks.count; i++) {
		unsigned section = dr->scan.chunks.items[i].head.section;

		if (section >= DUMP_OPTIONAL || section == DUMP_INDEX || (section && section < DUMP_SECTIONS))
			continue;
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "%s: holds a section (%u) that this silt does not know; use the silt that wrote it",
				      dr->src.name, section);
	}
	return 0;
}

struct index_entry {
	uint64_t section, offset, stored, count;
	uint32_t header_crc;
};

/* Reads the entry behind the one in *e. */
static void next_entry(struct silt_reader *r, struct index_entry *e)
{
	e->section = silt_reader_varint(r);
	if (e->section <= UINT16_MAX)
		e->section = dump_section_from_file((unsigned)e->section);
	e->offset += silt_reader_varint(r);
	e->stored = silt_reader_varint(r);
	e->count = silt_reader_varint_max(r, DUMP_CHUNK_RECORDS, "more records than a chunk may hold");
	e->header_crc = silt_reader_u32(r);
}

/* The index must list exactly the chunks that were found, so that none can be missing. */
static int check_index(struct dump_reader *dr, struct silt_error *err)
{
	const struct dump_found *chunks = dr->scan.chunks.items;
	size_t n = dr->scan.chunks.count - 1, i;
	struct index_entry e = {0};
	struct silt_reader r;
	uint64_t count;
	int ret;

	if (chunks[n].head.section != DUMP_INDEX)
		return dump_source_bad(&dr->src, chunks[n].offset, err, "damaged: the last chunk is not the index");
	ret = dump_load(&dr->loader, &dr->src, &chunks[n], &r, err);
	if (ret)
		return ret;
	count = silt_reader_count(&r, 8);
	for (i = 0; i < count && i < n; i++) {
		const struct dump_chunk *c = &chunks[i].head;

		next_entry(&r, &e);
		if (silt_reader_ok(&r) && (e.section != c->section || e.offset != chunks[i].offset ||
					   e.stored != c->stored || e.count != c->count || e.header_crc != c->header_crc))
			silt_reader_fail(&r, "the index does not match the chunks");
	}
	if (silt_reader_ok(&r) && (count != n || silt_reader_left(&r)))
		silt_reader_fail(&r, "the index lists another number of chunks");
	return silt_reader_error(&r, err);
}

/* Salvage: an intact index tells exactly how much is lost. Without one only gaps between chunks are known. */
static void count_losses(struct dump_reader *dr)
{
	const struct dump_found *last = &dr->scan.chunks.items[dr->scan.chunks.count - 1];
	uint64_t total[DUMP_SECTIONS] = {0}, count, i;
	struct index_entry e = {0};
	struct silt_reader r;

	check_index(dr, &dr->lost.other);
	if (last->head.section != DUMP_INDEX || dump_load(&dr->loader, &dr->src, last, &r, NULL))
		return;
	count = silt_reader_count(&r, 8);
	for (i = 0; i < count; i++) {
		next_entry(&r, &e);
		if (e.section < DUMP_SECTIONS)
			total[e.section] += e.count;
	}
	if (!silt_reader_ok(&r))
		return;
	dr->lost.exact = true;
	for (i = 1; i < DUMP_SECTIONS; i++)
		if (total[i] > dr->held[i])
			dr->lost.records[i] = total[i] - dr->held[i];
}

static int read_all(struct dump_reader *dr, uint64_t max_memory, struct silt_error *err)
{
	uint64_t base = silt_limit_default(SILT_LIMIT_SNAPSHOT_BASE), ratio = silt_limit_default(SILT_LIMIT_SNAPSHOT_RATIO);
	uint64_t most = silt_limit_default(SILT_LIMIT_SNAPSHOT_BYTES);
	int ret = dump_scan_run(&dr->scan, &dr->src, dr->blocks, dr->salvage, err);

	if (!ret)
		ret = check_sections(dr, err);
	if (!ret && !dr->salvage)
		ret = check_index(dr, err);
	if (ret)
		return ret;
	dr->s = silt_snapshot_create();
	if (!dr->s)
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", dr->src.name);
	dr->limit = most;
	if (dr->src.size < (most - base) / ratio)
		dr->limit = base + dr->src.size * ratio;
	if (max_memory)
		dr->limit = max_memory;
	silt_arena_set_limit(dr->s->arena, dr->limit);
	dr->tables.s = dr->s;
	dr->tables.limit = dr->limit;
	ret = read_tables(dr, err);
	if (!ret)
		ret = read_blocks(dr, err);
	if (ret)
		return ret;
	silt_arena_set_limit(dr->s->arena, 0);
	silt_snapshot_total(dr->s);
	if (!dr->salvage)
		return 0;
	count_losses(dr);
	return dump_salvage_notes(dr->s, &dr->src, &dr->scan, &dr->lost, err);
}

int silt_dump_read(const char *path, const struct silt_read_options *opts, struct silt_snapshot **ret,
		   struct silt_error *err)
{
	struct dump_reader dr;
	unsigned flags = opts ? opts->flags : 0;
	uint64_t max_memory = opts ? opts->max_memory : 0, in_memory = 0;
	int rc;

	memset(&dr, 0, sizeof(dr));
	dr.blocks = flags & SILT_READ_BLOCKS;
	dr.salvage = flags & SILT_READ_SALVAGE;
	if (dr.salvage)
		in_memory = silt_limit_or_default(SILT_LIMIT_INPUT_BYTES, max_memory);
	rc = dump_source_open(&dr.src, path, in_memory, err);
	if (rc)
		return rc;
	rc = read_all(&dr, max_memory, err);
	dump_scan_deinit(&dr.scan);
	dump_loader_deinit(&dr.loader);
	silt_vec_free(&dr.tables.ranges);
	silt_vec_free(&dr.tables.stack_frames);
	dump_source_close(&dr.src);
	if (rc) {
		silt_snapshot_destroy(dr.s);
		return rc;
	}
	*ret = dr.s;
	return 0;
}
