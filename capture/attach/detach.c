/* SPDX-License-Identifier: MIT */
/* Taking everything of silt's out of a process, whole or left half done by somebody who was killed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "capture/agent/attach.h"
#include "capture/agent/trace_db.h"
#include "capture/attach/attach.h"
#include "capture/attach/attach_internal.h"
#include "capture/attach/fault.h"
#include "capture/attach/seccomp.h"

#define LEAVE_NS 5000000000ull /* for threads to leave the agent */
#define RANGES_MAX 1024u
#define FDS_MAX 64u

struct range {
	silt_addr start, end;
};

struct remains {
	struct silt_head head; /* magic 0: none, or not yet written */
	bool patched;	       /* a function still has its jump */
	bool foreign;	       /* another version of silt wrote the head */
	struct range agent[RANGES_MAX], db[RANGES_MAX];
	uint32_t agent_count, db_count;
	int fds[FDS_MAX];
	uint32_t fd_count;
	silt_addr stub; /* 0: none */
	uint8_t under_stub[SILT_STUB_SIZE];
};

static bool is_named(const struct silt_region *r, const char *name)
{
	size_t n = strlen(name);

	return r->name && !strncmp(r->name, "/memfd:", 7) && !strncmp(r->name + 7, name, n) &&
	       (!r->name[7 + n] || r->name[7 + n] == ' ');
}

static void add_range(struct range *list, uint32_t *count, silt_addr start, silt_addr end)
{
	if (*count && list[*count - 1].end == start)
		list[*count - 1].end = end;
	else if (*count < RANGES_MAX)
		list[(*count)++] = (struct range){ start, end };
}

static bool head_is_sound(const struct silt_head *h)
{
	if (h->magic != SILT_HEAD_MAGIC || h->version != SILT_HEAD_VERSION || h->site_count > SILT_HEAD_SITES ||
	    h->island_count > SILT_HEAD_ISLANDS || (h->base & 4095) || (h->size & 4095) || h->size > 1ull << 30 ||
	    h->attach < h->base || h->attach - h->base > h->size)
		return false;
	for (uint32_t i = 0; i < h->site_count; i++)
		if (h->sites[i].moved.count > SILT_ARRAY_LEN(h->sites[i].moved.from))
			return false;
	return true;
}

/* The head tells all; without it nothing can be put back. */
static void read_head(const struct silt_survey *s, silt_addr at, struct remains *r)
{
	struct silt_head *h = &r->head;

	if (!silt_survey_read(s, at, h, sizeof(*h))) {
		h->magic = 0;
		return;
	}
	r->foreign |= h->magic == SILT_HEAD_MAGIC && h->version != SILT_HEAD_VERSION;
	if (!head_is_sound(h) || h->base != at)
		h->magic = 0;
}

/* In a forked child: what the agent put in its parent's database's place. It has no name, so every page of it is looked at. */
static void find_zeros(const struct silt_survey *s, struct remains *r)
{
	uint64_t zeros[2]; /* address, size */
	silt_addr at;

	_Static_assert(offsetof(struct silt_agent_attach, zeros_size) == offsetof(struct silt_agent_attach, zeros) + 8, "two words");
	if (!r->head.magic || !silt_survey_read(s, r->head.attach + offsetof(struct silt_agent_attach, zeros), zeros, sizeof(zeros)) ||
	    !zeros[1] || (zeros[0] | zeros[1]) & 4095 || zeros[1] > SILT_DB_SLOT_SIZE)
		return;
	at = zeros[0];
	for (uint32_t i = 0; i < s->maps.count; i++) {
		const struct silt_region *m = &s->maps.regions[i];

		if (m->start <= at && m->end > at && !m->name && !m->shared)
			at = m->end;
	}
	if (at >= zeros[0] + zeros[1])
		add_range(r->db, &r->db_count, zeros[0], zeros[0] + zeros[1]);
}

static void find_regions(const struct silt_survey *s, struct remains *r)
{
	for (uint32_t i = 0; i < s->maps.count; i++) {
		const struct silt_region *m = &s->maps.regions[i];

		if (is_named(m, SILT_DB_NAME))
			add_range(r->db, &r->db_count, m->start, m->end);
		if (!is_named(m, SILT_AGENT_IMAGE_NAME))
			continue;
		add_range(r->agent, &r->agent_count, m->start, m->end);
		if (m->file_offset == 0 && !r->head.magic)
			read_head(s, m->start, r);
	}
	find_zeros(s, r);
	for (uint32_t i = 0; r->head.magic && i < r->head.site_count; i++) {
		const struct silt_site *site = &r->head.sites[i];
		uint8_t now[SILT_JUMP_SIZE];

		r->patched |= silt_survey_read(s, site->moved.at, now, sizeof(now)) && !memcmp(now, site->patched, sizeof(now));
	}
}

