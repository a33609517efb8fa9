/* SPDX-License-Identifier: MIT */
/* Attaching, step by step: see attach.h. After each change of the target stands a place where a test may kill us. */
#include "capture/attach/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/agent/trace_db.h"
#include "capture/attach/attach_internal.h"
#include "capture/attach/fault.h"
#include "capture/attach/place.h"
#include "capture/attach/seccomp.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif
#define PLACES 16u /* tried one after another: the target's threads map memory meanwhile */

static uint64_t page_up(uint64_t n)
{
	return (n + 4095) & ~4095ull;
}

static const char *variant_of(const struct silt_survey *s)
{
	static const char *const names[] = { "mallocx", "tc_malloc", "mi_malloc" };
	static const char *const variants[] = { "jemalloc", "tcmalloc", "mimalloc" };
	struct silt_survey_symbol found[3];

	if (!silt_survey_find_all(s, names, 3, found, NULL))
		for (int i = 0; i < 3; i++)
			if (found[i].addr)
				return variants[i];
	return "";
}

/* The process may be silt itself: a launcher, or one that attaches right now. */
static bool is_silt(pid_t pid)
{
	struct stat own, other;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return !stat("/proc/self/exe", &own) && !stat(path, &other) && own.st_ino == other.st_ino && own.st_dev == other.st_dev;
}

int silt_attach_open(pid_t pid, struct silt_attach **ret, struct silt_error *err)
{
	struct silt_attach *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	a->db_fd = -1;
	rc = silt_survey_open(pid, &a->survey, err);
	if (!rc && is_silt(pid))
		rc = silt_error_set(err, SILT_E_INVAL, "process %d is silt itself", pid);
	if (rc) {
		silt_attach_close(a);
		return rc;
	}
	if (!silt_survey_find(&a->survey, "malloc", &a->malloc))
		a->malloc.module = a->survey.exe;
	a->variant = variant_of(&a->survey);
	*ret = a;
	return 0;
}

bool silt_attach_starting(const struct silt_attach *a)
{
	return !a->survey.statically_linked && a->survey.libc == SILT_NONE;
}

const char *silt_attach_variant(const struct silt_attach *a)
{
	return a->variant;
}

/* What the processor's extended registers take (CPUID leaf 0xd), for all features the kernel has switched on. */
static uint32_t xstate_size(void)
{
	uint32_t eax = 1, ebx, ecx = 0, edx;

	__asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	if (!(ecx & 1u << 27)) /* OSXSAVE */
		return UINT32_MAX;
	eax = 0xd;
	ecx = 0;
	__asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return ebx;
}

int silt_attach_prepare(struct silt_attach *a, const char *agent, struct silt_error *err)
{
	int rc = silt_image_load(agent, &a->image, err);

	if (!rc && xstate_size() > SILT_AGENT_XSTATE)
		rc = silt_error_set(err, SILT_E_UNSUPPORTED, "this processor's extended registers are larger than silt has room for");
	return rc ? rc : silt_plan_make(a, err);
}

/* ---- the agent's memory ---- */

static int call(struct silt_attach *a, const char *what, long number, const uint64_t args[6], int64_t *ret, struct silt_error *err)
{
	int rc = silt_inject_call(&a->inject, number, args, ret, err);

	if (!rc && *ret < 0 && *ret > -4096)
		rc = silt_error_os(err, (int)-*ret, "process %d cannot %s", a->survey.pid, what);
	return rc;
}

/* A memfd of the target's, and our own descriptor of it. */
static int make_memfd(struct silt_attach *a, silt_addr name, uint32_t flags, int64_t *ret_target_fd, int *ret_fd, struct silt_error *err)
{
	const uint64_t modern[6] = { name, flags | MFD_CLOEXEC | MFD_EXEC }, plain[6] = { name, flags | MFD_CLOEXEC };
	char path[64];
	int rc = silt_inject_call(&a->inject, SYS_memfd_create, modern, ret_target_fd, err);

	if (!rc && *ret_target_fd == -EINVAL)
		rc = silt_inject_call(&a->inject, SYS_memfd_create, plain, ret_target_fd, err);
	if (!rc && *ret_target_fd < 0)
		rc = silt_error_os(err, (int)-*ret_target_fd, "process %d cannot create shared memory (memfd)", a->survey.pid);
	if (rc)
		return rc;
	silt_fault_point();
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", a->survey.pid, (int)*ret_target_fd);
	*ret_fd = open(path, O_RDWR | O_CLOEXEC);
	return *ret_fd < 0 ? silt_error_os(err, errno, "cannot open %s", path) : 0;
}

int silt_attach_close_in_target(struct silt_attach *a, int64_t fd, struct silt_error *err)
{
	const uint64_t args[6] = { (uint64_t)fd };
	int64_t r;

	return call(a, "close a descriptor", SYS_close, args, &r, err);
}

