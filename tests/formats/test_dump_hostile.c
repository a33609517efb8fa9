/* SPDX-License-Identifier: MIT */
/* Dumps with right checksums and wrong content: one clear error each, bounded memory and time. */
#include "samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "forge.h"

static int read_forged(const struct forge *f, const struct silt_read_options *o, struct silt_snapshot **ret,
		       struct silt_error *e)
{
	struct sample_file file;
	int rc;

	assert_true(silt_writer_ok(&f->file));
	sample_file_open(&file);
	sample_file_set(&file, f->file.data, f->file.size);
	memset(e, 0, sizeof(*e));
	*ret = NULL;
	rc = silt_dump_read(file.path, o, ret, e);
	sample_file_close(&file);
	return rc;
}

/* Ends the dump; reading it must fail with this code and a message that holds `what`. In salvage it must not crash. */
static void expect_refused(struct forge *f, int code, const char *what)
{
	struct silt_read_options o = {SILT_READ_BLOCKS, 0};
	struct silt_snapshot *s;
	struct silt_error e;
	int ret;

	forge_end(f);
	ret = read_forged(f, &o, &s, &e);
	if (ret != code || !strstr(e.msg, what))
		fail_msg("expected %d '%s', got %d '%s'", code, what, ret, e.msg);
	o.flags |= SILT_READ_SALVAGE;
	if (!read_forged(f, &o, &s, &e)) {
		assert_true(s->note_count > 0);
		silt_snapshot_destroy(s);
	}
	forge_deinit(f);
}

static void expect_accepted(struct forge *f)
{
	struct silt_read_options o = {SILT_READ_BLOCKS, 0};
	struct silt_snapshot *s;
	struct silt_error e;

	forge_end(f);
	if (read_forged(f, &o, &s, &e))
		fail_msg("%s", e.msg);
	silt_snapshot_destroy(s);
	forge_deinit(f);
}

/* One section made of these numbers, behind harmless frames, stacks and contexts. */
static void numbers(struct forge *f, unsigned section, uint32_t count, const uint64_t *n, size_t size)
{
	struct silt_writer w = {0};
	size_t i;

	for (i = 0; i < size; i++)
		silt_writer_varint(&w, n[i]);
	forge_section(f, section, 0, count, &w);
	silt_writer_deinit(&w);
}
#define NUMBERS(f, section, count, ...)                                        \
	do {                                                                   \
		const uint64_t n_[] = {__VA_ARGS__};                           \
		numbers(f, section, count, n_, sizeof(n_) / sizeof(n_[0])); \
	} while (0)

static void harmless(void **state)
{
	struct forge f;

	(void)state;
	forge_begin(&f);
	forge_frames(&f, 3);
	forge_stacks(&f, 2);
	forge_contexts(&f, 4);
	expect_accepted(&f);
}

static void absurd_counts(void **state)
{
	struct dump_chunk head = {.section = DUMP_CONTEXTS, .count = 65536};
	struct forge f;
	uint8_t bytes[100] = {0};

	(void)state;
	forge_begin(&f);
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "cannot hold 65536 records");
	forge_begin(&f);
	head.count = 65537; /* not even a header */
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "no chunk header");
	forge_begin(&f);
	head.count = 65536;
	head.encoding = DUMP_DEFLATE;
	head.raw = 4u << 20; /* 100 bytes do not become 4 MiB */
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "larger than it can be");
	forge_begin(&f);
	head.raw = 50000;
	head.count = 1;
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "cannot be uncompressed");
	forge_begin(&f);
	head.encoding = 9;
	head.count = 1;
	head.raw = 0;
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "unknown way");
	forge_begin(&f);
	head.encoding = DUMP_STORED;
	head.raw = 99;
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "sizes of chunk");
	forge_begin(&f);
	head.raw = 0;
	head.first = UINT64_MAX - 1;
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "no chunk header");
	forge_begin(&f);
	head.first = 5;
	forge_chunk(&f, head, bytes, sizeof(bytes));
	expect_refused(&f, SILT_E_BAD_DATA, "do not continue");
}

