/* SPDX-License-Identifier: MIT */
/* Children that parse: started, listened to, timed, and survived. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/reader.h"
#include "base/writer.h"
#include "symbols/cache.h"
#include "symbols/demangle.h"
#include "symbols/sandbox.h"
#include "symbols/share.h"
#include "symbols/symbols_internal.h"
#include "symbols/wire.h"
#include "symbols/worker.h"

enum {
	MAX_JOBS = 64,
	READ_BYTES = 1 << 16,
	/* What a child may say in all: far above what names take, far below what would hurt. */
	OUTPUT_BASE = 16 << 20,
	OUTPUT_PER_ADDRESS = 4096,
	SPLIT_ADDRESSES = 512, /* for each of the children among which a module is shared out */
};

enum outcome {
	OUTCOME_RUNNING,
	OUTCOME_COMPLETE,
	OUTCOME_TIMEOUT,
	OUTCOME_NONSENSE, /* what it said makes no sense */
	OUTCOME_ENDED,    /* end of output without the end mark */
};

/* The children of one module. Each takes units as their turn comes; together they answer all of its addresses. */
struct crew {
	const struct silt_pool_work *work;
	struct silt_share *share; /* NULL: one child, or no memory to share */
	uint8_t *answered_by;     /* by address: number of the member + 1; NULL for one member */
	unsigned members, left;   /* all, and those not finished */
	bool broken;              /* one of them did not end well: its addresses are open */
};

struct task {
	struct crew *crew;
	unsigned member;
	bool no_dwarf;
	pid_t pid;
	int fd; /* -1: not running */
	uint64_t deadline_ms;
	uint64_t received;
	struct silt_writer in;      /* bytes not yet understood */
	SILT_VEC(const char *) strings;
	enum outcome outcome;
};

