/* SPDX-License-Identifier: MIT */
/* Damages a dump in every place, in turn, and reads it: each byte flipped, each length cut. Every damage must be found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "formats/dump.h"

static unsigned char *whole;
static size_t whole_size;
static const char *scratch;

static int load(const char *path)
{
	FILE *f = fopen(path, "rb");

	if (!f)
		return -1;
	whole = malloc(16 << 20);
	whole_size = whole ? fread(whole, 1, 16 << 20, f) : 0;
	fclose(f);
	return whole_size ? 0 : -1;
}

static int store(size_t size)
{
	FILE *f = fopen(scratch, "wb");

	if (!f || fwrite(whole, 1, size, f) != size)
		return -1;
	return fclose(f);
}

/* Reads the scratch file both ways; false when the damage went unseen, or the message is not one line. */
static int damage_is_seen(const char *what, size_t where)
{
	struct silt_read_options options = {.flags = SILT_READ_BLOCKS};
	struct silt_snapshot *s = NULL;
	struct silt_error err = {.code = 0};
	int rc = silt_dump_read(scratch, &options, &s, &err);

	if (rc == 0) {
		silt_snapshot_destroy(s);
		printf("%s %zu went unseen\n", what, where);
		return 0;
	}
	if (!err.msg[0] || strchr(err.msg, '\n') || rc != err.code) {
		printf("%s %zu: no proper message: %d '%s'\n", what, where, rc, err.msg);
		return 0;
	}
	/* Salvage may give something or nothing, but ends. */
	options.flags |= SILT_READ_SALVAGE;
	if (silt_dump_read(scratch, &options, &s, &err) == 0)
		silt_snapshot_destroy(s);
	return 1;
}

int main(int argc, char **argv)
{
	struct rlimit memory = {2ul << 30, 2ul << 30};
	int bad = 0;
	size_t step;

	if (argc != 4 || load(argv[1]) != 0) {
		fprintf(stderr, "usage: flip DUMP SCRATCH STEP\n");
		return 2;
	}
	scratch = argv[2];
	step = strtoul(argv[3], NULL, 10);
	setrlimit(RLIMIT_AS, &memory); /* gigabytes are a failure */
	for (size_t i = 0; i < whole_size && bad < 10; i += step) {
		unsigned char was = whole[i];

		whole[i] ^= (unsigned char)(1u << (i % 8));
		if (store(whole_size) != 0)
			return 2;
		bad += !damage_is_seen("a flipped bit in byte", i);
		whole[i] = (unsigned char)~was;
		if (store(whole_size) != 0)
			return 2;
		bad += !damage_is_seen("a flipped byte", i);
		whole[i] = was;
	}
	for (size_t n = 0; n < whole_size && bad < 10; n += step) {
		if (store(n) != 0)
			return 2;
		bad += !damage_is_seen("a cut to", n);
	}
	printf("%zu bytes, every %zu, %d damages unseen\n", whole_size, step, bad);
	return bad != 0;
}