static void wrong_references(void **state)
{
	struct forge f;

	(void)state;
	forge_begin(&f);
	NUMBERS(&f, DUMP_FRAMES, 1, 2, 0, 0); /* module 0 of none */
	expect_refused(&f, SILT_E_BAD_DATA, "the module of frame 0");
	forge_begin(&f);
	forge_frames(&f, 1);
	NUMBERS(&f, DUMP_STACKS, 1, 0, 1, 0, 2); /* frame 1 of 1 */
	expect_refused(&f, SILT_E_BAD_DATA, "the frame at stack position 0");
	forge_begin(&f);
	forge_frames(&f, 1);
	NUMBERS(&f, DUMP_STACKS, 1, 0, 1, 1); /* shares with nothing */
	expect_refused(&f, SILT_E_BAD_DATA, "sharing more frames");
	forge_begin(&f);
	forge_frames(&f, 1);
	NUMBERS(&f, DUMP_STACKS, 1, 0, 1000, 0, 0);
	expect_refused(&f, SILT_E_BAD_DATA, "than the bytes left can hold");
	forge_begin(&f);
	forge_contexts(&f, 1); /* stack 0 of none */
	expect_refused(&f, SILT_E_BAD_DATA, "the stack of context 0");
	forge_begin(&f);
	forge_frames(&f, 1);
	forge_stacks(&f, 1);
	NUMBERS(&f, DUMP_CONTEXTS, 1, 0, 0, 1, 0, 0, 0, 0, 0); /* thread 0 of none */
	expect_refused(&f, SILT_E_BAD_DATA, "the thread of context 0");
	forge_begin(&f);
	forge_frames(&f, 1);
	forge_stacks(&f, 1);
	NUMBERS(&f, DUMP_CONTEXTS, 1, 0, 0, 0, 3, 0, 0, 0, 0);
	expect_refused(&f, SILT_E_BAD_DATA, "unknown kind");
	forge_begin(&f);
	forge_frames(&f, 1);
	forge_stacks(&f, 1);
	NUMBERS(&f, DUMP_CONTEXTS, 1, UINT64_MAX - 1, 0, 0, 0, 0, 0, UINT64_MAX, UINT64_MAX);
	expect_refused(&f, SILT_E_BAD_DATA, "number of more than 32 bits");
}