/* Address space for `size` bytes of the file, near an address. Nothing can be done in it yet. */
static int reserve(struct silt_attach *a, silt_addr near, uint64_t size, int64_t fd, uint64_t offset, int prot, silt_addr *ret,
		   struct silt_error *err)
{
	for (unsigned n = 0; n < PLACES; n++) {
		silt_addr want = silt_place_near(&a->survey.maps, near, size, n);
		const uint64_t args[6] = { want, size, (uint64_t)prot, MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_NORESERVE, (uint64_t)fd,
					   offset };
		int64_t r;
		int rc;

		if (!want)
			break;
		rc = silt_inject_call(&a->inject, SYS_mmap, args, &r, err);
		if (rc)
			return rc;
		silt_fault_point();
		if ((silt_addr)r == want) {
			*ret = want;
			return 0;
		}
		if (r > 0 || r < -4095) { /* before Linux 4.17 the address is but a hint */
			const uint64_t away[6] = { (uint64_t)r, size };

			silt_inject_call(&a->inject, SYS_munmap, away, &r, NULL);
		} else if (r != -EEXIST && r != -ENOMEM) {
			return silt_error_os(err, (int)-r, "process %d cannot map memory", a->survey.pid);
		}
	}
	return silt_error_set(err, SILT_E_LIMIT, "process %d has no free memory within reach of its allocator's code", a->survey.pid);
}

/* Fills what the agent is told. Its addresses are final by now. */
static void tell_agent(struct silt_attach *a)
{
	struct silt_agent_attach *t = silt_image_attach(&a->image);
	const struct silt_survey *s = &a->survey;
	struct silt_agent_module *m = silt_image_at(&a->image, (silt_addr)(uintptr_t)t->modules, SILT_AGENT_MODULES * sizeof(*m));
	struct silt_survey_symbol find_object;
	char *argv = silt_target_argv(s->pid);

	t->leave = a->inject.stub;
	t->single_threaded = s->status.threads == 1;
	t->no_syscalls = s->status.seccomp != 0;
	if (!s->statically_linked && silt_survey_find(s, "_dl_find_object", &find_object))
		t->find_object = find_object.addr;
	if (s->ldso != SILT_NONE && s->ldso != s->libc) {
		t->ldso_lo = s->modules[s->ldso].start;
		t->ldso_size = s->modules[s->ldso].end - t->ldso_lo;
	}
	if (s->libc != SILT_NONE) {
		t->libc_lo = s->modules[s->libc].start;
		t->libc_size = s->modules[s->libc].end - t->libc_lo;
	}
	snprintf(t->libc, sizeof(t->libc), "%s", s->libc_name);
	snprintf(t->allocator, sizeof(t->allocator), "%s", s->modules[a->malloc.module].mapped->path);
	silt_target_exe(s->pid, t->exe, sizeof(t->exe));
	snprintf(t->argv, sizeof(t->argv), "%s", argv ? argv : "");
	t->argv_size = (uint32_t)strlen(t->argv);
	free(argv);
	for (uint32_t i = 0; i <= s->count && i < SILT_AGENT_MODULES; i++) {
		const struct silt_survey_module *from = i ? &s->modules[i - 1] : NULL;
		silt_addr self = (silt_addr)(uintptr_t)t->modules + i * sizeof(*m);

		if (from && t->find_object)
			break;
		m[i].start = from ? from->start : a->image.base;
		m[i].end = from ? from->end : a->image.base + a->image.size;
		m[i].eh_frame_hdr = from ? from->eh_frame_hdr : a->image.base + a->image.eh_frame_hdr;
		if (from && from->eh_frame) {
			silt_survey_eh_hdr(from->eh_frame, m[i].own_hdr);
			m[i].eh_frame_hdr = self + offsetof(struct silt_agent_module, own_hdr);
		}
		m[i].link.bias = from ? from->bias : a->image.base;
		m[i].link.name = (const char *)(uintptr_t)(self + offsetof(struct silt_agent_module, path));
		snprintf(m[i].path, sizeof(m[i].path), "%s", from ? from->mapped->path : SILT_AGENT_IMAGE_NAME);
		t->module_count = i + 1;
	}
}

static int write_file(int fd, const void *data, uint64_t size, uint64_t at, struct silt_error *err)
{
	return pwrite(fd, data, size, (off_t)at) == (ssize_t)size ? 0 : silt_error_os(err, errno, "cannot write the agent");
}

int silt_attach_write(struct silt_attach *a, silt_addr addr, const void *data, uint64_t size, struct silt_error *err)
{
	if (pwrite(a->survey.mem, data, size, (off_t)addr) == (ssize_t)size)
		return 0;
	return silt_error_os(err, errno, "cannot write to the memory of process %d", a->survey.pid);
}

