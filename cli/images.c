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

int silt_images_find(const struct silt_images *im, pid_t pid)
{
	int found = -1;

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++)
		if (im->slots[i].used && im->slots[i].pid == pid &&
		    (found < 0 || im->slots[i].start_ns > im->slots[found].start_ns))
			found = (int)i;
	return found;
}

static bool has_ended(const struct silt_image *i)
{
	struct pollfd p = { .fd = i->pidfd, .events = POLLIN };

	return i->pidfd >= 0 && poll(&p, 1, 0) == 1;
}

/* An image that ran another program by exec is over, and its successor is what the user wants to see. */
static bool drop_predecessors(struct silt_images *im, uint32_t slot)
{
	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		struct silt_image *old = &im->slots[i];

		if (i == slot || !old->used || old->pid != im->slots[slot].pid)
			continue;
		if (has_ended(old)) { /* not a predecessor: the number was used again */
			im->ended(im->data, i);
			continue;
		}
		/* Slots are met in order of their numbers, not of their claims: this one may be the predecessor. */
		if (old->serial > im->slots[slot].serial) {
			silt_images_forget(im, slot);
			silt_run_recycle(im->run, slot, NULL);
			return false;
		}
		silt_images_forget(im, i);
		silt_run_recycle(im->run, i, NULL);
	}
	return true;
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
	bool gone;

	i->used = true;
	i->pid = pid;
	i->start_ns = slot_start(im, slot);
	i->serial = silt_run_page(im->run)->slots[slot].serial;
	/* The main program is our child: waitpid tells of its end, and how it ended. */
	i->pidfd = pid == im->main_pid ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	gone = i->pidfd < 0 && errno == ESRCH;
	if (drop_predecessors(im, slot) && pid != im->main_pid && gone)
		im->ended(im->data, slot); /* it was gone before we came */
}

/* A slot whose owner died between claiming it and setting it up. */
static void sweep_claimed(struct silt_images *im, uint32_t slot, pid_t pid)
{
	struct silt_target_status st;

	if (pid && silt_target_status(pid, &st, NULL) == SILT_E_NOT_FOUND)
		silt_run_recycle(im->run, slot, NULL);
}

void silt_images_scan(struct silt_images *im)
{
	struct silt_db_run *page = silt_run_page(im->run);

	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++)
		if (im->slots[i].used && has_ended(&im->slots[i]))
			im->ended(im->data, i);
	for (uint32_t i = 0; i < SILT_DB_SLOTS; i++) {
		uint32_t state = __atomic_load_n(&page->slots[i].state, __ATOMIC_ACQUIRE);
		pid_t pid = (pid_t)page->slots[i].pid;

		if (state == SILT_SLOT_ACTIVE && !im->slots[i].used)
			register_image(im, i, pid);
		else if (state == SILT_SLOT_CLAIMED)
			sweep_claimed(im, i, pid);
	}
}
