/* SPDX-License-Identifier: MIT */
/* Making, measuring, trimming and clearing the directories of the cache. */
#include "symbols/cache_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/vec.h"

enum {
	MAX_DEPTH = 3,       /* answers/FILE, debug/.build-id/xx/FILE */
	STALE_SECONDS = 3600, /* a temporary file this old has nobody who writes it */
	MAX_ENTRIES = 1 << 20,
};

/* mkdir -p, mode 0700. */
static int make_directories(char *path)
{
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) && errno != EEXIST && errno != EROFS && errno != EACCES)
			return -1;
		*p = '/';
	}
	return mkdir(path, 0700) && errno != EEXIST ? -1 : 0;
}

int silt_cache_dir_open(const char *root, const char *sub, bool create, struct silt_error *err)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", root, sub) >= PATH_MAX)
		return silt_error_set(err, SILT_E_INVAL, "%s: the name of the cache directory is too long", root);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT && create && !make_directories(path))
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		int e = errno;

		silt_error_os(err, e, "cannot open the cache directory %s", path);
		return e == ENOENT ? SILT_E_NOT_FOUND : SILT_E_OS;
	}
	if (fstat(fd, &st) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH)) {
		close(fd);
		return silt_error_set(err, SILT_E_INVAL, "%s: the cache directory is another user's, or others may write to it: it is not "
				      "used", path);
	}
	return fd;
}

/* FNV-1a with two starts. The whole key stands in the file too: a collision costs an answer, never makes a wrong one. */
void silt_cache_name(const void *key, size_t size, char ret[33])
{
	uint64_t a = 0xcbf29ce484222325ull, b = 0x84222325cbf29ce4ull;
	const uint8_t *p = key;

	for (size_t i = 0; i < size; i++) {
		a = (a ^ p[i]) * 0x100000001b3ull;
		b = (b ^ p[i] ^ 0x5a) * 0x100000001b3ull;
		b ^= b >> 29;
	}
	snprintf(ret, 33, "%016llx%016llx", (unsigned long long)a, (unsigned long long)b);
}

/* ---- walking ---- */

struct found {
	char *path; /* below the directory */
	uint64_t size;
	struct timespec used;
	bool temporary;
};
typedef SILT_VEC(struct found) found_list;

static bool is_temporary(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && strcmp(name + n - 4, ".tmp") == 0;
}

static void add_file(found_list *list, const char *prefix, const char *name, const struct stat *st)
{
	struct found f = {.size = (uint64_t)st->st_blocks * 512, .used = st->st_mtim, .temporary = is_temporary(name)};

	if (list->count >= MAX_ENTRIES || asprintf(&f.path, "%s%s", prefix, name) < 0)
		return;
	/* Also counts what a file takes beyond its bytes. */
	if (f.size < (uint64_t)st->st_size)
		f.size = (uint64_t)st->st_size;
	if (!silt_vec_push(list, f))
		free(f.path);
}

/* Files below dir, links not followed; directories that are not ours are left alone. */
static void walk(int dir, const char *prefix, unsigned depth, found_list *list)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *e;

	if (!d) {
		if (copy >= 0)
			close(copy);
		return;
	}
	while ((e = readdir(d))) {
		char below[PATH_MAX];
		struct stat st;
		int fd;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || fstatat(copy, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (S_ISREG(st.st_mode)) {
			add_file(list, prefix, e->d_name, &st);
		} else if (S_ISDIR(st.st_mode) && depth + 1 < MAX_DEPTH &&
			   snprintf(below, sizeof(below), "%s%s/", prefix, e->d_name) < PATH_MAX) {
			fd = openat(copy, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
			if (fd < 0)
				continue;
			walk(fd, below, depth + 1, list);
			close(fd);
		}
	}
	closedir(d);
}

static void free_list(found_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].path);
	silt_vec_free(list);
}

struct silt_cache_usage silt_cache_dir_usage(int dir)
{
	struct silt_cache_usage usage = {0};
	found_list list = {0};

	walk(dir, "", 0, &list);
	for (size_t i = 0; i < list.count; i++)
		usage.bytes += list.items[i].size;
	usage.files = list.count;
	free_list(&list);
	return usage;
}

static int compare_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct found *)a)->used, *y = &((const struct found *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

void silt_cache_dir_trim(int dir, uint64_t max_bytes, uint64_t max_files)
{
	found_list list = {0};
	uint64_t bytes = 0, files;
	bool above;

	walk(dir, "", 0, &list);
	files = list.count;
	for (size_t i = 0; i < list.count; i++)
		bytes += list.items[i].size;
	above = bytes > max_bytes || files > max_files;
	/* Somewhat below the limits, so that not every write has to do this. */
	if (above && list.count)
		qsort(list.items, list.count, sizeof(*list.items), compare_use);
	for (size_t i = 0; i < list.count; i++) {
		const struct found *f = &list.items[i];
		bool stale = f->temporary && time(NULL) - f->used.tv_sec > STALE_SECONDS;

		if (!stale && (!above || f->temporary || (bytes <= max_bytes - max_bytes / 8 && files <= max_files - max_files / 8)))
			continue;
		/* Somebody who has it open keeps it. */
		if (unlinkat(dir, f->path, 0) == 0 || errno == ENOENT) {
			bytes -= f->size;
			files--;
		}
	}
	free_list(&list);
}

/* Removes the files of one directory below root, and what is empty then. */
static int64_t clear_directory(const char *root, const char *sub, struct silt_error *err)
{
	found_list list = {0};
	int64_t freed = 0;
	int dir = silt_cache_dir_open(root, sub, false, err);

	if (dir < 0)
		return dir == SILT_E_NOT_FOUND ? 0 : dir;
	walk(dir, "", 0, &list);
	for (size_t i = 0; i < list.count && freed >= 0; i++) {
		char *path = list.items[i].path, *slash;

		if (unlinkat(dir, path, 0) && errno != ENOENT) {
			freed = silt_error_os(err, errno, "cannot remove %s/%s/%s", root, sub, path);
			break;
		}
		freed += (int64_t)list.items[i].size;
		while ((slash = strrchr(path, '/'))) {
			*slash = '\0';
			unlinkat(dir, path, AT_REMOVEDIR);
		}
	}
	free_list(&list);
	close(dir);
	return freed;
}

int64_t silt_cache_clear(const char *root, struct silt_error *err)
{
	static const char *const subs[] = {SILT_CACHE_ANSWERS, SILT_CACHE_STORE, SILT_CACHE_MISSES};
	int64_t sum = 0;

	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++) {
		int64_t freed = clear_directory(root, subs[i], err);

		if (freed < 0)
			return freed;
		sum += freed;
	}
	return sum;
}
