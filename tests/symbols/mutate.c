/* SPDX-License-Identifier: MIT */
/*
 * Feeds damaged copies of an ELF file to the parser that usually runs in a child: bytes flipped, numbers replaced,
 * lengths cut, mostly where headers and debug sections are. Each batch runs in a process of its own, so that a crash
 * tells its seed: symbols_mutate FILE ROUNDS [FIRST-SEED].
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "symbols/elf_reader.h"
#include "symbols/worker.h"

enum { BATCH = 50, ADDRESSES = 200, SECONDS = 20 };

struct target {
	uint8_t *bytes;
	size_t size;
	struct { uint64_t offset, size; } parts[64]; /* headers and debug sections */
	size_t part_count;
	uint64_t pcs[ADDRESSES];
	size_t pc_count;
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void add_part(struct target *t, uint64_t offset, uint64_t size)
{
	if (t->part_count < 64 && size && offset < t->size && size <= t->size - offset) {
		t->parts[t->part_count].offset = offset;
		t->parts[t->part_count++].size = size;
	}
}

static int load(const char *path, struct target *t)
{
	struct silt_error err;
	Elf64_Ehdr eh;
	Elf64_Shdr sh, names;

	if (silt_read_file(path, 1 << 30, &t->bytes, &t->size, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	memcpy(&eh, t->bytes, sizeof(eh));
	add_part(t, 0, sizeof(eh) + (uint64_t)eh.e_phnum * eh.e_phentsize);
	add_part(t, eh.e_shoff, (uint64_t)eh.e_shnum * eh.e_shentsize);
	memcpy(&names, t->bytes + eh.e_shoff + (size_t)eh.e_shstrndx * sizeof(sh), sizeof(names));
	for (unsigned i = 0; i < eh.e_shnum; i++) {
		const char *name;

		memcpy(&sh, t->bytes + eh.e_shoff + i * sizeof(sh), sizeof(sh));
		name = (const char *)t->bytes + names.sh_offset + sh.sh_name;
		/* Parts are chosen with equal odds: small sections are hit as often as large ones. */
		if (strncmp(name, ".debug_", 7) == 0 || sh.sh_type == SHT_SYMTAB || sh.sh_type == SHT_STRTAB ||
		    sh.sh_type == SHT_DYNAMIC || sh.sh_type == SHT_NOTE)
			add_part(t, sh.sh_offset, sh.sh_size);
		if (strcmp(name, ".text") == 0)
			for (size_t k = 0; k < ADDRESSES; k++)
				t->pcs[t->pc_count++] = sh.sh_addr + sh.sh_size * k / ADDRESSES;
	}
	return !t->pc_count;
}

static size_t damage(const struct target *t, uint8_t *copy, uint64_t seed)
{
	static const uint8_t interesting[] = {0, 1, 0x7f, 0x80, 0xff};
	uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
	unsigned changes = 1 + (unsigned)(next_random(&state) % 8);

	memcpy(copy, t->bytes, t->size);
	for (unsigned i = 0; i < changes; i++) {
		size_t p = next_random(&state) % t->part_count;
		uint64_t at = t->parts[p].offset + next_random(&state) % t->parts[p].size;
		unsigned width = 1u << next_random(&state) % 4;

		switch (next_random(&state) % 3) {
		case 0:
			copy[at] ^= (uint8_t)(1u << next_random(&state) % 8);
			break;
		case 1:
			copy[at] = (uint8_t)next_random(&state);
			break;
		default:
			memset(copy + at, interesting[next_random(&state) % sizeof(interesting)],
			       at + width <= t->size ? width : 1);
		}
	}
	return next_random(&state) % 16 ? t->size : (size_t)(next_random(&state) % t->size);
}

static void run_one(const struct target *t, uint8_t *copy, uint64_t seed, int sink)
{
	size_t size = damage(t, copy, seed);
	int fd = memfd_create("mutant", 0);
	char path[64];
	struct silt_job job = {.query = {.path = path}, .pcs = t->pcs, .count = t->pc_count};

	if (fd < 0 || silt_write_all(fd, "mutant", copy, size, NULL))
		_exit(99);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	(void)silt_worker_run(&job, sink);
	close(fd);
}

static int run_batch(const struct target *t, uint64_t first, uint64_t count)
{
	uint64_t *progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		uint8_t *copy = malloc(t->size);
		int sink = open("/dev/null", O_WRONLY);

		for (uint64_t i = 0; i < count && copy; i++) {
			*progress = first + i;
			alarm(SECONDS); /* one file may not take longer: endless loops end here */
			run_one(t, copy, first + i, sink);
		}
		_exit(copy ? 0 : 99);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status) {
		fprintf(stderr, "seed %llu: status 0x%x (signal %d)\n", (unsigned long long)*progress, status, WTERMSIG(status));
		munmap(progress, sizeof(*progress));
		return 1;
	}
	munmap(progress, sizeof(*progress));
	return 0;
}

int main(int argc, char **argv)
{
	static struct target t;
	uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 0) : 1000;
	uint64_t first = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
	int failures = 0;

	if (argc < 2 || load(argv[1], &t)) {
		fprintf(stderr, "usage: %s ELF-FILE-WITH-DEBUG-INFORMATION [ROUNDS [FIRST-SEED]]\n", argv[0]);
		return 2;
	}
	for (uint64_t seed = first; seed < first + rounds && failures < 10; seed += BATCH) {
		uint64_t left = first + rounds - seed;

		failures += run_batch(&t, seed, left < BATCH ? left : BATCH);
	}
	printf("%llu files, %d batches failed\n", (unsigned long long)rounds, failures);
	free(t.bytes);
	return failures != 0;
}
