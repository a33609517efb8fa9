/* SPDX-License-Identifier: MIT */
/* The search for debug files; docs/SYMBOLS.md gives the order. */
#include "symbols/debug_files.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbols/finder.h"
#include "symbols/rooted.h"
#include "symbols/shift.h"

static bool is_debug_file(const struct silt_finder *s, const struct silt_object *o)
{
	size_t len;

	silt_object_build_id(o, &len);
	if (s->id_len && silt_finder_same_id(o, s->id, s->id_len))
		return true;
	/* A file whose notes were stripped has its checksum still. */
	if ((s->id_len && len) || !s->check_crc) {
		silt_finder_report(s, "%s: has %s build-id", silt_object_path(o), len ? "another" : "no");
		return false;
	}
	if (silt_object_crc(o) == s->crc)
		return true;
	silt_finder_report(s, "%s: has another checksum", silt_object_path(o));
	return false;
}

/* Keeps a candidate, or its symbols while a better one is sought. Returns it when the search is over. */
static struct silt_object *take_debug(struct silt_finder *s, struct silt_object *o, const void *data)
{
	(void)data;
	if (!o)
		return NULL;
	if (s->f->main && silt_object_same_file(o, s->f->main)) {
		silt_finder_report(s, "%s: is the module itself", silt_object_path(o));
	} else if (!is_debug_file(s, o)) {
		/* said why */
	} else if (s->f->main && !silt_shift_find(s->f->main, o, &s->f->debug_shift)) {
		silt_finder_report(s, "%s: its sections lie otherwise than the module's", silt_object_path(o));
	} else if (silt_object_has(o, ".debug_info")) {
		silt_finder_report(s, "%s: found", silt_object_path(o));
		return o;
	} else if (!s->plain && silt_object_has(o, ".symtab")) {
		silt_finder_report(s, "%s: found, but without debug information", silt_object_path(o));
		s->plain = o;
		return NULL;
	} else {
		silt_finder_report(s, "%s: holds no debug information", silt_object_path(o));
	}
	silt_object_destroy(o);
	return NULL;
}

/* Cuts the last component off. False when nothing is left to look into. */
static bool to_directory(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash)
		return false;
	*slash = '\0';
	return true;
}

/* The directory of a file below root, as a path in that root that begins with a slash; "" for the root itself. */
static bool given_directory(const char *root, const char *path, char ret[PATH_MAX])
{
	char cwd[PATH_MAX];
	int n;

	if (path[0] == '/')
		n = snprintf(ret, PATH_MAX, "%s", path);
	else if (*root)
		n = snprintf(ret, PATH_MAX, "/%s", path);
	else
		n = getcwd(cwd, sizeof(cwd)) ? snprintf(ret, PATH_MAX, "%s/%s", cwd, path) : -1;
	return n > 0 && n < PATH_MAX && to_directory(ret);
}

/* The same with links resolved. */
static bool real_directory(const char *root, const char *path, char ret[PATH_MAX])
{
	char full[PATH_MAX];

	if (!*root)
		return realpath(path, ret) && to_directory(ret);
	if (!silt_rooted_path(root, path, full))
		return false;
	strcpy(ret, full + strlen(root));
	return to_directory(ret);
}

/* gdb's order: beside the module, in .debug, below each debug directory. Packages from before /lib and /usr/lib became one
 * have their debug files below DEBUG-DIR/lib. */
static struct silt_object *find_near(struct silt_finder *s, const char *dir, const char *link)
{
	const char *root, *debug_dir;
	struct silt_object *o = take_debug(s, silt_finder_open(s, s->main_root, "%s/%s", dir, link), NULL);

	if (!o)
		o = take_debug(s, silt_finder_open(s, s->main_root, "%s/.debug/%s", dir, link), NULL);
	for (size_t i = 0; !o && silt_finder_debug_dir(s, i, &root, &debug_dir); i++) {
		o = take_debug(s, silt_finder_open(s, root, "%s%s/%s", debug_dir, dir, link), NULL);
		if (!o && strncmp(dir, "/usr/", 5) == 0)
			o = take_debug(s, silt_finder_open(s, root, "%s%s/%s", debug_dir, dir + 4, link), NULL);
	}
	return o;
}

static struct silt_object *find_by_debuglink(struct silt_finder *s)
{
	char given[PATH_MAX], real[PATH_MAX];
	struct silt_object *o = NULL;
	struct silt_debuglink link;
	struct silt_bytes section;
	bool have_given;

	if (!s->f->main || silt_object_section(s->f->main, ".gnu_debuglink", &section, NULL) ||
	    !silt_debuglink_parse(section, &link))
		return NULL;
	s->check_crc = true;
	s->crc = link.crc;
	have_given = given_directory(s->main_root, s->path, given);
	if (have_given)
		o = find_near(s, given, link.name);
	if (!o && real_directory(s->main_root, s->path, real) && (!have_given || strcmp(real, given) != 0))
		o = find_near(s, real, link.name);
	return o;
}

/* The debug files of a vdso have no link to them. */
static struct silt_object *find_vdso_debug(struct silt_finder *s)
{
	static const char *const dirs[] = {"/usr/lib/debug/lib/modules", "/lib/modules"};
	char release[128] = "";
	struct silt_object *o = NULL;
	FILE *f;

