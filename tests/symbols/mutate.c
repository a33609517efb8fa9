/* SPDX-License-Identifier: MIT */
/*
 * Feeds damaged copies of an ELF file to the parser that usually runs in a child, in batches of one process each, so that a
 * crash, a hang or much memory tells which copy it was.
 *
 * symbols_mutate [--names] [--of MODULE] [--as PATH] FILE random ROUNDS [FIRST]
 *	several bytes each, mostly headers and debug sections
 * symbols_mutate [--names] [--of MODULE] [--as PATH] FILE every STEP
 *	each STEP-th byte inverted, and one bit of it; each length
 *
 * With --of the damaged file is the debug file of an intact MODULE, found by its build-id; or at PATH, which must be free: as
 * a dwz file, or a part of split DWARF. With --as alone the module is damaged, and has files beside it.
 * The intact file must give lines (of a source below a directory "fixtures"), or with --names at least names.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "symbols/elf_reader.h"
#include "symbols/worker.h"

enum {
	BATCH = 200,
	ADDRESSES = 200,
	SECONDS = 20,          /* for one file: endless loops end here */
	MEGABYTES = 512,       /* private memory of a batch: a promise in a damaged file must not be believed */
	PEAK_MEGABYTES = 300,  /* … and what it may touch */
	FILE_FD = 100,         /* where the damaged file is open */
};

struct target {
	const char *module; /* NULL: the damaged file itself */
	const char *as;     /* a link to the damaged file is put here; NULL: below debug_dir */
	char debug_dir[64];
	uint8_t *bytes;
	size_t size;
	struct { uint64_t offset, size; } parts[64]; /* headers and debug sections */
	size_t part_count;
	uint64_t pcs[ADDRESSES];
	size_t pc_count;
	bool every, names_only;
	uint64_t step;
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

/* Addresses all over .text. */
static bool load_addresses(const char *path, struct target *t)
{
	uint8_t *bytes;
	size_t size;
	Elf64_Ehdr eh;
	Elf64_Shdr sh, names;

	if (silt_read_file(path, 1 << 30, &bytes, &size, NULL))
		return false;
	memcpy(&eh, bytes, sizeof(eh));
	memcpy(&names, bytes + eh.e_shoff + (size_t)eh.e_shstrndx * sizeof(sh), sizeof(names));
	for (unsigned i = 0; i < eh.e_shnum && !t->pc_count; i++) {
		memcpy(&sh, bytes + eh.e_shoff + i * sizeof(sh), sizeof(sh));
		for (size_t k = 0; k < ADDRESSES && strcmp((char *)bytes + names.sh_offset + sh.sh_name, ".text") == 0; k++)
			t->pcs[t->pc_count++] = sh.sh_addr + sh.sh_size * k / ADDRESSES;
	}
	free(bytes);
	return t->pc_count;
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
		if (strstr(name, "debug") || sh.sh_type == SHT_SYMTAB || sh.sh_type == SHT_STRTAB ||
		    sh.sh_type == SHT_DYNAMIC || sh.sh_type == SHT_NOTE)
			add_part(t, sh.sh_offset, sh.sh_size);
	}
	return !load_addresses(t->module ? t->module : path, t);
}

