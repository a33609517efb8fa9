/* SPDX-License-Identifier: MIT */
/*
 * Walking the heap of a process that is not tracked: find the allocators while it runs, stop it, walk, let go.
 *
 * A thread may have been stopped inside malloc, where lists and headers do not fit each other. Then the process runs on for
 * a moment and is stopped again, a few times; what is left of that is a note.
 */
#include "capture/untracked.h"

#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <time.h>

#include "capture/copy_internal.h"
#include "capture/settle.h"
#include "capture/heap/types.h"
#include "capture/target/modules.h"
#include "capture/target/process.h"

#define TRIES 4u               /* stops before a heap that is being changed is walked as it is */
#define BREATH_NS 200000l      /* what the process runs in between */

struct job {
	pid_t pid;
	struct silt_walked *w;
	struct silt_maps maps;             /* from before the stop: the modules refer to it */
	struct silt_target_modules modules;
	struct silt_maps *at_stop;
	struct silt_heap_process process;
	struct silt_heap *heap;
	struct silt_heap_types *types;
	struct silt_stop_report report;
	bool unsettled;     /* some thread was inside the allocator at the last stop, too */
	bool group_stopped; /* Ctrl-Z: its threads must not run at all */
	int64_t capture_ns;
	struct silt_error err;
	int rc;
};

void silt_walked_deinit(struct silt_walked *w)
{
	free(w->addr);
	free(w->size);
	free(w->type);
	for (uint32_t i = 0; i < w->type_count; i++)
		free(w->types[i].name);
	free(w->types);
	for (size_t i = 0; i < w->notes.count; i++)
		free(w->notes.items[i]);
	silt_vec_free(&w->notes);
	memset(w, 0, sizeof(*w));
}

__attribute__((format(printf, 2, 3))) static void add_note(struct job *j, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0 || !silt_vec_push(&j->w->notes, text)) {
		if (n >= 0)
			free(text);
		j->rc = silt_error_set(&j->err, SILT_E_NOMEM, "out of memory");
	}
}

static int64_t realtime_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* ---- blocks ---- */

/* Most programs have no types, or few: what is zero stays untouched, and so costs no memory. */
static bool make_room_for_types(struct silt_walked *w, uint64_t room)
{
	uint32_t *p = calloc(room, sizeof(*p));

	if (!p)
		return false;
	if (w->typed)
		memcpy(p, w->type, w->typed * sizeof(*p));
	free(w->type);
	w->type = p;
	return true;
}

/* realloc moves large arrays by remapping, and their unused end costs no memory. */
static bool make_room(struct silt_walked *w, uint64_t need)
{
	uint64_t room = w->room ? w->room : 65536;
	void *p;

	if (need <= w->room)
		return true;
	while (room < need)
		room *= 2;
	if (!(p = reallocarray(w->addr, room, sizeof(*w->addr))))
		return false;
	w->addr = p;
	if (!(p = reallocarray(w->size, room, sizeof(*w->size))))
		return false;
	w->size = p;
	if (!make_room_for_types(w, room))
		return false;
	w->room = room;
	return true;
}

/* A walk that failed may have left types behind. */
static void forget_blocks(struct silt_walked *w)
{
	if (w->typed)
		memset(w->type, 0, w->typed * sizeof(*w->type));
	w->count = w->typed = 0;
}

static int take_blocks(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct job *j = data;
	struct silt_walked *w = j->w;
	uint32_t type;

	if (!make_room(w, w->count + count))
		return silt_error_set(&j->err, SILT_E_NOMEM, "out of memory for %llu blocks", (unsigned long long)w->count);
	for (size_t i = 0; i < count; i++) {
		w->addr[w->count + i] = blocks[i].addr;
		w->size[w->count + i] = blocks[i].size;
		type = blocks[i].size >= 8 ? silt_heap_type_of(j->types, blocks[i].first_word) : 0;
		if (type) {
			w->type[w->count + i] = type;
			w->typed = w->count + i + 1;
		}
	}
	w->count += count;
	return 0;
}

/* The walk may hand out two ascending runs: makes one of them, from the end. The second is short. */
static bool merge_runs(struct silt_walked *w)
{
	uint64_t first = 1, second, at = w->count, i;
	struct row {
		silt_addr addr;
		uint64_t size;
		uint32_t type;
	} *rows;

	while (first < w->count && w->addr[first] > w->addr[first - 1])
		first++;
	if (first >= w->count)
		return true;
	second = w->count - first;
	rows = malloc(second * sizeof(*rows));
	if (!rows)
		return false;
	for (i = 0; i < second; i++)
		rows[i] = (struct row){ w->addr[first + i], w->size[first + i], w->type[first + i] };
	w->typed = w->typed ? w->count : 0;
	while (second) {
		at--;
		if (first && w->addr[first - 1] > rows[second - 1].addr) {
			first--;
			w->addr[at] = w->addr[first];
			w->size[at] = w->size[first];
			if (w->typed)
				w->type[at] = w->type[first];
		} else {
			second--;
			w->addr[at] = rows[second].addr;
			w->size[at] = rows[second].size;
			if (w->typed)
				w->type[at] = rows[second].type;
		}
	}
	free(rows);
	return true;
}

