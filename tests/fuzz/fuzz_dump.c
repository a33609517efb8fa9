/* SPDX-License-Identifier: MIT */
/*
 * The dump reader. The first byte of the input says what the rest is:
 *   even  a dump file as it is
 *   odd   chunks: section (1), encoding (1), count (2), first record (2), size (2), payload. Headers, checksums and index
 *         are put around them, so that what is behind the checksums is reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "formats/dump.h"
#include "tests/formats/forge.h"
#include "tests/fuzz/driver.h"

static void demand(int condition)
{
	if (!condition)
		abort();
}

static volatile uint64_t sink;

/* Uses everything, so that a sanitizer sees what is wrong with it. */
static void walk(const struct silt_snapshot *s, bool blocks)
{
	uint64_t sum = 0;
	struct silt_error e;
	uint64_t i;

	demand(!silt_snapshot_check(s, "fuzz", &e));
	for (i = 0; i < s->stack_frame_count; i++)
		sum += s->frames[s->stack_frames[i]].offset;
	for (i = 0; i < s->module_count; i++)
		sum += strlen(s->modules[i].path) + (s->modules[i].build_id_len ? s->modules[i].build_id[0] : 0);
	for (i = 0; i < s->note_count; i++)
		sum += strlen(s->notes[i]);
	demand(blocks || !s->blocks.count);
	for (i = 0; i < s->blocks.count; i++) {
		demand(s->blocks.context[i] < s->context_count);
		demand(!i || s->blocks.addr[i] >= s->blocks.addr[i - 1]);
		sum += s->blocks.size[i];
	}
	sink = sum;
}

static void read_all_ways(const uint8_t *data, size_t size)
{
	static int fd = -1;
	char path[64];
	unsigned flags;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	demand(fd >= 0 && !ftruncate(fd, 0) && !lseek(fd, 0, SEEK_SET));
	demand(!silt_write_all(fd, "fuzz", data, size, NULL));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (flags = 0; flags < 4; flags++) {
		struct silt_read_options o = {flags, 32u << 20};
		struct silt_snapshot *s = NULL;
		struct silt_error e = {0};
		int ret = silt_dump_read(path, &o, &s, &e);

		demand(ret ? !s && e.code == ret && e.msg[0] && !strchr(e.msg, '\n') : s != NULL);
		if (s)
			walk(s, flags & SILT_READ_BLOCKS);
		silt_snapshot_destroy(s);
	}
}

