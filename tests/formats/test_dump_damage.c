/* SPDX-License-Identifier: MIT */
/* Dumps cut short anywhere and with any byte changed: an error or, in salvage, less than there was, never something else. */
#include "samples.h"

#include <stdlib.h>
#include <string.h>

struct dump_bytes {
	struct silt_snapshot *s; /* what was written */
	uint8_t *data;
	size_t size;
	struct sample_file file; /* to put changed copies in */
};

static void prepare(struct dump_bytes *d, const struct sample_shape *shape)
{
	d->s = sample_snapshot(4, shape);
	sample_file_open(&d->file);
	sample_file_dump(&d->file, d->s, 1, 2);
	d->data = sample_file_get(&d->file, &d->size);
}

static void finish(struct dump_bytes *d)
{
	silt_snapshot_destroy(d->s);
	free(d->data);
	sample_file_close(&d->file);
}

static int read_it(const struct dump_bytes *d, unsigned flags, struct silt_snapshot **ret, struct silt_error *err)
{
	struct silt_read_options o = {flags, 0};

	memset(err, 0, sizeof(*err));
	*ret = NULL;
	return silt_dump_read(d->file.path, &o, ret, err);
}

static void expect_damage(const struct dump_bytes *d, unsigned flags)
{
	struct silt_snapshot *s;
	struct silt_error e;
	int ret = read_it(d, flags, &s, &e);

	if (ret != SILT_E_BAD_DATA && ret != SILT_E_UNSUPPORTED)
		fail_msg("expected damage to be noticed, got %d %s", ret, e.msg);
	assert_non_null(strstr(e.msg, d->file.path));
	assert_null(strchr(e.msg, '\n'));
}

static bool block_known(const struct silt_blocks *b, uint64_t addr, uint64_t size)
{
	uint64_t i;

	for (i = 0; i < b->count; i++)
		if (b->addr[i] == addr && b->size[i] == size)
			return true;
	return false;
}

static bool frame_lost(const struct silt_frame *f)
{
	return f->module == SILT_NONE && !f->offset && !f->flags;
}

/* All that is in r is as it was in s, or says that it is lost. */
static void expect_subset(const struct silt_snapshot *s, const struct silt_snapshot *r)
{
	uint64_t i;

	for (i = 0; i < r->frame_count; i++)
		assert_true(frame_lost(&r->frames[i]) ||
			    (i < s->frame_count && r->frames[i].offset == s->frames[i].offset &&
			     (r->frames[i].module == s->frames[i].module || r->frames[i].module == SILT_NONE)));
	for (i = 0; i < r->module_count; i++)
		assert_true(!strcmp(r->modules[i].path, "[lost]") || !strcmp(r->modules[i].path, s->modules[i].path));
	for (i = 0; i < r->context_count; i++) {
		const struct silt_context *c = &r->contexts[i];

		/* a lost context counts nothing, or the blocks that had one */
		assert_true((!c->live_count && !c->live_bytes) || c->live_count <= s->blocks.count ||
			    (i < s->context_count && c->live_count == s->contexts[i].live_count &&
			     c->live_bytes == s->contexts[i].live_bytes));
	}
	for (i = 0; i < r->blocks.count; i++)
		assert_true(block_known(&s->blocks, r->blocks.addr[i], r->blocks.size[i]));
	for (i = 0; i < r->thread_count; i++)
		assert_true(!r->threads[i].tid || r->threads[i].tid == s->threads[i].tid);
}

static void expect_salvage(const struct dump_bytes *d, bool must_work)
{
	struct silt_snapshot *r;
	struct silt_error e;
	int ret = read_it(d, SILT_READ_SALVAGE | SILT_READ_BLOCKS, &r, &e);

	if (ret) {
		if (must_work)
			fail_msg("%s", e.msg);
		assert_true(ret == SILT_E_BAD_DATA || ret == SILT_E_UNSUPPORTED);
		return;
	}
	expect_subset(d->s, r);
	assert_true(r->note_count > 0);
	assert_non_null(strstr(r->notes[r->note_count - 1], d->file.path)); /* damage never goes unsaid */
	silt_snapshot_destroy(r);
}

static void cut_anywhere(void **state)
{
	struct dump_bytes d;
	size_t n;

	(void)state;
	prepare(&d, &sample_small);
	for (n = 0; n < d.size; n++) {
		sample_file_set(&d.file, d.data, n);
		expect_damage(&d, 0);
		expect_damage(&d, SILT_READ_BLOCKS);
		expect_salvage(&d, false);
	}
	finish(&d);
}

static void bytes_appended(void **state)
{
	struct dump_bytes d;
	uint8_t *more;

	(void)state;
	prepare(&d, &sample_small);
	more = calloc(1, d.size + 100);
	memcpy(more, d.data, d.size);
	sample_file_set(&d.file, more, d.size + 1);
	expect_damage(&d, 0);
	sample_file_set(&d.file, more, d.size + 100);
	expect_damage(&d, 0);
	free(more);
	finish(&d);
}

/* Offset of the first chunk of the blocks section: behind it only blocks, index and trailer follow. */
static size_t blocks_offset(const struct dump_bytes *d)
{
	size_t at = 32;

	while (d->data[at + 4] != 11) {
		uint32_t stored;

		memcpy(&stored, d->data + at + 28, 4);
		at += 44 + stored;
		assert_true(at < d->size);
	}
	return at;
}

