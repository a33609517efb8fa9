/* SPDX-License-Identifier: MIT */
/* Copying the used parts of a slot into private memory. */
#include "capture/copy_internal.h"
#include "capture/untracked.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* From here on a second thread pays for its start. */
#define PARALLEL_MIN (32ull << 20)

struct silt_copy *silt_copy_new(pid_t pid)
{
	struct silt_copy *c = calloc(1, sizeof(*c));

	if (c) {
		c->pid = pid;
		c->method = "exit";
	}
	return c;
}

void silt_copy_destroy(struct silt_copy *c)
{
	if (!c)
		return;
	if (c->bytes)
		munmap(c->bytes, c->reserved);
	if (c->source)
		munmap((void *)c->source, c->source_size);
	silt_maps_deinit(&c->maps);
	silt_modules_deinit(&c->modules);
	if (c->walked)
		silt_walked_deinit(c->walked);
	free(c->walked);
	free(c->extents.list);
	free(c->threads);
	free(c->argv);
	free(c);
}

void silt_copy_set_ending(struct silt_copy *c, const char *ending)
{
	snprintf(c->ending, sizeof(c->ending), "%s", ending);
}

void silt_copy_set_time(struct silt_copy *c, int64_t time_ns)
{
	c->capture_ns = time_ns;
}

void silt_copy_set_note(struct silt_copy *c, const char *note)
{
	snprintf(c->note, sizeof(c->note), "%s", note);
}

void silt_copy_set_method(struct silt_copy *c, const char *method)
{
	c->method = method;
}

void silt_copy_read_process(struct silt_copy *c)
{
	if (silt_target_status(c->pid, &c->status, NULL))
		return;
	silt_target_exe(c->pid, c->exe, sizeof(c->exe));
	c->argv = silt_target_argv(c->pid);
	c->start_ns = silt_target_start_ns(c->pid);
	c->threads_known = !silt_target_threads(c->pid, true, &c->threads, &c->thread_count, NULL);
}

int silt_copy_reserve(struct silt_copy *c, uint64_t bytes, struct silt_error *err)
{
	void *p;

	if (bytes <= c->reserved)
		return 0;
	if (c->bytes)
		p = mremap(c->bytes, c->reserved, bytes, MREMAP_MAYMOVE);
	else
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory copying a database of %llu MB",
				      (unsigned long long)(bytes >> 20));
	c->bytes = p;
	c->reserved = bytes;
	return 0;
}

static off_t slot_offset(uint32_t slot)
{
	return (off_t)(SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE);
}

int silt_slot_used(int db_fd, uint32_t slot, uint64_t *ret, struct silt_error *err)
{
	struct {
		uint64_t magic;
		uint32_t version;
	} head;
	uint64_t used;

	if (slot >= SILT_DB_SLOTS)
		return silt_error_set(err, SILT_E_INVAL, "slot %u does not exist", slot);
	if (pread(db_fd, &head, sizeof(head), slot_offset(slot)) != sizeof(head) ||
	    pread(db_fd, &used, sizeof(used), slot_offset(slot) + (off_t)offsetof(struct silt_db, used)) != sizeof(used))
		return silt_error_os(err, errno ? errno : EIO, "cannot read slot %u of the trace database", slot);
	if (!head.magic)
		return silt_error_set(err, SILT_E_NOT_FOUND, "slot %u of the trace database holds nothing yet", slot);
	if (head.magic != SILT_DB_MAGIC)
		return silt_error_set(err, SILT_E_BAD_DATA, "slot %u is no trace database", slot);
	if (head.version != SILT_DB_VERSION)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "the trace database has version %u, this silt reads version %u: use the silt that "
				      "started the program",
				      head.version, SILT_DB_VERSION);
	if (used < sizeof(struct silt_db))
		used = sizeof(struct silt_db);
	if (used > SILT_DB_SLOT_SIZE)
		used = SILT_DB_SLOT_SIZE;
	*ret = used;
	return 0;
}

static int add_extent(struct silt_extents *x, uint64_t start, uint64_t end, struct silt_error *err)
{
	if (x->count && start == x->list[x->count - 1].end) {
		x->bytes += end - x->list[x->count - 1].end;
		x->list[x->count - 1].end = end;
		return 0;
	}
	if (x->count == x->capacity) {
		uint64_t capacity = x->capacity ? x->capacity * 2 : 1024;
		struct silt_extent *more = realloc(x->list, capacity * sizeof(*more));

		if (!more)
			return silt_error_set(err, SILT_E_NOMEM, "out of memory copying the trace database");
		x->list = more;
		x->capacity = capacity;
	}
	x->list[x->count++] = (struct silt_extent){ start, end };
	x->bytes += end - start;
	return 0;
}

/* Where the slot holds data. Never touches a hole: SEEK_DATA asks, it does not read. */
static int find_extents(struct silt_extents *x, int fd, uint32_t slot, uint64_t used, struct silt_error *err)
{
	off_t base = slot_offset(slot), limit = base + (off_t)used;

	x->count = 0;
	x->bytes = 0;
	for (off_t pos = base; pos < limit;) {
		off_t data = lseek(fd, pos, SEEK_DATA), hole;
		int rc;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			return silt_error_os(err, errno, "cannot look for data in the trace database");
		if (data >= limit)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || hole > limit)
			hole = limit;
		rc = add_extent(x, (uint64_t)(data - base), (uint64_t)(hole - base), err);
		if (rc)
			return rc;
		pos = hole;
	}
	return 0;
}

