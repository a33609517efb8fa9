/* SPDX-License-Identifier: MIT */
/* The module's own file: at its path, in the mappings of a process that is still there, or by build-id. */
#include <elf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbols/finder.h"

/* False for a file that is not the one that was loaded. */
static bool is_module(struct silt_finder *s, const struct silt_object *o)
{
	const struct silt_file_query *q = s->q;

	if (q->build_id_len && !silt_finder_same_id(o, q->build_id, q->build_id_len)) {
		silt_finder_report(s, "%s: is another build than the one that was loaded", silt_object_path(o));
		s->f->mismatched = true;
		return false;
	}
	/* Nothing to compare: then a file that was touched since the process was seen is not believed, unless the user
	 * vouches for it by naming a sysroot. */
	if (!q->build_id_len && q->not_after && !q->sysroot && silt_object_changed(o) > q->not_after) {
		silt_finder_report(s, "%s: has no build-id and was changed after the capture", silt_object_path(o));
		s->f->changed = true;
		return false;
	}
	silt_finder_report(s, "%s: found", silt_object_path(o));
	return true;
}

static bool take(struct silt_finder *s, const char *root, struct silt_object *o)
{
	if (!o || !is_module(s, o)) {
		silt_object_destroy(o);
		return false;
	}
	s->f->main = o;
	s->main_root = root;
	return true;
}

/* "start-end perms offset dev inode path" of /proc/PID/maps: does the path name the module? The kernel writes newlines in
 * names as \012. */
static bool is_line_of(const char *line, const char *path)
{
	const char *p = line;

	for (int field = 0; field < 5; field++) {
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	while (*path) {
		if (*path == '\n' && strncmp(p, "\\012", 4) == 0)
			p += 4;
		else if (*p++ != *path)
			return false;
		path++;
	}
	return *p == '\n' || strncmp(p, SILT_DELETED, sizeof(SILT_DELETED) - 1) == 0;
}

/* /proc/PID/map_files/START-END is the file itself, also when it was deleted or replaced since. */
static bool find_mapped(struct silt_finder *s, unsigned pid, const char *path)
{
	unsigned long start, end;
	char *line = NULL, name[64];
	size_t room = 0;
	bool found = false;
	FILE *maps;

	snprintf(name, sizeof(name), "/proc/%u/maps", pid);
	maps = fopen(name, "re");
	while (maps && !found && getline(&line, &room, maps) > 0) {
		if (!is_line_of(line, path) || sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		found = take(s, s->roots[0], silt_finder_open(s, "", "/proc/%u/map_files/%lx-%lx", pid, start, end));
		break;
	}
	free(line);
	if (maps)
		fclose(maps);
	return found;
}

/* /proc/PID/exe is the same for the program itself, and needs fewer rights. */
static bool find_exe(struct silt_finder *s, unsigned pid, const char *path)
{
	char name[64], target[PATH_MAX];
	size_t len = strlen(path);
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%u/exe", pid);
	n = readlink(name, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	if (strncmp(target, path, len) != 0 || (target[len] && strcmp(target + len, SILT_DELETED) != 0))
		return false;
	return take(s, s->roots[0], silt_finder_open(s, "", "%s", name));
}

static struct silt_object *take_by_id(struct silt_finder *s, struct silt_object *o, const void *data)
{
	(void)data;
	return take(s, s->roots[0], o) ? s->f->main : NULL;
}

/* End of the vdso's image by its headers. It is our own kernel's, so they are right. */
static size_t vdso_size(const uint8_t *image)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	size_t end;

	memcpy(&eh, image, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_ident[EI_CLASS] != ELFCLASS64)
		return 0;
	end = eh.e_shoff + (size_t)eh.e_shnum * eh.e_shentsize;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, image + eh.e_phoff + (size_t)i * eh.e_phentsize, sizeof(ph));
		if (ph.p_offset + ph.p_filesz > end)
			end = ph.p_offset + ph.p_filesz;
	}
	return end;
}

/* The running kernel's vdso, which every process has in memory; only its build-id tells whether it is the dump's. */
static void find_vdso(struct silt_finder *s)
{
	const uint8_t *image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	size_t size = image && s->q->build_id_len ? vdso_size(image) : 0;
	struct silt_object *o = NULL;
	void *copy;

	copy = size ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
	if (copy == MAP_FAILED)
		return;
	memcpy(copy, image, size);
	if (!silt_object_create_memory("[vdso]", copy, size, size, &o, NULL))
		take(s, s->roots[0], o);
}

/* The file of a program that changed its root (chroot) has in a dump the path that we have for it. The part of path that
 * lies below this root, from its slash on, or NULL. */
static const char *path_inside(const char *root, const char *path)
{
	char real[PATH_MAX];
	size_t len;

	if (!*root || path[0] != '/' || !realpath(root, real))
		return NULL;
	len = strlen(real);
	return len > 1 && strncmp(path, real, len) == 0 && path[len] == '/' ? path + len : NULL;
}

static bool find_below(struct silt_finder *s, const char *root)
{
	const char *inside;

	if (take(s, root, silt_finder_open(s, root, "%s", s->path)))
		return true;
	inside = path_inside(root, s->path);
	if (!inside || !take(s, root, silt_finder_open(s, root, "%s", inside)))
		return false;
	memmove(s->path, inside, strlen(inside) + 1);
	return true;
}

void silt_finder_find_module(struct silt_finder *s)
{
	const struct silt_file_query *q = s->q;

	if (strcmp(q->path, "[vdso]") == 0) {
		find_vdso(s);
		return;
	}
	if (!*s->path)
		return;
	for (size_t i = 0; i < s->root_count; i++)
		if (find_below(s, s->roots[i]))
			return;
	for (size_t i = 0; i < q->process_count && q->build_id_len; i++)
		if (find_mapped(s, q->processes[i], s->path) || find_exe(s, q->processes[i], s->path))
			return;
	silt_finder_by_build_id(s, q->build_id, q->build_id_len, "", take_by_id, NULL);
}
