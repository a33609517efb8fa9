/* SPDX-License-Identifier: MIT */
/*
 * Answers on disk: taken again without a look into the files, and only while these are what they were; damage costs time and
 * nothing else. Linked with --wrap=silt_worker_run, which counts the children that read files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/types.h"
#include "symbols/cache_dir.h"
#include "symbols/cache_file.h"
#include "symbols/elf_reader.h"
#include "symbols/report.h"
#include "symbols/symbols.h"
#include "symbols/worker.h"

bool __real_silt_worker_run(const struct silt_job *job, int fd);
bool __wrap_silt_worker_run(const struct silt_job *job, int fd);

/* Shared with the children. */
static struct {
	int children;
	bool crash;
	bool partial;
} *shared;

static char dir[64], cache[80], module[80], store[80];

bool __wrap_silt_worker_run(const struct silt_job *job, int fd)
{
	__atomic_add_fetch(&shared->children, 1, __ATOMIC_SEQ_CST);
	if (shared->crash)
		abort();
	if (shared->partial) {
		struct silt_report r;

		if (silt_report_init(&r, fd)) {
			silt_report_mark(&r, SILT_WIRE_UNCERTAIN);
			silt_report_end(&r);
		}
		return true;
	}
	return __real_silt_worker_run(job, fd);
}

__attribute__((noinline)) static int landmark(int x)
{
	return x * 7 + getpid();
}

static uint64_t landmark_offset(void)
{
	extern const char __executable_start;

	return (uint64_t)(uintptr_t)landmark - (uint64_t)(uintptr_t)&__executable_start;
}

/* ---- asking ---- */

struct ask {
	struct silt_symbols_options options;
	size_t addresses; /* from the landmark on; 0: one */
	bool without_id;
	unsigned process;
	int64_t captured;
};

struct reply {
	char function[64], linkage[64], file[128], warnings[1024], dwarf[128];
	uint32_t line;
	size_t named, attempts, found;
	int children; /* that this took */
};

static void fill(struct reply *r, const struct silt_symbols *sy, int m, size_t n)
{
	struct silt_symbols_module_info info;
	const struct silt_symbol_frame *f;
	size_t count;

	for (size_t i = 0; i < n; i++) {
		f = silt_symbols_lookup(sy, m, landmark_offset() + i, true, &count);
		r->named += count > 0;
		if (i || !count)
			continue;
		snprintf(r->function, sizeof(r->function), "%s", f[count - 1].function ? f[count - 1].function : "");
		snprintf(r->linkage, sizeof(r->linkage), "%s", f[count - 1].linkage ? f[count - 1].linkage : "");
		snprintf(r->file, sizeof(r->file), "%s", f[0].file ? f[0].file : "");
		r->line = f[0].line;
	}
	for (size_t i = 0; i < silt_symbols_warning_count(sy); i++)
		strncat(r->warnings, silt_symbols_warning(sy, i), sizeof(r->warnings) - strlen(r->warnings) - 1);
	assert_int_equal(silt_symbols_module_info(sy, m, &info), SILT_OK);
	snprintf(r->dwarf, sizeof(r->dwarf), "%s", info.dwarf_path ? info.dwarf_path : "");
	r->attempts = info.attempt_count;
	r->found = info.found_count;
}

static struct reply ask(struct ask a)
{
	struct silt_symbols *sy;
	struct silt_elf_info info = {0};
	struct reply r = {0};
	size_t n = a.addresses ? a.addresses : 1;
	int before = shared->children, m;

	if (!a.options.cache_dir)
		a.options.cache_dir = cache;
	a.options.jobs = 1;
	sy = silt_symbols_create(&a.options);
	if (!a.without_id)
		silt_elf_identify("/proc/self/exe", &info, NULL);
	m = silt_symbols_add_module(sy, module, info.build_id, info.build_id_len, NULL);
	if (a.process || a.captured)
		silt_symbols_add_process(sy, a.process, a.captured, NULL);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(silt_symbols_request(sy, m, landmark_offset() + i, true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	fill(&r, sy, m, n);
	silt_symbols_destroy(sy);
	r.children = shared->children - before;
	return r;
}

static struct reply plain(void)
{
	return ask((struct ask){.addresses = 0});
}

static void expect_right(const struct reply *r)
{
	assert_string_equal(r->function, "landmark");
	assert_non_null(strstr(r->file, "test_cache.c"));
	assert_int_not_equal(r->line, 0);
}

/* ---- files ---- */

/* A change must not fall into the tick of the change before. */
static void let_age(void)
{
	usleep(60000);
}

static void copy(const char *from, const char *to)
{
	uint8_t buffer[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buffer, sizeof(buffer))) > 0)
		assert_int_equal(write(out, buffer, (size_t)n), n);
	close(in);
	close(out);
}