static size_t damage_randomly(const struct target *t, uint8_t *copy, uint64_t seed)
{
	static const uint8_t interesting[] = {0, 1, 0x7f, 0x80, 0xff};
	uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
	unsigned changes = 1 + (unsigned)(next_random(&state) % 8);

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

/* Three copies for each place. */
static size_t damage_in_order(const struct target *t, uint8_t *copy, uint64_t number)
{
	size_t at = (size_t)(number / 3 * t->step);

	if (number % 3 == 2)
		return at;
	copy[at] ^= number % 3 ? (uint8_t)(1u << at % 8) : 0xff;
	return t->size;
}

static void parse(const struct target *t, const uint8_t *bytes, size_t size, int sink)
{
	int fd = memfd_create("mutant", 0);
	char path[64];
	const char *dir = t->debug_dir;
	const char *module = t->module ? t->module : t->as ? t->as : path;
	struct silt_job job = {.query = {.path = module, .debug_dirs = &dir, .debug_dir_count = !!t->module},
			       .pcs = t->pcs, .count = t->pc_count};

	if (fd < 0 || silt_write_all(fd, "mutant", bytes, size, NULL) || dup2(fd, FILE_FD) < 0)
		_exit(99);
	close(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", FILE_FD);
	(void)silt_worker_run(&job, sink);
	close(FILE_FD);
}

/* In the child. */
static void run_all(const struct target *t, uint64_t first, uint64_t count, uint64_t *progress)
{
	struct rlimit memory = {(rlim_t)MEGABYTES << 20, (rlim_t)MEGABYTES << 20};
	uint8_t *copy = malloc(t->size);
	int sink = open("/dev/null", O_WRONLY);

	setrlimit(RLIMIT_DATA, &memory);
	if (!copy || sink < 0)
		_exit(99);
	for (uint64_t i = first; i < first + count; i++) {
		size_t size;

		*progress = i;
		alarm(SECONDS);
		memcpy(copy, t->bytes, t->size);
		size = t->every ? damage_in_order(t, copy, i) : damage_randomly(t, copy, i);
		parse(t, copy, size, sink);
	}
	_exit(0);
}

static int run_batch(const struct target *t, uint64_t first, uint64_t count, uint64_t *progress)
{
	struct rusage usage;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		run_all(t, first, count, progress);
	if (pid < 0 || wait4(pid, &status, 0, &usage) < 0 || status) {
		fprintf(stderr, "copy %llu: status 0x%x (signal %d)\n", (unsigned long long)*progress, status, WTERMSIG(status));
		return 1;
	}
	if (usage.ru_maxrss >> 10 > PEAK_MEGABYTES) {
		fprintf(stderr, "copies %llu to %llu: %ld MB of memory\n", (unsigned long long)first,
			(unsigned long long)(first + count - 1), usage.ru_maxrss >> 10);
		return 1;
	}
	return 0;
}

/* Without this, a path that leads nowhere would pass every test. */
static bool intact_file_is_read(const struct target *t)
{
	const char *sign = t->names_only ? "outer" : "/fixtures/";
	int sink = memfd_create("answers", 0);
	uint8_t *answers;
	bool good;
	size_t size;

	parse(t, t->bytes, t->size, sink);
	if (lseek(sink, 0, SEEK_SET) || silt_read_all_fd(sink, "answers", 1 << 30, &answers, &size, NULL))
		return false;
	close(sink);
	good = memmem(answers, size, sign, strlen(sign));
	free(answers);
	if (!good)
		fprintf(stderr, "the intact file does not give what it should\n");
	return good;
}

/* The file's place, a link to whatever is open at FILE_FD: as asked for, or DIR/.build-id/xx/rest.debug. */
static bool link_damaged_file(struct target *t)
{
	char path[256], name[160] = "", open_file[64];
	struct silt_elf_info info;

	snprintf(open_file, sizeof(open_file), "/proc/self/fd/%d", FILE_FD);
	if (t->as)
		return symlink(open_file, t->as) == 0;
	strcpy(t->debug_dir, "/tmp/silt-mutate-XXXXXX");
	if (silt_elf_identify(t->module, &info, NULL) || !info.build_id_len || !mkdtemp(t->debug_dir))
		return false;
	for (size_t i = 1; i < info.build_id_len; i++)
		snprintf(name + strlen(name), sizeof(name) - strlen(name), "%02x", info.build_id[i]);
	snprintf(path, sizeof(path), "%s/.build-id", t->debug_dir);
	if (mkdir(path, 0700))
		return false;
	snprintf(path, sizeof(path), "%s/.build-id/%02x", t->debug_dir, info.build_id[0]);
	if (mkdir(path, 0700))
		return false;
	snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s.debug", name);
	return symlink(open_file, path) == 0;
}

static void remove_links(const struct target *t)
{
	char command[128];

	if (t->as)
		unlink(t->as);
	snprintf(command, sizeof(command), "rm -rf '%s'", t->debug_dir);
	if (*t->debug_dir && system(command))
		fprintf(stderr, "%s is left behind\n", t->debug_dir);
}

static int usage(const char *name)
{
	fprintf(stderr, "usage: %s [--names] [--of MODULE] [--as PATH] FILE random ROUNDS [FIRST]\n"
		"       %s [--names] [--of MODULE] [--as PATH] FILE every STEP\n", name, name);
	return 2;
}

int main(int argc, char **argv)
{
	static struct target t;
	uint64_t *progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t first = 1, rounds;
	int failures = 0, a = 1;

	if (argc > a && strcmp(argv[a], "--names") == 0) {
		t.names_only = true;
		a++;
	}
	if (argc > a + 1 && strcmp(argv[a], "--of") == 0) {
		t.module = argv[a + 1];
		a += 2;
	}
	if (argc > a + 1 && strcmp(argv[a], "--as") == 0) {
		t.as = argv[a + 1];
		a += 2;
	}
	if (argc < a + 3 || progress == MAP_FAILED || load(argv[a], &t) || ((t.module || t.as) && !link_damaged_file(&t)))
		return usage(argv[0]);
	t.every = strcmp(argv[a + 1], "every") == 0;
	t.step = rounds = strtoull(argv[a + 2], NULL, 0);
	if (!rounds)
		return usage(argv[0]);
	if (t.every) {
		first = 0;
		rounds = (t.size + t.step - 1) / t.step * 3;
	} else if (argc > a + 3) {
		first = strtoull(argv[a + 3], NULL, 0);
	}
	failures = !intact_file_is_read(&t);
	for (uint64_t i = first; i < first + rounds && failures < 10; i += BATCH) {
		uint64_t left = first + rounds - i;

		failures += run_batch(&t, i, left < BATCH ? left : BATCH, progress);
	}
	printf("%llu damaged copies of %s, %d batches failed\n", (unsigned long long)rounds, argv[a], failures);
	remove_links(&t);
	free(t.bytes);
	return failures != 0;
}