/* The writable part is private memory without a file: that alone can be wiped in forked children (MADV_WIPEONFORK). */
static int map_data(struct silt_attach *a, struct silt_error *err)
{
	static const uint8_t zero[4096];
	const uint64_t args[6] = { a->image.base + a->image.data_at, a->image.size - a->image.data_at, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, UINT64_MAX, 0 };
	int64_t r;
	int rc = call(a, "map memory", SYS_mmap, args, &r, err);

	for (uint64_t at = a->image.data_at; !rc && at < a->image.size; at += 4096)
		if (memcmp(a->image.bytes + at, zero, 4096))
			rc = silt_attach_write(a, a->image.base + at, a->image.bytes + at, 4096, err);
	return rc;
}

static int protect(struct silt_attach *a, silt_addr addr, uint64_t size, int prot, struct silt_error *err)
{
	const uint64_t args[6] = { addr, size, (uint64_t)prot };
	int64_t r;

	return call(a, "change the protection of memory", SYS_mprotect, args, &r, err);
}

struct layout {
	uint64_t island_at[SILT_HEAD_ISLANDS]; /* in the file */
	uint64_t image_at, size;	       /* of the first mapping */
	uint64_t file_size;
	uint8_t *islands[SILT_HEAD_ISLANDS];
};

/* The first mapping: head, island, image; other islands behind it in the file. */
static int lay_out(struct silt_attach *a, struct layout *l, struct silt_error *err)
{
	memset(l, 0, sizeof(*l));
	l->island_at[0] = SILT_HEAD_SIZE;
	l->image_at = SILT_HEAD_SIZE + page_up(a->island_size[0]);
	l->file_size = l->size = l->image_at + a->image.size;
	for (uint32_t i = 0; i < a->island_count; i++) {
		if (i) {
			l->island_at[i] = l->file_size;
			l->file_size += page_up(a->island_size[i]);
		}
		l->islands[i] = malloc(page_up(a->island_size[i]) + 1);
		if (!l->islands[i])
			return silt_error_set(err, SILT_E_NOMEM, "out of memory");
		memset(l->islands[i], 0xcc, page_up(a->island_size[i]));
	}
	return 0;
}

static int reserve_all(struct silt_attach *a, const struct layout *l, int64_t fd, struct silt_error *err)
{
	struct silt_head *h = &a->head;
	int rc = reserve(a, a->island_near[0], l->size, fd, 0, PROT_NONE, &h->base, err);

	if (rc)
		return rc;
	h->size = l->size;
	h->image = h->base + l->image_at;
	h->image_size = a->image.size;
	h->attach = h->image + a->image.attach_at;
	h->text = h->image + a->image.text_at;
	h->text_size = a->image.text_size;
	h->islands[0] = (struct silt_head_island){ h->base + l->island_at[0], page_up(a->island_size[0]) };
	for (h->island_count = 1; !rc && h->island_count < a->island_count; h->island_count++) {
		uint32_t i = h->island_count;

		h->islands[i].size = page_up(a->island_size[i]);
		rc = reserve(a, a->island_near[i], h->islands[i].size, fd, l->island_at[i], PROT_READ | PROT_EXEC,
			     &h->islands[i].addr, err);
	}
	return rc;
}

static int fill_all(struct silt_attach *a, const struct layout *l, int fd, struct silt_error *err)
{
	struct silt_head *h = &a->head;
	int rc;

	silt_image_relocate(&a->image, h->image);
	tell_agent(a);
	rc = silt_plan_build(a, l->islands, err);
	h->version = SILT_HEAD_VERSION;
	h->magic = SILT_HEAD_MAGIC;
	for (uint32_t i = 0; !rc && i < h->island_count; i++)
		rc = write_file(fd, l->islands[i], h->islands[i].size, l->island_at[i], err);
	if (!rc)
		rc = write_file(fd, a->image.bytes, a->image.data_at, l->image_at, err);
	if (!rc)
		rc = write_file(fd, h, sizeof(*h), 0, err);
	silt_fault_point();
	return rc;
}

