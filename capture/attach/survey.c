/* SPDX-License-Identifier: MIT */
/* The modules of a process in the loader's order (r_debug of <link.h>, found by the program's DT_DEBUG), and their symbols. */
#include "capture/attach/survey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"

#define LINKS_MAX 65536u

bool silt_survey_read(const struct silt_survey *s, silt_addr addr, void *buf, size_t size)
{
	return pread(s->mem, buf, size, (off_t)addr) == (ssize_t)size;
}

static void find_eh_frame(struct silt_survey_module *m)
{
	for (uint32_t i = 0; i < m->view.header->e_phnum; i++)
		if (m->view.segments[i].p_type == PT_GNU_EH_FRAME)
			m->eh_frame_hdr = m->bias + m->view.segments[i].p_vaddr;
	if (!m->eh_frame_hdr && m->view.eh_frame)
		m->eh_frame = m->bias + m->view.eh_frame;
}

void silt_survey_eh_hdr(silt_addr eh_frame, uint8_t ret[SILT_EH_HDR_SIZE])
{
	memset(ret, 0, SILT_EH_HDR_SIZE);
	memcpy(ret, "\1\0\xff\xff", 4); /* DW_EH_PE_absptr; no count, no index */
	memcpy(ret + 4, &eh_frame, sizeof(eh_frame));
}

static void add_module(struct silt_survey *s, const struct silt_target_module *t)
{
	struct silt_survey_module *m = &s->modules[s->count];
	int fd;

	for (uint32_t i = 0; i < s->count; i++)
		if (s->modules[i].mapped == t)
			return;
	m->mapped = t;
	m->bias = t->bias;
	m->start = t->start;
	m->end = t->end;
	fd = silt_region_open(s->pid, &s->maps.regions[t->region_first]);
	if (fd >= 0) {
		m->readable = !silt_elf_view_open(fd, t->path, &m->view, NULL);
		close(fd);
	}
	if (m->readable)
		find_eh_frame(m);
	s->count++;
}

static const struct silt_target_module *mapped_at(const struct silt_survey *s, silt_addr addr)
{
	for (uint32_t i = 0; i < s->mapped.count; i++)
		if (addr >= s->mapped.list[i].start && addr < s->mapped.list[i].end)
			return &s->mapped.list[i];
	return NULL;
}

/* The auxiliary vector's program headers and loader. */
static int read_auxv(const struct silt_survey *s, silt_addr *ret_phdr, silt_addr *ret_base, struct silt_error *err)
{
	char path[64];
	uint8_t *data;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/auxv", s->pid);
	rc = silt_read_file(path, 65536, &data, &size, err);
	if (rc)
		return rc;
	*ret_phdr = *ret_base = 0;
	for (size_t at = 0; at + 16 <= size; at += 16) {
		uint64_t word[2];

		memcpy(word, data + at, 16);
		if (word[0] == AT_PHDR)
			*ret_phdr = word[1];
		else if (word[0] == AT_BASE)
			*ret_base = word[1];
	}
	free(data);
	return 0;
}

static silt_addr debug_head(const struct silt_survey *s, const struct silt_survey_module *exe)
{
	for (uint32_t i = 0; exe->readable && i < exe->view.header->e_phnum; i++) {
		const Elf64_Phdr *ph = &exe->view.segments[i];
		Elf64_Dyn d;

		if (ph->p_type != PT_DYNAMIC)
			continue;
		for (uint64_t at = 0; at + sizeof(d) <= ph->p_memsz; at += sizeof(d)) {
			if (!silt_survey_read(s, exe->bias + ph->p_vaddr + at, &d, sizeof(d)) || d.d_tag == DT_NULL)
				break;
			if (d.d_tag == DT_DEBUG)
				return d.d_un.d_ptr;
		}
	}
	return 0;
}

/* In the loader's order; what it does not list (the vdso, files mapped by others) stays out. */
static void add_by_links(struct silt_survey *s, silt_addr debug)
{
	struct {
		uint64_t version, map;
	} head;
	struct {
		uint64_t addr, name, dynamic, next, prev;
	} link;

	if (!debug || !silt_survey_read(s, debug, &head, sizeof(head)))
		return;
	for (uint32_t n = 0; head.map && n < LINKS_MAX && silt_survey_read(s, head.map, &link, sizeof(link)); n++) {
		const struct silt_target_module *t = mapped_at(s, link.dynamic);

		if (t)
			add_module(s, t);
		head.map = link.next;
	}
}

