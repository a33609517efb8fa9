/* SPDX-License-Identifier: MIT */
/* Files: whole reads and writes, and files that appear complete or not at all. */
#include "cmocka_all.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

static char dir[] = "/tmp/silt-test-io-XXXXXX";

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

static unsigned files_here(void)
{
	DIR *d = opendir(".");
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d)))
		n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
	closedir(d);
	return n;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_int_equal(silt_write_all(fd, path, text, strlen(text), NULL), 0);
	close(fd);
}

static void expect(const char *path, const char *text)
{
	uint8_t *data;
	size_t size;

	assert_int_equal(silt_read_file(path, 1 << 20, &data, &size, NULL), 0);
	assert_int_equal(size, strlen(text));
	assert_string_equal((char *)data, text); /* terminated, too */
	free(data);
}

static void commit_replaces(void **state)
{
	struct silt_temp t;
	struct stat st;

	(void)state;
	put("f", "old");
	assert_int_equal(silt_temp_create("f", &t, NULL), 0);
	assert_int_equal(silt_write_all(t.fd, "f", "new", 3, NULL), 0);
	expect("f", "old");
	assert_int_equal(silt_temp_commit(&t, NULL), 0);
	expect("f", "new");
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(files_here(), 1);
	silt_temp_discard(&t);
	expect("f", "new");
	unlink("f");
}

static void discard_leaves_the_old_file(void **state)
{
	struct silt_temp t;

	(void)state;
	put("f", "old");
	assert_int_equal(silt_temp_create("f", &t, NULL), 0);
	silt_write_all(t.fd, "f", "half", 4, NULL);
	silt_temp_discard(&t);
	expect("f", "old");
	assert_int_equal(files_here(), 1);
	unlink("f");
}

static void symbolic_links_stay(void **state)
{
	struct silt_temp t;
	struct stat st;

	(void)state;
	put("real", "old");
	assert_int_equal(symlink("real", "link"), 0);
	assert_int_equal(silt_temp_create("link", &t, NULL), 0);
	silt_write_all(t.fd, "link", "new", 3, NULL);
	assert_int_equal(silt_temp_commit(&t, NULL), 0);
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	expect("real", "new");
	unlink("link");
	unlink("real");
}

static void errors_say_which_file(void **state)
{
	struct silt_error e;
	struct silt_temp t;
	uint8_t *data;
	size_t size;

	(void)state;
	assert_int_equal(silt_temp_create("no/such/dir/f", &t, &e), SILT_E_OS);
	assert_non_null(strstr(e.msg, "no/such/dir/f"));
	assert_int_equal(e.errnum, ENOENT);
	assert_int_equal(silt_temp_create("somewhere/", &t, &e), SILT_E_OS);
	assert_int_equal(silt_read_file("missing", 10, &data, &size, &e), SILT_E_OS);
	assert_string_equal(e.msg, "missing: cannot open: No such file or directory");
	put("f", "0123456789");
	assert_int_equal(silt_read_file("f", 9, &data, &size, &e), SILT_E_LIMIT);
	unlink("f");
}

static void long_names_fit(void **state)
{
	struct silt_temp t;
	char name[256];

	(void)state;
	memset(name, 'n', 255);
	name[255] = '\0';
	assert_int_equal(silt_temp_create(name, &t, NULL), 0);
	assert_int_equal(silt_temp_commit(&t, NULL), 0);
	assert_int_equal(unlink(name), 0);
}

static void pipes_are_read_whole(void **state)
{
	enum { SIZE = 300000 };
	int fds[2], status;
	uint8_t *data;
	size_t size, i;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (!child) {
		for (i = 0; i < SIZE; i += 1000) {
			char block[1000];

			memset(block, (int)(i / 1000), sizeof(block));
			if (silt_write_all(fds[1], "pipe", block, sizeof(block), NULL))
				_exit(1);
		}
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(silt_read_all_fd(fds[0], "pipe", 1 << 20, &data, &size, NULL), 0);
	assert_int_equal(size, SIZE);
	for (i = 0; i < SIZE; i++)
		assert_int_equal(data[i], (uint8_t)(i / 1000));
	free(data);
	close(fds[0]);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

/* Both ends non-blocking, the writer far ahead of the reader. */
static void non_blocking_is_waited_for(void **state)
{
	enum { SIZE = 500000 };
	int fds[2], status;
	char *data = calloc(1, SIZE);
	pid_t child;

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	child = fork();
	if (!child) {
		usleep(50000); /* let the reader run dry first */
		_exit(silt_write_all(fds[1], "pipe", data, SIZE, NULL) ? 1 : 0);
	}
	assert_int_equal(silt_read_full(fds[0], data, 1000), 1000);
	usleep(100000); /* let the writer fill the pipe */
	assert_int_equal(silt_read_full(fds[0], data, SIZE - 1000), SIZE - 1000);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	free(data);
	close(fds[0]);
	close(fds[1]);
}

/* Where there is no /proc a file cannot get its name late: it has a temporary one from the start. */
static void without_proc(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (geteuid()) {
		print_message("skip: chroot needs root\n");
		skip();
	}
	put("f", "old");
	child = fork();
	if (!child) {
		struct silt_temp t;

		if (chroot(".") || silt_temp_create("/f", &t, NULL) || files_here() != 2)
			_exit(1);
		if (silt_write_all(t.fd, "f", "half", 4, NULL))
			_exit(2);
		silt_temp_discard(&t);
		if (files_here() != 1 || silt_temp_create("/f", &t, NULL) || silt_write_all(t.fd, "f", "new", 3, NULL))
			_exit(3);
		_exit(silt_temp_commit(&t, NULL) || files_here() != 1 ? 4 : 0);
	}
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	expect("f", "new");
	unlink("f");
}

static void full_device(void **state)
{
	int fd = open("/dev/full", O_WRONLY);
	struct silt_error e;

	(void)state;
	if (fd < 0) {
		print_message("skip: no /dev/full\n");
		skip();
	}
	assert_int_equal(silt_write_all(fd, "full", "x", 1, &e), SILT_E_OS);
	assert_int_equal(e.errnum, ENOSPC);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commit_replaces),	 cmocka_unit_test(discard_leaves_the_old_file),
		cmocka_unit_test(symbolic_links_stay),	 cmocka_unit_test(errors_say_which_file),
		cmocka_unit_test(long_names_fit),	 cmocka_unit_test(pipes_are_read_whole),
		cmocka_unit_test(without_proc),		 cmocka_unit_test(non_blocking_is_waited_for),
		cmocka_unit_test(full_device),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