static void find_descriptors(pid_t pid, struct remains *r)
{
	static const char *const names[] = { "/memfd:" SILT_AGENT_IMAGE_NAME, "/memfd:" SILT_DB_NAME };
	char path[64], link[400], to[128];
	struct dirent *de;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (de = readdir(dir))) {
		ssize_t n;

		snprintf(link, sizeof(link), "%s/%s", path, de->d_name);
		n = readlink(link, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++)
			if (!strncmp(to, names[i], strlen(names[i])) && strchr(" ", to[strlen(names[i])]) && r->fd_count < FDS_MAX)
				r->fds[r->fd_count++] = (int)strtol(de->d_name, NULL, 10);
	}
	if (dir)
		closedir(dir);
}

/* What the file has there: the stub stands behind the code, in the last page that is mapped of it. */
static void find_stub(const struct silt_survey *s, struct remains *r)
{
	silt_addr at = silt_survey_slack(s, SILT_STUB_SIZE);
	uint64_t magic;

	if (!at || !silt_survey_read(s, at + SILT_STUB_SIZE - 8, &magic, 8) || magic != SILT_STUB_MAGIC)
		return;
	r->stub = at;
	silt_survey_file_bytes(s, at, r->under_stub, sizeof(r->under_stub));
}

static void look(const struct silt_survey *s, struct remains *r)
{
	memset(r, 0, sizeof(*r));
	find_regions(s, r);
	find_descriptors(s->pid, r);
	find_stub(s, r);
}

int silt_attach_look(pid_t pid, enum silt_attach_state *ret, struct silt_error *err)
{
	struct remains *r = malloc(sizeof(*r));
	struct silt_survey s;
	bool whole;
	int rc = r ? silt_survey_open(pid, &s, err) : silt_error_set(err, SILT_E_NOMEM, "out of memory");

	if (rc) {
		free(r);
		return rc;
	}
	look(&s, r);
	whole = r->head.magic && r->head.state == SILT_HEAD_HOOKED && r->patched;
	*ret = whole ? SILT_ATTACH_WHOLE : r->agent_count || r->stub || r->fd_count ? SILT_ATTACH_REMAINS : SILT_ATTACH_NONE;
	silt_survey_close(&s);
	free(r);
	return 0;
}

static int write_target(const struct silt_survey *s, silt_addr addr, const void *data, size_t size, struct silt_error *err)
{
	if (pwrite(s->mem, data, size, (off_t)addr) == (ssize_t)size)
		return 0;
	return silt_error_os(err, errno, "cannot write to the memory of process %d", s->pid);
}

static int restore(const struct silt_survey *s, const struct silt_head *h, struct silt_error *err)
{
	uint32_t leaving = SILT_HEAD_LEAVING;
	int rc = write_target(s, h->base + offsetof(struct silt_head, state), &leaving, sizeof(leaving), err);

	silt_fault_point();
	for (uint32_t i = 0; !rc && i < h->site_count; i++) {
		const struct silt_site *site = &h->sites[i];
		uint8_t now[SILT_JUMP_SIZE];

		/* What somebody else put there since is theirs; a module that is gone has nothing to be put back. */
		if (!silt_survey_read(s, site->moved.at, now, sizeof(now)) || memcmp(now, site->patched, sizeof(now)))
			continue;
		rc = write_target(s, site->moved.at, site->original, sizeof(site->original), err);
		silt_fault_point();
	}
	return rc;
}

/* Stops all threads: takes the jumps out the first time, then only looks whether everybody has left. */
static int look_inside(const struct silt_survey *s, const struct remains *r, bool first, pid_t *ret_inside, uint64_t *stop_ns,
		       struct silt_error *err)
{
	struct silt_stop stop;
	int rc = silt_stop_seize(&stop, s->pid, err);

	if (!rc)
		rc = silt_stop_all(&stop, err);
	if (rc)
		return rc;
	silt_fault_point();
	if (first && r->head.magic)
		rc = restore(s, &r->head, err);
	if (!rc)
		rc = silt_threads_leave(&stop, s, r->head.magic ? &r->head : NULL, r->stub, ret_inside, err);
	silt_fault_point();
	silt_stop_release(&stop);
	if (stop.pause_ns > *stop_ns)
		*stop_ns = stop.pause_ns;
	return rc;
}

