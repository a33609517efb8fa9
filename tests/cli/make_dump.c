/* SPDX-License-Identifier: MIT */
/* Writes a dump from a description on standard input, one word and its arguments a line. usage: make_dump FILE */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_snapshot.h"
#include "formats/dump.h"

static void fail(const char *line)
{
	fprintf(stderr, "make_dump: cannot read: %s\n", line);
	exit(2);
}

/* module PATH BUILD_ID_HEX|- */
static void add_module(struct silt_snapshot *s, char *line)
{
	char path[512], id[128];
	uint32_t m;

	if (sscanf(line, "module %511s %127s", path, id) != 2)
		fail(line);
	m = build_module(s, path, 0);
	if (strcmp(id, "-") != 0) {
		uint8_t *bytes = silt_snapshot_array(s, strlen(id) / 2, 1);

		for (size_t i = 0; i < strlen(id) / 2; i++)
			sscanf(id + 2 * i, "%2hhx", &bytes[i]);
		s->modules[m].build_id = bytes;
		s->modules[m].build_id_len = (uint32_t)(strlen(id) / 2);
	}
}

/* frame MODULE|-1 OFFSET_HEX FLAGS */
static void add_frame(struct silt_snapshot *s, char *line)
{
	int32_t module;
	uint64_t offset;
	uint32_t flags;

	if (sscanf(line, "frame %" SCNd32 " %" SCNx64 " %" SCNu32, &module, &offset, &flags) != 3)
		fail(line);
	s->frames[build_frame(s, (uint32_t)module, offset)].flags = flags;
}

/* stack FLAGS FRAME… */
static void add_stack(struct silt_snapshot *s, char *line)
{
	uint32_t frames[64], count = 0, flags = 0;
	char *word = strtok(line, " \n");

	word = strtok(NULL, " \n");
	if (!word)
		fail(line);
	flags = (uint32_t)strtoul(word, NULL, 10);
	while ((word = strtok(NULL, " \n")) && count < 64)
		frames[count++] = (uint32_t)strtoul(word, NULL, 10);
	build_stack(s, flags, frames, count);
}

/* context STACK EPOCH BLOCKS SIZE FREED_BLOCKS: live blocks of one size, and freed ones of the same */
static void add_context(struct silt_snapshot *s, char *line)
{
	uint32_t stack, epoch, c;
	uint64_t count, size, freed;

	if (sscanf(line, "context %" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNu64, &stack, &epoch, &count, &size,
		   &freed) != 5)
		fail(line);
	c = build_context(s, stack, count * size, count, freed * size, freed);
	s->contexts[c].epoch = epoch;
	for (uint64_t i = 0; i < count; i++)
		build_block(s, 0x5000000 + s->blocks.count * 4096, size, c);
}

/* exe PATH */
static void set_exe(struct silt_snapshot *s, char *line)
{
	line[strcspn(line, "\n")] = '\0';
	s->process.exe = silt_snapshot_string(s, line + strlen("exe "));
}

static void read_line(struct silt_snapshot *s, char *line)
{
	static const struct {
		const char *word;
		void (*add)(struct silt_snapshot *s, char *line);
	} WORDS[] = {
		{ "module ", add_module },   { "frame ", add_frame }, { "stack ", add_stack },
		{ "context ", add_context }, { "exe ", set_exe },
	};

	for (size_t i = 0; i < SILT_ARRAY_LEN(WORDS); i++)
		if (strncmp(line, WORDS[i].word, strlen(WORDS[i].word)) == 0) {
			WORDS[i].add(s, line);
			return;
		}
	if (sscanf(line, "epoch %" SCNu32, &s->process.epoch) == 1 || sscanf(line, "pid %" SCNu32, &s->process.pid) == 1 ||
	    sscanf(line, "session %" SCNu64, &s->process.session[0]) == 1 ||
	    sscanf(line, "sample %" SCNu64, &s->process.sample_bytes) == 1)
		return;
	fail(line);
}

int main(int argc, char **argv)
{
	struct silt_snapshot *s = build_snapshot();
	struct silt_error err = { 0 };
	char line[1024];
	int rc;

	if (argc != 2)
		return 2;
	while (fgets(line, sizeof(line), stdin))
		read_line(s, line);
	rc = silt_dump_write(argv[1], s, NULL, &err);
	if (rc != 0)
		fprintf(stderr, "make_dump: %s\n", err.msg);
	silt_snapshot_destroy(s);
	return rc != 0;
}
