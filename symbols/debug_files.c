/* SPDX-License-Identifier: MIT */
/* The search for debug files; docs/SYMBOLS.md gives the order. */
#include "symbols/debug_files.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbols/shift.h"

static const char system_debug_dir[] = "/usr/lib/debug";

enum { MIN_BUILD_ID = 2 }; /* the first byte names a directory, the rest a file */

struct search {
	const struct silt_file_query *q;
	struct silt_files *f;
	const uint8_t *id; /* what the file sought must have; length 0: unknown */
	size_t id_len;
	bool check_crc;
	uint32_t crc;
};

static void __attribute__((format(printf, 2, 3))) report(const struct silt_files *f, const char *fmt, ...)
{
	char text[PATH_MAX + 256];
	va_list ap;

	if (!f->attempt)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f->attempt(f->data, text);
}

static bool same_id(const struct silt_object *o, const uint8_t *id, size_t len)
{
	size_t own_len;
	const uint8_t *own = silt_object_build_id(o, &own_len);

	return own_len == len && memcmp(own, id, len) == 0;
}

/* Opens a candidate and compares it. NULL when it is missing or not the file sought. */
static struct silt_object *try_file(const struct search *s, const char *path)
{
	struct silt_object *o = NULL;
	struct silt_error err;

	if (access(path, F_OK)) {
		report(s->f, "%s: not there", path);
		return NULL;
	}
	if (silt_object_create(path, &o, &err)) {
		report(s->f, "%s", err.msg);
		return NULL;
	}
	if (s->f->main && silt_object_same_file(o, s->f->main))
		report(s->f, "%s: is the module itself", path);
	else if (s->id_len && !same_id(o, s->id, s->id_len))
		report(s->f, "%s: has another build-id", path);
	else if (!s->id_len && s->check_crc && silt_object_crc(o) != s->crc)
		report(s->f, "%s: has another checksum", path);
	else {
		report(s->f, "%s: found", path);
		return o;
	}
	silt_object_destroy(o);
	return NULL;
}

static struct silt_object *__attribute__((format(printf, 2, 3))) try_name(const struct search *s, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	return n > 0 && (size_t)n < sizeof(path) ? try_file(s, path) : NULL;
}

/* The i-th debug directory: the user's, then the sysroot's, then the system's. NULL after the last. */
static const char *debug_dir(const struct silt_file_query *q, size_t i, char buffer[PATH_MAX])
{
	if (i < q->debug_dir_count)
		return q->debug_dirs[i];
	i -= q->debug_dir_count;
	if (q->sysroot && i-- == 0) {
		snprintf(buffer, PATH_MAX, "%s%s", q->sysroot, system_debug_dir);
		return buffer;
	}
	return i == 0 ? system_debug_dir : NULL;
}

static struct silt_object *find_by_build_id(const struct search *s)
{
	char hex[2 * 64 + 1], buffer[PATH_MAX];
	struct silt_object *o = NULL;
	const char *dir;

	if (s->id_len < MIN_BUILD_ID || s->id_len > 64)
		return NULL;
	for (size_t i = 0; i < s->id_len; i++)
		snprintf(hex + 2 * i, 3, "%02x", s->id[i]);
	for (size_t i = 0; !o && (dir = debug_dir(s->q, i, buffer)); i++)
		o = try_name(s, "%s/.build-id/%.2s/%s.debug", dir, hex, hex + 2);
	return o;
}

/* The directory part of path, links in it resolved when that is wanted and possible. "" for the root. */
static bool directory_of(const char *path, bool resolve, char ret[PATH_MAX])
{
	char *slash;

	if (resolve ? !realpath(path, ret) : snprintf(ret, PATH_MAX, "%s", path) >= PATH_MAX)
		return false;
	slash = strrchr(ret, '/');
	if (!slash) {
		strcpy(ret, ".");
		return true;
	}
	*slash = '\0';
	return true;
}

static struct silt_object *find_near(const struct search *s, const char *dir, const char *link)
{
	char buffer[PATH_MAX];
	const char *root;
	struct silt_object *o = try_name(s, "%s/%s", dir, link);

	if (!o)
		o = try_name(s, "%s/.debug/%s", dir, link);
	if (s->q->sysroot && strncmp(dir, s->q->sysroot, strlen(s->q->sysroot)) == 0)
		dir += strlen(s->q->sysroot);
	for (size_t i = 0; !o && dir[0] != '.' && (root = debug_dir(s->q, i, buffer)); i++)
		o = try_name(s, "%s%s%s/%s", root, dir[0] == '/' || !dir[0] ? "" : "/", dir, link);
	return o;
}

static struct silt_object *find_by_debuglink(struct search *s)
{
	char given[PATH_MAX], real[PATH_MAX];
	struct silt_object *main = s->f->main, *o = NULL;
	struct silt_bytes link;
	const char *name;
	size_t len;