static void read_forged(const uint8_t *p, size_t size)
{
	struct forge f;

	forge_begin(&f);
	while (size >= 8) {
		size_t n = (size_t)(p[6] | p[7] << 8);
		struct dump_chunk head = {.section = p[0], .encoding = p[1]};

		if (n > size - 8)
			n = size - 8;
		head.count = (uint32_t)(p[2] | p[3] << 8);
		head.first = (uint32_t)(p[4] | p[5] << 8);
		head.raw = head.encoding == DUMP_DEFLATE ? (uint32_t)n * 4 : 0;
		forge_chunk(&f, head, p + 8, n);
		p += 8 + n;
		size -= 8 + n;
	}
	forge_end(&f);
	read_all_ways(f.file.data, f.file.size);
	forge_deinit(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		read_all_ways(data, 0);
	else if (data[0] & 1)
		read_forged(data + 1, size - 1);
	else
		read_all_ways(data + 1, size - 1);
	return 0;
}

/* ---- seeds ---- */

static struct silt_snapshot *make(unsigned kind)
{
	struct silt_snapshot *s = silt_snapshot_create();
	uint32_t i, blocks = 20 + kind * 300;

	demand(s != NULL);
	s->process.exe = "/bin/true";
	s->modules = silt_snapshot_array(s, 1, sizeof(*s->modules));
	s->ranges = silt_snapshot_array(s, 1, sizeof(*s->ranges));
	s->frames = silt_snapshot_array(s, 8, sizeof(*s->frames));
	s->stack_frames = silt_snapshot_array(s, 16, sizeof(*s->stack_frames));
	s->stacks = silt_snapshot_array(s, 4, sizeof(*s->stacks));
	s->contexts = silt_snapshot_array(s, 6, sizeof(*s->contexts));
	s->threads = silt_snapshot_array(s, 2, sizeof(*s->threads));
	s->regions = silt_snapshot_array(s, 3, sizeof(*s->regions));
	s->module_count = s->range_count = 1;
	s->frame_count = 8;
	s->stack_frame_count = 16;
	s->stack_count = 4;
	s->context_count = 6;
	s->thread_count = 2;
	s->region_count = 3;
	s->modules[0] = (struct silt_module){.path = "/bin/true", .range_count = 1};
	s->ranges[0].end = 4096;
	for (i = 0; i < 16; i++)
		s->stack_frames[i] = i * i % 8;
	for (i = 0; i < 4; i++)
		s->stacks[i] = (struct silt_stack){i * 4, 4, 0};
	for (i = 0; i < 6; i++)
		s->contexts[i] = (struct silt_context){.stack = i % 4, .thread = i % 2, .live_count = i};
	silt_snapshot_note(s, NULL, "a note");
	silt_snapshot_counter(s, "a.counter", kind, NULL);
	s->blocks.addr = silt_snapshot_array(s, blocks, sizeof(*s->blocks.addr));
	s->blocks.size = silt_snapshot_array(s, blocks, sizeof(*s->blocks.size));
	s->blocks.context = silt_snapshot_array(s, blocks, sizeof(*s->blocks.context));
	s->blocks.count = blocks;
	for (i = 0; i < blocks; i++) {
		s->blocks.context[i] = kind == 2 ? i * i % 6 : i % 6;
		s->blocks.size[i] = kind == 1 ? (uint64_t)i * i * 7919 : s->blocks.context[i] * 24 + 8;
		s->blocks.addr[i] = 0x10000 + (kind ? (uint64_t)i * 4096 : i * 160);
	}
	return s;
}

/* A written dump taken apart again, in the form of odd inputs. */
static size_t to_chunks(const uint8_t *dump, size_t size, uint8_t *out)
{
	size_t at = DUMP_FILE_HEADER_SIZE, n = 0;
	struct dump_inflater inflater = {0};
	struct dump_chunk c;

	demand(dump_inflater_init(&inflater));
	out[n++] = 1;
	for (; at + DUMP_CHUNK_HEADER_SIZE <= size && dump_chunk_get(dump + at, &c); at += DUMP_CHUNK_HEADER_SIZE + c.stored) {
		const uint8_t *payload = dump + at + DUMP_CHUNK_HEADER_SIZE;

		if (c.section == DUMP_PROCESS || c.section == DUMP_INDEX || c.raw > 65535)
			continue;
		out[n++] = (uint8_t)c.section;
		out[n++] = c.section == DUMP_BLOCKS ? DUMP_COLUMNS : DUMP_STORED;
		out[n++] = (uint8_t)c.count;
		out[n++] = (uint8_t)(c.count >> 8);
		out[n++] = (uint8_t)c.first;
		out[n++] = (uint8_t)(c.first >> 8);
		out[n++] = (uint8_t)c.raw;
		out[n++] = (uint8_t)(c.raw >> 8);
		if (c.encoding == DUMP_DEFLATE)
			demand(dump_inflate(&inflater, payload, c.stored, out + n, c.raw));
		else
			memcpy(out + n, payload, c.raw);
		n += c.raw;
	}
	dump_inflater_deinit(&inflater);
	return n;
}

size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	struct silt_snapshot *s;
	struct silt_write_options o = {1, 1};
	int fd = memfd_create("seed", MFD_CLOEXEC);
	uint8_t *dump = NULL, *out;
	size_t size = 0, n;

	demand(fd >= 0);
	if (i >= 6) {
		close(fd);
		return 0;
	}
	s = make(i / 2);
	demand(!silt_dump_write_fd(fd, "seed", s, &o, NULL));
	silt_snapshot_destroy(s);
	demand(!lseek(fd, 0, SEEK_SET) && !silt_read_all_fd(fd, "seed", 1u << 24, &dump, &size, NULL));
	close(fd);
	out = malloc(1 + size + (1u << 20));
	demand(out != NULL);
	if (i & 1) {
		n = to_chunks(dump, size, out);
	} else {
		out[0] = 0;
		memcpy(out + 1, dump, size);
		n = size + 1;
	}
	free(dump);
	*ret = out;
	return n;
}