	if (strcmp(s->q->path, "[vdso]") != 0 || !s->id_len)
		return NULL;
	f = fopen("/proc/sys/kernel/osrelease", "re");
	if (f && fgets(release, sizeof(release), f))
		release[strcspn(release, "\n")] = '\0';
	if (f)
		fclose(f);
	for (size_t i = 0; i < 2 && *release && !o; i++)
		o = take_debug(s, silt_finder_open(s, "", "%s/%s/vdso/vdso64.so", dirs[i], release), NULL);
	return o;
}

static struct silt_object *take_alt(struct silt_finder *s, struct silt_object *o, const void *data)
{
	const struct silt_altlink *link = data;

	if (!o)
		return NULL;
	if (silt_altlink_matches(o, link)) {
		silt_finder_report(s, "%s: found", silt_object_path(o));
		return o;
	}
	silt_finder_report(s, "%s: is not the dwz file that is meant", silt_object_path(o));
	silt_object_destroy(o);
	return NULL;
}

/* By name: absolute, or relative to the debug file; below the debug directories by what follows ".dwz", and the bare name. */
static struct silt_object *find_alt_by_name(struct silt_finder *s, const char *owner, const struct silt_altlink *link)
{
	const char *dwz = strstr(link->name, "/.dwz/"), *slash = strrchr(link->name, '/'), *root, *dir;
	const char *base = slash ? slash + 1 : link->name;
	struct silt_object *o = NULL;
	char real[PATH_MAX];

	if (link->name[0] == '/') {
		for (size_t i = 0; !o && i < s->root_count; i++)
			o = take_alt(s, silt_finder_open(s, s->roots[i], "%s", link->name), link);
		if (!o && *s->roots[0])
			o = take_alt(s, silt_finder_open(s, "", "%s", link->name), link);
	} else {
		/* The owner's path is complete, its root included: links on it are resolved there already. */
		if (given_directory("", owner, real))
			o = take_alt(s, silt_finder_open(s, "", "%s/%s", real, link->name), link);
		if (!o && real_directory("", owner, real))
			o = take_alt(s, silt_finder_open(s, "", "%s/%s", real, link->name), link);
	}
	for (size_t i = 0; !o && silt_finder_debug_dir(s, i, &root, &dir); i++) {
		if (dwz)
			o = take_alt(s, silt_finder_open(s, root, "%s%s", dir, dwz), link);
		if (!o && *base)
			o = take_alt(s, silt_finder_open(s, root, "%s/.dwz/%s", dir, base), link);
	}
	return o;
}

static void find_alt(struct silt_finder *s, struct silt_object *owner)
{
	struct silt_altlink link;

	if (!silt_altlink_find(owner, &link))
		return;
	s->f->alt_name = strdup(link.name);
	s->f->alt = silt_finder_by_build_id(s, link.id, link.id_len, ".debug", take_alt, &link);
	if (!s->f->alt)
		s->f->alt = find_alt_by_name(s, silt_object_path(owner), &link);
	s->f->alt_missing = !s->f->alt;
	s->f->alt_id_len = link.id_len <= sizeof(s->f->alt_id) ? link.id_len : 0;
	memcpy(s->f->alt_id, link.id, s->f->alt_id_len);
}

static void find_debug(struct silt_finder *s)
{
	struct silt_files *f = s->f;

	s->id = s->q->build_id;
	s->id_len = s->q->build_id_len;
	if (!s->id_len && f->main)
		s->id = silt_object_build_id(f->main, &s->id_len);
	f->debug = silt_finder_by_build_id(s, s->id, s->id_len, ".debug", take_debug, NULL);
	if (!f->debug)
		f->debug = find_by_debuglink(s);
	if (!f->debug)
		f->debug = find_vdso_debug(s);
	if (f->debug) {
		silt_object_destroy(s->plain);
		return;
	}
	f->debug = s->plain;
	if (f->debug && f->main)
		silt_shift_find(f->main, f->debug, &f->debug_shift);
}

static int nothing_found(const struct silt_files *f, const char *path, struct silt_error *err)
{
	const char *why = "the file is missing or unreadable, and no debug file has its build-id";

	if (f->mismatched)
		why = "the file on disk is another build than the one that was loaded: shown by offsets; give the right one "
		      "below --sysroot, or its debug file below --debug-dir";
	else if (f->changed)
		why = "it was changed after the capture and has no build-id to compare: shown by offsets; give the right one below "
		      "--sysroot";
	return silt_error_set(err, SILT_E_NOT_FOUND, "%s: %s", path, why);
}

int silt_files_find(const struct silt_file_query *q, struct silt_files *ret, struct silt_error *err)
{
	struct silt_finder *s = malloc(sizeof(*s));
	struct silt_object *owner;

	if (!s)
		return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", q->path);
	*ret = (struct silt_files){.attempt = ret->attempt, .depend = ret->depend, .data = ret->data};
	silt_finder_init(s, q, ret);
	silt_finder_find_module(s);
	if (!ret->main || !silt_object_has(ret->main, ".debug_info"))
		find_debug(s);
	owner = silt_files_dwarf(ret);
	if (owner)
		find_alt(s, owner);
	free(s);
	/* Nobody can supply a vdso: that it is another kernel's is no news. */
	if (!ret->main && !ret->debug && q->path[0] != '[')
		return nothing_found(ret, q->path, err);
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
