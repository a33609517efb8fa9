/* SPDX-License-Identifier: MIT */
/* Reading and writing files of cached answers. */
#include "symbols/cache_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/writer.h"
#include "symbols/decompress.h"
#include "symbols/wire.h"

enum {
	HEAD = 64,
	HEAD_CRC = 60,
	VERSION = 1,
	BLOCK = 1 << 16,
	FRAME = 32,
	LARGE_PAGES_FROM = 4 << 20,
	LARGE_PAGE = 2 << 20,
	TOUCH_SECONDS = 3600, /* how exact the time of the last use is */
};

static const char magic[8] = "siltsym\n";

/* A table of strings and where it begins. */
struct strings {
	uint32_t count, bytes;
	uint64_t ends, text;
};

/* Where the parts of the body begin. */
struct layout {
	uint32_t key_size, facts_size, addresses, frames;
	uint64_t key, facts, pcs, runs, frame, size;
	struct strings names, linkages;
};

struct silt_cache_file {
	int fd;
	uint8_t *body; /* in a mapping of ours; blocks are read into it when they are needed */
	void *mapping;
	size_t mapping_size;
	uint32_t *table;
	uint64_t *have; /* a bit for each block */
	uint64_t body_at;
	struct layout l;
	const struct silt_symbol_frame **made; /* per first frame: what was made of it */
	bool linkage; /* linkage names are wanted */
	bool damaged;
};

static uint64_t aligned(uint64_t n)
{
	return (n + 7) & ~7ull;
}

