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
#include <time.h>
#include <unistd.h>

#include "capture/capture.h"

/* A slot that nobody wants any more stays as it is for so long while forked children may still want to copy it: one that never
 * allocates, or ended first, cannot say that it does not. */
#define LEAVE_NS 3000000000ll
#define LEAVE_MAX 256u

struct silt_run {
	int fd;
	struct silt_db_run *page;
	int64_t leave_ns[SILT_DB_SLOTS]; /* CLOCK_MONOTONIC: until then; 0: not waited for */
	uint32_t leaving;
};

/* Low numbers are for the target: it inherits none of ours, but people look at /proc/PID/fd and scripts use 3 to 9. */
#define FD_FROM 100

/* A file that cannot shrink can be read through a mapping without fear of SIGBUS. */
static int size_memfd(int fd, struct silt_error *err)
{
	if (ftruncate(fd, (off_t)SILT_DB_FILE_SIZE))
		return silt_error_os(err, errno, "cannot size the trace database to %llu GB of address space",
				     (unsigned long long)(SILT_DB_FILE_SIZE >> 30));
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return 0;
}

static int make_memfd(struct silt_error *err)
{
	int fd = memfd_create(SILT_DB_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING), high, rc;

	if (fd < 0)
		return silt_error_os(err, errno, "cannot create the trace database (memfd)");
	high = fcntl(fd, F_DUPFD_CLOEXEC, FD_FROM);
	if (high >= 0) {
		close(fd);
		fd = high;
	}
	rc = size_memfd(fd, err);
	if (rc)
		close(fd);
	return rc ? rc : fd;
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

/* Takes fd over. */
static int open_run(int fd, const struct silt_db_options *options, struct silt_run **ret, struct silt_error *err)
{
	struct silt_run *r = calloc(1, sizeof(*r));
	struct stat st;
	int e;

	_Static_assert(sizeof(struct silt_db_run) <= SILT_DB_RUN_SIZE, "the run page does not fit its area");
	if (!r) {
		close(fd);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	}
	r->fd = fd;
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

int silt_run_create(const struct silt_db_options *options, struct silt_run **ret, struct silt_error *err)
{
	int fd = make_memfd(err);

	return fd < 0 ? fd : open_run(fd, options, ret, err);
}

int silt_run_adopt(int fd, const struct silt_db_options *options, struct silt_run **ret, struct silt_error *err)
{
	int rc = size_memfd(fd, err);

	if (rc)
		close(fd);
	return rc ? rc : open_run(fd, options, ret, err);
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

bool silt_run_asan_environment(const char *old, char *ret, size_t size)
{
	int n = snprintf(ret, size, SILT_DB_ASAN "%s%s" SILT_DB_ASAN_OPTION, old ? old : "", old ? ":" : "");

	return n > 0 && (size_t)n < size;
}

void silt_run_from_start(struct silt_run *run)
{
	uint32_t attached = SILT_DB_ATTACHED_AT_START;
	off_t at = (off_t)(SILT_DB_SLOT_OFFSET + offsetof(struct silt_db, attached));

	run->page->from_start = 1;
	if (pwrite(run->fd, &attached, sizeof(attached), at) != sizeof(attached))
		return; /* then reports warn of blocks that are not there */
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* What it copied from its parent makes room for others. */
static void give_back(struct silt_run *run, uint32_t slot)
{
	off_t base = (off_t)(SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE);
	uint32_t inherit = 0;
	uint64_t cost = 0;

	if (pread(run->fd, &inherit, sizeof(inherit), base + (off_t)offsetof(struct silt_db, inherit)) == sizeof(inherit) &&
	    inherit == SILT_INHERIT_DONE &&
	    pread(run->fd, &cost, sizeof(cost), base + (off_t)offsetof(struct silt_db, inherited_cost)) == sizeof(cost))
		__atomic_fetch_sub(&run->page->inherited, cost, __ATOMIC_RELAXED);
}

/* The state is set first: a child that copies it looks at that when it has done so. */
static int clear_slot(struct silt_run *run, uint32_t slot, struct silt_error *err)
{
	struct silt_db_run *p = run->page;

	if (run->leave_ns[slot]) {
		run->leave_ns[slot] = 0;
		run->leaving--;
	}
	__atomic_store_n(&p->slots[slot].state, SILT_SLOT_CLEARING, __ATOMIC_SEQ_CST);
	give_back(run, slot);
	if (fallocate(run->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)(SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE), (off_t)SILT_DB_SLOT_SIZE))
		return silt_error_os(err, errno, "cannot free slot %u of the trace database", slot);
	__atomic_store_n(&p->slots[slot].state, SILT_SLOT_FREE, __ATOMIC_RELEASE);
	return 0;
}

int silt_run_recycle(struct silt_run *run, uint32_t slot, struct silt_error *err)
{
	struct silt_db_run *p = run->page;

	if (slot >= SILT_DB_SLOTS)
		return silt_error_set(err, SILT_E_INVAL, "slot %u does not exist", slot);
	for (uint32_t i = 0; i < SILT_DB_RUN_MARKS; i++)
		if (p->marks[i].state == 2 && p->marks[i].slot == slot)
			p->marks[i].slot = SILT_NONE;
	p->slots[slot].pid = 0;
	__atomic_store_n(&p->slots[slot].state, SILT_SLOT_LEAVING, __ATOMIC_RELEASE);
	if (!SILT_DB_FORKS(__atomic_load_n(&p->slots[slot].forks, __ATOMIC_ACQUIRE)) || run->leaving == LEAVE_MAX)
		return clear_slot(run, slot, err);
	run->leave_ns[slot] = now_ns() + LEAVE_NS;
	run->leaving++;
	return 0;
}

void silt_run_settle(struct silt_run *run)
{
	for (uint32_t i = 0; run->leaving && i < SILT_DB_SLOTS; i++)
		if (run->leave_ns[i] && (!SILT_DB_FORKS(__atomic_load_n(&run->page->slots[i].forks, __ATOMIC_ACQUIRE)) ||
					 now_ns() >= run->leave_ns[i]))
			clear_slot(run, i, NULL);
}

#define PART 65536u

/* Adds the word at `field` of each of count records of `size` bytes at a file offset. */
static int add_words(int fd, uint64_t at, uint64_t count, size_t size, size_t field, uint64_t *sum)
{
	uint8_t part[PART];

	while (count) {
		uint64_t n = count < PART / size ? count : PART / size;

		if (pread(fd, part, n * size, (off_t)at) != (ssize_t)(n * size))
			return SILT_E_OS;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t word;

			memcpy(&word, part + i * size + field, sizeof(word));
			*sum += word;
		}
		at += n * size;
		count -= n;
	}
	return 0;
}

/* Contexts, and what the threads' caches hold that is not flushed yet. */
int silt_run_allocated(const struct silt_run *run, uint32_t slot, uint64_t *ret_bytes)
{
	uint64_t base = SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE, sum = 0;
	struct silt_db *db = malloc(sizeof(*db));
	int rc = db && pread(run->fd, db, sizeof(*db), (off_t)base) == sizeof(*db) ? 0 : SILT_E_OS;

	for (uint32_t i = 0; !rc && i < SILT_DB_CONTEXT_SEGS && i * SILT_DB_CONTEXT_SEG < db->context_count; i++)
		if (db->context_segs[i])
			rc = add_words(run->fd, base + db->context_segs[i] * SILT_DB_UNIT, SILT_DB_CONTEXT_SEG,
				       sizeof(struct silt_db_context), offsetof(struct silt_db_context, alloc_bytes), &sum);
	for (uint32_t i = 0; !rc && db->thread_ref && i < db->thread_count && i < SILT_DB_THREADS_MAX; i++) {
		struct silt_db_thread t;

		if (pread(run->fd, &t, sizeof(t), (off_t)(base + db->thread_ref * SILT_DB_UNIT + i * sizeof(t))) != sizeof(t))
			rc = SILT_E_OS;
		else if (t.cache_ref && t.cache_size <= 1u << 20)
			rc = add_words(run->fd, base + t.cache_ref * SILT_DB_UNIT, t.cache_size, sizeof(struct silt_db_cache_entry),
				       offsetof(struct silt_db_cache_entry, alloc_bytes), &sum);
	}
	free(db);
	*ret_bytes = sum;
	return rc;
}
