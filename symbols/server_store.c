/* SPDX-License-Identifier: MIT */
/* Files from servers and remembered misses, on disk. */
#include "symbols/server_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/limits.h"
#include "symbols/cache_dir.h"

static const char fetching[] = "fetch-";

enum {
	MAX_ID = 64,
	STALE_SECONDS = 86400, /* longer than a download takes; its process is gone */
	MISS_FILES_BYTES = 64 << 20,
	CLOCK_SKEW = 60, /* a miss may be so many seconds in the future: of another machine, on a shared file system */
};

static void hexadecimal(const uint8_t *id, size_t id_len, char ret[2 * MAX_ID + 1])
{
	for (size_t i = 0; i < id_len; i++)
		snprintf(ret + 2 * i, 3, "%02x", id[i]);
}

bool silt_store_path(const char *store, const uint8_t *id, size_t id_len, char ret[PATH_MAX])
{
	char hex[2 * MAX_ID + 1] = "";

	if (id_len < 2 || id_len > MAX_ID)
		return false;
	hexadecimal(id, id_len, hex);
	return snprintf(ret, PATH_MAX, "%s/.build-id/%.2s/%s.debug", store, hex, hex + 2) < PATH_MAX;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)at;
	if (type == FTW_DP)
		rmdir(path);
	else
		unlink(path);
	return 0;
}

void silt_store_close(const char *dir)
{
	nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A run that was killed could not remove its directory. */
static void remove_stale(const char *store)
{
	DIR *dir = opendir(store);
	struct dirent *e;
	struct stat st;

	while (dir && (e = readdir(dir))) {
		char path[PATH_MAX];

		if (strncmp(e->d_name, fetching, strlen(fetching)) != 0 || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || time(NULL) - st.st_mtime < STALE_SECONDS)
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", store, e->d_name) < PATH_MAX)
			silt_store_close(path);
	}
	if (dir)
		closedir(dir);
}

int silt_store_open(const char *store, char ret_dir[PATH_MAX], struct silt_error *err)
{
	int fd = silt_cache_dir_open(store, ".build-id", true, err);

	if (fd < 0)
		return fd;
	close(fd);
	remove_stale(store);
	if (snprintf(ret_dir, PATH_MAX, "%s/%sXXXXXX", store, fetching) >= PATH_MAX)
		return silt_error_set(err, SILT_E_INVAL, "%s: the name of the directory for debug files is too long", store);
	if (!mkdtemp(ret_dir))
		return silt_error_os(err, errno, "cannot make a directory in %s", store);
	return SILT_OK;
}

/* What is in the store after a crash of the machine is complete. */
static int make_private_and_durable(const char *file, struct silt_error *err)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = SILT_OK;

	if (fd < 0 || fchmod(fd, 0600) || fsync(fd))
		r = silt_error_os(err, errno, "cannot keep %s", file);
	if (fd >= 0)
		close(fd);
	return r;
}

int silt_store_keep(const char *store, const char *file, const uint8_t *id, size_t id_len, struct silt_error *err)
{
	char path[PATH_MAX], *slash;
	int r;

	if (!silt_store_path(store, id, id_len, path))
		return silt_error_set(err, SILT_E_INVAL, "%s: the name of the directory for debug files is too long", store);
	r = make_private_and_durable(file, err);
	if (r)
		return r;
	slash = strrchr(path, '/');
	*slash = '\0';
	if (mkdir(path, 0700) && errno != EEXIST)
		return silt_error_os(err, errno, "cannot make %s", path);
	*slash = '/';
	return rename(file, path) ? silt_error_os(err, errno, "cannot keep %s", path) : SILT_OK;
}

/* ---- misses ---- */

static void miss_name(const char *url, const uint8_t *id, size_t id_len, char ret[33])
{
	char key[4096 + 2 * MAX_ID], hex[2 * MAX_ID + 1] = "";
	int n;

	hexadecimal(id, id_len, hex);
	n = snprintf(key, sizeof(key), "%s %.*s", hex, 4000, url);
	silt_cache_name(key, (size_t)n, ret);
}

void silt_miss_remember(const char *cache_dir, const char *url, const uint8_t *id, size_t id_len, const char *why)
{
	char name[33], temporary[64];
	int dir = cache_dir ? silt_cache_dir_open(cache_dir, SILT_CACHE_MISSES, true, NULL) : -1, fd;

	if (dir < 0)
		return;
	miss_name(url, id, id_len, name);
	snprintf(temporary, sizeof(temporary), "%s-%d.tmp", name, (int)getpid());
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0) {
		bool good = !silt_write_all(fd, temporary, why, strlen(why), NULL);

		close(fd);
		if (!good || renameat(dir, temporary, dir, name))
			unlinkat(dir, temporary, 0);
	}
	silt_cache_dir_trim(dir, MISS_FILES_BYTES, silt_limit_default(SILT_LIMIT_CACHE_FILES));
	close(dir);
}

bool silt_miss_is_known(const char *cache_dir, const char *url, const uint8_t *id, size_t id_len, unsigned seconds, char *why,
			size_t size)
{
	char name[33];
	int dir = cache_dir ? silt_cache_dir_open(cache_dir, SILT_CACHE_MISSES, false, NULL) : -1, fd;
	struct stat st;
	time_t now = time(NULL);
	ssize_t n = -1;

	if (dir < 0)
		return false;
	miss_name(url, id, id_len, name);
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	close(dir);
	if (fd < 0)
		return false;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_mtime <= now + CLOCK_SKEW && now - st.st_mtime < (time_t)seconds)
		n = read(fd, why, size - 1);
	close(fd);
	if (n < 0)
		return false;
	why[n] = '\0';
	return true;
}
