/* SPDX-License-Identifier: MIT */
/* Finding and opening split files: the program's .dwp, else one .dwo for each unit. */
#include "symbols/split.h"

#include <dwarf.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbols/finder.h"
#include "symbols/package_index.h"
#include "symbols/rooted.h"

enum {
	MAX_TOLD = 100, /* attempts that are told: a program may have thousands of split files in a dozen places */
	MAX_TYPE_SECTIONS = 1 << 14, /* of one .dwo file: thousands for a large C++ unit */
};

struct split_file {
	char *path;
	struct silt_object *object;
	struct silt_dwarf *dwarf;
};

struct silt_splits {
	struct silt_dwarf *program;
	struct silt_finder finder;
	bool package_sought;
	struct split_file package;
	struct silt_bytes package_index;
	struct split_file current; /* the .dwo of the last unit: units of one file follow each other */
	SILT_VEC(char *) tried;    /* .dwo files for the unit of now */
	size_t missing;
	char *missing_name;
	unsigned told;
};

static void __attribute__((format(printf, 2, 3))) tell(struct silt_splits *s, const char *fmt, ...)
{
	char text[PATH_MAX + 256];
	va_list ap;

	if (s->told++ >= MAX_TOLD)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	silt_finder_report(&s->finder, "%s", text);
}

static void depend(struct silt_splits *s, const char *path)
{
	if (s->finder.f->depend)
		s->finder.f->depend(s->finder.f->data, "", path);
}

/* An answer depends on the file that was found, by its id the only one; without one, on every place that has none. */
static void settle_tried(struct silt_splits *s, const char *found)
{
	if (found)
		depend(s, found);
	for (size_t i = 0; i < s->tried.count; i++) {
		if (!found)
			depend(s, s->tried.items[i]);
		free(s->tried.items[i]);
	}
	s->tried.count = 0;
}

static void close_file(struct split_file *f)
{
	silt_dwarf_destroy(f->dwarf);
	silt_object_destroy(f->object);
	free(f->path);
	*f = (struct split_file){0};
}

struct silt_splits *silt_splits_create(struct silt_dwarf *program, struct silt_files *files,
				       const struct silt_file_query *query)
{
	struct silt_splits *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->program = program;
	silt_finder_init(&s->finder, query, files);
	return s;
}

void silt_splits_destroy(struct silt_splits *s)
{
	if (!s)
		return;
	close_file(&s->current);
	close_file(&s->package);
	silt_vec_free(&s->tried);
	free(s->missing_name);
	free(s);
}

bool silt_unit_is_skeleton(struct silt_dwarf *dw, struct silt_unit *u)
{
	const struct silt_unit_root *root = silt_unit_root(dw, u);

	return root && root->dwo_name && root->has_dwo_id;
}

size_t silt_splits_missing(const struct silt_splits *s, const char **ret_name)
{
	*ret_name = s->missing_name;
	return s->missing;
}

const struct silt_object *silt_splits_package(const struct silt_splits *s)
{
	return s->package.object;
}

/* Opens a file that may be a split one. */
static bool open_file(struct silt_splits *s, const char *path, struct split_file *f)
{
	struct silt_error err = {0};

	if (access(path, F_OK)) {
		tell(s, "%s: not there", path);
		return false;
	}
	f->path = strdup(path);
	if (f->path && silt_object_create(path, &f->object, &err) == SILT_OK) {
		/* A package is read by every child, a .dwo file by the one whose turn its unit is. */
		if (f == &s->package)
			silt_object_join_like(f->object, s->program->object);
		if (silt_dwarf_create_split(f->object, s->program, 0, &f->dwarf, &err) == SILT_OK)
			return true;
	}
	if (f->path)
		tell(s, "%s", err.msg);
	close_file(f);
	return false;
}

static bool try_package(struct silt_splits *s, const char *path)
{
	depend(s, path);
	if (!open_file(s, path, &s->package))
		return false;
	if (silt_object_section(s->package.object, ".debug_cu_index", &s->package_index, NULL) == SILT_OK) {
		tell(s, "%s: found", path);
		return true;
	}
	tell(s, "%s: has no index of units", path);
	close_file(&s->package);
	return false;
}