static int unhook(const struct silt_survey *s, const struct remains *r, uint64_t *stop_ns, struct silt_error *err)
{
	uint64_t start = silt_now_ns();
	pid_t inside = 0;

	for (long wait = 100000;; wait = wait < 20000000 ? wait * 2 : wait) {
		struct timespec t = { 0, wait };
		int rc = look_inside(s, r, wait == 100000, &inside, stop_ns, err);

		if (rc || !inside)
			return rc;
		if (silt_now_ns() - start > LEAVE_NS)
			return silt_error_set(err, SILT_E_LIMIT,
					      "process %d is not tracked any more, but thread %d has not left the agent's code for %llu "
					      "seconds, so that stays mapped: try `silt detach %d` again later",
					      s->pid, inside, LEAVE_NS / 1000000000ull, s->pid);
		nanosleep(&t, NULL);
	}
}

static int unmap(struct silt_inject *in, silt_addr start, silt_addr end, struct silt_error *err)
{
	const uint64_t args[6] = { start, end - start };
	int64_t value;
	int rc = silt_inject_call(in, SYS_munmap, args, &value, err);

	if (!rc && value)
		rc = silt_error_os(err, (int)-value, "process %d cannot unmap the agent", in->pid);
	return rc;
}

/* The head goes last: until then it tells what else there is. */
static int unmap_all(struct silt_inject *in, const struct remains *r, struct silt_error *err)
{
	const struct silt_head *h = &r->head;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < r->fd_count; i++) {
		const uint64_t args[6] = { (uint64_t)r->fds[i] };
		int64_t value;

		rc = silt_inject_call(in, SYS_close, args, &value, err);
	}
	for (uint32_t i = 0; !rc && r->agent_count && i < r->db_count; i++)
		rc = unmap(in, r->db[i].start, r->db[i].end, err);
	for (uint32_t i = 0; !rc && i < r->agent_count; i++)
		if (!h->magic || r->agent[i].start < h->base || r->agent[i].start >= h->base + h->size)
			rc = unmap(in, r->agent[i].start, r->agent[i].end, err);
	if (!rc && h->magic)
		rc = unmap(in, h->base, h->base + h->size, err);
	return rc;
}

static int take_out(const struct silt_survey *s, struct remains *r, uint64_t *stop_ns, struct silt_error *err)
{
	struct silt_inject in;
	silt_addr stub = silt_survey_slack(s, SILT_STUB_SIZE);
	int rc;

	rc = unhook(s, r, stop_ns, err);
	if (!rc && r->stub)
		rc = write_target(s, r->stub, r->under_stub, sizeof(r->under_stub), err);
	if (rc || !(r->agent_count || r->fd_count))
		return rc;
	rc = silt_inject_begin(&in, s->pid, s->mem, err);
	if (!rc && s->status.seccomp)
		rc = silt_seccomp_check(s->pid, in.tid, stub, true, err);
	if (!rc)
		rc = silt_inject_arm(&in, stub, err);
	if (!rc)
		rc = unmap_all(&in, r, err);
	silt_inject_end(&in);
	if (in.stop_ns > *stop_ns)
		*stop_ns = in.stop_ns;
	return rc;
}

int silt_detach(pid_t pid, uint64_t *ret_stop_ns, struct silt_error *err)
{
	struct remains *r = malloc(sizeof(*r));
	uint64_t stop_ns = 0;
	struct silt_survey s;
	int rc = r ? silt_survey_open(pid, &s, err) : silt_error_set(err, SILT_E_NOMEM, "out of memory");

	if (rc) {
		free(r);
		return rc;
	}
	look(&s, r);
	if (r->foreign && !r->head.magic)
		rc = silt_error_set(err, SILT_E_UNSUPPORTED,
				    "another version of silt is attached to process %d: detach with that one", pid);
	else if (!r->agent_count && !r->stub && !r->fd_count)
		rc = silt_error_set(err, SILT_E_NOT_FOUND, "silt is not attached to process %d (%s)", pid, s.status.name);
	else
		rc = take_out(&s, r, &stop_ns, err);
	if (ret_stop_ns)
		*ret_stop_ns = stop_ns;
	silt_survey_close(&s);
	free(r);
	return rc;
}