struct pool {
	struct silt_symbols *sy;
	struct crew *crews;
	size_t crew_count;
	SILT_VEC(struct task) tasks;
	size_t next; /* the first task not started */
	unsigned running, jobs, timeout;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void __attribute__((noreturn)) run_child(const struct pool *p, const struct task *t, int fd)
{
	const struct silt_symbols_options *o = &p->sy->options;
	const struct silt_pool_work *work = t->crew->work;
	const struct silt_symbols_module *m = &p->sy->modules.items[work->module];
	struct silt_job job = {
		.query = {.path = m->path, .build_id = m->build_id, .build_id_len = m->build_id_len, .sysroot = o->sysroot,
			  .debug_dirs = o->debug_dirs, .debug_dir_count = o->debug_dir_count,
			  .processes = p->sy->processes.items, .process_count = p->sy->processes.count,
			  .not_after = p->sy->captured},
		.pcs = work->pcs,
		.count = work->count,
		.share = t->no_dwarf ? NULL : t->crew->share,
		.member = t->no_dwarf ? 0 : t->member,
		.no_inlines = o->no_inlines,
		.no_dwarf = t->no_dwarf,
		.locate = work->locate,
		.seek = work->seek,
		.attempts = !m->attempts.count && !work->seek && (!t->member || t->no_dwarf),
		.bare_names = o->bare_names,
		.demangle = o->demangle,
	};

	/* What other modules' children share is not for this one. */
	for (size_t i = 0; i < p->crew_count; i++)
		if (&p->crews[i] != t->crew)
			silt_share_destroy(p->crews[i].share);
	silt_child_reset_signals();
	silt_demangle_guard_start();
	silt_sandbox_enter(fd, silt_limit_or_default(SILT_LIMIT_PARSER_MEMORY, o->max_memory), p->timeout + 1);
	_exit(silt_worker_run(&job, fd) ? 0 : 1);
}

static int start_task(struct pool *p, struct task *t, struct silt_error *err)
{
	struct crew *crew = t->crew;
	int fds[2];

	/* Where it cannot be made, one child does everything. */
	if (crew->members > 1 && !crew->share) {
		crew->share = silt_share_create(silt_limit_or_default(SILT_LIMIT_PARSER_MEMORY, p->sy->options.max_memory));
		if (!crew->share)
			crew->members = crew->left = 1;
	}

	if (pipe2(fds, O_CLOEXEC))
		return silt_error_os(err, errno, "cannot make a pipe for reading symbols");
	t->pid = fork();
	if (t->pid < 0) {
		int e = errno;

		close(fds[0]);
		close(fds[1]);
		return silt_error_os(err, e, "cannot start a process for reading symbols");
	}
	if (t->pid == 0)
		run_child(p, t, fds[1]);
	close(fds[1]);
	t->fd = fds[0];
	t->outcome = OUTCOME_RUNNING;
	t->received = 0;
	t->deadline_ms = now_ms() + (uint64_t)p->timeout * 1000;
	p->running++;
	return SILT_OK;
}

static const char *string_number(const struct task *t, uint64_t number, bool *good)
{
	if (number > t->strings.count)
		*good = false;
	return number && *good ? t->strings.items[number - 1] : NULL;
}

static bool read_answer(struct pool *p, struct task *t, struct silt_reader *r)
{
	uint64_t index = silt_reader_varint(r), count = silt_reader_varint(r);
	struct silt_answer *answers = t->crew->work->answers;
	uint8_t *by = t->crew->answered_by;
	struct silt_symbol_frame *frames;
	bool good = true;

	if (!silt_reader_ok(r) || index >= t->crew->work->count || !count || count > SILT_WIRE_MAX_FRAMES ||
	    (answers[index].count && !t->no_dwarf && (!by || by[index] == t->member + 1)))
		return false;
	frames = silt_arena_array(p->sy->arena, count, sizeof(*frames));
	if (!frames)
		return false;
	for (size_t i = 0; i < count; i++) {
		struct silt_symbol_frame *f = &frames[i];

		f->function = string_number(t, silt_reader_varint(r), &good);
		f->linkage = string_number(t, silt_reader_varint(r), &good);
		f->file = string_number(t, silt_reader_varint(r), &good);
		f->line = silt_reader_varint32(r);
		f->column = silt_reader_varint32(r);
		f->discriminator = silt_reader_varint32(r);
		f->function_start = silt_reader_varint(r);
		f->inlined = i + 1 < count;
	}
	for (size_t i = 0; i + 1 < count; i++)
		frames[i].function_start = frames[count - 1].function_start;
	if (!silt_reader_ok(r) || silt_reader_left(r) || !good)
		return false;
	/* What the first child said before its time was over is better than what symbol tables say. Two say the same of an address
	 * when memory ran out in one, or when the file is another one since. */
	if (answers[index].count)
		return true;
	answers[index] = (struct silt_answer){frames, count};
	if (by)
		by[index] = (uint8_t)(t->member + 1);
	return true;
}

static const char *read_text(struct pool *p, struct silt_reader *r)
{
	size_t n = silt_reader_left(r);
	const char *text = (const char *)silt_reader_bytes(r, n);
	uint32_t id;

	if (!text || memchr(text, '\0', n) || n > SILT_WIRE_MAX_STRING)
		return NULL;
	id = silt_intern_add_bytes(p->sy->strings, text, n);
	return silt_intern_text(p->sy->strings, id);
}

/* Several children may work for one module: each says what it used. */
static bool add_source(struct silt_symbols_module *m, uint8_t kind, const char *path)
{
	struct silt_symbols_found found = {(enum silt_symbols_source)kind, path};

	m->sources |= kind;
	if (kind == SILT_SOURCE_DWARF)
		m->dwarf_path = path;
	for (size_t i = 0; i < m->found.count; i++)
		if (m->found.items[i].kind == found.kind && m->found.items[i].path == path)
			return true;
	return silt_vec_push(&m->found, found);
}

static bool add_note(struct silt_symbols_module *m, const char *text)
{
	for (size_t i = 0; i < m->notes.count; i++)
		if (m->notes.items[i] == text)
			return true;
	return silt_vec_push(&m->notes, text);
}

/* A text inside a record. */
static const char *read_part(struct pool *p, struct silt_reader *r)
{
	size_t size;
	const char *text = silt_reader_text(r, SILT_WIRE_MAX_STRING, &size);

	return text ? silt_intern_text(p->sy->strings, silt_intern_add_bytes(p->sy->strings, text, size)) : NULL;
}

static bool read_dependency(struct pool *p, struct silt_symbols_module *m, struct silt_reader *r)
{
	struct silt_dependency d = {0};

	d.identity.inode = silt_reader_varint(r);
	d.identity.size = silt_reader_varint(r);
	d.identity.modified = silt_reader_svarint(r);
	d.identity.changed = silt_reader_svarint(r);
	d.fresh = silt_reader_u8(r);
	d.root = read_part(p, r);
	d.path = read_part(p, r);
	return silt_reader_ok(r) && !silt_reader_left(r) && d.root && d.path && silt_cache_depend(m, &d);
}

/* What a child that looks for files only would like to have. It may have been taken over: what it names is no more than a
 * question to servers, whose answer is compared with it. */
static bool read_wanted(struct silt_symbols_module *m, struct silt_reader *r)
{
	struct silt_wanted wanted = {.is_alt = silt_reader_u8(r)};
	const uint8_t *id;

	wanted.id_len = silt_reader_left(r);
	if (wanted.id_len < SILT_MIN_BUILD_ID || wanted.id_len > sizeof(wanted.id) || m->wanted.count >= SILT_MAX_WANTED)
		return false;
	id = silt_reader_bytes(r, wanted.id_len);
	if (!id || (!wanted.is_alt && m->build_id_len && (wanted.id_len != m->build_id_len || memcmp(id, m->build_id, m->build_id_len))))
		return false;
	memcpy(wanted.id, id, wanted.id_len);
	return silt_vec_push(&m->wanted, wanted);
}

/* One record; false when a sane child would not say it. */
static bool read_record(struct pool *p, struct task *t, struct silt_reader *r)
{
	struct silt_symbols_module *m = &p->sy->modules.items[t->crew->work->module];
	uint8_t type = silt_reader_u8(r), kind;
	bool seek = t->crew->work->seek;
	const char *text;

	if (seek && type != SILT_WIRE_WANTED && type != SILT_WIRE_END)
		return false;
	switch (type) {
	case SILT_WIRE_WANTED:
		return seek && read_wanted(m, r);
	case SILT_WIRE_ANSWER:
		return read_answer(p, t, r);
	case SILT_WIRE_STRING:
		text = read_text(p, r);
		return text && silt_vec_push(&t->strings, text);
	case SILT_WIRE_WARNING:
		text = read_text(p, r);
		m->failed = true;
		return text && add_note(m, text) && silt_symbols_warn(p->sy, NULL, "%s", text) == SILT_OK;
	case SILT_WIRE_DEPENDS:
		return read_dependency(p, m, r);
	case SILT_WIRE_UNCERTAIN:
		return m->uncertain = true;
	case SILT_WIRE_ATTEMPT:
		text = read_text(p, r);
		return text && silt_vec_push(&m->attempts, text);
	case SILT_WIRE_SOURCE:
		kind = silt_reader_u8(r);
		text = read_text(p, r);
		return text && add_source(m, kind, text);
	case SILT_WIRE_END:
		t->outcome = OUTCOME_COMPLETE;
		return true;
	default:
		return false;
	}
}

/* Takes the complete records out of the buffer. */
static bool read_records(struct pool *p, struct task *t)
{
	size_t at = 0;

	while (t->outcome == OUTCOME_RUNNING && t->in.size - at >= 4) {
		struct silt_reader r;
		uint32_t length;

		memcpy(&length, t->in.data + at, sizeof(length));
		if (length > SILT_WIRE_MAX_RECORD)
			return false;
		if (t->in.size - at - 4 < length)
			break;
		silt_reader_init(&r, t->in.data + at + 4, length, "symbols", 0);
		if (!read_record(p, t, &r))
			return false;
		at += 4 + (size_t)length;
	}
	memmove(t->in.data, t->in.data + at, t->in.size - at);
	t->in.size -= at;
	return true;
}

static void listen_to(struct pool *p, struct task *t)
{
	uint8_t *room = silt_writer_reserve(&t->in, READ_BYTES);
	ssize_t n = room ? read(t->fd, room, READ_BYTES) : -1;

	if (n < 0 && (errno == EINTR || errno == EAGAIN) && room)
		return;
	if (n <= 0) {
		t->outcome = OUTCOME_ENDED;
		return;
	}
	t->in.size += (size_t)n;
	t->received += (uint64_t)n;
	if (t->received > OUTPUT_BASE + (uint64_t)OUTPUT_PER_ADDRESS * t->crew->work->count || !read_records(p, t))
		t->outcome = OUTCOME_NONSENSE;
}

/* A child that crashed may have said anything before: none of it is used. */
static void forget_answers(struct task *t)
{
	const struct crew *crew = t->crew;

	for (size_t i = 0; i < crew->work->count; i++)
		if (!crew->answered_by || crew->answered_by[i] == t->member + 1)
			crew->work->answers[i] = (struct silt_answer){NULL, 0};
}

/* Also by the limit on processor time, which may strike first. */
static bool ran_out_of_time(const struct task *t, int status)
{
	return t->outcome == OUTCOME_TIMEOUT || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU);
}