static int map_agent(struct silt_attach *a, struct silt_error *err)
{
	struct layout l;
	int64_t target_fd = -1;
	int fd = -1;
	int rc = lay_out(a, &l, err);

	if (!rc)
		rc = make_memfd(a, silt_inject_agent_name(&a->inject), 0, &target_fd, &fd, err);
	if (!rc && ftruncate(fd, (off_t)l.file_size))
		rc = silt_error_os(err, errno, "cannot size the agent's memory");
	if (!rc)
		rc = reserve_all(a, &l, target_fd, err);
	if (!rc)
		rc = fill_all(a, &l, fd, err);
	if (!rc)
		rc = protect(a, a->head.base, SILT_HEAD_SIZE, PROT_READ, err);
	if (!rc)
		rc = protect(a, a->head.islands[0].addr, a->head.image + a->image.data_at - a->head.islands[0].addr,
			     PROT_READ | PROT_EXEC, err);
	if (!rc)
		rc = map_data(a, err);
	if (target_fd >= 0 && a->inject.attached) {
		int close_rc = silt_attach_close_in_target(a, target_fd, rc ? NULL : err);

		rc = rc ? rc : close_rc;
	}
	if (fd >= 0)
		close(fd);
	for (uint32_t i = 0; i < a->island_count; i++)
		free(l.islands[i]);
	return rc;
}

int silt_attach_map(struct silt_attach *a, int *ret_db_fd, struct silt_error *err)
{
	int64_t target_fd = -1;
	int rc;

	a->stub = silt_survey_slack(&a->survey, SILT_STUB_SIZE);
	if (!a->stub)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "process %d (%s) has no unused bytes behind the code of any of its modules, which silt needs",
				      a->survey.pid, a->survey.status.name);
	rc = silt_inject_begin(&a->inject, a->survey.pid, a->survey.mem, err);
	if (!rc && a->survey.status.seccomp)
		rc = silt_seccomp_check(a->survey.pid, a->inject.tid, a->stub, false, err);
	if (!rc)
		rc = silt_inject_arm(&a->inject, a->stub, err);
	if (!rc)
		rc = map_agent(a, err);
	if (!rc)
		rc = make_memfd(a, silt_inject_db_name(&a->inject), MFD_ALLOW_SEALING, &target_fd, ret_db_fd, err);
	a->db_fd = (int)target_fd;
	return rc;
}

/* ---- the agent's start ---- */

static silt_addr attach_addr(const struct silt_attach *a, size_t field)
{
	return a->image.base + a->image.attach_at + field;
}

int silt_attach_run_agent(struct silt_attach *a, uint32_t operation, struct silt_agent_attach *ret, struct silt_error *err)
{
	struct silt_agent_attach *t = silt_image_attach(&a->image);
	int rc;

	t->operation = operation;
	t->db_fd = a->db_fd;
	rc = silt_attach_write(a, attach_addr(a, 0), t, sizeof(*t), err);
	if (!rc)
		rc = silt_inject_enter(&a->inject, (silt_addr)(uintptr_t)t->enter, err);
	if (!rc && !silt_survey_read(&a->survey, attach_addr(a, 0), ret, sizeof(*ret)))
		rc = silt_error_os(err, errno, "cannot read the memory of process %d", a->survey.pid);
	return rc;
}

int silt_attach_start(struct silt_attach *a, struct silt_error *err)
{
	static const char *const failures[] = { "", "it cannot map the trace database (is its address space limited?)",
						"its kernel is older than 4.14", "the trace database does not fit into its memory" };
	struct silt_agent_attach result = { 0 };
	int rc = silt_attach_run_agent(a, SILT_AGENT_START, &result, err);

	silt_inject_end(&a->inject);
	a->first_stop_ns = a->inject.stop_ns;
	if (!rc && result.result)
		rc = silt_error_set(err, SILT_E_UNSUPPORTED, "the agent cannot work in process %d: %s", a->survey.pid,
				    result.result > 0 && result.result < 4 ? failures[result.result] : "it failed");
	return rc;
}

#define READY_MIN (1ull << 20)
#define READY_TRIES 256u

int silt_attach_ready(struct silt_attach *a, uint64_t bytes, struct silt_error *err)
{
	struct silt_agent_attach result = { .ready = bytes < READY_MIN };
	int rc = 0;

	silt_image_attach(&a->image)->expected = bytes;
	for (unsigned n = 0; !rc && !result.ready && n < READY_TRIES; n++) {
		if (silt_inject_begin(&a->inject, a->survey.pid, a->survey.mem, NULL))
			break;
		rc = silt_inject_arm(&a->inject, a->stub, err);
		if (!rc)
			rc = silt_attach_run_agent(a, SILT_AGENT_READY, &result, err);
		silt_inject_end(&a->inject);
		if (a->inject.stop_ns > a->first_stop_ns)
			a->first_stop_ns = a->inject.stop_ns;
	}
	return rc;
}

void silt_attach_close(struct silt_attach *a)
{
	if (!a)
		return;
	silt_inject_end(&a->inject);
	for (uint32_t i = 0; i < a->plan_count; i++)
		free(a->plans[i].code);
	free(a->found);
	silt_image_unload(&a->image);
	silt_survey_close(&a->survey);
	free(a);
}