static void wrong_records(void **state)
{
	struct forge f;

	(void)state;
	forge_begin(&f);
	NUMBERS(&f, DUMP_NOTES, 1, 3, 'a', 0);
	expect_refused(&f, SILT_E_BAD_DATA, "NUL byte");
	forge_begin(&f);
	NUMBERS(&f, DUMP_NOTES, 1, 0);
	expect_refused(&f, SILT_E_BAD_DATA, "without its name");
	forge_begin(&f);
	NUMBERS(&f, DUMP_NOTES, 1, 1ull << 40, 'a');
	expect_refused(&f, SILT_E_BAD_DATA, "longer than the limit");
	forge_begin(&f);
	NUMBERS(&f, DUMP_NOTES, 1, 9, 'a');
	expect_refused(&f, SILT_E_BAD_DATA, "more bytes than are left");
	forge_begin(&f);
	NUMBERS(&f, DUMP_NOTES, 1, 2, 'a', 2);
	expect_refused(&f, SILT_E_BAD_DATA, "after the last record");
	forge_begin(&f);
	NUMBERS(&f, DUMP_MODULES, 1, 2, 'm', 200);
	expect_refused(&f, SILT_E_BAD_DATA, "build-id longer");
	forge_begin(&f);
	NUMBERS(&f, DUMP_MODULES, 1, 2, 'm', 0, 0, 0, 0, 1000000);
	expect_refused(&f, SILT_E_BAD_DATA, "count of more records");
	forge_begin(&f);
	NUMBERS(&f, DUMP_MODULES, 1, 2, 'm', 0, 0, 0, 0, 1, UINT64_MAX, 2, 0, 0);
	expect_refused(&f, SILT_E_BAD_DATA, "past the end of memory");
	forge_begin(&f);
	NUMBERS(&f, DUMP_REGIONS, 1, 1, UINT64_MAX, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	expect_refused(&f, SILT_E_BAD_DATA, "past the end of memory");
	forge_begin(&f);
	NUMBERS(&f, DUMP_THREADS, 1, 1ull << 32, 0, 0);
	expect_refused(&f, SILT_E_BAD_DATA, "more than 32 bits");
}

static void processes(void **state)
{
	struct silt_writer w = {0};
	struct forge f;

	(void)state;
	forge_process(&w);
	forge_begin(&f);
	forge_section(&f, DUMP_PROCESS, 1, 1, &w);
	expect_refused(&f, SILT_E_BAD_DATA, "2 processes, not one");
	silt_writer_deinit(&w);
}

static void later_versions(void **state)
{
	struct silt_writer w = {0};
	struct forge f;
	uint32_t crc;

	(void)state;
	silt_writer_u32(&w, 77);
	forge_begin(&f);
	forge_section(&f, 0x8fff, 0, 1, &w); /* optional: skipped */
	forge_frames(&f, 1);
	expect_accepted(&f);
	forge_begin(&f);
	forge_section(&f, 77, 0, 1, &w);
	expect_refused(&f, SILT_E_UNSUPPORTED, "does not know");
	silt_writer_deinit(&w);

	forge_begin(&f);
	f.file.data[16] = 4; /* a compatible feature nobody knows yet */
	crc = dump_crc(f.file.data, 28);
	memcpy(f.file.data + 28, &crc, 4);
	expect_accepted(&f);
	forge_begin(&f);
	f.file.data[12] = 4; /* an incompatible one */
	crc = dump_crc(f.file.data, 28);
	memcpy(f.file.data + 28, &crc, 4);
	expect_refused(&f, SILT_E_UNSUPPORTED, "cannot read");
	forge_begin(&f);
	f.file.data[8] = 2;
	crc = dump_crc(f.file.data, 28);
	memcpy(f.file.data + 28, &crc, 4);
	expect_refused(&f, SILT_E_UNSUPPORTED, "version 2");
}

static void wrong_ends(void **state)
{
	struct silt_read_options o = {0, 0};
	struct silt_snapshot *s;
	struct silt_error e;
	struct forge f;

	(void)state;
	forge_begin(&f);
	f.index.data[2] ^= 1;
	expect_refused(&f, SILT_E_BAD_DATA, "the index does not match");
	forge_begin(&f);
	f.chunks++;
	silt_writer_u64(&f.index, 0x0101010101010101ull);
	expect_refused(&f, SILT_E_BAD_DATA, "another number of chunks");
	forge_begin(&f);
	f.chunks = UINT32_MAX;
	expect_refused(&f, SILT_E_BAD_DATA, "count of more records");
	forge_begin(&f);
	forge_frames(&f, 1);
	f.sequence = 5;
	forge_stacks(&f, 1);
	expect_refused(&f, SILT_E_BAD_DATA, "no chunk header");
	forge_begin(&f);
	forge_end(&f);
	forge_end(&f); /* a second end */
	assert_int_equal(read_forged(&f, &o, &s, &e), SILT_E_BAD_DATA);
	forge_deinit(&f);
}

/* ---- blocks ---- */

static void with_blocks(struct forge *f, const uint8_t *payload, size_t size, uint32_t count)
{
	struct silt_writer w = {0};

	forge_begin(f);
	forge_frames(f, 1);
	forge_stacks(f, 1);
	forge_contexts(f, 4);
	silt_writer_bytes(&w, payload, size);
	forge_section(f, DUMP_BLOCKS, 0, count, &w);
	silt_writer_deinit(&w);
}

/* A payload for two blocks, right when the arguments are. */
static void put_two_blocks(struct silt_writer *w, uint8_t head, const uint8_t contexts[2], const uint8_t ranks[2],
			   uint8_t shift, uint64_t distance)
{
	silt_writer_clear(w);
	silt_writer_u8(w, head);
	silt_writer_varint(w, 0); /* contexts: no dictionary, smallest 0, one plane, raw */
	silt_writer_varint(w, 0);
	silt_writer_u8(w, 1);
	silt_writer_u8(w, 0);
	silt_writer_varint(w, 2);
	silt_writer_bytes(w, contexts, 2);
	silt_writer_varint(w, 2); /* sizes: a dictionary of two entries, raw; one plane of ranks, raw */
	silt_writer_u8(w, 0);
	silt_writer_varint(w, 2);
	silt_writer_varint(w, 16);
	silt_writer_varint(w, 32);
	silt_writer_u8(w, 1);
	silt_writer_u8(w, 0);
	silt_writer_varint(w, 2);
	silt_writer_bytes(w, ranks, 2);
	silt_writer_u8(w, shift); /* addresses: the first, and one distance as an exception */
	silt_writer_varint(w, 0x1000);
	silt_writer_u8(w, DUMP_COLUMN_ESCAPED);
	silt_writer_u8(w, 2); /* constant 255 */
	silt_writer_varint(w, 1);
	silt_writer_u8(w, 255);
	silt_writer_u8(w, 0);
	silt_writer_varint(w, distance < 128 ? 1 : 10);
	silt_writer_varint(w, distance);
}

static void wrong_blocks(void **state)
{
	static const uint8_t good[2] = {0, 3}, bad_context[2] = {0, 4}, ranks[2] = {1, 0}, bad_ranks[2] = {0, 2};
	struct silt_writer w = {0};
	struct forge f;
	size_t i;

	(void)state;
	put_two_blocks(&w, 0, good, ranks, 4, 3);
	with_blocks(&f, w.data, w.size, 2);
	expect_accepted(&f);
	put_two_blocks(&w, 0, bad_context, ranks, 4, 3);
	with_blocks(&f, w.data, w.size, 2);
	expect_refused(&f, SILT_E_BAD_DATA, "has no context");
	put_two_blocks(&w, 0, good, bad_ranks, 4, 3);
	with_blocks(&f, w.data, w.size, 2);
	expect_refused(&f, SILT_E_BAD_DATA, "outside its dictionary");
	put_two_blocks(&w, 0, good, ranks, 64, 3);
	with_blocks(&f, w.data, w.size, 2);
	expect_refused(&f, SILT_E_BAD_DATA, "shift of more");
	put_two_blocks(&w, 0, good, ranks, 0, 4); /* 255 + 4: odd, so it leads backwards */
	with_blocks(&f, w.data, w.size, 2);
	expect_refused(&f, SILT_E_BAD_DATA, "out of order");
	put_two_blocks(&w, 6, good, ranks, 4, 3);
	with_blocks(&f, w.data, w.size, 2);
	expect_refused(&f, SILT_E_BAD_DATA, "unknown block layout");
	put_two_blocks(&w, 0, good, ranks, 4, 3);
	with_blocks(&f, w.data, w.size, 3);
	expect_refused(&f, SILT_E_BAD_DATA, "another length");
	silt_writer_u8(&w, 0);
	with_blocks(&f, w.data, w.size, 2);
	expect_refused(&f, SILT_E_BAD_DATA, "after the end of the columns");
	put_two_blocks(&w, 0, good, ranks, 4, 3);
	for (i = 0; i < w.size; i++) {
		with_blocks(&f, w.data, i, 2);
		expect_refused(&f, SILT_E_BAD_DATA, "");
	}
	silt_writer_deinit(&w);
}

/* Every byte of the payload with every value: never a crash, and what is accepted keeps the promises. */
static void any_block_bytes(void **state)
{
	static const uint8_t contexts[2] = {0, 3}, ranks[2] = {1, 0};
	struct silt_read_options o = {SILT_READ_BLOCKS, 0};
	struct silt_writer w = {0};
	struct silt_snapshot *s;
	struct silt_error e;
	struct forge f;
	unsigned value;
	size_t i;

	(void)state;
	put_two_blocks(&w, 2, contexts, ranks, 4, 3);
	for (i = 0; i < w.size; i++) {
		uint8_t old = w.data[i];

		for (value = 0; value < 256; value++) {
			w.data[i] = (uint8_t)value;
			with_blocks(&f, w.data, w.size, 2);
			forge_end(&f);
			if (!read_forged(&f, &o, &s, &e)) {
				assert_true(s->blocks.addr[0] <= s->blocks.addr[1]);
				assert_true(s->blocks.context[0] < 4 && s->blocks.context[1] < 4);
				silt_snapshot_destroy(s);
			}
			forge_deinit(&f);
		}
		w.data[i] = old;
	}
	silt_writer_deinit(&w);
}

/* ---- bombs ---- */

static long max_rss_kib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

/* Chunks of few bytes that stand for a million stack frames each. */
static void stack_bomb(void **state)
{
	struct silt_read_options o = {0, 64u << 20};
	struct silt_writer w = {0};
	struct silt_snapshot *s;
	struct silt_error e;
	struct forge f;
	unsigned i, chunk;
	long before = max_rss_kib();

	(void)state;
	forge_begin(&f);
	forge_frames(&f, 1);
	for (chunk = 0; chunk < 100; chunk++) {
		silt_writer_clear(&w);
		silt_writer_varint(&w, 0);
		silt_writer_varint(&w, 5000);
		silt_writer_varint(&w, 0);
		for (i = 0; i < 5000; i++)
			silt_writer_varint(&w, 0);
		for (i = 0; i < 200; i++) {
			silt_writer_varint(&w, 0);
			silt_writer_varint(&w, 5000);
			silt_writer_varint(&w, 5000);
		}
		forge_section(&f, DUMP_STACKS, chunk * 201, 201, &w);
	}
	silt_writer_deinit(&w);
	forge_end(&f);
	assert_int_equal(read_forged(&f, &o, &s, &e), SILT_E_LIMIT);
	assert_non_null(strstr(e.msg, "limit of 67108864 bytes"));
	assert_true(max_rss_kib() - before < 400 * 1024);
	forge_deinit(&f);
}

/* One more stack than a chunk may stand for. */
static void stack_chunk_too_deep(void **state)
{
	struct silt_writer w = {0};
	struct forge f;
	unsigned i;

	(void)state;
	forge_begin(&f);
	forge_frames(&f, 1);
	silt_writer_varint(&w, 0);
	silt_writer_varint(&w, 10000);
	silt_writer_varint(&w, 0);
	for (i = 0; i < 10000; i++)
		silt_writer_varint(&w, 0);
	for (i = 0; i < 105; i++) {
		silt_writer_varint(&w, 0);
		silt_writer_varint(&w, 10000);
		silt_writer_varint(&w, 10000);
	}
	forge_section(&f, DUMP_STACKS, 0, 106, &w);
	silt_writer_deinit(&w);
	expect_refused(&f, SILT_E_BAD_DATA, "more frames than a chunk may have");
}

/* Thousands of block chunks of a few bytes: 20 bytes of memory a block, far beyond what the file's size justifies. */
static void block_bomb(void **state)
{
	struct silt_read_options o = {SILT_READ_BLOCKS, 0};
	struct silt_blocks b = {65536, NULL, NULL, NULL};
	struct dump_block_encoder *enc = dump_block_encoder_create(9);
	struct silt_writer w = {0};
	struct silt_snapshot *s;
	struct silt_error e;
	struct forge f;
	long before = max_rss_kib();
	uint64_t chunk;

	(void)state;
	b.addr = calloc(65536, sizeof(*b.addr));
	b.size = calloc(65536, sizeof(*b.size));
	b.context = calloc(65536, sizeof(*b.context));
	assert_true(dump_blocks_encode(enc, &b, 0, 65536, &w));
	assert_true(w.size < 100);
	forge_begin(&f);
	forge_frames(&f, 1);
	forge_stacks(&f, 1);
	forge_contexts(&f, 1);
	for (chunk = 0; chunk < 2000; chunk++)
		forge_section(&f, DUMP_BLOCKS, chunk * 65536, 65536, &w);
	forge_end(&f);
	assert_int_equal(read_forged(&f, &o, &s, &e), SILT_E_LIMIT);
	assert_true(max_rss_kib() - before < 200 * 1024); /* refused before the memory was touched */
	forge_deinit(&f);
	silt_writer_deinit(&w);
	dump_block_encoder_destroy(enc);
	free(b.addr);
	free(b.size);
	free(b.context);
}

/* Salvage must not look at the same bytes again and again: headers that all claim the megabytes behind them. */
static void salvage_takes_bounded_time(void **state)
{
	struct silt_read_options o = {SILT_READ_SALVAGE | SILT_READ_BLOCKS, 0};
	struct timespec from, to;
	struct silt_snapshot *s;
	struct silt_error e;
	struct forge f;
	uint32_t i;

	(void)state;
	forge_begin(&f);
	for (i = 0; i < 200000; i++) {
		struct dump_chunk head = {DUMP_CONTEXTS, 0, FORGE_TAG, i + 1, 0, 1, 4u << 20, 4u << 20, 1, 0};
		uint8_t bytes[DUMP_CHUNK_HEADER_SIZE];

		dump_chunk_put(bytes, &head);
		silt_writer_bytes(&f.file, bytes, sizeof(bytes));
		silt_writer_bytes(&f.file, "CHNKCHNKCHNK", 12);
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (!read_forged(&f, &o, &s, &e))
		silt_snapshot_destroy(s);
	clock_gettime(CLOCK_MONOTONIC, &to);
	print_message("salvage of %zu hostile bytes: %ld s\n", f.file.size, (long)(to.tv_sec - from.tv_sec));
	assert_true(to.tv_sec - from.tv_sec < 20);
	forge_deinit(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(harmless),	  cmocka_unit_test(absurd_counts),
		cmocka_unit_test(wrong_references), cmocka_unit_test(wrong_records),
		cmocka_unit_test(processes),	  cmocka_unit_test(later_versions),
		cmocka_unit_test(wrong_ends),	  cmocka_unit_test(wrong_blocks),
		cmocka_unit_test(any_block_bytes), cmocka_unit_test(stack_bomb),
		cmocka_unit_test(stack_chunk_too_deep), cmocka_unit_test(block_bomb),
		cmocka_unit_test(salvage_takes_bounded_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
