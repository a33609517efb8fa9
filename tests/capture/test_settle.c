/* SPDX-License-Identifier: MIT */
/*
 * "Inside malloc" at every instruction. A process with one thread takes no locks, so that only its registers and stack say where it is:
 * between the call and the return of an allocation function, wherever it stands by then (memcpy, sbrk, behind a system call's
 * instruction), it must be taken for one inside; or its blocks are counted while they change hands.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/types.h"
#include "capture/heap/heap.h"
#include "capture/settle.h"
#include "capture/target/maps.h"
#include "capture/target/modules.h"

#if defined(__x86_64__)

#define ENTRIES 6

struct watched {
	pid_t pid;
	struct silt_maps maps;
	struct silt_target_modules modules;
	struct silt_heap_process process;
	struct silt_heap *heap;
	silt_addr entry[ENTRIES];
	silt_addr top; /* where the return address of the call under way lies; 0: none */
	unsigned long inside, outside, calls, unseen, mistaken;
};

static pid_t start(const char *program, int out)
{
	pid_t pid = fork();

	if (!pid) {
		/* What is looked up at its first use would be looked up inside an allocation function. */
		setenv("LD_BIND_NOW", "1", 1);
		dup2(out, 1);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execl(program, program, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static void run_until(pid_t pid, int sig)
{
	int status;

	for (;;) {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		if (WSTOPSIG(status) == sig)
			return;
		assert_int_equal(ptrace(PTRACE_CONT, pid, 0, 0), 0);
	}
}

static void open_watched(struct watched *w, const char *program)
{
	struct silt_heap_target target = { .maps = &w->maps, .modules = &w->modules, .exact = true };
	int out[2];

	memset(w, 0, sizeof(*w));
	assert_int_equal(pipe(out), 0);
	w->pid = target.pid = start(program, out[1]);
	assert_true(w->pid > 0);
	run_until(w->pid, SIGSTOP);
	assert_int_equal(read(out[0], w->entry, sizeof(w->entry)), sizeof(w->entry));
	close(out[0]);
	close(out[1]);
	silt_heap_process_init(&w->process, w->pid);
	target.reader = silt_heap_process_reader(&w->process);
	assert_int_equal(silt_maps_read(w->pid, &w->maps, NULL), 0);
	assert_int_equal(silt_modules_collect(&w->maps, w->pid, &w->modules, NULL), 0);
	assert_int_equal(silt_heap_open(&target, &w->heap, NULL), 0);
	assert_true(silt_heap_walkable(w->heap));
}

static void close_watched(struct watched *w)
{
	silt_heap_destroy(w->heap);
	silt_heap_process_deinit(&w->process);
	silt_modules_deinit(&w->modules);
	silt_maps_deinit(&w->maps);
}

static bool is_entry(const struct watched *w, silt_addr pc)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (pc == w->entry[i])
			return true;
	return false;
}

static void note_call(struct watched *w, const struct user_regs_struct *r)
{
	/* It has returned; or jumped to memset as its last deed, when all is decided. */
	if (w->top && (r->rsp > w->top || (r->rsp == w->top && !silt_heap_in_allocator(w->heap, r->rip))))
		w->top = 0;
	if (!w->top && is_entry(w, r->rip)) {
		w->top = r->rsp;
		w->calls++;
	}
}

static void tell(const struct watched *w, silt_addr pc)
{
	if (w->unseen >= 20)
		return;
	for (uint32_t i = 0; i < w->modules.count; i++)
		if (pc >= w->modules.list[i].start && pc < w->modules.list[i].end)
			print_message("not seen inside: %s, address 0x%llx\n", w->modules.list[i].path,
				      (unsigned long long)(pc - w->modules.list[i].bias));
}

/* One instruction, and what is said of the thread behind it. False: it has ended. */
static bool step(struct watched *w)
{
	struct user_regs_struct r;
	struct silt_heap_thread t;
	int status;
	bool seen;

	if (ptrace(PTRACE_SINGLESTEP, w->pid, 0, 0) || waitpid(w->pid, &status, 0) != w->pid || !WIFSTOPPED(status))
		return false;
	assert_int_equal(WSTOPSIG(status), SIGTRAP);
	assert_int_equal(ptrace(PTRACE_GETREGS, w->pid, 0, &r), 0);
	note_call(w, &r);
	t = (struct silt_heap_thread){ r.fs_base, r.rip, r.rsp, ~0ull };
	seen = silt_heap_busy(w->heap, &t, 1) || silt_settle_needed(w->pid, w->heap, &t, 1);
	if (w->top && !seen) {
		tell(w, r.rip);
		w->unseen++;
	}
	w->mistaken += !w->top && seen;
	w->inside += w->top != 0;
	w->outside += !w->top;
	return true;
}

static void check(const char *program)
{
	struct watched w;

	if (access(program, X_OK)) {
		print_message("skipped: %s was not built: its compiler or C library is missing\n", program);
		skip();
	}
	open_watched(&w, program);
	while (step(&w))
		;
	print_message("%s: %lu calls; %lu instructions inside, %lu not seen; %lu outside, %lu of them taken for inside\n", program,
		      w.calls, w.inside, w.unseen, w.outside, w.mistaken);
	assert_true(w.calls > 90);
	assert_true(w.inside > 4000);
	assert_int_equal(w.unseen, 0);
	assert_true(w.mistaken * 2 < w.outside);
	close_watched(&w);
}

static const char *given; /* a program, or a script that becomes one: of another C library */

static void test_given(void **state)
{
	(void)state;
	check(given);
}

static void test_glibc(void **state)
{
	(void)state;
	check(SETTLE_TARGETS "/settle_glibc");
}

static void test_static(void **state)
{
	(void)state;
	check(SETTLE_TARGETS "/settle_static");
}

static void test_musl(void **state)
{
	(void)state;
	check(SETTLE_TARGETS "/settle_musl");
}

static void test_musl_static(void **state)
{
	(void)state;
	check(SETTLE_TARGETS "/settle_musl_static");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest one[] = {
		cmocka_unit_test(test_given),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_glibc),
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_musl),
		cmocka_unit_test(test_musl_static),
	};

	given = argc > 1 ? argv[1] : NULL;
	return given ? cmocka_run_group_tests(one, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	printf("skipped: single steps are written for x86-64 only\n");
	return 77;
}

#endif
