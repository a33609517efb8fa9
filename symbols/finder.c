/* SPDX-License-Identifier: MIT */
/* Roots, debug directories, and opening what lies in them. */
#include "symbols/finder.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbols/rooted.h"

static const char system_debug_dir[] = "/usr/lib/debug";

enum { MIN_BUILD_ID = 2, MAX_BUILD_ID = 64 }; /* the first byte names a directory, the rest a file */

/* Roots of processes that are still there: of containers and chroots. Only a build-id says whether a file there is the one
 * that was loaded: the number may belong to another process by now, on another machine. */
static void add_live_roots(struct silt_finder *s)
{
	struct stat own, other;

	if (!s->q->build_id_len || stat("/", &own))
		return;
	for (size_t i = 0; i < s->q->process_count && s->root_count < SILT_MAX_ROOTS; i++) {
		char *root = s->roots[s->root_count];

		snprintf(root, PATH_MAX, "/proc/%u/root", s->q->processes[i]);
		if (!stat(root, &other) && (other.st_dev != own.st_dev || other.st_ino != own.st_ino))
			s->root_count++;
	}
}

void silt_finder_init(struct silt_finder *s, const struct silt_file_query *q, struct silt_files *f)
{
	size_t len = strlen(q->path), tail = sizeof(SILT_DELETED) - 1;

	memset(s, 0, sizeof(*s));
	s->q = q;
	s->f = f;
	if (len > tail && strcmp(q->path + len - tail, SILT_DELETED) == 0)
		len -= tail;
	if (len < sizeof(s->path))
		memcpy(s->path, q->path, len);
	if (q->sysroot && strlen(q->sysroot) < PATH_MAX)
		strcpy(s->roots[0], q->sysroot);
	/* "/" is no other root. */
	for (size_t n = strlen(s->roots[0]); n && s->roots[0][n - 1] == '/'; n--)
		s->roots[0][n - 1] = '\0';
	s->root_count = 1;
	add_live_roots(s);
}

void silt_finder_report(const struct silt_finder *s, const char *fmt, ...)
{
	char text[PATH_MAX + 256];
	va_list ap;

	if (!s->f->attempt)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	silt_error_one_line(text);
	s->f->attempt(s->f->data, text);
}

bool silt_finder_debug_dir(const struct silt_finder *s, size_t i, const char **ret_root, const char **ret_dir)
{
	if (i < s->q->debug_dir_count) {
		*ret_root = "";
		*ret_dir = s->q->debug_dirs[i];
		return true;
	}
	i -= s->q->debug_dir_count;
	*ret_root = i < s->root_count ? s->roots[i] : "";
	*ret_dir = system_debug_dir;
	return i < s->root_count + (s->roots[0][0] != '\0');
}

bool silt_finder_same_id(const struct silt_object *o, const uint8_t *id, size_t len)
{
	size_t own_len;
	const uint8_t *own = silt_object_build_id(o, &own_len);

	return own_len == len && memcmp(own, id, len) == 0;
}

struct silt_object *silt_finder_open(const struct silt_finder *s, const char *root, const char *fmt, ...)
{
	char inner[PATH_MAX], path[PATH_MAX];
	struct silt_object *o = NULL;
	struct silt_error err;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(inner, sizeof(inner), fmt, ap);
	va_end(ap);
	if (n <= 0 || (size_t)n >= sizeof(inner) || !silt_rooted_path(root, inner, path)) {
		silt_finder_report(s, "%.200s: the name is too long, or its links run in circles", inner);
		return NULL;
	}
	if (s->f->depend)
		s->f->depend(s->f->data, root, inner);
	if (access(path, F_OK)) {
		silt_finder_report(s, "%s: not there", path);
		return NULL;
	}
	if (silt_object_create(path, &o, &err)) {
		silt_finder_report(s, "%s", err.msg);
		return NULL;
	}
	return o;
}

struct silt_object *silt_finder_by_build_id(struct silt_finder *s, const uint8_t *id, size_t len, const char *suffix,
					    struct silt_object *(*take)(struct silt_finder *, struct silt_object *, const void *),
					    const void *data)
{
	char hex[2 * MAX_BUILD_ID + 1];
	struct silt_object *o = NULL;
	const char *root, *dir;

	if (len < MIN_BUILD_ID || len > MAX_BUILD_ID)
		return NULL;
	for (size_t i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	for (size_t i = 0; !o && silt_finder_debug_dir(s, i, &root, &dir); i++)
		o = take(s, silt_finder_open(s, root, "%s/.build-id/%.2s/%s%s", dir, hex, hex + 2, suffix), data);
	return o;
}