static void every_byte_changed(void **state)
{
	static const uint8_t masks[] = {0xff, 0x01, 0x80, 0x20};
	struct dump_bytes d;
	size_t i, m, blocks;

	(void)state;
	prepare(&d, &sample_small);
	blocks = blocks_offset(&d);
	for (i = 0; i < d.size; i++) {
		for (m = 0; m < sizeof(masks); m++) {
			d.data[i] ^= masks[m];
			sample_file_set(&d.file, d.data, d.size);
			expect_damage(&d, SILT_READ_BLOCKS);
			if (i < blocks + 44)
				expect_damage(&d, 0);
			expect_salvage(&d, i >= 32);
			d.data[i] ^= masks[m];
		}
	}
	finish(&d);
}

/* Without the blocks their payload is not looked at: damage there neither shows nor changes anything. */
static void damaged_blocks_not_asked_for(void **state)
{
	struct silt_snapshot *r;
	struct silt_error e;
	struct dump_bytes d;

	(void)state;
	prepare(&d, &sample_small);
	d.data[blocks_offset(&d) + 50] ^= 0xff;
	sample_file_set(&d.file, d.data, d.size);
	assert_int_equal(read_it(&d, 0, &r, &e), 0);
	sample_assert_equal(d.s, r, false);
	silt_snapshot_destroy(r);
	finish(&d);
}

/* Two bytes changed at once, anywhere. */
static void random_damage(void **state)
{
	struct dump_bytes d;
	uint64_t x = 99;
	int i;

	(void)state;
	prepare(&d, &sample_small);
	for (i = 0; i < 3000; i++) {
		size_t a = sample_random(&x) % d.size, b = sample_random(&x) % d.size, n;
		uint8_t *copy = malloc(d.size);

		memcpy(copy, d.data, d.size);
		n = d.size - a < 60 ? d.size - a : 60;
		if (sample_random(&x) & 1)
			memmove(copy + a, d.data + (b < d.size - n ? b : 0), n); /* a piece in the wrong place */
		else
			copy[a] ^= (uint8_t)(1 + sample_random(&x) % 255);
		copy[b] ^= (uint8_t)(1 + sample_random(&x) % 255);
		sample_file_set(&d.file, copy, d.size);
		if (memcmp(copy, d.data, d.size)) {
			expect_damage(&d, SILT_READ_BLOCKS);
			expect_salvage(&d, false);
		}
		free(copy);
	}
	finish(&d);
}

/* A damaged chunk costs its own blocks and nothing else. */
static void one_chunk_of_many(void **state)
{
	struct sample_shape shape = {3, 50, 50, 6, 90, 3, 5, 0, 400000, HEAP_GLIBC};
	struct silt_snapshot *r;
	struct silt_error e;
	struct dump_bytes d;
	size_t at;

	(void)state;
	prepare(&d, &shape);
	at = blocks_offset(&d);
	d.data[at + 44 + 1000] ^= 0x10; /* payload of the first */
	sample_file_set(&d.file, d.data, d.size);
	assert_int_equal(read_it(&d, SILT_READ_SALVAGE | SILT_READ_BLOCKS, &r, &e), 0);
	assert_true(r->blocks.count == 400000 - 65536);
	assert_true(r->blocks.addr[0] == d.s->blocks.addr[65536]);
	assert_memory_equal(r->blocks.size, d.s->blocks.size + 65536, r->blocks.count * 8);
	assert_memory_equal(r->contexts, d.s->contexts, sizeof(*r->contexts) * r->context_count);
	silt_snapshot_destroy(r);

	d.data[at + 44 + 1000] ^= 0x10;
	d.data[at + 20] ^= 0x10; /* its header */
	sample_file_set(&d.file, d.data, d.size);
	assert_int_equal(read_it(&d, SILT_READ_SALVAGE | SILT_READ_BLOCKS, &r, &e), 0);
	assert_true(r->blocks.count == 400000 - 65536);
	silt_snapshot_destroy(r);
	d.data[at + 20] ^= 0x10;

	memmove(d.data + at + 500, d.data + at + 600, d.size - at - 600); /* a piece is missing */
	sample_file_set(&d.file, d.data, d.size - 100);
	assert_int_equal(read_it(&d, SILT_READ_SALVAGE | SILT_READ_BLOCKS, &r, &e), 0);
	assert_true(r->blocks.count == 400000 - 65536);
	silt_snapshot_destroy(r);
	finish(&d);
}

/* The head is gone: what follows still reads, and says what is missing. */
static void contexts_lost(void **state)
{
	struct sample_shape shape = {3, 50, 50, 6, 90, 3, 5, 0, 100000, HEAP_GLIBC};
	struct silt_snapshot *r;
	struct silt_error e;
	struct dump_bytes d;
	uint64_t i;

	(void)state;
	prepare(&d, &shape);
	memset(d.data, 0, blocks_offset(&d));
	sample_file_set(&d.file, d.data, d.size);
	assert_int_equal(read_it(&d, SILT_READ_SALVAGE | SILT_READ_BLOCKS, &r, &e), 0);
	assert_true(r->blocks.count == 100000);
	assert_int_equal(r->context_count, 1);
	for (i = 0; i < r->blocks.count; i++)
		assert_int_equal(r->blocks.context[i], 0);
	assert_int_equal(r->contexts[0].live_count, 100000);
	assert_string_equal(r->process.exe, "[lost]");
	assert_true(r->note_count >= 2);
	silt_snapshot_destroy(r);
	finish(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(bytes_appended),
		cmocka_unit_test(every_byte_changed),
		cmocka_unit_test(damaged_blocks_not_asked_for),
		cmocka_unit_test(random_damage),
		cmocka_unit_test(one_chunk_of_many),
		cmocka_unit_test(contexts_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
