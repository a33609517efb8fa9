/* SPDX-License-Identifier: MIT */
/* The moment of change: all threads stand, the blocks of before are entered, and the jumps are written. */
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "capture/attach/attach.h"
#include "capture/attach/attach_internal.h"
#include "capture/attach/fault.h"

static int patch(struct silt_attach *a, struct silt_error *err)
{
	uint32_t hooked = SILT_HEAD_HOOKED;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < a->head.site_count; i++) {
		const struct silt_site *s = &a->head.sites[i];

		rc = silt_attach_write(a, s->moved.at, s->patched, sizeof(s->patched), err);
		silt_fault_point();
	}
	return rc ? rc : silt_attach_write(a, a->head.base + offsetof(struct silt_head, state), &hooked, sizeof(hooked), err);
}

#define BUSY_TRIES 20u
#define BUSY_NS 3000000000ull /* tries go on for that long: a thread may do little else than have large blocks mapped, each for long */
#define BUSY_PATIENT 5u /* tries that only look */
#define BREATH_NS 300000l
#define BREATH_MAX_NS 900000000ull

/* One that has a signal waiting would begin its handler. */
static bool any_free_to_direct(const struct silt_stop *stop)
{
	for (uint32_t i = 0; i < stop->count; i++)
		if (stop->threads[i].state == SILT_HELD_STOPPED && stop->threads[i].has_regs && !stop->threads[i].signal)
			return true;
	return false;
}

/* Stops all threads at a moment at which nobody changes the heap, or after some tries regardless. */
static int stop_all(struct silt_attach *a, const struct silt_attach_walk *walk, struct silt_stop *stop,
		    struct silt_attach_report *report, struct silt_error *err)
{
	uint64_t start = silt_now_ns();

	for (unsigned i = 1;; i++) {
		struct timespec breath = { 0 };
		int rc = silt_stop_seize(stop, a->survey.pid, err);

		if (!rc)
			silt_fault_point();
		if (!rc)
			rc = silt_stop_all(stop, err);
		if (rc)
			return rc;
		silt_fault_point();
		report->before_busy = walk->busy(walk->data, stop, i > BUSY_PATIENT);
		/* One that job control has stopped will not leave. */
		if (!report->before_busy && any_free_to_direct(stop))
			return 0;
		if (i >= BUSY_TRIES && (a->survey.status.state == 'T' || silt_now_ns() - start > BUSY_NS))
			return 0;
		silt_stop_release(stop);
		if (stop->pause_ns > report->stop_ns)
			report->stop_ns = stop->pause_ns;
		/* It works at least half of the time, however long this takes. */
		breath.tv_nsec = BREATH_NS + (long)(stop->pause_ns < BREATH_MAX_NS ? stop->pause_ns : BREATH_MAX_NS);
		nanosleep(&breath, NULL);
	}
}

/* The agent enters the blocks. ODD: it met a chunk that makes no sense. */
static int run_entering(struct silt_attach *a, const struct silt_attach_blocks *b, struct silt_agent_attach *ret, struct silt_error *err)
{
	struct silt_agent_attach *t = silt_image_attach(&a->image);
	int rc;

	t->blocks = b->offset;
	t->block_count = b->block_count;
	t->stretch_count = b->stretch_count;
	t->free_count = b->free_count;
	t->expected = b->expected;
	if (!b->block_count && !b->stretch_count) {
		ret->entered = 0;
		return 0;
	}
	rc = silt_attach_run_agent(a, b->stretch_count ? SILT_AGENT_WALK : SILT_AGENT_BLOCKS, ret, err);
	if (!rc && ret->result && ret->result != SILT_AGENT_E_ODD)
		rc = silt_error_set(err, SILT_E_LIMIT, "the agent in process %d has no memory for the blocks of before", a->survey.pid);
	return rc;
}

/* The agent walks the heap in its own memory, which is several times as fast as reading it from here; where that is not possible, all
 * blocks are found from here. */
static int enter_found(struct silt_attach *a, const struct silt_attach_walk *walk, const struct silt_stop *stop,
		       struct silt_attach_report *report, struct silt_error *err)
{
	struct silt_agent_attach result = { 0 };
	struct silt_attach_blocks b;
	bool all = false;
	int rc;

	/* Another allocator serves malloc: what the C library's own heap holds is next to nothing, and not all. */
	if (a->malloc.module != a->survey.libc || a->variant[0])
		return 0;
	do {
		report->before_known = !walk->walk(walk->data, stop, all, &b, NULL);
		if (!report->before_known)
			return 0;
		rc = run_entering(a, &b, &result, err);
		all = !all;
	} while (!rc && result.result == SILT_AGENT_E_ODD && all);
	report->before = result.entered;
	return rc;
}

/* Done by one of the stopped threads, which has no signal to be delivered; meanwhile it is found out which must be moved. */
static int enter_blocks(struct silt_attach *a, const struct silt_attach_walk *walk, struct silt_stop *stop, struct silt_finder *finder,
			struct silt_attach_report *report, struct silt_error *err)
{
	uint32_t by;
	int rc = silt_inject_adopt(&a->inject, stop, a->survey.mem, &by, err);

	silt_finder_begin(finder, stop, &a->survey, &a->head, by);
	if (!rc)
		rc = silt_inject_arm(&a->inject, a->stub, err);
	if (!rc)
		rc = enter_found(a, walk, stop, report, err);
	report->walk_faulted = a->inject.faulted;
	if (!rc)
		rc = silt_attach_close_in_target(a, a->db_fd, err);
	silt_inject_end(&a->inject);
	/* A signal may have begun its handler in between. */
	if (by < stop->count)
		silt_stop_read_registers(&stop->threads[by]);
	if (!silt_finder_end(finder) && !rc)
		rc = silt_error_set(err, SILT_E_NOMEM, "out of memory");
	return rc;
}

static int change(struct silt_attach *a, const struct silt_attach_walk *walk, struct silt_stop *stop,
		  struct silt_attach_report *report, struct silt_error *err)
{
	struct silt_finder finder;
	int rc = enter_blocks(a, walk, stop, &finder, report, err);

	silt_fault_point();
	if (!rc)
		rc = silt_threads_apply(stop, &a->survey, &finder.moves, err);
	silt_finder_free(&finder);
	silt_fault_point();
	return rc ? rc : patch(a, err);
}

int silt_attach_hook(struct silt_attach *a, const struct silt_attach_walk *walk, struct silt_attach_report *report,
		     struct silt_error *err)
{
	struct silt_stop stop;
	int rc = stop_all(a, walk, &stop, report, err);

	if (rc)
		return rc;
	rc = change(a, walk, &stop, report, err);
	report->threads = stop.count;
	report->functions = a->head.site_count;
	snprintf(report->note, sizeof(report->note), "%s", a->note);
	silt_stop_release(&stop);
	silt_fault_point();
	if (stop.pause_ns > report->stop_ns)
		report->stop_ns = stop.pause_ns;
	if (a->first_stop_ns > report->stop_ns)
		report->stop_ns = a->first_stop_ns;
	return rc;
}
