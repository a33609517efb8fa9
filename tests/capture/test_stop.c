/* SPDX-License-Identifier: MIT */
/* Stopping and resuming real processes: everything stands still, everything goes on, and nothing of it shows. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture/target/process.h"
#include "capture/target/stop.h"

#define SPINNERS 6

/* Shared with the target. */
struct shared {
	volatile uint64_t spins[SPINNERS];
	volatile uint32_t handled; /* signals its handler saw */
	volatile uint32_t sleeps_ok, sleeps_bad;
	volatile uint64_t storm; /* threads that ever ran */
};

static struct shared *shared;

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* ---- the target ---- */

static void on_signal(int s)
{
	(void)s;
	shared->handled++;
}

static void *spin(void *arg)
{
	volatile uint64_t *counter = arg;

	for (;;)
		++*counter;
	return NULL;
}

/* A sleep that is interrupted by our stop must go on to its full length. */
static void *sleeper(void *arg)
{
	for (;;) {
		struct timespec t = { 0, 30000000 }, a, b;
		double slept;
		int rc;

		clock_gettime(CLOCK_MONOTONIC, &a);
		rc = nanosleep(&t, NULL);
		clock_gettime(CLOCK_MONOTONIC, &b);
		slept = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
		if (rc || slept < 0.0299)
			shared->sleeps_bad++;
		else
			shared->sleeps_ok++;
	}
	return arg;
}

static void *storm_thread(void *arg)
{
	__atomic_add_fetch(&shared->storm, 1, __ATOMIC_RELAXED);
	return arg;
}

static void *storm(void *arg)
{
	for (;;) {
		pthread_t t[4];
		int n = 0;

		while (n < 4 && !pthread_create(&t[n], NULL, storm_thread, NULL))
			n++;
		while (n)
			pthread_join(t[--n], NULL);
	}
	return arg;
}

enum target_sort { TARGET_SPIN, TARGET_STORM, TARGET_EXITS };

static pid_t start_target(enum target_sort sort)
{
	pid_t pid;

	memset((void *)shared, 0, sizeof(*shared));
	pid = fork();
	if (pid == 0) {
		pthread_t t;
		sigset_t usr;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
		signal(SIGUSR1, on_signal);
		if (sort == TARGET_EXITS) {
			pause_ms(40);
			_exit(17);
		}
		sigemptyset(&usr);
		sigaddset(&usr, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &usr, NULL); /* the main thread takes it */
		for (int i = 0; i < SPINNERS && sort == TARGET_SPIN; i++)
			pthread_create(&t, NULL, spin, (void *)&shared->spins[i]);
		for (int i = 0; i < 3 && sort == TARGET_STORM; i++)
			pthread_create(&t, NULL, storm, NULL);
		pthread_create(&t, NULL, sleeper, NULL);
		pthread_sigmask(SIG_UNBLOCK, &usr, NULL);
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	pause_ms(60);
	return pid;
}

static void end_target(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static bool any_thread_in(pid_t pid, const char *states)
{
	struct silt_target_thread *threads;
	uint32_t count;
	bool found = false;

	if (silt_target_threads(pid, false, &threads, &count, NULL))
		return false;
	for (uint32_t i = 0; i < count && !found; i++) {
		char path[80], text[512] = "", *p;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%u/stat", pid, threads[i].tid);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(text, sizeof(text), f) && (p = strrchr(text, ')')) && strchr(states, p[2]))
			found = true;
		fclose(f);
	}
	free(threads);
	return found;
}

/* ---- stopping, in a thread of its own as stop.h asks for ---- */

struct stopping {
	pid_t pid;
	int rounds;
	void (*while_stopped)(pid_t pid);
	int failures;
	uint64_t pause_ns;
	char text[512];
};

static void *stop_rounds(void *arg)
{
	struct stopping *g = arg;

	for (int i = 0; i < g->rounds; i++) {
		struct silt_stop s;
		struct silt_error err = { 0 };

		if (silt_stop_seize(&s, g->pid, &err) || silt_stop_all(&s, &err)) {
			g->failures++;
			memcpy(g->text, err.msg, sizeof(g->text));
			continue;
		}
		if (g->while_stopped)
			g->while_stopped(g->pid);
		silt_stop_release(&s);
		if (s.pause_ns > g->pause_ns)
			g->pause_ns = s.pause_ns;
	}
	return NULL;
}

static void run_stops(struct stopping *g)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, stop_rounds, g), 0);
	pthread_join(t, NULL);
}

static unsigned moved_while_stopped;

static void watch_spins(pid_t pid)
{
	struct shared before = *shared;

	(void)pid;
	pause_ms(5);
	for (int i = 0; i < SPINNERS; i++)
		moved_while_stopped += shared->spins[i] != before.spins[i];
}

static void test_everything_stands_still(void **state)
{
	pid_t pid = start_target(TARGET_SPIN);
	struct stopping g = { .pid = pid, .rounds = 20, .while_stopped = watch_spins };
	struct shared before;

	(void)state;
	moved_while_stopped = 0;
	run_stops(&g);
	if (g.failures)
		fail_msg("%s", g.text);
	assert_int_equal(moved_while_stopped, 0);
	assert_true(g.pause_ns >= 5000000);
	before = *shared;
	pause_ms(200);
	for (int i = 0; i < SPINNERS; i++)
		assert_true(shared->spins[i] != before.spins[i]);
	assert_true(shared->sleeps_ok > 0);
	assert_int_equal(shared->sleeps_bad, 0);
	end_target(pid);
}

