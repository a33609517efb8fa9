/* SPDX-License-Identifier: MIT */
/*
 * A plain main for fuzz targets: runs every seed, every file named, and mutations of them from a fixed random sequence.
 * usage: NAME_replay [MUTATIONS] [FILE…]    or    NAME_replay --seeds DIRECTORY   (writes the seeds there)
 * An input that ends the process is left in fuzz-crash-input.
 */
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/vec.h"

struct input {
	uint8_t *data;
	size_t size;
};

static const uint8_t *current;
static size_t current_size;

static void save_and_die(int signal_number)
{
	int fd = open("fuzz-crash-input", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd >= 0 && write(fd, current, current_size) == (ssize_t)current_size)
		close(fd);
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

static void run(const uint8_t *data, size_t size)
{
	/* A copy of exact size: a sanitizer sees reads behind it. */
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		exit(1);
	memcpy(copy, data, size);
	current = copy;
	current_size = size;
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static uint64_t next_random(void)
{
	static uint64_t x = 0x2545f4914f6cdd1dull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static void mutate_once(uint8_t *data, size_t *size)
{
	static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40, 2};
	size_t at, n;

	if (!*size)
		return;
	at = next_random() % *size;
	switch (next_random() % 6) {
	case 0:
		data[at] ^= (uint8_t)(1u << next_random() % 8);
		return;
	case 1:
		data[at] = (uint8_t)next_random();
		return;
	case 2:
		data[at] = telling[next_random() % sizeof(telling)];
		return;
	case 3: /* a run of one telling value, like a large number */
		for (n = next_random() % 10; n && at < *size; n--)
			data[at++] = 0xff;
		return;
	case 4:
		*size = at;
		return;
	default: /* a piece taken out */
		n = next_random() % 16;
		if (n > *size - at)
			n = *size - at;
		memmove(data + at, data + at + n, *size - at - n);
		*size -= n;
	}
}

static void mutate(const struct input *in)
{
	uint8_t *copy = malloc(in->size ? in->size : 1);
	size_t size = in->size;
	unsigned changes = 1 + (unsigned)(next_random() % 4);

	if (!copy)
		exit(1);
	memcpy(copy, in->data, size);
	while (changes--)
		mutate_once(copy, &size);
	run(copy, size);
	free(copy);
}

/* For libFuzzer, which wants its seeds in files. */
static int write_seeds(const struct input *inputs, size_t count, const char *dir)
{
	struct silt_error e;
	char path[4096];
	size_t i;

	for (i = 0; i < count; i++) {
		struct silt_temp t;

		snprintf(path, sizeof(path), "%s/seed%zu", dir, i);
		if (silt_temp_create(path, &t, &e))
			break;
		if (silt_write_all(t.fd, path, inputs[i].data, inputs[i].size, &e)) {
			silt_temp_discard(&t);
			break;
		}
		if (silt_temp_commit(&t, &e))
			break;
	}
	if (i < count)
		fprintf(stderr, "%s\n", e.msg);
	return i < count;
}

static void free_inputs(struct input *inputs, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		free(inputs[i].data);
	free(inputs);
}

int main(int argc, char **argv)
{
	static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
	SILT_VEC(struct input) inputs = {0};
	unsigned long mutations = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, n;
	struct silt_error e;
	struct input in;
	size_t i;

	for (i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		signal(deadly[i], save_and_die);
	for (i = 0; silt_fuzz_seed && (in.size = silt_fuzz_seed((unsigned)i, &in.data)); i++)
		if (!silt_vec_push(&inputs, in))
			return 1;
	if (argc == 3 && !strcmp(argv[1], "--seeds")) {
		int ret = write_seeds(inputs.items, inputs.count, argv[2]);

		free_inputs(inputs.items, inputs.count);
		return ret;
	}
	for (i = 2; i < (size_t)argc; i++) {
		if (silt_read_file(argv[i], 64u << 20, &in.data, &in.size, &e)) {
			fprintf(stderr, "%s\n", e.msg);
			return 1;
		}
		if (!silt_vec_push(&inputs, in))
			return 1;
	}
	run((const uint8_t *)"", 0);
	for (i = 0; i < inputs.count; i++)
		run(inputs.items[i].data, inputs.items[i].size);
	for (n = 0; n < mutations && inputs.count; n++)
		mutate(&inputs.items[n % inputs.count]);
	printf("%zu inputs and %lu mutations of them\n", inputs.count, inputs.count ? mutations : 0);
	free_inputs(inputs.items, inputs.count);
	return 0;
}