struct reader {
	struct silt_copy *c;
	int fd;
	uint64_t skip, bytes; /* of the extents laid end to end */
	int errnum;
};

#define BORROW_MIN (64u << 10) /* smaller parts are cheaper to copy than to map */

/* Puts a part of the slot in its place by mapping it. Decoding only reads, and not all of it: the kernel maps the pages around the
 * one that is read, which costs less than to have all of them mapped at once. */
static bool borrow(struct silt_copy *c, int fd, struct silt_extent x)
{
	return mmap(c->bytes + x.start, x.end - x.start, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
		    slot_offset(c->slot) + (off_t)x.start) != MAP_FAILED;
}

/* Extents that are to be mapped, with small holes between them, become one. A hole that is read then takes memory, but never more
 * than the data beside it. */
static void join_extents(struct silt_extents *x)
{
	uint64_t n = 0;

	for (uint64_t i = 1; i < x->count; i++) {
		struct silt_extent *last = &x->list[n], next = x->list[i];
		uint64_t hole = next.start - last->end;

		if (hole <= BORROW_MIN && hole <= last->end - last->start && hole <= next.end - next.start) {
			last->end = next.end;
			x->bytes += hole;
		} else {
			x->list[++n] = next;
		}
	}
	x->count = x->count ? n + 1 : 0;
}

static void *read_part(void *arg)
{
	struct reader *r = arg;
	uint64_t skip = r->skip, left = r->bytes;

	for (uint64_t i = 0; i < r->c->extents.count && left; i++) {
		struct silt_extent x = r->c->extents.list[i];

		if (skip >= x.end - x.start) {
			skip -= x.end - x.start;
			continue;
		}
		x.start += skip;
		skip = 0;
		if (x.end - x.start > left)
			x.end = x.start + left;
		if (r->c->ended && x.end - x.start >= BORROW_MIN && borrow(r->c, r->fd, x)) {
			left -= x.end - x.start;
			continue;
		}
		if (x.end <= r->c->source_size) {
			memcpy(r->c->bytes + x.start, r->c->source + x.start, x.end - x.start);
			left -= x.end - x.start;
			continue;
		}
		while (x.start < x.end) {
			ssize_t n = pread(r->fd, r->c->bytes + x.start, x.end - x.start,
					  slot_offset(r->c->slot) + (off_t)x.start);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0) {
				r->errnum = n ? errno : EIO;
				return NULL;
			}
			x.start += (uint64_t)n;
			left -= (uint64_t)n;
		}
	}
	return NULL;
}

/* Copying out of a mapping takes half the time of reading the file. Only places that hold data are ever touched: a hole
 * that is read through a mapping becomes memory of the target's. The whole slot is mapped, for it grows. */
void silt_copy_map_source(struct silt_copy *c, int db_fd)
{
	int seals = fcntl(db_fd, F_GET_SEALS);
	void *p;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return;
	p = mmap(NULL, SILT_DB_SLOT_SIZE, PROT_READ, MAP_SHARED | MAP_NORESERVE, db_fd, slot_offset(c->slot));
	if (p == MAP_FAILED)
		return;
	c->source = p;
	c->source_size = SILT_DB_SLOT_SIZE;
}

int silt_copy_pass(struct silt_copy *c, int db_fd, uint64_t used, struct silt_error *err)
{
	struct reader part[2] = { { c, db_fd, 0, 0, 0 }, { c, db_fd, 0, 0, 0 } };
	pthread_t second;
	bool parallel;
	int rc = silt_copy_reserve(c, (used + 65535) & ~65535ull, err);

	if (!rc)
		rc = find_extents(&c->extents, db_fd, c->slot, used, err);
	if (rc)
		return rc;
	if (c->ended)
		join_extents(&c->extents);
	parallel = !c->ended && c->extents.bytes >= PARALLEL_MIN; /* to map takes no time */
	part[0].bytes = parallel ? (c->extents.bytes / 2) & ~4095ull : c->extents.bytes;
	part[1].skip = part[0].bytes;
	part[1].bytes = c->extents.bytes - part[0].bytes;
	if (parallel && pthread_create(&second, NULL, read_part, &part[1])) {
		parallel = false;
		part[0].bytes = c->extents.bytes;
	}
	read_part(&part[0]);
	if (parallel)
		pthread_join(second, NULL);
	for (int i = 0; i < 2; i++)
		if (part[i].errnum)
			return silt_error_os(err, part[i].errnum, "cannot read the trace database");
	c->size = used;
	return 0;
}

int silt_copy_create(int db_fd, uint32_t slot, struct silt_copy **ret, struct silt_error *err)
{
	struct silt_copy *c = silt_copy_new(0);
	struct timespec t;
	uint64_t used;
	int rc;

	if (!c)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	c->slot = slot;
	c->ended = true;
	clock_gettime(CLOCK_REALTIME, &t);
	c->capture_ns = t.tv_sec * 1000000000ll + t.tv_nsec;
	rc = silt_slot_used(db_fd, slot, &used, err);
	if (!rc)
		silt_copy_map_source(c, db_fd);
	if (!rc)
		rc = silt_copy_pass(c, db_fd, used, err);
	if (rc) {
		silt_copy_destroy(c);
		return rc;
	}
	*ret = c;
	return 0;
}
