/* SPDX-License-Identifier: MIT */
/*
 * Parsing children that crash, hang, fill memory or lie, on purpose: linked with --wrap=silt_worker_run, so that each child
 * does what the name of its module says. It must cost that module its lines and a warning, nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/types.h"
#include "symbols/report.h"
#include "symbols/symbols.h"
#include "symbols/worker.h"

bool __real_silt_worker_run(const struct silt_job *job, int fd);
bool __wrap_silt_worker_run(const struct silt_job *job, int fd);

static char dir[64];
static int *second_has_turn; /* shared with the children */

__attribute__((noinline)) static int landmark(int x)
{
	return x * 7 + getpid();
}

static uint64_t landmark_offset(void)
{
	extern const char __executable_start;

	return (uint64_t)(uintptr_t)landmark - (uint64_t)(uintptr_t)&__executable_start;
}

/* ---- what children do ---- */

static void crash(void)
{
	static int *volatile nowhere;

	*nowhere = 1; /* raise() may not send signals here */
}

static void sleep_forever(void)
{
	static int word;

	for (;;)
		syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void spin_forever(void)
{
	for (volatile unsigned i = 0;; i++)
		;
}

/* Takes memory and uses it until there is none. */
static bool fill_memory(void)
{
	size_t sum = 0;

	for (size_t step = 64 << 20; step >= 4096; step /= 2) {
		char *p;

		while ((p = malloc(step))) {
			memset(p, 1, step);
			sum += step;
			if (sum > (size_t)8 << 30)
				abort(); /* there is no limit */
		}
	}
	return mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static void answer_first(int fd, size_t index, size_t count)
{
	struct silt_report_frame frames[600] = {0};
	struct silt_report r;

	if (!silt_report_init(&r, fd))
		return;
	for (size_t i = 0; i < count; i++)
		frames[i].function = silt_report_string(&r, "liar");
	silt_report_answer(&r, index, frames, count);
	silt_report_end(&r);
}

static void flood(int fd, const char *bytes, size_t size)
{
	while (write(fd, bytes, size) > 0)
		;
}

/* What a parser that was taken over might try. Each must fail. */
static bool breaks_out(void)
{
	int fds[2];
	char path[128];

	snprintf(path, sizeof(path), "%s/evil", dir);
	if (open(path, O_WRONLY | O_CREAT, 0600) >= 0 || open("/dev/null", O_RDWR) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ||
	    fork() >= 0 || kill(getppid(), 0) == 0 || pipe(fds) == 0 || unlink("/nowhere/x") == 0 || errno != EPERM)
		return true;
	if (fcntl(0, F_SETOWN, getppid()) == 0 || execl("/bin/true", "true", (char *)NULL) == 0)
		return true;
	for (int fd = 0; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) == 0 && write(fd, "", 0) < 0 && errno != EBADF)
			return true; /* a descriptor besides the pipe */
	return false;
}

static bool misbehave(const char *how, const struct silt_job *job, int fd)
{
	static const char noise[4096] = {1, 0, 0, 0, 77};
	static const char big[] = {'\xff', '\xff', '\xff', '\x7f', 1};
	static const char half[] = {5, 0, 0, 0, SILT_WIRE_STRING, 'l', 'i', 'a', 'r', 10, 0, 0, 0, SILT_WIRE_ANSWER, 0, 1, 1, 0, 0,
				    0, 0, 0, 0};
	static const char lie[] = {2, 0, 0, 0, SILT_WIRE_ANSWER, 0};

	if (strcmp(how, "segv") == 0)
		crash();
	else if (strcmp(how, "abort") == 0)
		abort();
	else if (strcmp(how, "exit") == 0)
		_exit(0);
	else if (strcmp(how, "sleep") == 0)
		sleep_forever();
	else if (strcmp(how, "spin") == 0)
		spin_forever();
	else if (strcmp(how, "memory") == 0)
		return fill_memory();
	else if (strcmp(how, "noise") == 0)
		flood(fd, noise, sizeof(noise));
	else if (strcmp(how, "big") == 0)
		flood(fd, big, sizeof(big));
	else if (strcmp(how, "lie") == 0)
		flood(fd, lie, sizeof(lie));
	else if (strcmp(how, "index") == 0)
		answer_first(fd, job->count, 1);
	else if (strcmp(how, "frames") == 0)
		answer_first(fd, 0, 513);
	else if (strcmp(how, "closes") == 0 && close(fd) == 0)
		sleep_forever();
	else if (strcmp(how, "stays") == 0 && __real_silt_worker_run(job, fd))
		sleep_forever();
	else if (strcmp(how, "half") == 0 && write(fd, half, sizeof(half)) > 0)
		crash();
	else if (strcmp(how, "breakout") == 0)
		return breaks_out() && __real_silt_worker_run(job, fd);
	return false;
}

/* One of several children of a module, which took some of the work before it fails. */
static bool misbehave_as_second(const char *how, const struct silt_job *job, int fd)
{
	static const struct silt_share_key nothing = {0};
	uint32_t number;
	uint8_t *bytes;

	if (job->no_dwarf || strcmp(how, "works") == 0)
		return __real_silt_worker_run(job, fd);
	if (job->member != 1) {
		/* Not before the second one has its turn, or there would be nothing left for it. */
		while (!__atomic_load_n(second_has_turn, __ATOMIC_SEQ_CST))
			sched_yield();
		return __real_silt_worker_run(job, fd);
	}
	silt_share_turn(job->share);
	__atomic_store_n(second_has_turn, 1, __ATOMIC_SEQ_CST);
	(void)silt_share_section(job->share, 1, &nothing, true, &bytes, &number);
	return misbehave(how, job, fd);
}

bool __wrap_silt_worker_run(const struct silt_job *job, int fd)
{
	const char *name = strrchr(job->query.path, '/') + 1;
	bool always = strncmp(name, "always-", 7) == 0;

	if (strncmp(name, "second-", 7) == 0)
		return misbehave_as_second(name + 7, job, fd);
	if (strcmp(name, "good") == 0 || (job->no_dwarf && !always))
		return __real_silt_worker_run(job, fd);
	return misbehave(always ? name + 7 : name, job, fd);
}

/* ---- what it costs ---- */

struct outcome {
	bool good_has_line;
	char function[64]; /* of the module that misbehaved */
	uint32_t line;
	char warnings[2048];
};

static int add(struct silt_symbols *sy, const char *name)
{
	char path[128];
	int m;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (access(path, F_OK))
		assert_int_equal(symlink("/proc/self/exe", path), 0);
	m = silt_symbols_add_module(sy, path, NULL, 0, NULL);
	assert_int_equal(silt_symbols_request(sy, m, landmark_offset(), true, NULL), SILT_OK);
	return m;
}

static struct outcome run(const char *name)
{
	/* Where it is memory that runs out, time must not: a machine under load is slow. */
	struct silt_symbols_options options = {.timeout_seconds = strcmp(name, "memory") == 0 ? 60 : 1, .max_memory = 64 << 20};
	struct silt_symbols *sy = silt_symbols_create(&options);
	int good = add(sy, "good"), bad = add(sy, name);
	const struct silt_symbol_frame *frames;
	struct outcome o = {0};
	size_t count;

	alarm(120); /* a hang is the failure that matters most here */
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	alarm(0);
	frames = silt_symbols_lookup(sy, good, landmark_offset(), true, &count);
	o.good_has_line = count && frames[0].function && strcmp(frames[0].function, "landmark") == 0 && frames[0].line;
	frames = silt_symbols_lookup(sy, bad, landmark_offset(), true, &count);
	if (count) {
		snprintf(o.function, sizeof(o.function), "%s", frames[0].function ? frames[0].function : "");
		o.line = frames[0].line;
	}
	for (size_t i = 0; i < silt_symbols_warning_count(sy); i++)
		snprintf(o.warnings + strlen(o.warnings), sizeof(o.warnings) - strlen(o.warnings), "%s\n",
			 silt_symbols_warning(sy, i));
	silt_symbols_destroy(sy);
	/* No process is left behind. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	return o;
}

static void costs_the_module_its_lines(void **state)
{
	static const struct { const char *name, *warning; } cases[] = {
		{"segv", "crashed"}, {"abort", "crashed"}, {"exit", "failed"}, {"sleep", "more than 1 seconds"},
		{"spin", "more than 1 seconds"}, {"memory", "failed"}, {"noise", "no sense"}, {"big", "no sense"},
		{"lie", "no sense"}, {"index", "no sense"}, {"frames", "no sense"}, {"closes", "failed"}, {"breakout", "failed"}};

	(void)state;
	for (size_t i = 0; i < SILT_ARRAY_LEN(cases); i++) {
		struct outcome o = run(cases[i].name);

		if (!o.good_has_line || strcmp(o.function, "landmark") != 0 || o.line || !strstr(o.warnings, cases[i].warning))
			fail_msg("%s: function '%s', line %u, warnings: %s", cases[i].name, o.function, o.line, o.warnings);
	}
}

static void costs_the_module_its_names_when_it_happens_again(void **state)
{
	static const char *const names[] = {"always-segv", "always-sleep", "always-spin", "always-noise", "always-closes"};

	(void)state;
	for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++) {
		struct outcome o = run(names[i]);

		if (!o.good_has_line || *o.function || !*o.warnings)
			fail_msg("%s: function '%s', warnings: %s", names[i], o.function, o.warnings);
	}
}

static void believes_nothing_of_a_child_that_crashed(void **state)
{
	struct outcome o;

	(void)state;
	o = run("half");
	assert_string_equal(o.function, "landmark");
	assert_true(o.good_has_line);
	assert_non_null(strstr(o.warnings, "crashed"));
}

static void a_complete_answer_ends_the_wait(void **state)
{
	struct outcome o = run("stays");

	(void)state;
	assert_true(o.good_has_line);
	assert_string_equal(o.function, "landmark");
	assert_true(o.line);
	assert_string_equal(o.warnings, "");
}

enum { MANY = 2000, APART = 40 }; /* bytes: far enough to meet several units */

/* Asks for so many addresses that several children share the module. */
static struct silt_symbols *ask_many(const char *name, int *ret_module)
{
	struct silt_symbols_options options = {.timeout_seconds = 2, .max_memory = 64 << 20, .jobs = 3};
	struct silt_symbols *sy = silt_symbols_create(&options);

	*ret_module = add(sy, name);
	for (uint64_t i = 0; i < MANY; i++)
		assert_int_equal(silt_symbols_request(sy, *ret_module, landmark_offset() + i * APART, true, NULL), SILT_OK);
	alarm(120);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	alarm(0);
	return sy;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static void costs_what_one_of_several_had_taken(void **state)
{
	static const struct { const char *name, *warning; bool loses; } cases[] = {
		{"second-segv", "crashed", true}, {"second-half", "crashed", true}, {"second-sleep", "more than 2 seconds", true},
		{"second-exit", "failed", true}, {"second-noise", "no sense", true}, {"second-works", NULL, false}};
	int good, bad;
	struct silt_symbols *expected = ask_many("good", &good), *sy;

	(void)state;
	assert_int_equal(silt_symbols_warning_count(expected), 0);
	for (size_t k = 0; k < SILT_ARRAY_LEN(cases); k++) {
		size_t lines = 0, lost = 0, count, want_count;

		*second_has_turn = 0;
		sy = ask_many(cases[k].name, &bad);
		for (uint64_t i = 0; i < MANY; i++) {
			uint64_t at = landmark_offset() + i * APART;
			const struct silt_symbol_frame *want = silt_symbols_lookup(expected, good, at, true, &want_count);
			const struct silt_symbol_frame *got = silt_symbols_lookup(sy, bad, at, true, &count);

			/* Inlined calls go with the lines; the function itself is in the symbol table, too. */
			if (!want_count || !want[want_count - 1].function)
				continue;
			if (!count || !same_text(want[want_count - 1].function, got[count - 1].function))
				fail_msg("%s: address %llu is %s, not %s", cases[k].name, (unsigned long long)i,
					 count ? got[count - 1].function : "unknown", want[want_count - 1].function);
			if (!want[0].line)
				continue;
			lines += got[0].line == want[0].line && same_text(got[0].file, want[0].file);
			lost += !got[0].line;
			assert_true(got[0].line == want[0].line || !got[0].line);
		}
		assert_true(lines);
		assert_int_equal(lost > 0, cases[k].loses);
		assert_int_equal(silt_symbols_warning_count(sy), cases[k].warning != NULL);
		if (cases[k].warning)
			assert_non_null(strstr(silt_symbols_warning(sy, 0), cases[k].warning));
		silt_symbols_destroy(sy);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	}
	silt_symbols_destroy(expected);
}

static int make_directory(void **state)
{
	struct rlimit none = {0, 0};

	(void)state;
	setrlimit(RLIMIT_CORE, &none);
	second_has_turn = mmap(NULL, sizeof(*second_has_turn), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (second_has_turn == MAP_FAILED)
		return 1;
	strcpy(dir, "/tmp/silt-pool-XXXXXX");
	return !mkdtemp(dir);
}

static int remove_directory(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(costs_the_module_its_lines),
		cmocka_unit_test(costs_the_module_its_names_when_it_happens_again),
		cmocka_unit_test(believes_nothing_of_a_child_that_crashed),
		cmocka_unit_test(a_complete_answer_ends_the_wait),
		cmocka_unit_test(costs_what_one_of_several_had_taken),
	};

	return landmark(1) < 0 || cmocka_run_group_tests(tests, make_directory, remove_directory);
}