static void shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	assert_int_equal(system(command), 0);
}

/* The only file of answers. */
static void answers_path(char *path, size_t size)
{
	char answers[128];
	struct dirent *e;
	DIR *d;

	snprintf(answers, sizeof(answers), "%s/" SILT_CACHE_ANSWERS, cache);
	d = opendir(answers);
	assert_non_null(d);
	path[0] = '\0';
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			snprintf(path, size, "%s/%s", answers, e->d_name);
	closedir(d);
	assert_true(path[0]);
}

static size_t count_answers(void)
{
	int fd = silt_cache_dir_open(cache, SILT_CACHE_ANSWERS, false, NULL);
	struct silt_cache_usage usage = {0};

	if (fd >= 0) {
		usage = silt_cache_dir_usage(fd);
		close(fd);
	}
	return usage.files;
}

static int fresh(void **state)
{
	(void)state;
	shell("rm -rf %s && mkdir %s && mkdir %s", dir, dir, store);
	copy("/proc/self/exe", module);
	shared->crash = shared->partial = false;
	let_age();
	return 0;
}

/* ---- what holds ---- */

static void second_time_reads_no_file(void **state)
{
	struct reply first = plain(), second = plain();

	(void)state;
	expect_right(&first);
	assert_int_equal(first.children, 1);
	assert_int_equal(second.children, 0);
	second.children = 1;
	assert_memory_equal(&first, &second, sizeof(first));
	assert_true(second.attempts >= 1 && second.found >= 1);
	assert_string_equal(second.dwarf, module);
}

static void new_addresses_join_the_old(void **state)
{
	struct reply r;

	(void)state;
	assert_int_equal(ask((struct ask){.addresses = 4}).children, 1);
	r = ask((struct ask){.addresses = 12});
	assert_int_equal(r.children, 1);
	assert_true(r.named >= 8);
	r = ask((struct ask){.addresses = 12});
	assert_int_equal(r.children, 0);
	assert_true(r.named >= 8);
	assert_int_equal(count_answers(), 1);
}

static void unknown_addresses_are_kept_too(void **state)
{
	struct silt_symbols_options o = {.cache_dir = cache};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct silt_symbols *sy = silt_symbols_create(&o);
		int before = shared->children, m = silt_symbols_add_module(sy, module, NULL, 0, NULL);
		size_t count;

		assert_int_equal(silt_symbols_request(sy, m, 1, true, NULL), SILT_OK);
		assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
		assert_null(silt_symbols_lookup(sy, m, 1, true, &count));
		silt_symbols_destroy(sy);
		assert_int_equal(shared->children - before, i == 0);
	}
}

static void warnings_come_again(void **state)
{
	struct reply first, second;

	(void)state;
	shell("objcopy --strip-debug %s", module);
	let_age();
	first = plain();
	second = plain();
	assert_int_equal(second.children, 0);
	assert_non_null(strstr(first.warnings, "no debug information"));
	assert_string_equal(first.warnings, second.warnings);
	assert_string_equal(second.function, "landmark");
	/* Another build has no names, and a second time neither. */
	shell("cp /bin/true %s", module);
	let_age();
	for (int i = 0; i < 2; i++) {
		struct reply r = plain();

		assert_int_equal(r.children, i == 0);
		assert_string_equal(r.function, "");
		assert_non_null(strstr(r.warnings, "another build"));
	}
}

static void changed_files_are_read_again(void **state)
{
	(void)state;
	assert_int_equal(plain().children, 1);
	assert_int_equal(plain().children, 0);
	shell("touch -d 2001-01-01 %s", module);
	let_age();
	assert_int_equal(plain().children, 1);
	assert_int_equal(plain().children, 0);
	/* Another file with the same bytes in its place. */
	shell("cp %s %s.new && mv %s.new %s", module, module, module, module);
	let_age();
	assert_int_equal(plain().children, 1);
	assert_int_equal(plain().children, 0);
	shell("rm %s", module);
	assert_int_equal(plain().children, 1);
}