static int warn_of_death(struct pool *p, const struct task *t, int status, struct silt_error *err)
{
	const char *path = p->sy->modules.items[t->crew->work->module].path;
	const char *rest = t->no_dwarf ? "it is shown by offsets" : "only its symbol table is used";

	if (t->outcome == OUTCOME_NONSENSE)
		return silt_symbols_warn(p->sy, err, "%s: the parser said what makes no sense, so %s: the file may be hostile", path,
					 rest);
	if (ran_out_of_time(t, status))
		return silt_symbols_warn(p->sy, err, "%s: reading its %s took more than %u seconds: some %s are missing", path,
					 t->no_dwarf ? "symbols" : "debug information", p->timeout,
					 t->no_dwarf ? "names" : "files and lines");
	/* SIGKILL is our own, for one that closed its pipe and stayed, or the kernel's when memory ran out. */
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		return silt_symbols_warn(p->sy, err, "%s: the parser crashed on its debug information (%s), so %s", path,
					 strsignal(WTERMSIG(status)), rest);
	return silt_symbols_warn(p->sy, err, "%s: reading its debug information failed, so %s", path, rest);
}

/* When the last child of a module is done: what is open because one of them failed is sought in symbol tables. */
static int finish_crew(struct pool *p, struct task *t, struct silt_error *err)
{
	struct crew *crew = t->crew;

	silt_share_destroy(crew->share);
	crew->share = NULL;
	crew->members = 1;
	if (!crew->broken)
		return SILT_OK;
	t->no_dwarf = true;
	return start_task(p, t, err);
}