static uint32_t module_at(const struct silt_survey *s, silt_addr addr)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (addr >= s->modules[i].start && addr < s->modules[i].end)
			return i;
	return SILT_NONE;
}

static bool has_symbol(const struct silt_survey *s, uint32_t module, const char *name)
{
	struct silt_elf_symbol symbol;
	const struct silt_survey_module *m = &s->modules[module];

	return m->readable && silt_elf_view_find(s->statically_linked ? &m->view.full : &m->view.dynamic, name, &symbol);
}

static void know_libc(struct silt_survey *s)
{
	struct silt_survey_symbol symbol;

	s->libc = SILT_NONE;
	if (s->statically_linked)
		s->libc = s->exe;
	else if (silt_survey_find(s, "__libc_start_main", &symbol))
		s->libc = symbol.module;
	if (s->libc == SILT_NONE)
		return;
	if (has_symbol(s, s->libc, "gnu_get_libc_version") || has_symbol(s, s->libc, "__libc_malloc"))
		snprintf(s->libc_name, sizeof(s->libc_name), "glibc");
	if (s->libc == s->ldso || (s->statically_linked && has_symbol(s, s->libc, "__malloc_alloc_meta")))
		snprintf(s->libc_name, sizeof(s->libc_name), "musl");
}

static int refuse(pid_t pid, const struct silt_target_status *st, struct silt_error *err)
{
	if (st->pid != (uint32_t)pid)
		return silt_error_set(err, SILT_E_INVAL, "%d is a thread of process %u: name the process", pid, st->pid);
	if (pid == getpid())
		return silt_error_set(err, SILT_E_INVAL, "silt cannot attach to itself");
	if (st->state == 'Z' || st->state == 'X')
		return silt_error_set(err, SILT_E_NOT_FOUND, "process %d (%s) has ended", pid, st->name);
	if (st->tracer_pid)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "process %d (%s) is traced by process %u (a debugger or strace?), and only one tracer is "
				      "possible: end that first",
				      pid, st->name, st->tracer_pid);
	if (st->seccomp == 1)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "process %d (%s) is in strict seccomp mode: any system call silt needs would kill it", pid,
				      st->name);
	return 0;
}

static int open_memory(struct silt_survey *s, struct silt_error *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", s->pid);
	s->mem = open(path, O_RDWR | O_CLOEXEC);
	if (s->mem >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return silt_error_os(err, errno,
				     "may not look into process %d (%s): it belongs to uid %u, protects itself, or Yama forbids it "
				     "(kernel.yama.ptrace_scope); try as root",
				     s->pid, s->status.name, s->status.uid);
	if (errno == ESRCH || errno == ENOENT)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "process %d (%s) has no memory of its own: it is part of the kernel, or just ending", s->pid,
				      s->status.name);
	return silt_error_os(err, errno, "cannot open %s", path);
}

static int look_at_program(struct silt_survey *s, struct silt_error *err)
{
	const struct silt_target_module *t = NULL;
	silt_addr phdr, base;
	int rc = read_auxv(s, &phdr, &base, err);

	if (rc)
		return rc;
	t = mapped_at(s, phdr);
	s->modules = calloc((size_t)s->mapped.count + 1, sizeof(*s->modules));
	if (!s->modules)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	if (!t)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "process %d (%s) runs no ELF program that can be found in its memory%s", s->pid, s->status.name,
				      s->maps.count ? "" : ": it is part of the kernel, or just ending");
	add_module(s, t);
	if (!s->modules[0].readable || s->modules[0].view.header->e_machine != EM_X86_64)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "process %d (%s) runs a program that is not 64-bit x86 code, or whose file %s cannot be read: "
				      "it cannot be attached to",
				      s->pid, s->status.name, t->path);
	add_by_links(s, debug_head(s, &s->modules[0]));
	s->statically_linked = !base;
	s->ldso = module_at(s, base);
	if (base && s->ldso == SILT_NONE && mapped_at(s, base)) {
		s->ldso = s->count;
		add_module(s, mapped_at(s, base));
	}
	know_libc(s);
	return 0;
}

int silt_survey_open(pid_t pid, struct silt_survey *ret, struct silt_error *err)
{
	struct silt_survey *s = ret;
	int rc;

	memset(s, 0, sizeof(*s));
	s->pid = pid;
	s->mem = -1;
	rc = silt_target_status(pid, &s->status, err);
	if (!rc)
		rc = refuse(pid, &s->status, err);
	if (!rc)
		rc = open_memory(s, err);
	if (!rc)
		rc = silt_maps_read(pid, &s->maps, err);
	if (!rc)
		rc = silt_modules_collect(&s->maps, pid, &s->mapped, err);
	if (!rc)
		rc = look_at_program(s, err);
	if (rc)
		silt_survey_close(s);
	return rc;
}