/* ---- threads ---- */

#if defined(__x86_64__)
static void take_registers(const struct silt_stopped_thread *t, struct silt_heap_thread *ret)
{
	ret->pointer = t->regs.fs_base;
	ret->pc = t->regs.rip;
	ret->sp = t->regs.rsp;
	ret->call = t->regs.orig_rax;
}
#elif defined(__aarch64__)
static void take_registers(const struct silt_stopped_thread *t, struct silt_heap_thread *ret)
{
	struct iovec iov = { &ret->pointer, sizeof(ret->pointer) };

	ret->pc = t->regs.pc;
	if (ptrace(PTRACE_GETREGSET, t->tid, (void *)NT_ARM_TLS, &iov))
		ret->pointer = 0;
}
#endif

struct silt_heap_thread *silt_untracked_threads(const struct silt_stop *stop)
{
	struct silt_heap_thread *threads = calloc((size_t)stop->count + 1, sizeof(*threads));

	for (uint32_t i = 0; threads && i < stop->count; i++)
		if (stop->threads[i].state == SILT_HELD_STOPPED && stop->threads[i].has_regs)
			take_registers(&stop->threads[i], &threads[i]);
		else if (stop->threads[i].state == SILT_HELD_ASLEEP &&
			 !silt_stop_asleep_place(stop->pid, stop->threads[i].tid, &threads[i].call, &threads[i].sp, &threads[i].pc))
			threads[i].sp = 0;
	return threads;
}

/* ---- the walk ---- */

static void note_heaps(struct job *j)
{
	struct silt_walked *w = j->w;
	uint32_t locked = 0;

	for (uint32_t i = 0; i < silt_heap_count(j->heap); i++) {
		const struct silt_heap_info *info = silt_heap_info(j->heap, i);

		w->system_bytes += info->size;
		w->free_bytes += info->free_bytes;
		w->cached_bytes += info->cached_bytes;
		w->own_bytes += info->own_bytes;
		w->unknown_bytes += info->unknown_bytes;
		locked += info->locked;
	}
	w->walked = silt_heap_walkable(j->heap);
	if (w->walked)
		add_note(j,
			 "the process is not tracked: its blocks were found by walking the heap of %s's malloc; sizes are usable sizes, "
			 "and there are no stacks (for those: `silt attach PID`, or start it with `silt run`)",
			 silt_heap_libc(j->heap));
	else
		add_note(j, "the process is not tracked, and its heap cannot be walked: `silt attach PID`, or start it with `silt run`");
	for (uint32_t i = 0; i < silt_heap_problem_count(j->heap); i++)
		add_note(j, "%s", silt_heap_problem(j->heap, i));
	if (locked && j->report.stopped)
		add_note(j, "%u heaps were being changed whenever the process was stopped: a few of their blocks may be wrong",
			 locked);
	else if (j->unsettled)
		add_note(j, "a thread was inside the allocator whenever the process was stopped: a few blocks may be wrong");
}

static int walk_now(struct job *j, const struct silt_heap_thread *threads, uint32_t count)
{
	char path[64], *text;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/maps", j->pid);
	j->capture_ns = realtime_ns();
	rc = silt_proc_read(path, &text, NULL, &j->err);
	if (!rc)
		rc = silt_maps_parse(text, j->at_stop, &j->err);
	if (!rc)
		rc = silt_heap_walk(j->heap, j->at_stop, threads, count, take_blocks, j, &j->err);
	return rc;
}

/* Stops the process when nobody is inside the allocator, or after some tries regardless. */
static int walk_stopped(struct job *j)
{
	struct silt_target_status st;
	uint64_t longest = 0;
	int rc = 0;

	j->group_stopped = silt_target_status(j->pid, &st, NULL) || st.state == 'T';

	for (unsigned i = 1;; i++) {
		struct silt_stop stop;
		struct silt_heap_thread *threads;
		bool last = i == TRIES, busy;

		rc = silt_stop_seize(&stop, j->pid, &j->err);
		if (!rc)
			rc = silt_stop_all(&stop, &j->err);
		if (rc)
			return rc;
		threads = silt_untracked_threads(&stop);
		j->report.threads = stop.count;
		if (threads && !j->group_stopped)
			busy = !silt_settle(&stop, j->heap, threads);
		else
			busy = silt_heap_busy(j->heap, threads, stop.count);
		j->unsettled = busy;
		if (!busy || last)
			rc = walk_now(j, threads, threads ? stop.count : 0);
		silt_stop_release(&stop);
		free(threads);
		longest = stop.pause_ns > longest ? stop.pause_ns : longest;
		if (rc || !busy || last)
			break;
		nanosleep(&(struct timespec){ 0, BREATH_NS }, NULL);
	}
	j->report.pause_ns = longest;
	j->report.stopped = !rc;
	return rc;
}