static void send_signals(pid_t pid)
{
	kill(pid, SIGUSR1);
	pause_ms(1);
}

static void test_signals_arrive_once(void **state)
{
	pid_t pid = start_target(TARGET_SPIN);
	struct stopping g = { .pid = pid, .rounds = 1, .while_stopped = send_signals };

	(void)state;
	for (int i = 0; i < 20; i++) {
		run_stops(&g);
		for (int k = 0; k < 200 && shared->handled < (uint32_t)i + 1; k++)
			pause_ms(5);
		assert_int_equal(shared->handled, i + 1);
	}
	assert_int_equal(g.failures, 0);
	end_target(pid);
}

/* Signals that arrive just as the stop does. */
static void test_signals_in_a_hurry(void **state)
{
	pid_t pid = start_target(TARGET_SPIN);
	struct stopping g = { .pid = pid, .rounds = 1 };

	(void)state;
	for (int i = 0; i < 50; i++) {
		kill(pid, SIGUSR1);
		run_stops(&g);
		for (int k = 0; k < 200 && shared->handled < (uint32_t)i + 1; k++)
			pause_ms(5);
		assert_int_equal(shared->handled, i + 1);
	}
	end_target(pid);
}

static void test_stopped_process_stays_stopped(void **state)
{
	pid_t pid = start_target(TARGET_SPIN);
	struct stopping g = { .pid = pid, .rounds = 10 };
	struct silt_target_status st;
	struct shared before;
	int status;

	(void)state;
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	run_stops(&g);
	if (g.failures)
		fail_msg("%s", g.text);
	pause_ms(50);
	assert_int_equal(silt_target_status(pid, &st, NULL), 0);
	assert_int_equal(st.state, 'T');
	before = *shared;
	pause_ms(50);
	assert_true(shared->spins[0] == before.spins[0]);
	kill(pid, SIGCONT);
	pause_ms(100);
	assert_true(shared->spins[0] != before.spins[0]);
	assert_false(any_thread_in(pid, "tT"));
	end_target(pid);
}

static void test_thread_storm(void **state)
{
	pid_t pid = start_target(TARGET_STORM);
	struct stopping g = { .pid = pid, .rounds = 200 };
	uint64_t before;

	(void)state;
	run_stops(&g);
	if (g.failures)
		fail_msg("%d of %d stops failed: %s", g.failures, g.rounds, g.text);
	before = shared->storm;
	pause_ms(200);
	assert_true(shared->storm > before);
	assert_false(any_thread_in(pid, "tT"));
	end_target(pid);
}

/* A child that ends while it is being stopped keeps its exit status for whoever waits for it. */
static void test_exit_status_is_left(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		struct stopping g = { .rounds = 3000 };
		int status;

		g.pid = start_target(TARGET_EXITS);
		run_stops(&g); /* fails at the latest when the child is gone */
		assert_int_equal(waitpid(g.pid, &status, 0), g.pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 17);
	}
}

/* kill -9 of the one who holds a process, at any moment: the process goes on. */
static void test_killed_while_holding(void **state)
{
	pid_t pid = start_target(TARGET_SPIN);

	(void)state;
	for (int i = 0; i < 150; i++) {
		pid_t holder = fork();
		struct shared before;

		if (holder == 0) {
			struct stopping g = { .pid = pid, .rounds = 1000000 };

			run_stops(&g);
			_exit(0);
		}
		usleep((useconds_t)(1000 + i * 61 % 9000));
		kill(holder, SIGKILL);
		waitpid(holder, NULL, 0);
		for (int k = 0; k < 100 && any_thread_in(pid, "tT"); k++)
			pause_ms(1);
		assert_false(any_thread_in(pid, "tT"));
		before = *shared;
		for (int k = 0; k < 500 && shared->spins[i % SPINNERS] == before.spins[i % SPINNERS]; k++)
			pause_ms(1);
		assert_true(shared->spins[i % SPINNERS] != before.spins[i % SPINNERS]);
	}
	end_target(pid);
}

static void test_nobody_there(void **state)
{
	struct silt_stop s;
	struct silt_error err;
	pid_t gone = fork();

	(void)state;
	if (gone == 0)
		_exit(0);
	pause_ms(20);
	assert_int_equal(silt_stop_seize(&s, gone, &err), SILT_E_NOT_FOUND); /* a zombie */
	waitpid(gone, NULL, 0);
	assert_int_equal(silt_stop_seize(&s, gone, &err), SILT_E_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_stands_still),
		cmocka_unit_test(test_signals_arrive_once),
		cmocka_unit_test(test_signals_in_a_hurry),
		cmocka_unit_test(test_stopped_process_stays_stopped),
		cmocka_unit_test(test_thread_storm),
		cmocka_unit_test(test_exit_status_is_left),
		cmocka_unit_test(test_killed_while_holding),
		cmocka_unit_test(test_nobody_there),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