static int finish_task(struct pool *p, struct task *t, struct silt_error *err)
{
	struct silt_symbols_module *m = &p->sy->modules.items[t->crew->work->module];
	int status = 0, r = SILT_OK;

	/* Whatever it said, it has nothing more to do. One that closed its pipe because it died keeps that status. */
	kill(t->pid, SIGKILL);
	close(t->fd);
	while (waitpid(t->pid, &status, 0) < 0 && errno == EINTR)
		;
	t->fd = -1;
	p->running--;
	silt_writer_deinit(&t->in);
	silt_vec_free(&t->strings);
	/* One that only sought fails again when it is to read, and then says so. */
	if (t->outcome != OUTCOME_COMPLETE && !t->crew->work->seek) {
		m->failed = m->uncertain = true;
		if (!ran_out_of_time(t, status) && !t->no_dwarf)
			forget_answers(t);
		t->crew->broken = true;
		silt_share_lost(t->crew->share, t->member);
		r = warn_of_death(p, t, status, err);
	}
	if (r || t->no_dwarf || --t->crew->left)
		return r;
	return finish_crew(p, t, err);
}

/* Waits until a child says something or its time is over. */
static int wait_once(struct pool *p, struct silt_error *err)
{
	struct pollfd fds[MAX_JOBS];
	struct task *of[MAX_JOBS];
	uint64_t now = now_ms(), wait = UINT64_MAX;
	nfds_t n = 0;

	for (size_t i = 0; i < p->next && n < MAX_JOBS; i++) {
		struct task *t = &p->tasks.items[i];
		uint64_t left = t->deadline_ms > now ? t->deadline_ms - now : 0;

		if (t->fd < 0)
			continue;
		if (left < wait)
			wait = left;
		of[n] = t;
		fds[n++] = (struct pollfd){.fd = t->fd, .events = POLLIN};
	}
	if (poll(fds, n, (int)(wait > 60000 ? 60000 : wait)) < 0 && errno != EINTR)
		return silt_error_os(err, errno, "cannot wait for the processes that read symbols");
	now = now_ms();
	for (nfds_t i = 0; i < n; i++) {
		int r = SILT_OK;

		if (fds[i].revents)
			listen_to(p, of[i]);
		if (of[i]->outcome == OUTCOME_RUNNING && now >= of[i]->deadline_ms)
			of[i]->outcome = OUTCOME_TIMEOUT;
		if (of[i]->outcome != OUTCOME_RUNNING)
			r = finish_task(p, of[i], err);
		if (r)
			return r;
	}
	return SILT_OK;
}

