/* SPDX-License-Identifier: MIT */
/* Grouping a memory map into modules, with build-id and load bias from the mapped files. */
#include "capture/target/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <elf.h>

#include "symbols/elf_reader.h"

bool silt_modules_same_file(const struct silt_region *a, const struct silt_region *b)
{
	return a->inode && a->inode == b->inode && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor;
}

static bool is_vdso(const struct silt_region *r)
{
	return r->name && !strcmp(r->name, "[vdso]");
}

/* Opens the file behind a region. map_files leads to the mapped file whatever became of its name, but needs a capability;
 * the path is taken only when it still is the same inode. Device numbers differ between maps and stat on some overlay
 * file systems, so there the inode alone must do. */
int silt_region_open(pid_t pid, const struct silt_region *r)
{
	char path[4200];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)r->start,
		 (unsigned long long)r->end);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			snprintf(path, sizeof(path), "/proc/%d/root%s", pid, r->name);
		else
			snprintf(path, sizeof(path), "%s", r->name);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_ino == r->inode)
			return fd;
		close(fd);
	}
	return -1;
}

static bool read_target(pid_t pid, silt_addr addr, void *buf, size_t size)
{
	struct iovec local = { buf, size }, remote = { (void *)(uintptr_t)addr, size };

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* Headers out of the process's memory: for the vdso, and for files that cannot be opened. */
static void inspect_memory(pid_t pid, struct silt_target_module *m)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph[32];
	uint64_t first = UINT64_MAX;
	uint8_t note[4096];

	if (!read_target(pid, m->start, &eh, sizeof(eh)) || memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof(ph[0]) || eh.e_phnum > SILT_ARRAY_LEN(ph) ||
	    eh.e_phoff > 65536 || !read_target(pid, m->start + eh.e_phoff, ph, eh.e_phnum * sizeof(ph[0])))
		return;
	for (unsigned i = 0; i < eh.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && (ph[i].p_vaddr & ~4095ull) < first)
			first = ph[i].p_vaddr & ~4095ull;
	if (first == UINT64_MAX)
		return;
	m->bias = m->start - first;
	for (unsigned i = 0; i < eh.e_phnum && !m->build_id_len; i++) {
		if (ph[i].p_type != PT_NOTE || ph[i].p_filesz > sizeof(note))
			continue;
		if (read_target(pid, m->bias + ph[i].p_vaddr, note, ph[i].p_filesz))
			m->build_id_len = (uint32_t)silt_elf_note_build_id(note, ph[i].p_filesz, ph[i].p_align,
									   m->build_id);
	}
}

static void inspect(pid_t pid, const struct silt_region *first, struct silt_target_module *m)
{
	struct silt_elf_info info;
	int fd = is_vdso(first) ? -1 : silt_region_open(pid, first);
	bool done = false;

	if (fd >= 0) {
		if (!silt_elf_inspect_fd(fd, m->path, &info, NULL)) {
			m->build_id_len = (uint32_t)(info.build_id_len <= sizeof(m->build_id) ? info.build_id_len : 0);
			memcpy(m->build_id, info.build_id, m->build_id_len);
			m->bias = m->start - info.first_load_vaddr;
			done = true;
		}
		close(fd);
	}
	if (!done)
		inspect_memory(pid, m);
}

static char *module_path(const char *name)
{
	static const char deleted[] = " (deleted)";
	char *path = strdup(name);
	size_t n = path ? strlen(path) : 0;

	if (n > sizeof(deleted) && !strcmp(path + n - (sizeof(deleted) - 1), deleted))
		path[n - (sizeof(deleted) - 1)] = '\0';
	return path;
}

/* The regions of one load of one file: up to the next one that starts the file again (a second load of it), looking over
 * anonymous memory (.bss, holes) but not over other files. */
static uint32_t group_end(const struct silt_maps *maps, uint32_t first, bool *ret_exec)
{
	const struct silt_region *f = &maps->regions[first];
	uint32_t end = first + 1;

	*ret_exec = f->prot & PROT_EXEC;
	for (uint32_t i = first + 1; i < maps->count; i++) {
		const struct silt_region *r = &maps->regions[i];

		if (silt_modules_same_file(f, r)) {
			if (r->file_offset <= f->file_offset)
				break;
			*ret_exec |= !!(r->prot & PROT_EXEC);
			end = i + 1;
		} else if (r->inode) {
			break;
		}
	}
	return end;
}

int silt_modules_collect(const struct silt_maps *maps, pid_t pid, struct silt_target_modules *ret,
			 struct silt_error *err)
{
	struct silt_target_modules out = { calloc((size_t)maps->count + 1, sizeof(*out.list)), 0 };

	if (!out.list)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the module list");
	for (uint32_t i = 0, end; i < maps->count; i = end) {
		const struct silt_region *r = &maps->regions[i];
		struct silt_target_module *m = &out.list[out.count];
		bool exec = false;

		end = i + 1;
		if (!r->name || (!r->inode && !is_vdso(r)) || r->shared)
			continue;
		end = group_end(maps, i, &exec);
		if (!exec)
			continue;
		m->path = module_path(r->name);
		if (!m->path) {
			silt_modules_deinit(&out);
			return silt_error_set(err, SILT_E_NOMEM, "out of memory for the module list");
		}
		m->region_first = i;
		m->region_count = end - i;
		m->start = r->start;
		m->end = maps->regions[end - 1].end;
		m->bias = r->start - r->file_offset;
		if (pid > 0)
			inspect(pid, r, m);
		out.count++;
	}
	*ret = out;
	return 0;
}

void silt_modules_deinit(struct silt_target_modules *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		free(m->list[i].path);
	free(m->list);
	memset(m, 0, sizeof(*m));
}