static void better_files_are_found(void **state)
{
	struct silt_symbols_options o = {.debug_dir_count = 1};
	const char *dirs[] = {store};
	struct reply r;

	(void)state;
	o.debug_dirs = dirs;
	shell("objcopy --only-keep-debug %s %s/kept && objcopy --strip-all %s", module, store, module);
	let_age();
	for (int i = 0; i < 2; i++) {
		r = ask((struct ask){.options = o});
		assert_int_equal(r.children, i == 0);
		assert_int_equal(r.line, 0);
	}
	/* The debug package is installed. */
	shell("id=$(readelf -n %s | sed -n 's/.*Build ID: //p') && mkdir -p %s/.build-id/$(echo $id | cut -c1-2) && "
	      "mv %s/kept %s/.build-id/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-).debug", module, store, store, store);
	let_age();
	for (int i = 0; i < 2; i++) {
		r = ask((struct ask){.options = o});
		assert_int_equal(r.children, i == 0);
		expect_right(&r);
	}
	/* And removed again. */
	shell("rm -r %s/.build-id", store);
	r = ask((struct ask){.options = o});
	assert_int_equal(r.children, 1);
	assert_int_equal(r.line, 0);
}

static void options_have_answers_of_their_own(void **state)
{
	const char *dirs[] = {store};
	struct silt_symbols_options options[] = {{0}, {.no_inlines = true}, {.demangle = SILT_DEMANGLE_SHORT}, {.bare_names = true},
						 {.debug_dirs = dirs, .debug_dir_count = 1}, {.sysroot = "/"}};

	(void)state;
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < SILT_ARRAY_LEN(options); i++)
			assert_int_equal(ask((struct ask){.options = options[i]}).children, round == 0);
	assert_int_equal(ask((struct ask){.without_id = true}).children, 1);
	assert_int_equal(ask((struct ask){.without_id = true}).children, 0);
	assert_int_equal(ask((struct ask){.without_id = true, .captured = 1}).children, 1);
	/* The time of the capture is nothing to a build-id. */
	assert_int_equal(ask((struct ask){.captured = 1}).children, 0);
}

static void off_is_off(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(ask((struct ask){.options = {.no_cache = true}}).children, 1);
	assert_int_equal(access(cache, F_OK), -1);
	assert_int_equal(plain().children, 1);
	assert_int_equal(ask((struct ask){.options = {.no_cache = true}}).children, 1);
}

static void chance_is_not_kept(void **state)
{
	struct reply r;

	(void)state;
	shared->crash = true;
	r = plain();
	assert_string_equal(r.function, "");
	shared->crash = false;
	r = plain();
	assert_true(r.children >= 1);
	expect_right(&r);
	shell("rm -rf %s", cache);
	shared->partial = true;
	assert_string_equal(plain().function, "");
	shared->partial = false;
	r = plain();
	assert_int_equal(r.children, 1);
	expect_right(&r);
}

static void fresh_changes_are_not_kept(void **state)
{
	(void)state;
	/* Changed just now: another change in the same tick would not show. */
	for (int i = 0; i < 20; i++) {
		shell("touch %s", module);
		plain();
		if (count_answers() == 0)
			return;
		shell("rm -rf %s", cache);
	}
	fail_msg("answers of a file that was changed just now are kept");
}

static void live_processes_may_know_more(void **state)
{
	(void)state;
	shell("objcopy --strip-debug %s", module);
	let_age();
	assert_int_equal(plain().children, 1);
	assert_int_equal(plain().children, 0);
	assert_int_equal(ask((struct ask){.process = (unsigned)getppid()}).children, 1);
	assert_int_equal(ask((struct ask){.process = 4194304}).children, 0);
}

/* ---- damage ---- */

static void damage_costs_time_only(void **state)
{
	char path[PATH_MAX];
	uint8_t *good;
	struct reply r;
	size_t size;
	struct stat st;
	int fd;

	(void)state;
	ask((struct ask){.addresses = 40});
	answers_path(path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	size = (size_t)st.st_size;
	good = malloc(size);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, good, size), (ssize_t)size);
	close(fd);
	for (size_t i = 0; i < size; i++) {
		uint8_t bad = (uint8_t)(good[i] ^ (1 + i % 255));

		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(write(fd, good, size), (ssize_t)size);
		assert_int_equal(pwrite(fd, &bad, 1, (off_t)i), 1);
		if (i % 3 == 0)
			assert_int_equal(ftruncate(fd, (off_t)i), 0);
		close(fd);
		/* Every byte is in the head or in a block that any answer needs. */
		if (i % 7 && i > 400)
			continue;
		r = ask((struct ask){.addresses = 40});
		expect_right(&r);
		if (r.children != 1)
			fail_msg("byte %zu of %zu: damage was believed", i, size);
		r = ask((struct ask){.addresses = 40});
		expect_right(&r);
		if (r.children)
			fail_msg("byte %zu of %zu: not written anew", i, size);
	}
	free(good);
}

