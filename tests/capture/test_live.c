/* SPDX-License-Identifier: MIT */
/* The database of a running process: found, copied while it stands still, its epoch bumped; with and without a descriptor. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "capture/broker.h"
#include "capture/capture.h"
#include "tests/capture/db_builder.h"

#define SLOT 2u
#define WINDOW (64ull << 20)
#define FAR MODEL_CONTEXTS /* a context so far from number 2 that a copy of a running process tears the two apart */

static struct model model;
static struct silt_run *run;
static pid_t target;

/* Puts the model's database into the run's file; the epoch is the target's to count. */
static void fill_slot(void)
{
	struct built_db b;
	uint8_t *to;

	model_create(&model, 77, 2000);
	db_build(&model, SLOT, &b);
	to = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, silt_run_fd(run),
		  (off_t)(SILT_DB_SLOT_OFFSET + SLOT * SILT_DB_SLOT_SIZE));
	assert_true(to != MAP_FAILED && b.db->used <= WINDOW);
	memcpy(to, b.bytes, b.db->used);
	munmap(to, WINDOW);
	db_destroy(&b);
}

/* Counts two contexts of the database in turn: in any consistent picture they differ by one at most. */
static void run_target(void)
{
	struct silt_db_run *page = mmap(NULL, SILT_DB_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, silt_run_fd(run), 0);
	struct silt_db *db = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, silt_run_fd(run),
				  (off_t)(SILT_DB_SLOT_OFFSET + SLOT * SILT_DB_SLOT_SIZE));
	volatile struct silt_db_context *c;

	close(silt_run_fd(run));
	if (page == MAP_FAILED || db == MAP_FAILED)
		_exit(1);
	db->pid = (uint32_t)getpid();
	page->slots[SLOT].pid = (uint32_t)getpid();
	__atomic_store_n(&page->slots[SLOT].state, SILT_SLOT_ACTIVE, __ATOMIC_RELEASE);
	c = (struct silt_db_context *)((uint8_t *)db + db->context_segs[0] * SILT_DB_UNIT);
	c[2].alloc_count = c[FAR].alloc_count = 1ull << 40;
	for (;;) {
		c[2].alloc_count++;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		c[FAR].alloc_count++;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
}

