/* SPDX-License-Identifier: MIT */
/* Whole reads and writes, and files that appear complete or not at all: see io.h. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define IO_STEP (1u << 30) /* read(2) and write(2) move less than 2 GiB at once */
#define TEMP_TRIES 16      /* a clash of 64 random bits is no accident, so do not try for ever */

/* After a failed call: true when it should be tried again. A descriptor that somebody made non-blocking (a terminal or
 * pipe shared with another program) is waited for. */
static bool try_again(int fd, short events)
{
	struct pollfd p = {fd, events, 0};

	if (errno == EINTR)
		return true;
	if (errno != EAGAIN)
		return false;
	return poll(&p, 1, -1) > 0 || errno == EINTR;
}

ssize_t silt_read_full(int fd, void *buffer, size_t size)
{
	size_t done = 0;

	while (done < size) {
		size_t step = size - done < IO_STEP ? size - done : IO_STEP;
		ssize_t n = read(fd, (char *)buffer + done, step);

		if (n < 0 && try_again(fd, POLLIN))
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t silt_pread_full(int fd, void *buffer, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		size_t step = size - done < IO_STEP ? size - done : IO_STEP;
		ssize_t n = pread(fd, (char *)buffer + done, step, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int silt_read_all_fd(int fd, const char *name, uint64_t limit, uint8_t **ret_data, size_t *ret_size,
		     struct silt_error *err)
{
	uint8_t *data = NULL;
	size_t size = 0, cap = 0;

	for (;;) {
		ssize_t n;

		if (cap - size < 2) {
			size_t bigger = cap ? cap * 2 : 65536;
			uint8_t *p = realloc(data, bigger);

			if (!p) {
				free(data);
				return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory after %zu bytes", name,
						      size);
			}
			data = p;
			cap = bigger;
		}
		n = silt_read_full(fd, data + size, cap - size - 1);
		if (n < 0) {
			int e = errno;

			free(data);
			return silt_error_os(err, e, "%s: cannot read", name);
		}
		if (!n)
			break;
		size += (size_t)n;
		if (size > limit) {
			free(data);
			return silt_error_set(err, SILT_E_LIMIT, "%s: larger than the limit of %llu bytes", name,
					      (unsigned long long)limit);
		}
	}
	data[size] = '\0';
	*ret_data = data;
	*ret_size = size;
	return 0;
}

int silt_read_file(const char *path, uint64_t limit, uint8_t **ret_data, size_t *ret_size, struct silt_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return silt_error_os(err, errno, "%s: cannot open", path);
	ret = silt_read_all_fd(fd, path, limit, ret_data, ret_size, err);
	close(fd);
	return ret;
}

int silt_write_all(int fd, const char *name, const void *data, size_t size, struct silt_error *err)
{
	size_t done = 0;

	while (done < size) {
		size_t step = size - done < IO_STEP ? size - done : IO_STEP;
		ssize_t n = write(fd, (const char *)data + done, step);

		if (n < 0 && try_again(fd, POLLOUT))
			continue;
		if (n < 0)
			return silt_error_os(err, errno, "%s: cannot write", name);
		done += (size_t)n;
	}
	return 0;
}

/* The directory part of path, with its slash: 0 bytes for a bare name. */
static size_t dir_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Fresh hidden name in target's directory. NULL when out of memory. */
static char *temp_name(const char *target)
{
	size_t dir = dir_length(target);
	const char *base = target + dir;
	uint64_t random = 0;
	char *name;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)&random;
	/* %.200s: prefix and suffix must fit NAME_MAX (255) too */
	if (asprintf(&name, "%.*s.%.200s.%016llx.tmp", (int)dir, target, base, (unsigned long long)random) < 0)
		return NULL;
	return name;
}

static int temp_open_named(struct silt_temp *t)
{
	int tries;

	for (tries = 0; tries < TEMP_TRIES; tries++) {
		t->path = temp_name(t->target);
		if (!t->path) {
			errno = ENOMEM;
			return -1;
		}
		t->fd = open(t->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (t->fd >= 0)
			return 0;
		free(t->path);
		t->path = NULL;
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

static int open_dir(const char *target, int flags, mode_t mode)
{
	size_t len = dir_length(target);
	char *dir = len ? strndup(target, len) : strdup(".");
	int fd;

	if (!dir) {
		errno = ENOMEM;
		return -1;
	}
	fd = open(dir, flags | O_CLOEXEC, mode);
	free(dir);
	return fd;
}

int silt_temp_create(const char *target, struct silt_temp *ret, struct silt_error *err)
{
	struct silt_temp t = {-1, NULL, NULL};

	/* A symbolic link stays one: the file it leads to is replaced. */
	t.target = realpath(target, NULL);
	if (!t.target)
		t.target = strdup(target);
	if (!t.target)
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", target);
	if (strlen(t.target) == dir_length(t.target)) {
		free(t.target);
		return silt_error_os(err, EISDIR, "%s: cannot create", target);
	}
	/* Without /proc a file that was opened nameless cannot be given a name later. */
	if (!access("/proc/self/fd", X_OK))
		t.fd = open_dir(t.target, O_TMPFILE | O_RDWR, 0600);
	if (t.fd < 0 && temp_open_named(&t)) {
		int e = errno;

		free(t.target);
		return silt_error_os(err, e, "%s: cannot create a file in its directory", target);
	}
	*ret = t;
	return 0;
}

/* Gives an unnamed file a temporary name, so that it can be renamed over the target. */
static int temp_link(struct silt_temp *t)
{
	char from[64];
	int tries;

	snprintf(from, sizeof(from), "/proc/self/fd/%d", t->fd);
	for (tries = 0; tries < TEMP_TRIES; tries++) {
		char *name = temp_name(t->target);

		if (!name) {
			errno = ENOMEM;
			return -1;
		}
		if (!linkat(AT_FDCWD, from, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) {
			t->path = name;
			return 0;
		}
		free(name);
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

int silt_temp_commit(struct silt_temp *t, struct silt_error *err)
{
	const char *what = NULL;
	int e, dir;

	if (fsync(t->fd) && errno != EINVAL && errno != EROFS) /* EINVAL: file systems without fsync */
		what = "cannot sync";
	else if (!t->path && temp_link(t))
		what = "cannot give the new file a name";
	else if (rename(t->path, t->target))
		what = "cannot rename the new file";
	if (what) {
		e = errno;
		silt_error_os(err, e, "%s: %s", t->target, what);
		silt_temp_discard(t);
		return SILT_E_OS;
	}
	dir = open_dir(t->target, O_RDONLY | O_DIRECTORY, 0);
	if (dir >= 0) {
		fsync(dir); /* best effort: the file itself is safe */
		close(dir);
	}
	free(t->path);
	t->path = NULL;
	silt_temp_discard(t);
	return 0;
}

void silt_temp_discard(struct silt_temp *t)
{
	int saved = errno;

	if (t->fd >= 0)
		close(t->fd);
	if (t->path)
		unlink(t->path);
	free(t->path);
	free(t->target);
	t->fd = -1;
	t->path = t->target = NULL;
	errno = saved;
}