void silt_survey_close(struct silt_survey *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		silt_elf_view_close(&s->modules[i].view);
	free(s->modules);
	s->modules = NULL;
	s->count = 0;
	silt_modules_deinit(&s->mapped);
	silt_maps_deinit(&s->maps);
	if (s->mem >= 0)
		close(s->mem);
	s->mem = -1;
}

struct wanted {
	const struct silt_survey *s;
	struct silt_map index; /* hash of a name -> number; names that collide are told apart by comparing */
	const char *const *names;
	struct silt_survey_symbol *ret;
	uint8_t *rank; /* of what was found: 2 default version, 1 another */
	uint32_t module;
};

static uint64_t name_hash(const char *name)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	return h;
}

static void take(void *data, const char *name, const struct silt_elf_symbol *symbol, bool hidden_version)
{
	struct wanted *w = data;
	uint8_t rank = hidden_version ? 1 : 2;
	uint32_t i;

	if ((symbol->type != STT_FUNC && symbol->type != STT_NOTYPE) || !silt_map_get(&w->index, name_hash(name), &i) ||
	    strcmp(w->names[i], name))
		return;
	if (w->ret[i].addr && (w->ret[i].module != w->module || w->rank[i] >= rank))
		return;
	w->rank[i] = rank;
	w->ret[i].module = w->module;
	w->ret[i].addr = w->s->modules[w->module].bias + symbol->value;
	w->ret[i].size = symbol->size;
}

int silt_survey_find_all(const struct silt_survey *s, const char *const *names, uint32_t count,
			 struct silt_survey_symbol *ret, struct silt_error *err)
{
	struct wanted w = { .s = s, .index = SILT_MAP_INIT, .names = names, .ret = ret, .rank = calloc(count, 1) };
	int rc = w.rank ? 0 : SILT_E_NOMEM;

	memset(ret, 0, count * sizeof(*ret));
	for (uint32_t i = 0; !rc && i < count; i++) {
		bool fresh;

		if (!silt_map_slot(&w.index, name_hash(names[i]), i, &fresh))
			rc = SILT_E_NOMEM;
	}
	for (w.module = 0; !rc && w.module < s->count; w.module++) {
		const struct silt_elf_view *v = &s->modules[w.module].view;

		if (s->modules[w.module].readable)
			silt_elf_view_each(s->statically_linked ? &v->full : &v->dynamic, take, &w);
	}
	silt_map_deinit(&w.index);
	free(w.rank);
	return rc ? silt_error_set(err, rc, "out of memory") : 0;
}

bool silt_survey_find(const struct silt_survey *s, const char *name, struct silt_survey_symbol *ret)
{
	return !silt_survey_find_all(s, &name, 1, ret, NULL) && ret->addr;
}

/* Behind a code segment's last byte the rest of its page is mapped with whatever follows in the file; nothing runs there. */
silt_addr silt_survey_slack(const struct silt_survey *s, uint32_t size)
{
	for (uint32_t i = s->count; i-- > 0;) {
		const struct silt_survey_module *m = &s->modules[i];

		for (uint32_t k = 0; m->readable && k < m->view.header->e_phnum; k++) {
			const Elf64_Phdr *ph = &m->view.segments[k];
			silt_addr end = m->bias + ph->p_vaddr + ph->p_filesz, page = (end + 4095) & ~4095ull;

			if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) && !(ph->p_flags & PF_W) && ph->p_filesz == ph->p_memsz &&
			    page - end >= size + 16)
				return page - size;
		}
	}
	return 0;
}

void silt_survey_file_bytes(const struct silt_survey *s, silt_addr addr, uint8_t *buf, size_t size)
{
	memset(buf, 0, size);
	for (uint32_t i = 0; i < s->count; i++) {
		const struct silt_survey_module *m = &s->modules[i];

		for (uint32_t k = 0; m->readable && k < m->view.header->e_phnum; k++) {
			const Elf64_Phdr *ph = &m->view.segments[k];
			silt_addr start = m->bias + ph->p_vaddr, end = (start + ph->p_filesz + 4095) & ~4095ull;
			uint64_t at = ph->p_offset + (addr - start);

			if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X) || addr < start || addr + size > end || at >= m->view.size)
				continue;
			memcpy(buf, m->view.bytes + at, size < m->view.size - at ? size : m->view.size - at);
			return;
		}
	}
}
