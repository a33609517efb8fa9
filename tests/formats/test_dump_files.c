/* SPDX-License-Identifier: MIT */
/* Dumps and the world: pipes, modes, full disks, directories that cannot be written, files that are no dumps. */
#include "samples.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

static char dir[] = "/tmp/silt-test-dump-XXXXXX";
static const struct sample_shape large = {5, 500, 500, 20, 500, 3, 50, 5, 300000, HEAP_GLIBC};

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) && !chdir(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return chdir("/") || rmdir(dir); /* fails when a test left something behind */
}

static unsigned files_in(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

static struct silt_snapshot *read_blocks(const char *path)
{
	struct silt_read_options o = {SILT_READ_BLOCKS, 0};
	struct silt_snapshot *s = NULL;
	struct silt_error e;

	if (silt_dump_read(path, &o, &s, &e))
		fail_msg("%s", e.msg);
	return s;
}

static void mode_and_replacing(void **state)
{
	struct silt_snapshot *s = sample_snapshot(1, &sample_small), *r;
	struct stat st;

	(void)state;
	assert_int_equal(close(open("a.silt", O_CREAT | O_WRONLY, 0666)), 0);
	assert_int_equal(silt_dump_write("a.silt", s, NULL, NULL), 0);
	assert_int_equal(stat("a.silt", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	r = read_blocks("a.silt");
	sample_assert_equal(s, r, true);
	silt_snapshot_destroy(r);
	assert_int_equal(files_in("."), 1);
	unlink("a.silt");
	silt_snapshot_destroy(s);
}

struct pipe_writer {
	int fd;
	const struct silt_snapshot *s;
	int ret;
};

static void *write_to_pipe(void *arg)
{
	struct pipe_writer *w = arg;

	w->ret = silt_dump_write_fd(w->fd, "pipe", w->s, NULL, NULL);
	close(w->fd);
	return NULL;
}

static void through_a_pipe(void **state)
{
	static const unsigned flags[] = {0, SILT_READ_BLOCKS, SILT_READ_BLOCKS | SILT_READ_SALVAGE};
	struct silt_snapshot *s = sample_snapshot(2, &large), *r = NULL;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct silt_read_options o = {flags[i], 0};
		struct silt_error e;
		pthread_t thread;
		char path[64];
		int fds[2];
		struct pipe_writer w;

		assert_int_equal(pipe(fds), 0);
		w = (struct pipe_writer){fds[1], s, -1};
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
		assert_int_equal(pthread_create(&thread, NULL, write_to_pipe, &w), 0);
		if (silt_dump_read(path, &o, &r, &e))
			fail_msg("%s", e.msg);
		pthread_join(thread, NULL);
		close(fds[0]);
		assert_int_equal(w.ret, 0);
		sample_assert_equal(s, r, flags[i] & SILT_READ_BLOCKS);
		silt_snapshot_destroy(r);
	}
	silt_snapshot_destroy(s);
}

/* A child with standard output and input joined: "-" on both sides, and a dump behind other bytes of a file. */
static void dash_is_standard_io(void **state)
{
	struct silt_snapshot *s = sample_snapshot(3, &sample_small), *r;
	int status;
	pid_t child;

	(void)state;
	child = fork();
	if (!child) {
		int fd = open("dash", O_RDWR | O_CREAT | O_TRUNC, 0600);
		struct silt_read_options o = {SILT_READ_BLOCKS, 0};

		if (fd < 0 || write(fd, "before", 6) != 6 || dup2(fd, 1) < 0 || dup2(fd, 0) < 0)
			_exit(1);
		if (silt_dump_write("-", s, NULL, NULL))
			_exit(2);
		lseek(0, 6, SEEK_SET);
		if (silt_dump_read("-", &o, &r, NULL))
			_exit(3);
		sample_assert_equal(s, r, true); /* fails by leaving main's status behind */
		_exit(0);
	}
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	unlink("dash");
	silt_snapshot_destroy(s);
}

static void full_device(void **state)
{
	struct silt_snapshot *s = sample_snapshot(1, &sample_small);
	struct silt_error e;

	(void)state;
	if (access("/dev/full", W_OK)) {
		print_message("skip: no /dev/full\n");
		skip();
	}
	assert_int_equal(silt_dump_write("/dev/full", s, NULL, &e), SILT_E_OS);
	assert_string_equal(e.msg, "/dev/full: cannot write: No space left on device");
	silt_snapshot_destroy(s);
}

static void special_files_stay(void **state)
{
	struct silt_snapshot *s = sample_snapshot(1, &sample_small);
	struct stat st;

	(void)state;
	assert_int_equal(silt_dump_write("/dev/null", s, NULL, NULL), 0);
	assert_int_equal(stat("/dev/null", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	silt_snapshot_destroy(s);
}

/* The new dump does not fit: the old one stays, nothing else is left. */
static void full_disk(void **state)
{
	struct silt_snapshot *small = sample_snapshot(1, &sample_small), *big = sample_snapshot(1, &large), *r;
	struct silt_error e;

	(void)state;
	assert_int_equal(mkdir("small", 0700), 0);
	if (mount("none", "small", "tmpfs", MS_NOSUID | MS_NODEV, "size=256k")) {
		print_message("skip: cannot mount a tmpfs (%s)\n", strerror(errno));
		rmdir("small");
		silt_snapshot_destroy(small);
		silt_snapshot_destroy(big);
		skip();
	}
	assert_int_equal(silt_dump_write("small/a.silt", small, NULL, NULL), 0);
	assert_int_equal(silt_dump_write("small/a.silt", big, NULL, &e), SILT_E_OS);
	assert_int_equal(e.errnum, ENOSPC);
	assert_non_null(strstr(e.msg, "small/a.silt"));
	assert_int_equal(files_in("small"), 1);
	r = read_blocks("small/a.silt");
	sample_assert_equal(small, r, true);
	silt_snapshot_destroy(r);
	assert_int_equal(umount("small"), 0);
	rmdir("small");
	silt_snapshot_destroy(small);
	silt_snapshot_destroy(big);
}

/* A file size limit instead of a full disk: needs no rights. */
static void file_size_limit(void **state)
{
	struct silt_snapshot *small = sample_snapshot(1, &sample_small), *big = sample_snapshot(1, &large), *r;
	struct rlimit old, limit;
	struct silt_error e;

	(void)state;
	assert_int_equal(silt_dump_write("a.silt", small, NULL, NULL), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = old;
	limit.rlim_cur = 100000;
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(silt_dump_write("a.silt", big, NULL, &e), SILT_E_OS);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(e.errnum, EFBIG);
	r = read_blocks("a.silt");
	sample_assert_equal(small, r, true);
	silt_snapshot_destroy(r);
	assert_int_equal(files_in("."), 1);
	unlink("a.silt");
	silt_snapshot_destroy(small);
	silt_snapshot_destroy(big);
}

static void unwritable_places(void **state)
{
	struct silt_snapshot *s = sample_snapshot(1, &sample_small);
	struct silt_error e;
	uid_t me = geteuid();

	(void)state;
	assert_int_equal(silt_dump_write("no/such/a.silt", s, NULL, &e), SILT_E_OS);
	assert_non_null(strstr(e.msg, "no/such/a.silt"));
	assert_int_equal(e.errnum, ENOENT);
	assert_int_equal(silt_dump_write(".", s, NULL, &e), SILT_E_OS);
	assert_int_equal(e.errnum, EISDIR);
	assert_int_equal(mkdir("closed", 0555), 0);
	if (!me) /* root may write anywhere: be nobody for a moment */
		assert_int_equal(seteuid(65534), 0);
	assert_int_equal(silt_dump_write("closed/a.silt", s, NULL, &e), SILT_E_OS);
	if (!me)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(e.errnum, EACCES);
	rmdir("closed");
	silt_snapshot_destroy(s);
}

static void expect_no_dump(const char *path, const void *data, size_t size, const char *what)
{
	unsigned flags;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(silt_write_all(fd, path, data, size, NULL), 0);
	close(fd);
	for (flags = 0; flags < 4; flags++) {
		struct silt_read_options o = {flags, 0};
		struct silt_snapshot *s;
		struct silt_error e;

		assert_int_equal(silt_dump_read(path, &o, &s, &e), SILT_E_BAD_DATA);
		if (!strstr(e.msg, what) || strncmp(e.msg, path, strlen(path)))
			fail_msg("'%s' instead of '%s'", e.msg, what);
	}
	unlink(path);
}

static void no_dumps(void **state)
{
	struct silt_snapshot *s;
	struct silt_error e;
	char zeros[5000] = {0};

	(void)state;
	expect_no_dump("empty", "", 0, "empty");
	expect_no_dump("text", "hello\n", 6, "not a silt dump");
	expect_no_dump("elf", "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 34, "not a silt dump");
	expect_no_dump("zeros", zeros, sizeof(zeros), "not a silt dump");
	assert_int_equal(silt_dump_read("missing", NULL, &s, &e), SILT_E_OS);
	assert_string_equal(e.msg, "missing: cannot open: No such file or directory");
	assert_int_equal(silt_dump_read(".", NULL, &s, &e), SILT_E_OS);
	assert_int_equal(e.errnum, EISDIR);
}

static void memory_limit(void **state)
{
	struct silt_snapshot *s = sample_snapshot(1, &large), *r = NULL;
	struct silt_read_options o = {SILT_READ_BLOCKS, 0};
	struct silt_error e;
	uint64_t limit;
	unsigned refused = 0;

	(void)state;
	assert_int_equal(silt_dump_write("a.silt", s, NULL, NULL), 0);
	for (limit = 1; limit < 1u << 24; limit = limit * 3 / 2 + 1) {
		o.max_memory = limit;
		if (silt_dump_read("a.silt", &o, &r, &e)) {
			assert_int_equal(e.code, SILT_E_LIMIT);
			refused++;
			continue;
		}
		assert_true(limit > 300000 * 20);
		sample_assert_equal(s, r, true);
		silt_snapshot_destroy(r);
	}
	assert_true(refused > 10);
	o.flags = 0; /* without its blocks it fits a small one */
	o.max_memory = 1u << 20;
	assert_int_equal(silt_dump_read("a.silt", &o, &r, &e), 0);
	silt_snapshot_destroy(r);
	unlink("a.silt");
	silt_snapshot_destroy(s);
}

/* Input without end, no dump at all: refused after a bounded amount. */
static void endless_input(void **state)
{
	struct silt_read_options o = {0, 0};
	struct silt_snapshot *r;
	struct silt_error e;

	(void)state;
	assert_int_equal(silt_dump_read("/dev/zero", &o, &r, &e), SILT_E_BAD_DATA);
	assert_non_null(strstr(e.msg, "not a silt dump"));
	o.flags = SILT_READ_SALVAGE;
	o.max_memory = 8u << 20;
	assert_int_equal(silt_dump_read("/dev/zero", &o, &r, &e), SILT_E_LIMIT);
}

/* The reader goes away in the middle: an error, no signal death when SIGPIPE is ignored, no hang. */
static void closed_pipe(void **state)
{
	struct silt_snapshot *s = sample_snapshot(2, &large);
	struct silt_error e;
	char byte[100];
	int fds[2];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(fds[0], byte, 1), 1);
	close(fds[0]);
	assert_int_equal(silt_dump_write_fd(fds[1], "pipe", s, NULL, &e), SILT_E_OS);
	assert_int_equal(e.errnum, EPIPE);
	close(fds[1]);
	silt_snapshot_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mode_and_replacing),  cmocka_unit_test(through_a_pipe),
		cmocka_unit_test(dash_is_standard_io), cmocka_unit_test(full_device),
		cmocka_unit_test(special_files_stay),  cmocka_unit_test(full_disk),
		cmocka_unit_test(file_size_limit),     cmocka_unit_test(unwritable_places),
		cmocka_unit_test(no_dumps),	       cmocka_unit_test(memory_limit),
		cmocka_unit_test(endless_input),       cmocka_unit_test(closed_pipe),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
