/* SPDX-License-Identifier: MIT */
/* Finding the trace database that a running process writes to. */
#include "capture/find_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "capture/capture.h"
#include "capture/target/maps.h"
#include "capture/target/process.h"

static bool is_db_region(const struct silt_region *r)
{
	static const char name[] = "/memfd:" SILT_DB_NAME;

	return r->name && r->shared && !strncmp(r->name, name, sizeof(name) - 1) &&
	       (!r->name[sizeof(name) - 1] || r->name[sizeof(name) - 1] == ' ');
}

static bool read_target(pid_t pid, silt_addr addr, void *buf, size_t size)
{
	struct iovec local = { buf, size }, remote = { (void *)(uintptr_t)addr, size };

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* A forked child may still map its parent's slot: a slot is its own only when the database names its pid, as the launcher
 * numbers it: as we do, or, where we look from outside of the launcher's namespace, as the process itself. */
static bool owns_slot(pid_t pid, uint32_t ns_pid, const struct silt_target_db *db)
{
	struct silt_db_slot_entry entry;
	uint32_t db_pid;

	if (db->run && read_target(pid, db->run + offsetof(struct silt_db_run, slots) + db->slot * sizeof(entry), &entry,
				   sizeof(entry)))
		return entry.pid == (uint32_t)pid || entry.pid == ns_pid;
	if (read_target(pid, db->start + offsetof(struct silt_db, pid), &db_pid, sizeof(db_pid)))
		return db_pid == (uint32_t)pid || db_pid == ns_pid;
	return true; /* unreadable: the map is all there is */
}

/* A window begins at its slot's start. The run page, when it lies just before slot 0, is merged with it by the kernel. */
static bool slot_window(const struct silt_region *r, struct silt_target_db *db)
{
	uint64_t skip = r->file_offset < SILT_DB_SLOT_OFFSET ? SILT_DB_SLOT_OFFSET - r->file_offset : 0;
	uint64_t offset = r->file_offset + skip - SILT_DB_SLOT_OFFSET;

	if (skip >= r->end - r->start || offset % SILT_DB_SLOT_SIZE || offset / SILT_DB_SLOT_SIZE >= SILT_DB_SLOTS)
		return false;
	db->start = r->start + skip;
	db->slot = (uint32_t)(offset / SILT_DB_SLOT_SIZE);
	return true;
}

static int choose_slot(pid_t pid, const struct silt_maps *maps, struct silt_target_db *ret)
{
	struct silt_target_status st;
	silt_addr run = 0;
	bool foreign = false;

	if (silt_target_status(pid, &st, NULL))
		return SILT_E_NOT_FOUND;
	for (uint32_t i = 0; i < maps->count; i++)
		if (is_db_region(&maps->regions[i]) && maps->regions[i].file_offset == 0)
			run = maps->regions[i].start;
	for (uint32_t i = 0; i < maps->count; i++) {
		const struct silt_region *r = &maps->regions[i];
		struct silt_target_db db = { .run = run, .vma_start = r->start, .vma_end = r->end, .end = r->end };

		if (!is_db_region(r) || !slot_window(r, &db))
			continue;
		db.inode = r->inode;
		if (owns_slot(pid, st.ns_pid, &db)) {
			*ret = db;
			return 0;
		}
		foreign = true;
	}
	return foreign || run ? SILT_E_LIMIT : SILT_E_NOT_FOUND;
}

int silt_target_db_find(pid_t pid, struct silt_target_db *ret, struct silt_error *err)
{
	struct silt_maps maps;
	struct silt_target_status st;
	struct silt_error e;
	int rc = silt_target_status(pid, &st, err);

	if (rc)
		return rc;
	if (silt_maps_read(pid, &maps, &e)) {
		if (e.errnum == EACCES || e.errnum == EPERM)
			return silt_error_os(err, e.errnum,
					     "cannot look into process %d (%s): it belongs to uid %u or protects itself; try "
					     "as root",
					     pid, st.name, st.uid);
		return silt_error_os(err, e.errnum, "cannot read the memory map of process %d", pid);
	}
	rc = choose_slot(pid, &maps, ret);
	silt_maps_deinit(&maps);
	if (st.state == 'Z' || st.state == 'X')
		return silt_error_set(err, SILT_E_NOT_FOUND, "process %d (%s) has ended", pid, st.name);
	if (rc == SILT_E_LIMIT)
		return silt_error_set(err, SILT_E_NOT_FOUND,
				      "process %d (%s) has no trace database of its own yet: it was forked and has not "
				      "allocated since, or all slots were taken",
				      pid, st.name);
	if (rc)
		return silt_error_set(err, SILT_E_NOT_FOUND,
				      "process %d (%s) is not tracked: `silt attach %d`, or start it with `silt run`", pid, st.name,
				      pid);
	return rc;
}

static int open_checked(const char *path, uint64_t inode)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (!fstat(fd, &st) && st.st_ino == inode && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	errno = ESTALE;
	return -1;
}

int silt_target_db_open(pid_t pid, const struct silt_target_db *db, int *ret_fd, struct silt_error *err)
{
	char path[96];
	struct {
		uint64_t magic;
		uint32_t version, launcher_pid;
		int32_t launcher_fd;
	} head;
	int fd, e;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)db->vma_start,
		 (unsigned long long)db->vma_end);
	fd = open_checked(path, db->inode);
	e = errno;
	if (fd < 0 && db->run && read_target(pid, db->run, &head, sizeof(head)) && head.magic == SILT_DB_RUN_MAGIC) {
		snprintf(path, sizeof(path), "/proc/%u/fd/%d", head.launcher_pid, head.launcher_fd);
		fd = open_checked(path, db->inode);
		e = errno;
	}
	if (fd < 0)
		return silt_error_os(err, e, "cannot open the trace database of process %d", pid);
	*ret_fd = fd;
	return 0;
}

int silt_target_find_db(pid_t pid, int *ret_fd, uint32_t *ret_slot, struct silt_error *err)
{
	struct silt_target_db db;
	int rc = silt_target_db_find(pid, &db, err);

	if (rc)
		return rc;
	/* Without a descriptor the database can still be read through the process: silt_copy_live takes -1 for that. */
	if (silt_target_db_open(pid, &db, ret_fd, NULL))
		*ret_fd = -1;
	*ret_slot = db.slot;
	return 0;
}