static void odd_files_are_no_answers(void **state)
{
	static const char *const makers[] = {"mkdir %s", "ln -s /dev/zero %s", "mkfifo %s", ": > %s", "head -c 5000000 /dev/urandom > %s",
					     "printf 'siltsym\\n' > %s"};
	char path[PATH_MAX];
	struct reply r;

	(void)state;
	plain();
	answers_path(path, sizeof(path));
	for (size_t i = 0; i < SILT_ARRAY_LEN(makers); i++) {
		shell("rm -rf %s", path);
		shell(makers[i], path);
		r = plain();
		expect_right(&r);
		assert_int_equal(r.children, 1);
	}
	/* What others may have written is not read. */
	shell("rm -rf %s", path);
	plain();
	assert_int_equal(plain().children, 0);
	shell("chmod 0666 %s", path);
	assert_int_equal(plain().children, 1);
	assert_int_equal(plain().children, 0);
	shell("chmod 0777 %s/" SILT_CACHE_ANSWERS, cache);
	assert_int_equal(plain().children, 1);
	assert_int_equal(plain().children, 1);
	shell("rm -rf %s && touch %s", cache, cache);
	r = plain();
	expect_right(&r);
}

/* Another file's answers under this name: equal names of different keys. */
static void keys_are_compared(void **state)
{
	struct silt_symbol_frame frame = {.function = "liar", .line = 1};
	struct silt_cache_entry entry = {.answer = {&frame, 1}};
	char path[PATH_MAX];
	struct reply r;
	int fd;

	(void)state;
	plain();
	answers_path(path, sizeof(path));
	fd = silt_cache_dir_open(cache, SILT_CACHE_ANSWERS, false, NULL);
	entry.pc = landmark_offset();
	assert_int_equal(silt_cache_file_write(fd, strrchr(path, '/') + 1, "key", 3, "facts", 5, &entry, 1, 1 << 20, NULL), SILT_OK);
	close(fd);
	r = plain();
	expect_right(&r);
	assert_int_equal(r.children, 1);
}

/* ---- one file ---- */

static void files_hold_what_was_written(void **state)
{
	enum { N = 30000 };
	struct silt_symbol_frame *frames = calloc(3 * N, sizeof(*frames));
	struct silt_cache_entry *entries = calloc(N, sizeof(*entries)), got;
	struct silt_arena *arena = silt_arena_create();
	struct silt_cache_file *c;
	struct silt_answer answer;
	char (*names)[32] = calloc(N, sizeof(*names));
	int fd = silt_cache_dir_open(cache, "test", true, NULL);
	size_t size;

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < N; i++) {
		snprintf(names[i], sizeof(names[i]), "name-%zu", i % 10000);
		entries[i] = (struct silt_cache_entry){i * 3, {&frames[3 * i], i % 4}};
		for (size_t k = 0; k < 3; k++)
			frames[3 * i + k] = (struct silt_symbol_frame){.function = k ? names[i] : NULL, .linkage = names[i / 2],
								       .line = (uint32_t)i, .column = 7, .discriminator = (uint32_t)k,
								       .function_start = i << 33, .file = "file.c"};
	}
	assert_int_equal(silt_cache_file_write(fd, "x", "key", 3, "facts", 5, entries, N, 64 << 20, NULL), SILT_OK);
	assert_int_equal(silt_cache_file_write(fd, "y", "key", 3, "facts", 5, entries, N, 1 << 20, NULL), SILT_E_LIMIT);
	assert_null(silt_cache_file_open(fd, "y", "key", 3, 64 << 20, true));
	assert_null(silt_cache_file_open(fd, "x", "kez", 3, 64 << 20, true));
	assert_null(silt_cache_file_open(fd, "x", "key", 3, 1 << 10, true));
	c = silt_cache_file_open(fd, "x", "key", 3, 64 << 20, true);
	assert_non_null(c);
	assert_int_equal(silt_cache_file_count(c), N);
	assert_memory_equal(silt_cache_file_facts(c, &size), "facts", 5);
	assert_int_equal(size, 5);
	for (size_t i = 0; i < N; i++) {
		assert_true(silt_cache_file_find(c, i * 3, arena, &answer));
		assert_false(silt_cache_file_find(c, i * 3 + 1, arena, &got.answer));
		assert_true(silt_cache_file_entry(c, i, arena, &got));
		assert_true(got.pc == i * 3 && got.answer.count == answer.count && answer.count == i % 4);
		for (size_t k = 0; k < answer.count; k++) {
			const struct silt_symbol_frame *f = &answer.frames[k], *want = &frames[3 * i + k];

			assert_true(f->line == want->line && f->column == 7 && f->discriminator == k &&
				    f->function_start == want->function_start);
			assert_true(f->inlined == (k + 1 < answer.count) && !f->function == !want->function);
			assert_true((!f->function || strcmp(f->function, want->function) == 0) && strcmp(f->linkage, want->linkage) == 0);
		}
	}
	silt_cache_file_destroy(c);
	c = silt_cache_file_open(fd, "x", "key", 3, 64 << 20, false);
	assert_true(silt_cache_file_find(c, 3, arena, &answer) && !answer.frames[0].linkage &&
		    strcmp(answer.frames[0].file, "file.c") == 0);
	silt_cache_file_destroy(c);
	silt_arena_destroy(arena);
	close(fd);
	free(frames);
	free(entries);
	free(names);
}