/* Every count is 32 bits wide, so nothing here overflows. */
static void lay_out(struct layout *l)
{
	l->key = 0;
	l->facts = aligned(l->key_size);
	l->pcs = l->facts + aligned(l->facts_size);
	l->runs = l->pcs + 8ull * l->addresses;
	l->frame = l->runs + 8ull * l->addresses;
	l->names.ends = l->frame + (uint64_t)FRAME * l->frames;
	l->names.text = l->names.ends + aligned(4ull * l->names.count);
	l->linkages.ends = l->names.text + aligned(l->names.bytes);
	l->linkages.text = l->linkages.ends + aligned(4ull * l->linkages.count);
	l->size = l->linkages.text + aligned(l->linkages.bytes);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* ---- reading ---- */

static bool load_block(struct silt_cache_file *c, uint64_t block)
{
	uint64_t at = block * BLOCK;
	size_t size = c->l.size - at < BLOCK ? (size_t)(c->l.size - at) : BLOCK;

	if (c->have[block / 64] >> (block % 64) & 1)
		return true;
	if (silt_pread_full(c->fd, c->body + at, size, c->body_at + at) != (ssize_t)size ||
	    silt_crc32(0, c->body + at, size) != c->table[block])
		return false;
	c->have[block / 64] |= 1ull << (block % 64);
	return true;
}

/* Checked bytes of the body, which the caller knows to lie inside; NULL: damaged. */
static const uint8_t *bytes_at(struct silt_cache_file *c, uint64_t at, uint64_t size)
{
	if (c->damaged || at > c->l.size || size > c->l.size - at)
		return NULL;
	for (uint64_t block = at / BLOCK; size && block <= (at + size - 1) / BLOCK; block++) {
		if (!load_block(c, block)) {
			c->damaged = true;
			return NULL;
		}
	}
	return c->body + at;
}

static bool read_head(struct silt_cache_file *c, uint64_t file_size)
{
	uint8_t head[HEAD];
	uint32_t blocks;
	uint64_t table_size;

	if (silt_pread_full(c->fd, head, HEAD, 0) != HEAD || memcmp(head, magic, sizeof(magic)) != 0 || get32(head + 8) != VERSION ||
	    get64(head + 16) != file_size)
		return false;
	blocks = get32(head + 12);
	c->l = (struct layout){.key_size = get32(head + 24), .facts_size = get32(head + 28), .addresses = get32(head + 32),
			       .frames = get32(head + 36), .names = {.count = get32(head + 40), .bytes = get32(head + 44)},
			       .linkages = {.count = get32(head + 48), .bytes = get32(head + 52)}};
	lay_out(&c->l);
	table_size = 4ull * blocks;
	c->body_at = HEAD + table_size;
	if (c->l.size == 0 || (c->l.size + BLOCK - 1) / BLOCK != blocks || c->body_at + c->l.size != file_size)
		return false;
	c->table = malloc(table_size);
	if (!c->table || silt_pread_full(c->fd, c->table, table_size, HEAD) != (ssize_t)table_size)
		return false;
	if (silt_crc32(silt_crc32(0, head, HEAD_CRC), c->table, table_size) != get32(head + HEAD_CRC))
		return false;
	for (uint32_t i = 0; i < blocks; i++)
		c->table[i] = get32((const uint8_t *)&c->table[i]);
	return true;
}

/* Large pages where the kernel has them: most of the time of a large file would go into page faults. */
static bool make_room(struct silt_cache_file *c)
{
	uint64_t align = c->l.size >= LARGE_PAGES_FROM ? LARGE_PAGE : 0;

	c->mapping_size = c->l.size + align;
	c->mapping = mmap(NULL, c->mapping_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->mapping == MAP_FAILED) {
		c->mapping = NULL;
		return false;
	}
	c->body = c->mapping;
	if (align) {
		c->body += (align - (uintptr_t)c->mapping % align) % align;
		madvise(c->body, c->l.size, MADV_HUGEPAGE);
	}
	return true;
}

static bool read_key(struct silt_cache_file *c, const void *key, size_t key_size)
{
	const uint8_t *own;

	if (!make_room(c))
		return false;
	c->have = calloc(c->l.size / BLOCK / 64 + 1, sizeof(*c->have));
	c->made = calloc((size_t)c->l.frames + 1, sizeof(const struct silt_symbol_frame *));
	if (!c->have || !c->made || c->l.key_size != key_size)
		return false;
	own = bytes_at(c, c->l.key, key_size);
	return own && memcmp(own, key, key_size) == 0;
}

struct silt_cache_file *silt_cache_file_open(int dir, const char *name, const void *key, size_t key_size, uint64_t max_bytes,
					     bool linkage)
{
	struct silt_cache_file *c = calloc(1, sizeof(*c));
	struct stat st;

	if (!c)
		return NULL;
	c->linkage = linkage;
	c->fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (c->fd < 0 || fstat(c->fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH) ||
	    (uint64_t)st.st_size > max_bytes || !read_head(c, (uint64_t)st.st_size) || !read_key(c, key, key_size)) {
		silt_cache_file_destroy(c);
		return NULL;
	}
	return c;
}

void silt_cache_file_destroy(struct silt_cache_file *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	if (c->mapping)
		munmap(c->mapping, c->mapping_size);
	free(c->table);
	free(c->have);
	free(c->made);
	free(c);
}

const uint8_t *silt_cache_file_facts(struct silt_cache_file *c, size_t *ret_size)
{
	*ret_size = c->l.facts_size;
	return bytes_at(c, c->l.facts, c->l.facts_size);
}

size_t silt_cache_file_count(const struct silt_cache_file *c)
{
	return c->l.addresses;
}

void silt_cache_file_touch(struct silt_cache_file *c)
{
	struct stat st;

	if (!fstat(c->fd, &st) && time(NULL) - st.st_mtime > TOUCH_SECONDS)
		futimens(c->fd, NULL);
}

/* Text of string number id. False when damaged; NULL for 0, which is none. */
static bool read_string(struct silt_cache_file *c, const struct strings *t, uint32_t id, const char **ret)
{
	const uint8_t *ends, *start;
	uint32_t from = 0, to;

	*ret = NULL;
	if (!id)
		return true;
	if (id > t->count)
		return false;
	/* The end of the string before is where this one begins. */
	ends = id > 1 ? bytes_at(c, t->ends + 4ull * (id - 2), 8) : bytes_at(c, t->ends, 4);
	if (!ends)
		return false;
	if (id > 1)
		from = get32(ends);
	to = get32(id > 1 ? ends + 4 : ends);
	if (from >= to || to > t->bytes)
		return false;
	start = bytes_at(c, t->text + from, to - from);
	if (!start || start[to - from - 1] != '\0')
		return false;
	*ret = (const char *)start;
	return true;
}

static bool read_frame(struct silt_cache_file *c, const uint8_t *p, struct silt_symbol_frame *f)
{
	f->line = get32(p + 12);
	f->column = get32(p + 16);
	f->discriminator = get32(p + 20);
	f->function_start = get64(p + 24);
	return read_string(c, &c->l.names, get32(p), &f->function) && read_string(c, &c->l.names, get32(p + 8), &f->file) &&
	       (!c->linkage || read_string(c, &c->l.linkages, get32(p + 4), &f->linkage));
}

static bool read_answer(struct silt_cache_file *c, size_t i, struct silt_arena *arena, struct silt_answer *ret)
{
	const uint8_t *run = bytes_at(c, c->l.runs + 8ull * i, 8), *p;
	struct silt_symbol_frame *frames;
	uint32_t first, count;

	if (!run)
		return false;
	first = get32(run);
	count = get32(run + 4);
	if (count > SILT_WIRE_MAX_FRAMES || first > c->l.frames || count > c->l.frames - first)
		return false;
	*ret = (struct silt_answer){count ? c->made[first] : NULL, count};
	if (!count || ret->frames)
		return true;
	p = bytes_at(c, c->l.frame + (uint64_t)FRAME * first, (uint64_t)FRAME * count);
	frames = p ? silt_arena_array(arena, count, sizeof(*frames)) : NULL;
	if (!frames)
		return false;
	for (uint32_t k = 0; k < count; k++) {
		frames[k].inlined = k + 1 < count;
		if (!read_frame(c, p + FRAME * k, &frames[k]))
			return false;
	}
	ret->frames = c->made[first] = frames;
	return true;
}

bool silt_cache_file_entry(struct silt_cache_file *c, size_t i, struct silt_arena *arena, struct silt_cache_entry *ret)
{
	const uint8_t *pc = bytes_at(c, c->l.pcs + 8ull * i, 8);

	if (!pc || i >= c->l.addresses)
		return false;
	ret->pc = get64(pc);
	return read_answer(c, i, arena, &ret->answer);
}

bool silt_cache_file_find(struct silt_cache_file *c, uint64_t pc, struct silt_arena *arena, struct silt_answer *ret)
{
	size_t low = 0, n = c->l.addresses;

	while (n) {
		size_t half = n / 2;
		const uint8_t *p = bytes_at(c, c->l.pcs + 8ull * (low + half), 8);
		uint64_t there;

		if (!p)
			return false;
		there = get64(p);
		if (there == pc)
			return read_answer(c, low + half, arena, ret);
		if (there < pc) {
			low += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	return false;
}

/* ---- writing ---- */

struct build {
	struct silt_intern *names, *linkages;
	struct silt_map runs;           /* hash of a run of frames -> its first frame */
	struct silt_writer frames, run; /* run: first and count of each address */
};

static uint32_t number_string(struct build *b, struct silt_intern *strings, const char *text)
{
	uint32_t id = text ? silt_intern_add(strings, text) : SILT_INTERN_NONE;

	if (text && id == SILT_INTERN_NONE)
		b->frames.failed = true;
	return text ? id + 1 : 0;
}

/* Writes the frames of one answer, unless the same ones stand there already. */
static uint32_t add_run(struct build *b, const struct silt_answer *a)
{
	size_t at = b->frames.size, size;
	uint32_t *slot;
	bool is_new;

	for (size_t i = 0; i < a->count; i++) {
		const struct silt_symbol_frame *f = &a->frames[i];

		silt_writer_u32(&b->frames, number_string(b, b->names, f->function));
		silt_writer_u32(&b->frames, number_string(b, b->linkages, f->linkage));
		silt_writer_u32(&b->frames, number_string(b, b->names, f->file));
		silt_writer_u32(&b->frames, f->line);
		silt_writer_u32(&b->frames, f->column);
		silt_writer_u32(&b->frames, f->discriminator);
		silt_writer_u64(&b->frames, f->function_start);
	}
	if (!silt_writer_ok(&b->frames))
		return 0;
	size = b->frames.size - at;
	slot = silt_map_slot(&b->runs, silt_hash_bytes(b->frames.data + at, size), (uint32_t)(at / FRAME), &is_new);
	if (!slot) {
		b->frames.failed = true;
		return 0;
	}
	if (!is_new && (uint64_t)*slot * FRAME + size <= at &&
	    memcmp(b->frames.data + (size_t)*slot * FRAME, b->frames.data + at, size) == 0) {
		b->frames.size = at;
		return *slot;
	}
	return (uint32_t)(at / FRAME);
}

static void pad(struct silt_writer *w)
{
	while (silt_writer_ok(w) && w->size % 8)
		silt_writer_u8(w, 0);
}

static void write_strings(const struct silt_intern *strings, struct silt_writer *w, struct strings *t)
{
	t->count = silt_intern_count(strings);
	for (uint32_t i = 0; i < t->count; i++) {
		t->bytes += (uint32_t)silt_intern_size(strings, i) + 1;
		silt_writer_u32(w, t->bytes);
	}
	pad(w);
	for (uint32_t i = 0; i < t->count; i++)
		silt_writer_bytes(w, silt_intern_text(strings, i), silt_intern_size(strings, i) + 1);
	pad(w);
}

/* The whole body into w, its sizes into l. */
static void write_body(struct build *b, const struct silt_cache_entry *entries, size_t count, struct silt_writer *w, struct layout *l)
{
	for (size_t i = 0; i < count; i++) {
		silt_writer_u32(&b->run, entries[i].answer.count ? add_run(b, &entries[i].answer) : 0);
		silt_writer_u32(&b->run, (uint32_t)entries[i].answer.count);
		silt_writer_u64(w, entries[i].pc);
	}
	l->addresses = (uint32_t)count;
	l->frames = (uint32_t)(b->frames.size / FRAME);
	silt_writer_bytes(w, b->run.data, b->run.size);
	silt_writer_bytes(w, b->frames.data, b->frames.size);
	write_strings(b->names, w, &l->names);
	write_strings(b->linkages, w, &l->linkages);
	w->failed |= b->frames.failed || b->run.failed;
}

static void write_head(struct silt_writer *w, const struct layout *l, const struct silt_writer *body)
{
	uint32_t blocks = (uint32_t)((body->size + BLOCK - 1) / BLOCK);

	silt_writer_bytes(w, magic, sizeof(magic));
	silt_writer_u32(w, VERSION);
	silt_writer_u32(w, blocks);
	silt_writer_u64(w, HEAD + 4ull * blocks + body->size);
	silt_writer_u32(w, l->key_size);
	silt_writer_u32(w, l->facts_size);
	silt_writer_u32(w, l->addresses);
	silt_writer_u32(w, l->frames);
	silt_writer_u32(w, l->names.count);
	silt_writer_u32(w, l->names.bytes);
	silt_writer_u32(w, l->linkages.count);
	silt_writer_u32(w, l->linkages.bytes);
	while (silt_writer_ok(w) && w->size < HEAD)
		silt_writer_u8(w, 0);
	for (uint32_t i = 0; i < blocks; i++) {
		size_t at = (size_t)i * BLOCK, size = body->size - at < BLOCK ? body->size - at : BLOCK;

		silt_writer_u32(w, silt_crc32(0, body->data + at, size));
	}
	if (silt_writer_ok(w)) {
		uint32_t crc = silt_crc32(silt_crc32(0, w->data, HEAD_CRC), w->data + HEAD, w->size - HEAD);

		for (int i = 0; i < 4; i++)
			w->data[HEAD_CRC + i] = (uint8_t)(crc >> 8 * i);
	}
}

/* No sync: a file that a crash of the machine cut short fails its checks, and nothing is lost. */
static int put_in_place(int dir, const char *name, const struct silt_writer *head, const struct silt_writer *body,
			struct silt_error *err)
{
	char temporary[300];
	uint64_t random = 0;
	int fd, r;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = (uint64_t)getpid() << 32 ^ (uint64_t)time(NULL);
	snprintf(temporary, sizeof(temporary), ".%.200s.%016llx.tmp", name, (unsigned long long)random);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return silt_error_os(err, errno, "cannot create %s in the symbol cache", temporary);
	r = silt_write_all(fd, name, head->data, head->size, err);
	if (!r)
		r = silt_write_all(fd, name, body->data, body->size, err);
	if (close(fd) && !r)
		r = silt_error_os(err, errno, "cannot write %s in the symbol cache", name);
	if (!r && renameat(dir, temporary, dir, name))
		r = silt_error_os(err, errno, "cannot rename %s in the symbol cache", name);
	if (r)
		unlinkat(dir, temporary, 0);
	return r;
}

int silt_cache_file_write(int dir, const char *name, const void *key, size_t key_size, const void *facts, size_t facts_size,
			  const struct silt_cache_entry *entries, size_t count, uint64_t max_bytes, struct silt_error *err)
{
	struct layout l = {.key_size = (uint32_t)key_size, .facts_size = (uint32_t)facts_size};
	struct build b = {.names = silt_intern_create(), .linkages = silt_intern_create()};
	bool good = b.names && b.linkages;
	size_t limit = max_bytes > UINT32_MAX / 2 ? UINT32_MAX / 2 : (size_t)max_bytes;
	struct silt_writer head, body;
	int r = SILT_OK;

	silt_writer_init(&head, limit);
	silt_writer_init(&body, limit);
	silt_writer_init(&b.frames, limit);
	silt_writer_init(&b.run, limit);
	silt_writer_bytes(&body, key, key_size);
	pad(&body);
	silt_writer_bytes(&body, facts, facts_size);
	pad(&body);
	if (good)
		write_body(&b, entries, count, &body, &l);
	if (good && silt_writer_ok(&body))
		write_head(&head, &l, &body);
	if (!good || !silt_writer_ok(&body) || !silt_writer_ok(&head) || head.size + body.size > max_bytes)
		r = silt_error_set(err, SILT_E_LIMIT, "%s: more answers than one file of the symbol cache may hold", name);
	else
		r = put_in_place(dir, name, &head, &body, err);
	silt_map_deinit(&b.runs);
	silt_writer_deinit(&b.frames);
	silt_writer_deinit(&b.run);
	silt_writer_deinit(&body);
	silt_writer_deinit(&head);
	silt_intern_destroy(b.names);
	silt_intern_destroy(b.linkages);
	return r;
}
