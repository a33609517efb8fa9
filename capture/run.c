/* SPDX-License-Identifier: MIT */
/* The launcher's side of the trace database: the memfd, its run page, the environment that leads an agent to it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture/capture.h"

struct silt_run {
	int fd;
	struct silt_db_run *page;
};

/* Low numbers are for the target: it inherits none of ours, but people look at /proc/PID/fd and scripts use 3 to 9. */
#define FD_FROM 100

static int make_memfd(struct silt_error *err)
{
	int fd = memfd_create(SILT_DB_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING), high;

	if (fd < 0)
		return silt_error_os(err, errno, "cannot create the trace database (memfd)");
	high = fcntl(fd, F_DUPFD_CLOEXEC, FD_FROM);
	if (high >= 0) {
		close(fd);
		fd = high;
	}
	if (ftruncate(fd, (off_t)SILT_DB_FILE_SIZE)) {
		int e = errno;

		close(fd);
		return silt_error_os(err, e, "cannot size the trace database to %llu GB of address space",
				     (unsigned long long)(SILT_DB_FILE_SIZE >> 30));
	}
	/* A file that cannot shrink can be read through a mapping without fear of SIGBUS. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return fd;
}

static void fill_page(struct silt_run *r, const struct silt_db_options *options, uint64_t inode)
{
	struct silt_db_run *p = r->page;
	uint64_t id[2];

	if (getrandom(id, sizeof(id), 0) != sizeof(id)) {
		id[0] = (uint64_t)getpid() << 32 ^ inode;
		id[1] = ~id[0];
	}
	p->version = SILT_DB_VERSION;
	p->launcher_pid = (uint32_t)getpid();
	p->launcher_fd = r->fd;
	p->run_id = id[0] ? id[0] : 1;
	p->inode = inode;
	p->options = *options;
	if (!p->options.max_depth)
		p->options.max_depth = SILT_DB_DEFAULT_DEPTH;
	if (p->options.max_depth > SILT_DB_MAX_DEPTH)
		p->options.max_depth = SILT_DB_MAX_DEPTH;
	snprintf(p->socket, sizeof(p->socket), "silt-%016llx", (unsigned long long)id[1]);
	__atomic_store_n(&p->magic, SILT_DB_RUN_MAGIC, __ATOMIC_RELEASE);
}

int silt_run_create(const struct silt_db_options *options, struct silt_run **ret, struct silt_error *err)
{
	struct silt_run *r = calloc(1, sizeof(*r));
	struct stat st;
	int e;

	_Static_assert(sizeof(struct silt_db_run) <= SILT_DB_RUN_SIZE, "the run page does not fit its area");
	if (!r)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	r->fd = make_memfd(err);
	if (r->fd < 0) {
		int rc = r->fd;

		free(r);
		return rc;
	}
	r->page = mmap(NULL, SILT_DB_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (r->page == MAP_FAILED || fstat(r->fd, &st)) {
		e = errno;
		if (r->page == MAP_FAILED)
			r->page = NULL;
		silt_run_destroy(r);
		return silt_error_os(err, e, "cannot map the trace database");
	}
	fill_page(r, options, st.st_ino);
	*ret = r;
	return 0;
}

void silt_run_destroy(struct silt_run *run)
{
	if (!run)
		return;
	if (run->page)
		munmap(run->page, SILT_DB_RUN_SIZE);
	close(run->fd);
	free(run);
}

struct silt_db_run *silt_run_page(struct silt_run *run)
{
	return run->page;
}

int silt_run_fd(const struct silt_run *run)
{
	return run->fd;
}

int silt_run_environment(const struct silt_run *run, const char *agent, const char *preload, char *ret_agent_env,
			 size_t agent_size, char *ret_preload_env, size_t preload_size, struct silt_error *err)
{
	const struct silt_db_run *p = run->page;
	int n, m;

	/* ld.so splits LD_PRELOAD at spaces and colons and knows no escapes. */
	if (strpbrk(agent, " :"))
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "the agent's path %s holds a space or colon, which LD_PRELOAD cannot carry: move silt",
				      agent);
	n = snprintf(ret_agent_env, agent_size, SILT_DB_ENV "=%u:%d:%llu:%016llx", p->launcher_pid, p->launcher_fd,
		     (unsigned long long)p->inode, (unsigned long long)p->run_id);
	m = snprintf(ret_preload_env, preload_size, "LD_PRELOAD=%s%s%s", agent, preload && *preload ? ":" : "",
		     preload ? preload : "");
	if (n < 0 || (size_t)n >= agent_size || m < 0 || (size_t)m >= preload_size)
		return silt_error_set(err, SILT_E_LIMIT, "LD_PRELOAD is too long");
	return 0;
}

int silt_run_recycle(struct silt_run *run, uint32_t slot, struct silt_error *err)
{
	struct silt_db_run *p = run->page;

	if (slot >= SILT_DB_SLOTS)
		return silt_error_set(err, SILT_E_INVAL, "slot %u does not exist", slot);
	if (fallocate(run->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)(SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE), (off_t)SILT_DB_SLOT_SIZE))
		return silt_error_os(err, errno, "cannot free slot %u of the trace database", slot);
	for (uint32_t i = 0; i < SILT_DB_RUN_MARKS; i++)
		if (p->marks[i].state == 2 && p->marks[i].slot == slot)
			p->marks[i].slot = SILT_NONE;
	p->slots[slot].pid = 0;
	__atomic_store_n(&p->slots[slot].state, SILT_SLOT_FREE, __ATOMIC_RELEASE);
	return 0;
}