/* Answers that came without linkage names are kept with them. */
static void linkage_names_stay(void **state)
{
	struct silt_symbols_options quick = {.no_linkage = true};

	(void)state;
	shell("objcopy --strip-debug %s", module); /* the symbol table gives linkage names */
	let_age();
	ask((struct ask){.options = quick, .addresses = 4});
	ask((struct ask){.options = quick, .addresses = 8});
	ask((struct ask){.options = quick, .addresses = 12});
	for (int i = 0; i < 2; i++) {
		struct silt_symbols_options o = i ? quick : (struct silt_symbols_options){0};
		struct reply r = ask((struct ask){.options = o, .addresses = 12});

		assert_int_equal(r.children, 0);
		assert_string_equal(r.linkage, i ? "" : "landmark");
	}
}

/* ---- the directory ---- */

static void parallel_writers_do_not_hurt(void **state)
{
	enum { WRITERS = 8 };
	pid_t pids[WRITERS];
	struct reply r;

	(void)state;
	for (int w = 0; w < WRITERS; w++) {
		pids[w] = fork();
		if (pids[w] == 0) {
			for (int i = 0; i < 6; i++) {
				r = ask((struct ask){.addresses = (size_t)(1 + (w * 7 + i * 3) % 40)});
				if (strcmp(r.function, "landmark") != 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (int w = 0; w < WRITERS; w++) {
		int status = -1;

		assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(count_answers(), 1);
	ask((struct ask){.addresses = 40});
	r = ask((struct ask){.addresses = 40});
	assert_int_equal(r.children, 0);
	expect_right(&r);
}

static void unused_files_go_first(void **state)
{
	char path[128];
	int fd = silt_cache_dir_open(cache, "test", true, NULL);

	(void)state;
	for (int i = 0; i < 10; i++) {
		snprintf(path, sizeof(path), "%s/test/f%d", cache, i);
		shell("head -c 100000 /dev/zero > %s && touch -d '2020-01-%02d' %s", path, i + 1, path);
	}
	shell("touch -d 2020-01-01 %s/test/.x.tmp && mkdir -p %s/test/sub && touch %s/test/.y.tmp", cache, cache, cache);
	silt_cache_dir_trim(fd, 10 << 20, 100);
	assert_int_equal(silt_cache_dir_usage(fd).files, 11); /* what a dead writer left is gone */
	silt_cache_dir_trim(fd, 600000, 100);
	assert_true(silt_cache_dir_usage(fd).bytes <= 600000);
	for (int i = 0; i < 10; i++) {
		snprintf(path, sizeof(path), "%s/test/f%d", cache, i);
		assert_int_equal(access(path, F_OK), i < 5 ? -1 : 0);
	}
	silt_cache_dir_trim(fd, 10 << 20, 3);
	assert_true(silt_cache_dir_usage(fd).files <= 3);
	close(fd);
}

static void size_is_limited(void **state)
{
	struct silt_symbols_options o = {.cache_bytes = 40000};
	char name[128];
	int fd;

	(void)state;
	for (int i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "%s/sysroot%d", dir, i); /* a key of its own each */
		shell("mkdir %s && ln -s / %s/root", name, name);
		o.sysroot = strdup(name);
		ask((struct ask){.options = o, .addresses = 40});
		free((void *)(uintptr_t)o.sysroot);
	}
	fd = silt_cache_dir_open(cache, SILT_CACHE_ANSWERS, false, NULL);
	assert_true(fd >= 0);
	assert_true(silt_cache_dir_usage(fd).bytes <= 40000 && silt_cache_dir_usage(fd).files >= 1);
	close(fd);
}

static void directories_are_private(void **state)
{
	char deep[128];
	struct stat st;
	int fd;

	(void)state;
	snprintf(deep, sizeof(deep), "%s/a/b", dir);
	assert_int_equal(silt_cache_dir_open(deep, "c", false, NULL), SILT_E_NOT_FOUND);
	fd = silt_cache_dir_open(deep, "c", true, NULL);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	close(fd);
	shell("chmod 0770 %s/c", deep);
	assert_int_equal(silt_cache_dir_open(deep, "c", true, NULL), SILT_E_INVAL);
	shell("rmdir %s/c && ln -s %s %s/c", deep, dir, deep);
	assert_true(silt_cache_dir_open(deep, "c", true, NULL) < 0);
	if (geteuid() == 0) {
		shell("rm %s/c && mkdir %s/c && chown 12345 %s/c", deep, deep, deep);
		assert_int_equal(silt_cache_dir_open(deep, "c", true, NULL), SILT_E_INVAL);
	} else {
		print_message("skip: a directory of another user (needs root)\n");
	}
}

static void clearing_takes_what_is_ours(void **state)
{
	char path[PATH_MAX];

	(void)state;
	plain();
	shell("mkdir -p %s/debug/.build-id/ab && echo x > %s/debug/.build-id/ab/c.debug && echo y > %s/mine", cache, cache, cache);
	answers_path(path, sizeof(path));
	assert_true(silt_cache_clear(cache, NULL) > 0);
	assert_int_equal(access(path, F_OK), -1);
	shell("test ! -e %s/debug/.build-id && test -e %s/mine", cache, cache);
	assert_int_equal(silt_cache_clear(cache, NULL), 0);
	assert_int_equal(silt_cache_clear("/nowhere/at/all", NULL), 0);
	assert_int_equal(plain().children, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(second_time_reads_no_file, fresh),
		cmocka_unit_test_setup(new_addresses_join_the_old, fresh),
		cmocka_unit_test_setup(unknown_addresses_are_kept_too, fresh),
		cmocka_unit_test_setup(warnings_come_again, fresh),
		cmocka_unit_test_setup(changed_files_are_read_again, fresh),
		cmocka_unit_test_setup(better_files_are_found, fresh),
		cmocka_unit_test_setup(options_have_answers_of_their_own, fresh),
		cmocka_unit_test_setup(off_is_off, fresh),
		cmocka_unit_test_setup(chance_is_not_kept, fresh),
		cmocka_unit_test_setup(fresh_changes_are_not_kept, fresh),
		cmocka_unit_test_setup(live_processes_may_know_more, fresh),
		cmocka_unit_test_setup(damage_costs_time_only, fresh),
		cmocka_unit_test_setup(odd_files_are_no_answers, fresh),
		cmocka_unit_test_setup(keys_are_compared, fresh),
		cmocka_unit_test_setup(files_hold_what_was_written, fresh),
		cmocka_unit_test_setup(linkage_names_stay, fresh),
		cmocka_unit_test_setup(parallel_writers_do_not_hurt, fresh),
		cmocka_unit_test_setup(unused_files_go_first, fresh),
		cmocka_unit_test_setup(size_is_limited, fresh),
		cmocka_unit_test_setup(directories_are_private, fresh),
		cmocka_unit_test_setup(clearing_takes_what_is_ours, fresh),
	};
	int failed;

	if (system("command -v objcopy >/dev/null && command -v readelf >/dev/null") != 0) {
		puts("skip: binutils are missing");
		return 77;
	}
	snprintf(dir, sizeof(dir), "/tmp/silt-cache-test.%d", (int)getpid());
	snprintf(cache, sizeof(cache), "%s/cache", dir);
	snprintf(module, sizeof(module), "%s/module", dir);
	snprintf(store, sizeof(store), "%s/store", dir);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	shell("rm -rf %s", dir);
	return failed;
}
