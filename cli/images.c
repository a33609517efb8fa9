/* SPDX-License-Identifier: MIT */
/* Which process images hold which slot of the trace database, and when they are over. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/target/process.h"
#include "cli/supervise.h"

int silt_images_init(struct silt_images *im, struct silt_run *run, pid_t main_pid)
{
	memset(im, 0, sizeof(*im));
	im->run = run;
	im->main_pid = main_pid;
	im->slots = calloc(SILT_DB_SLOTS, sizeof(*im->slots));
	return im->slots ? 0 : SILT_E_NOMEM;
}

void silt_images_forget(struct silt_images *im, uint32_t slot)
{
	struct silt_image *i = &im->slots[slot];

	if (i->pidfd >= 0 && i->used)
		close(i->pidfd);
	memset(i, 0, sizeof(*i));
	i->pidfd = -1;
}

void silt_images_deinit(struct silt_images *im)
{
	for (uint32_t i = 0; im->slots && i < SILT_DB_SLOTS; i++)
		if (im->slots[i].used)
			silt_images_forget(im, i);
	free(im->slots);
	im->slots = NULL;
}

bool silt_images_any(const struct silt_images *im)
{
	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++)
		if (im->slots[i].used)
			return true;
	return false;
}

int silt_images_find(const struct silt_images *im, pid_t pid)
{
	int found = -1;

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++)
		if (im->slots[i].used && im->slots[i].pid == pid &&
		    (found < 0 || im->slots[i].serial > im->slots[found].serial))
			found = (int)i;
	return found;
}

static bool has_ended(const struct silt_image *i)
{
	struct pollfd p = { .fd = i->pidfd, .events = POLLIN };

	return i->gone || (i->pidfd >= 0 && poll(&p, 1, 0) == 1);
}

static int64_t slot_start(const struct silt_images *im, uint32_t slot)
{
	int64_t start = 0;

	if (pread(silt_run_fd(im->run), &start, sizeof(start),
		  (off_t)(SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE + offsetof(struct silt_db, start_ns))) !=
	    sizeof(start))
		return 0;
	return start;
}

static void register_image(struct silt_images *im, uint32_t slot, pid_t pid)
{
	struct silt_image *i = &im->slots[slot];

	if (slot == 0 && im->first_pid)
		pid = im->first_pid;
	i->used = true;
	i->pid = pid;
	i->start_ns = slot_start(im, slot);
	i->serial = silt_run_page(im->run)->slots[slot].serial;
	/* The main program is our child: waitpid tells of its end, and how it ended. */
	i->pidfd = pid == im->main_pid ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	i->gone = pid != im->main_pid && i->pidfd < 0 && errno == ESRCH; /* before we came */
}

/* An image that ran another program by exec is over, and its successor is what the user wants to see: a later image of the same
 * process. When that process lives and this one does not, the number was used again. */
static bool was_replaced(const struct silt_images *im, const struct silt_image *old)
{
	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		const struct silt_image *later = &im->slots[i];

		if (later->used && later->pid == old->pid && later->serial > old->serial && (!has_ended(old) || has_ended(later)))
			return true;
	}
	return false;
}

/* A slot whose owner died between claiming it and setting it up. Only a dead process's slot stays as it is: while it was asked
 * for, it may have set the slot up, lived and ended. */
static void sweep_claimed(struct silt_images *im, uint32_t slot, pid_t pid)
{
	const struct silt_db_run *page = silt_run_page(im->run);
	struct silt_target_status st;

	if (pid && silt_target_status(pid, &st, NULL) == SILT_E_NOT_FOUND &&
	    __atomic_load_n(&page->slots[slot].state, __ATOMIC_ACQUIRE) == SILT_SLOT_CLAIMED &&
	    page->slots[slot].pid == (uint32_t)pid)
		silt_run_recycle(im->run, slot, NULL);
}

/* Has the process come to another image since the last look at the slots? */
static bool claimed_later(const struct silt_images *im, const struct silt_image *old)
{
	const struct silt_db_run *page = silt_run_page(im->run);

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++)
		if (__atomic_load_n(&page->slots[i].state, __ATOMIC_ACQUIRE) != SILT_SLOT_FREE && !im->slots[i].used &&
		    page->slots[i].pid == (uint32_t)old->pid && page->slots[i].serial > old->serial)
			return true;
	return false;
}

/* The last image of a process is about to be dumped: earlier ones, also those whose slot was passed by before it was claimed, must
 * not come after it. */
static void drop_earlier(struct silt_images *im, const struct silt_image *last)
{
	const struct silt_db_run *page = silt_run_page(im->run);

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		if (__atomic_load_n(&page->slots[i].state, __ATOMIC_ACQUIRE) != SILT_SLOT_ACTIVE ||
		    page->slots[i].pid != (uint32_t)last->pid || page->slots[i].serial >= last->serial)
			continue;
		if (im->slots[i].used)
			silt_images_forget(im, i);
		silt_run_recycle(im->run, i, NULL);
	}
}

static void look_for_new(struct silt_images *im)
{
	const struct silt_db_run *page = silt_run_page(im->run);

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		uint32_t state = __atomic_load_n(&page->slots[i].state, __ATOMIC_ACQUIRE);
		pid_t pid = (pid_t)page->slots[i].pid;

		if (state == SILT_SLOT_ACTIVE && !im->slots[i].used)
			register_image(im, i, pid);
		else if (state == SILT_SLOT_CLAIMED)
			sweep_claimed(im, i, pid);
	}
}

/* A process may fork, become another program and end between two looks: an image is only taken for ended when its process had
 * no later one, and that is asked after its end was seen. False: one such came up, so look again. */
static bool look_for_ended(struct silt_images *im)
{
	bool settled = true;

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		if (!im->slots[i].used)
			continue;
		if (was_replaced(im, &im->slots[i])) {
			silt_images_forget(im, i);
			silt_run_recycle(im->run, i, NULL);
		} else if (has_ended(&im->slots[i])) {
			if (claimed_later(im, &im->slots[i])) {
				settled = false;
				continue;
			}
			drop_earlier(im, &im->slots[i]);
			im->ended(im->data, i);
		}
	}
	return settled;
}

void silt_images_scan(struct silt_images *im)
{
	silt_run_settle(im->run);
	/* Each round sees one more image of a process; none becomes more than a few programs in that time. */
	for (int round = 0; round < 8; round++) {
		look_for_new(im);
		if (look_for_ended(im))
			return;
	}
}