static int set_up(void **state)
{
	const struct silt_db_options options = { .max_depth = 64, .db_limit = 64 << 20 };
	struct timespec t = { 0, 100000000 };
	struct silt_error err;

	(void)state;
	if (silt_run_create(&options, &run, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	fill_slot();
	target = fork();
	if (target == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_target();
	}
	nanosleep(&t, NULL);
	return target > 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	kill(target, SIGKILL);
	waitpid(target, NULL, 0);
	silt_run_destroy(run);
	model_destroy(&model);
	return 0;
}

static uint32_t epoch_now(void)
{
	uint32_t epoch;

	assert_int_equal(silt_pread_full(silt_run_fd(run), &epoch, sizeof(epoch),
					 SILT_DB_SLOT_OFFSET + SLOT * SILT_DB_SLOT_SIZE + offsetof(struct silt_db, epoch)),
			 sizeof(epoch));
	return epoch;
}

/* The distance of the two contexts that are counted in turn. What the threads' caches hold of them is constant. */
static uint64_t pair_distance(const struct silt_copy *copy)
{
	struct silt_snapshot *s = NULL;
	uint64_t values[2] = { 0, 0 };
	int n = 0;

	assert_int_equal(silt_copy_decode(copy, silt_run_page(run), false, &s, NULL), 0);
	for (uint32_t i = 0; i < s->context_count && n < 2; i++)
		if (s->contexts[i].alloc_count >= 1ull << 40)
			values[n++] = s->contexts[i].alloc_count;
	assert_int_equal(n, 2);
	silt_snapshot_destroy(s);
	return values[0] - values[1];
}

static void test_found(void **state)
{
	struct silt_error err;
	uint32_t slot;
	int fd;

	(void)state;
	if (silt_target_find_db(target, &fd, &slot, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(slot, SLOT);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(silt_target_find_db(getppid(), &fd, &slot, &err), SILT_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "silt run"));
	assert_int_equal(silt_target_find_db(999999999, &fd, &slot, &err), SILT_E_NOT_FOUND);
}

static void capture_rounds(int fd)
{
	uint64_t base = 0;

	for (int i = 0; i < 30; i++) {
		struct silt_stop_report report = { 0 };
		uint32_t epoch = epoch_now();
		struct silt_error err;
		struct silt_copy *copy;
		uint64_t distance;

		if (silt_copy_live(fd, SLOT, target, &copy, &report, &err))
			fail_msg("%s", err.msg);
		assert_true(report.stopped);
		assert_true(report.pause_ns > 0 && report.pause_ns < 5000000000ull);
		assert_int_equal(report.threads, 1);
		assert_int_equal(epoch_now(), epoch + 1);
		distance = pair_distance(copy);
		if (!i)
			base = distance;
		assert_true(distance - base + 1 <= 2); /* -1, 0 or 1 */
		silt_copy_destroy(copy);
	}
}

static void test_consistent(void **state)
{
	(void)state;
	capture_rounds(silt_run_fd(run));
}

/* Without the memfd the process's own memory is read. */
static void test_through_the_process(void **state)
{
	(void)state;
	capture_rounds(-1);
}

static void test_process_details(void **state)
{
	struct silt_snapshot *s;
	struct silt_stop_report report;
	struct silt_error err;
	bool own = false;

	(void)state;
	if (silt_capture_process(target, &s, &report, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(s->process.pid, target);
	assert_non_null(strstr(s->process.exe, "test_live"));
	assert_true(s->region_count > 5);
	assert_int_equal(s->blocks.count, model.block_count);
	for (uint32_t i = 0; i < s->module_count; i++) {
		uint64_t here = (uint64_t)(uintptr_t)&test_process_details;

		if (!strstr(s->modules[i].path, "test_live") || s->modules[i].unloaded)
			continue;
		for (uint32_t r = 0; r < s->modules[i].range_count; r++) {
			const struct silt_range *range = &s->ranges[s->modules[i].range_first + r];

			own |= here >= range->start && here < range->end;
		}
	}
	assert_true(own); /* the child is a fork: our code lies there at the same address */
	silt_snapshot_destroy(s);
}

static void test_untracked(void **state)
{
	struct silt_snapshot *s;
	struct silt_error err;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		execl("/bin/sleep", "sleep", "100", (char *)NULL);
		_exit(1);
	}
	nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
	if (silt_capture_process(pid, &s, NULL, &err))
		fail_msg("%s", err.msg);
	/* sleep is a program of glibc: its heap is walked. */
	assert_string_equal(s->process.method, SILT_METHOD_WALK);
	assert_true(s->blocks.count > 0 && s->has_blocks && s->total_count == s->blocks.count);
	assert_true(s->module_count > 1 && s->region_count > 5 && s->thread_count == 1);
	assert_true(s->modules[0].build_id_len > 0);
	assert_int_equal(s->note_count, 1);
	assert_non_null(strstr(s->notes[0], "walking the heap of glibc"));
	assert_non_null(strstr(s->notes[0], "not tracked"));
	silt_snapshot_destroy(s);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(silt_capture_process(pid, &s, NULL, &err), SILT_E_NOT_FOUND);
}

/* The launcher's socket: a descriptor goes over, a failure goes over, and silence does not last. */
static void test_broker(void **state)
{
	struct silt_error err = { 0 };
	char text[8] = "";
	int listen_fd, fd;
	pid_t server;

	(void)state;
	assert_int_equal(silt_broker_listen("silt-test-broker", &listen_fd, &err), 0);
	server = fork();
	if (server == 0) {
		for (int served = 0; served < 2;) {
			struct silt_error refusal;
			pid_t pid;
			int conn, file;

			if (silt_broker_accept(listen_fd, &conn, &pid, NULL))
				continue;
			if (served++ == 0) {
				file = memfd_create("x", 0);
				if (pid != 4242 || write(file, "dump", 4) != 4)
					_exit(1);
				silt_broker_answer(conn, file, NULL);
			} else {
				silt_error_set(&refusal, SILT_E_LIMIT, "no more of it");
				silt_broker_answer(conn, -1, &refusal);
			}
			close(conn);
		}
		_exit(0);
	}
	close(listen_fd);
	if (silt_broker_request("silt-test-broker", 4242, &fd, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
	assert_string_equal(text, "dump");
	close(fd);
	assert_int_equal(silt_broker_request("silt-test-broker", 4242, &fd, &err), SILT_E_LIMIT);
	assert_string_equal(err.msg, "no more of it");
	waitpid(server, NULL, 0);
	assert_int_equal(silt_broker_request("silt-test-broker", 4242, &fd, &err), SILT_E_OS);
}

static void test_recycle(void **state)
{
	uint64_t used;

	(void)state;
	assert_int_equal(silt_run_recycle(run, SLOT + 1, NULL), 0);
	assert_int_equal(silt_run_page(run)->slots[SLOT + 1].state, SILT_SLOT_FREE);
	kill(target, SIGKILL);
	assert_int_equal(silt_run_recycle(run, SLOT, NULL), 0);
	assert_int_equal(silt_pread_full(silt_run_fd(run), &used, sizeof(used),
					 SILT_DB_SLOT_OFFSET + SLOT * SILT_DB_SLOT_SIZE + offsetof(struct silt_db, used)),
			 sizeof(used));
	assert_int_equal(used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),		cmocka_unit_test(test_consistent),
		cmocka_unit_test(test_through_the_process), cmocka_unit_test(test_process_details),
		cmocka_unit_test(test_untracked),	cmocka_unit_test(test_broker),
		cmocka_unit_test(test_recycle), /* ends the target: last */
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