static int take_types(struct job *j)
{
	struct silt_walked *w = j->w;
	uint32_t count = silt_heap_types_count(j->types);

	w->types = calloc((size_t)count + 1, sizeof(*w->types));
	if (!w->types)
		return silt_error_set(&j->err, SILT_E_NOMEM, "out of memory");
	for (uint32_t i = 0; i < count; i++) {
		const struct silt_heap_type *t = silt_heap_type_get(j->types, i);

		w->types[i].vtable = j->modules.list[t->module].bias + t->offset;
		w->types[i].name = t->name ? strdup(t->name) : NULL;
	}
	w->type_count = count;
	return 0;
}

static int open_heap(struct job *j)
{
	struct silt_heap_target target = { .maps = &j->maps, .modules = &j->modules, .pid = j->pid };
	int rc = silt_maps_read(j->pid, &j->maps, &j->err);

	if (!rc)
		rc = silt_modules_collect(&j->maps, j->pid, &j->modules, &j->err);
	if (rc)
		return rc;
	silt_heap_process_init(&j->process, j->pid);
	target.reader = silt_heap_process_reader(&j->process);
	rc = silt_heap_open(&target, &j->heap, &j->err);
	if (rc)
		return rc;
	j->types = silt_heap_types_create(&target.reader, &j->maps, &j->modules);
	return j->types ? 0 : silt_error_set(&j->err, SILT_E_NOMEM, "out of memory");
}

static void *run_job(void *arg)
{
	struct job *j = arg;

	j->rc = open_heap(j);
	if (j->rc)
		return NULL;
	j->rc = walk_stopped(j);
	if (j->rc && !j->report.stopped && (j->rc == SILT_E_OS || j->rc == SILT_E_LIMIT)) {
		add_note(j, "walked without stopping the process (%.400s): blocks that changed meanwhile may be wrong",
			 j->err.msg);
		silt_maps_deinit(j->at_stop);
		forget_blocks(j->w);
		j->rc = walk_now(j, NULL, 0);
	}
	if (!j->rc && !merge_runs(j->w))
		j->rc = silt_error_set(&j->err, SILT_E_NOMEM, "out of memory");
	if (!j->rc)
		j->rc = take_types(j);
	if (!j->rc)
		note_heaps(j);
	return NULL;
}

static int run_in_thread(struct job *j)
{
	sigset_t all, old;
	pthread_t thread;
	int e;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	e = pthread_create(&thread, NULL, run_job, j);
	if (!e)
		pthread_join(thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e ? silt_error_os(&j->err, e, "cannot start a thread") : j->rc;
}

int silt_untracked_walk(pid_t pid, struct silt_walked *ret, struct silt_maps *ret_maps, struct silt_stop_report *ret_report,
			int64_t *ret_capture_ns, struct silt_error *err)
{
	struct job j = { .pid = pid, .w = ret, .at_stop = ret_maps, .process.mem_fd = -1 };
	int rc;

	memset(ret, 0, sizeof(*ret));
	memset(ret_maps, 0, sizeof(*ret_maps));
	rc = run_in_thread(&j);
	if (!rc) {
		snprintf(ret->allocator, sizeof(ret->allocator), "%s", silt_heap_allocator(j.heap));
		snprintf(ret->libc, sizeof(ret->libc), "%s", silt_heap_libc(j.heap) ? silt_heap_libc(j.heap) : "");
		*ret_capture_ns = j.capture_ns;
		*ret_report = j.report;
	} else {
		silt_walked_deinit(ret);
		silt_maps_deinit(ret_maps);
		if (err)
			*err = j.err;
	}
	silt_heap_types_destroy(j.types);
	silt_heap_destroy(j.heap);
	silt_heap_process_deinit(&j.process);
	silt_modules_deinit(&j.modules);
	silt_maps_deinit(&j.maps);
	return rc;
}

int silt_copy_untracked(pid_t pid, struct silt_copy **ret, struct silt_stop_report *ret_report, struct silt_error *err)
{
	struct silt_copy *c = silt_copy_new(pid);
	int rc = 0;

	if (c)
		c->walked = calloc(1, sizeof(*c->walked));
	if (!c || !c->walked)
		rc = silt_error_set(err, SILT_E_NOMEM, "out of memory");
	if (!rc) {
		silt_copy_read_process(c);
		rc = silt_untracked_walk(pid, c->walked, &c->maps, ret_report, &c->capture_ns, err);
	}
	if (!rc && silt_modules_collect(&c->maps, pid, &c->modules, NULL))
		memset(&c->modules, 0, sizeof(c->modules));
	if (rc) {
		silt_copy_destroy(c);
		return rc;
	}
	c->method = c->walked->walked ? SILT_METHOD_WALK : "proc";
	c->pause_ns = ret_report->pause_ns;
	*ret = c;
	return 0;
}