	if (!main || silt_object_section(main, ".gnu_debuglink", &link, NULL))
		return NULL;
	name = (const char *)link.data;
	len = strnlen(name, link.size);
	/* A name, then zero bytes up to a multiple of four, then the checksum. */
	if (!len || len >= link.size || strchr(name, '/') || (len + 4) / 4 * 4 + 4 > link.size)
		return NULL;
	memcpy(&s->crc, link.data + (len + 4) / 4 * 4, 4);
	s->check_crc = true;
	if (directory_of(silt_object_path(main), false, given))
		o = find_near(s, given, name);
	if (!o && directory_of(silt_object_path(main), true, real) && strcmp(real, given) != 0)
		o = find_near(s, real, name);
	return o;
}

static struct silt_object *find_alt_by_name(const struct search *s, const char *owner, const char *name)
{
	const char *dwz = strstr(name, "/.dwz/"), *dir;
	struct silt_object *o = NULL;
	char buffer[PATH_MAX];

	if (name[0] == '/') {
		if (s->q->sysroot)
			o = try_name(s, "%s%s", s->q->sysroot, name);
		if (!o)
			o = try_file(s, name);
	} else if (directory_of(owner, true, buffer)) {
		o = try_name(s, "%s/%s", buffer, name);
	}
	for (size_t i = 0; !o && dwz && (dir = debug_dir(s->q, i, buffer)); i++)
		o = try_name(s, "%s%s", dir, dwz);
	return o;
}

static void find_alt(struct search *s, struct silt_object *owner)
{
	struct silt_bytes link;
	const char *name;
	size_t len;

	if (silt_object_section(owner, ".gnu_debugaltlink", &link, NULL))
		return;
	name = (const char *)link.data;
	len = strnlen(name, link.size);
	if (len + 1 + MIN_BUILD_ID > link.size || link.size - len - 1 > 64)
		return;
	s->id = link.data + len + 1;
	s->id_len = link.size - len - 1;
	s->check_crc = false;
	s->f->alt_name = strdup(name);
	s->f->alt = find_by_build_id(s);
	if (!s->f->alt)
		s->f->alt = find_alt_by_name(s, silt_object_path(owner), name);
	s->f->alt_missing = !s->f->alt;
}

static void open_main(struct search *s)
{
	const struct silt_file_query *q = s->q;
	struct silt_error err = {0};
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s%s", q->sysroot ? q->sysroot : "", q->path);

	if (n < 0 || (size_t)n >= sizeof(path))
		return;
	/* The kernel says so of files that were replaced; the new file has the old name. */
	if (strlen(path) > 10 && strcmp(path + strlen(path) - 10, " (deleted)") == 0)
		path[strlen(path) - 10] = '\0';
	if (silt_object_create(path, &s->f->main, &err)) {
		report(s->f, "%s", err.msg);
		s->f->main = NULL;
	} else if (q->build_id_len && !same_id(s->f->main, q->build_id, q->build_id_len)) {
		report(s->f, "%s: is another build than the one that was loaded", path);
		s->f->mismatched = true;
		silt_object_destroy(s->f->main);
		s->f->main = NULL;
	} else {
		report(s->f, "%s: found", path);
	}
}

/* A debug file of the right build whose code lies elsewhere in another order is of no use. */
static void compare_layout(struct silt_files *f)
{
	if (!f->main || !f->debug || silt_shift_find(f->main, f->debug, &f->debug_shift))
		return;
	report(f, "%s: its sections lie otherwise than the module's", silt_object_path(f->debug));
	silt_object_destroy(f->debug);
	f->debug = NULL;
}

int silt_files_find(const struct silt_file_query *q, struct silt_files *ret, struct silt_error *err)
{
	struct search s = {.q = q, .f = ret};
	struct silt_object *owner;

	ret->main = ret->debug = ret->alt = NULL;
	ret->mismatched = ret->alt_missing = false;
	ret->alt_name = NULL;
	ret->debug_shift = 0;
	open_main(&s);
	s.id = q->build_id;
	s.id_len = q->build_id_len;
	if (!s.id_len && ret->main)
		s.id = silt_object_build_id(ret->main, &s.id_len);
	if (!ret->main || !silt_object_has(ret->main, ".debug_info")) {
		ret->debug = find_by_build_id(&s);
		if (!ret->debug)
			ret->debug = find_by_debuglink(&s);
		compare_layout(ret);
	}
	owner = silt_files_dwarf(ret);
	if (owner)
		find_alt(&s, owner);
	if (!ret->main && !ret->debug)
		return silt_error_set(err, SILT_E_NOT_FOUND, ret->mismatched ?
				      "%s: the file on disk is another build than the one that was loaded" :
				      "%s: the file is missing or unreadable, and no debug file has its build-id", q->path);
	return SILT_OK;
}

void silt_files_deinit(struct silt_files *f)
{
	silt_object_destroy(f->main);
	silt_object_destroy(f->debug);
	silt_object_destroy(f->alt);
	free(f->alt_name);
	f->main = f->debug = f->alt = NULL;
	f->alt_name = NULL;
}

struct silt_object *silt_files_dwarf(const struct silt_files *f)
{
	if (f->main && silt_object_has(f->main, ".debug_info"))
		return f->main;
	if (f->debug && silt_object_has(f->debug, ".debug_info"))
		return f->debug;
	return NULL;
}
