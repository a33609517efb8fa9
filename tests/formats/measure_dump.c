/* SPDX-License-Identifier: MIT */
/* Size and speed of dumps with many blocks, one JSON object a line. Not a test: times depend on the machine.
 * usage: measure_dump [BLOCKS [THREADS]] */
#include "samples.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct span {
	double wall, cpu;
};

static struct span begin(void)
{
	return (struct span){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static void put_span(const char *name, struct span from)
{
	printf(",\"%s_seconds\":%.4f,\"%s_cpu_seconds\":%.4f", name, seconds(CLOCK_MONOTONIC) - from.wall, name,
	       seconds(CLOCK_PROCESS_CPUTIME_ID) - from.cpu);
}

static void read_timed(const struct sample_file *f, unsigned flags, const char *name, const struct silt_snapshot *s)
{
	struct silt_read_options o = {flags, 0};
	struct silt_snapshot *r = NULL;
	struct silt_error e;
	struct span from = begin();

	if (silt_dump_read(f->path, &o, &r, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	put_span(name, from);
	sample_assert_equal(s, r, flags & SILT_READ_BLOCKS);
	silt_snapshot_destroy(r);
}

static void measure(int heap, const char *name, uint64_t blocks, unsigned threads)
{
	struct sample_shape shape = {1, 1, 1, 1, 1027, 0, 0, 0, blocks, heap};
	struct silt_snapshot *s = sample_snapshot(1, &shape);
	struct silt_write_options o = {0, threads};
	int null = open("/dev/null", O_WRONLY);
	struct sample_file f;
	struct span from;

	sample_file_open(&f);
	sample_file_dump(&f, s, 0, threads);
	printf("{\"heap\":\"%s\",\"blocks\":%llu,\"threads\":%u,\"bytes_per_block\":%.3f", name, (unsigned long long)blocks,
	       threads, (double)lseek(f.fd, 0, SEEK_END) / (double)blocks);
	from = begin();
	if (silt_dump_write_fd(null, "null", s, &o, NULL))
		exit(1);
	put_span("encode", from);
	read_timed(&f, SILT_READ_BLOCKS, "read", s);
	read_timed(&f, 0, "read_without_blocks", s);
	printf("}\n");
	close(null);
	sample_file_close(&f);
	silt_snapshot_destroy(s);
}

int main(int argc, char **argv)
{
	uint64_t blocks = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
	unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 2;

	if (!blocks) {
		fprintf(stderr, "usage: measure_dump [BLOCKS [THREADS]]\n");
		return 2;
	}
	measure(HEAP_UNIFORM, "uniform", blocks, threads);
	measure(HEAP_GLIBC, "glibc with holes", blocks, threads);
	measure(HEAP_CLASSES, "size classes", blocks, threads);
	measure(HEAP_WILD, "wild", blocks, threads);
	measure(HEAP_SAME, "all alike", blocks, threads);
	return 0;
}