static bool add_crew(struct pool *p, const struct silt_pool_work *w)
{
	struct crew *crew = &p->crews[p->crew_count++];
	size_t members = w->count / SPLIT_ADDRESSES;

	if (members > p->jobs)
		members = p->jobs;
	if (members < 1)
		members = 1;
	*crew = (struct crew){.work = w, .members = (unsigned)members, .left = (unsigned)members};
	if (members > 1 && !(crew->answered_by = calloc(w->count, 1)))
		return false;
	for (unsigned i = 0; i < members; i++) {
		struct task t = {.crew = crew, .member = i, .fd = -1};

		if (!silt_vec_push(&p->tasks, t))
			return false;
	}
	return true;
}

/* Long ones first, so that the last child to end is a short one; the children of a module together. */
static int compare_tasks(const void *a, const void *b)
{
	const struct task *x = a, *y = b;

	if (x->crew == y->crew)
		return x->member < y->member ? -1 : x->member > y->member;
	if (x->crew->work->count != y->crew->work->count)
		return x->crew->work->count > y->crew->work->count ? -1 : 1;
	return x->crew < y->crew ? -1 : 1;
}

int silt_pool_run(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, struct silt_error *err)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct pool p = {.sy = sy};
	int r = SILT_OK;

	p.timeout = (unsigned)silt_limit_or_default(SILT_LIMIT_PARSER_SECONDS, sy->options.timeout_seconds);
	p.jobs = sy->options.jobs ? sy->options.jobs : processors > 0 ? (unsigned)processors : 1;
	if (p.jobs > MAX_JOBS)
		p.jobs = MAX_JOBS;
	p.crews = calloc(count ? count : 1, sizeof(*p.crews));
	if (!p.crews)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory while reading symbols");
	for (size_t i = 0; i < count && !r; i++)
		if (!add_crew(&p, &work[i]))
			r = silt_error_set(err, SILT_E_NOMEM, "out of memory while reading symbols");
	if (p.tasks.count)
		qsort(p.tasks.items, p.tasks.count, sizeof(*p.tasks.items), compare_tasks);
	while (!r && (p.next < p.tasks.count || p.running)) {
		while (!r && p.next < p.tasks.count && p.running < p.jobs) {
			struct task *t = &p.tasks.items[p.next++];

			if (t->member < t->crew->members)
				r = start_task(&p, t, err);
		}
		if (!r && p.running)
			r = wait_once(&p, err);
	}
	for (size_t i = 0; i < p.next; i++) {
		struct task *t = &p.tasks.items[i];

		if (t->fd < 0)
			continue;
		kill(t->pid, SIGKILL);
		close(t->fd);
		waitpid(t->pid, NULL, 0);
		silt_writer_deinit(&t->in);
		silt_vec_free(&t->strings);
	}
	for (size_t i = 0; i < p.crew_count; i++) {
		silt_share_destroy(p.crews[i].share);
		free(p.crews[i].answered_by);
	}
	free(p.crews);
	silt_vec_free(&p.tasks);
	return r;
}