/* The i-th directory with debug files of others, in buffer. */
static bool debug_dir(const struct silt_splits *s, size_t i, char buffer[PATH_MAX])
{
	const char *root, *dir;

	if (!silt_finder_debug_dir(&s->finder, i, &root, &dir))
		return false;
	if (!silt_rooted_path(root, dir, buffer))
		buffer[0] = '\0';
	return true;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* FILE.dwp beside the module and beside its debug file, once with links resolved; then in the debug directories. */
static bool find_package(struct silt_splits *s)
{
	const struct silt_object *files[] = {s->finder.f->main, s->finder.f->debug};
	char real[PATH_MAX], path[2 * PATH_MAX];

	for (size_t i = 0; i < 2; i++) {
		const char *name = files[i] ? silt_object_path(files[i]) : NULL;

		if (!name)
			continue;
		snprintf(path, sizeof(path), "%s.dwp", name);
		if (try_package(s, path))
			return true;
		if (!realpath(name, real) || strcmp(real, name) == 0)
			continue;
		snprintf(path, sizeof(path), "%s.dwp", real);
		if (try_package(s, path))
			return true;
	}
	for (size_t i = 0; debug_dir(s, i, real); i++) {
		snprintf(path, sizeof(path), "%s/%s.dwp", real, base_name(s->finder.path));
		if (try_package(s, path))
			return true;
	}
	return false;
}

/* The unit with the skeleton's id, with what the skeleton says of it. */
static struct silt_unit *adopt(struct silt_dwarf *dw, struct silt_unit *u, const struct silt_unit_root *skeleton)
{
	const struct silt_unit_root *root;

	if (!u || u->type == DW_UT_split_type || u->type == DW_UT_type)
		return NULL;
	if (u->version >= 5 && (!u->has_dwo_id || u->dwo_id != skeleton->dwo_id))
		return NULL;
	u->skeleton = skeleton;
	root = silt_unit_root(dw, u);
	return root && root->has_dwo_id && root->dwo_id == skeleton->dwo_id ? u : NULL;
}

static bool find_in_package(struct silt_splits *s, const struct silt_unit_root *skeleton, struct silt_unit **ret)
{
	struct silt_package_row row;
	uint64_t end;

	if (!silt_package_index_find(s->package_index, skeleton->dwo_id, &row))
		return false;
	end = row.info + row.info_size;
	/* Usually one unit; type units may stand before it. */
	for (uint64_t at = row.info; at < end;) {
		struct silt_unit *u = silt_dwarf_add_unit(s->package.dwarf, at, &row.parts);

		if (!u)
			return false;
		*ret = adopt(s->package.dwarf, u, skeleton);
		if (*ret)
			return true;
		at = u->end;
	}
	return false;
}

static bool find_in_section(struct silt_dwarf *dw, const struct silt_unit_root *skeleton, struct silt_unit **ret)
{
	silt_dwarf_list(dw);
	for (size_t i = 0; i < dw->units.count; i++) {
		struct silt_unit *u = dw->units.items[i];

		/* One that another skeleton has already keeps it. */
		*ret = u->skeleton && u->skeleton != skeleton ? NULL : adopt(dw, u, skeleton);
		if (*ret)
			return true;
		if (u->skeleton == skeleton) {
			u->skeleton = NULL;
			u->root = NULL;
		}
	}
	return false;
}

/* Type units have sections of their own, which may come first. */
static bool find_in_file(struct silt_splits *s, struct split_file *f, const struct silt_unit_root *skeleton,
			 struct silt_unit **ret)
{
	for (size_t number = 0; number < MAX_TYPE_SECTIONS; number++) {
		struct silt_dwarf *next = NULL;
		int r;

		if (f->dwarf && find_in_section(f->dwarf, skeleton, ret))
			return true;
		r = silt_dwarf_create_split(f->object, s->program, number, &next, NULL);
		if (r == SILT_E_NOT_FOUND || r == SILT_E_NOMEM)
			return false;
		silt_dwarf_destroy(f->dwarf);
		f->dwarf = next;
	}
	return false;
}

static bool __attribute__((format(printf, 4, 5))) try_split(struct silt_splits *s, const struct silt_unit_root *skeleton,
							     struct silt_unit **ret, const char *fmt, ...)
{
	struct split_file f = {0};
	char path[PATH_MAX], *copy;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if (n <= 0 || (size_t)n >= sizeof(path))
		return false;
	copy = strdup(path);
	if (copy && !silt_vec_push(&s->tried, copy))
		free(copy);
	if (!open_file(s, path, &f))
		return false;
	if (find_in_file(s, &f, skeleton, ret)) {
		close_file(&s->current);
		s->current = f;
		return true;
	}
	tell(s, "%s: has no unit of id %016llx: it belongs to another build", path, (unsigned long long)skeleton->dwo_id);
	close_file(&f);
	return false;
}

/* The directory of an object's file in buffer; "." where the path has none. */
static const char *directory_of(const struct silt_object *o, bool resolve, char buffer[PATH_MAX])
{
	char *slash;

	if (!o || (resolve ? !realpath(silt_object_path(o), buffer) :
			     snprintf(buffer, PATH_MAX, "%s", silt_object_path(o)) >= PATH_MAX))
		return NULL;
	slash = strrchr(buffer, '/');
	if (!slash)
		return ".";
	*slash = '\0';
	return buffer;
}

/* In a directory: below it by the name's own directories, then by its last part. */
static bool try_below(struct silt_splits *s, const struct silt_unit_root *skeleton, const char *dir, struct silt_unit **ret)
{
	const char *name = skeleton->dwo_name;

	if (!dir)
		return false;
	if (name[0] != '/' && try_split(s, skeleton, ret, "%s/%s", dir, name))
		return true;
	return strchr(name, '/') && try_split(s, skeleton, ret, "%s/%s", dir, base_name(name));
}

/* Where the compiler put it, below a root. */
static bool try_recorded(struct silt_splits *s, const struct silt_unit_root *skeleton, const char *root, struct silt_unit **ret)
{
	const char *name = skeleton->dwo_name, *dir = skeleton->comp_dir;
	char recorded[PATH_MAX], path[PATH_MAX];
	int n = name[0] == '/' ? snprintf(recorded, sizeof(recorded), "%s", name) :
				 snprintf(recorded, sizeof(recorded), "%s/%s", dir ? dir : "", name);

	return recorded[0] == '/' && n > 0 && (size_t)n < sizeof(recorded) && silt_rooted_path(root, recorded, path) &&
	       try_split(s, skeleton, ret, "%s", path);
}

/* docs/SYMBOLS.md gives the order. */
static bool search_file(struct silt_splits *s, const struct silt_unit_root *skeleton, struct silt_unit **ret)
{
	const struct silt_finder *finder = &s->finder;
	const struct silt_object *files[] = {finder->f->main, finder->f->debug};
	char dir[PATH_MAX];

	for (size_t i = 0; i < 4; i++)
		if (try_below(s, skeleton, directory_of(files[i / 2], i % 2, dir), ret))
			return true;
	for (size_t i = 0; i < finder->root_count; i++)
		if (try_recorded(s, skeleton, finder->roots[i], ret))
			return true;
	/* Below a sysroot there may be the program alone; the id tells whether ours is the same. */
	if (finder->roots[0][0] && try_recorded(s, skeleton, "", ret))
		return true;
	for (size_t i = 0; debug_dir(s, i, dir); i++)
		if (try_recorded(s, skeleton, dir, ret) || try_below(s, skeleton, dir, ret))
			return true;
	return false;
}

static void note_missing(struct silt_splits *s, const struct silt_unit_root *skeleton)
{
	if (!s->missing++)
		s->missing_name = strdup(skeleton->dwo_name);
}

bool silt_splits_find(struct silt_splits *s, struct silt_unit *skeleton, struct silt_dwarf **ret_dw,
		      struct silt_unit **ret_unit)
{
	const struct silt_unit_root *root = silt_unit_root(s->program, skeleton);

	if (!s->package_sought) {
		s->package_sought = true;
		find_package(s);
	}
	if (s->package.dwarf && find_in_package(s, root, ret_unit)) {
		*ret_dw = s->package.dwarf;
		return true;
	}
	if ((s->current.dwarf && find_in_file(s, &s->current, root, ret_unit)) || search_file(s, root, ret_unit)) {
		settle_tried(s, s->current.path);
		*ret_dw = s->current.dwarf;
		return true;
	}
	settle_tried(s, NULL);
	note_missing(s, root);
	return false;
}
