/* SPDX-License-Identifier: MIT */
/* Which modules miss a debug file, who is asked for it, and what came of it. */
#include "symbols/servers.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "symbols/cache.h"
#include "symbols/cache_dir.h"
#include "symbols/debuginfod.h"
#include "symbols/links.h"
#include "symbols/object.h"
#include "symbols/sandbox.h"
#include "symbols/server_store.h"

enum {
	ROUNDS = 3, /* a debug file, the dwz file that it names, and nothing more */
	SETTLE_NS = 30000000, /* so long after a file was written another change of it shows in its times (depend.c) */
};

/* ---- signals: a download ends with the program, and nothing stays behind ---- */

struct guard {
	sigset_t ours, before;
	int fd;
};

static void guard_start(struct guard *g)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction old;

	sigemptyset(&g->ours);
	for (size_t i = 0; i < SILT_ARRAY_LEN(ends); i++)
		if (!sigaction(ends[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaddset(&g->ours, ends[i]);
	sigprocmask(SIG_BLOCK, &g->ours, &g->before);
	/* Only to be told of: nobody reads it, so the signal is still there when it is let through. */
	g->fd = signalfd(-1, &g->ours, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void guard_end(struct guard *g)
{
	if (g->fd >= 0)
		close(g->fd);
	sigprocmask(SIG_SETMASK, &g->before, NULL);
}

/* ---- words ---- */

static void __attribute__((format(printf, 3, 4))) attempt(struct silt_symbols *sy, struct silt_symbols_module *m, const char *fmt, ...)
{
	char text[PATH_MAX + 4096];
	const char *kept;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	silt_error_one_line(text);
	kept = silt_intern_text(sy->strings, silt_intern_add(sy->strings, text));
	if (kept)
		silt_vec_push(&m->server_attempts, kept); /* without memory for it the list is shorter */
}

void silt_servers_tell(struct silt_symbols *sy)
{
	for (size_t i = 0; i < sy->modules.count; i++) {
		struct silt_symbols_module *m = &sy->modules.items[i];

		for (size_t k = 0; k < m->server_attempts.count; k++)
			m->server_attempt_count += silt_vec_push(&m->attempts, m->server_attempts.items[k]);
		m->server_attempts.count = 0;
	}
}

/* What an outcome is called, in the list of attempts and in warnings. */
static void describe(enum silt_download_outcome outcome, int detail, const struct silt_download_limits *l, char *text, size_t size)
{
	switch (outcome) {
	case SILT_DOWNLOAD_UNKNOWN:
		snprintf(text, size, "not known there");
		break;
	case SILT_DOWNLOAD_UNREACHABLE:
		snprintf(text, size, "cannot be reached");
		break;
	case SILT_DOWNLOAD_REFUSED:
		snprintf(text, size, "answers with the HTTP status %d", detail);
		break;
	case SILT_DOWNLOAD_TOO_LARGE:
		snprintf(text, size, "the file is larger than %llu bytes (debuginfod-max-size)", (unsigned long long)l->max_bytes);
		break;
	case SILT_DOWNLOAD_TOO_LONG:
		snprintf(text, size, "timeout: not complete after %u seconds (debuginfod-max-time)", l->max_seconds);
		break;
	case SILT_DOWNLOAD_IDLE:
		snprintf(text, size, "timeout: nothing came for %u seconds (debuginfod-idle-time)", l->idle_seconds);
		break;
	case SILT_DOWNLOAD_NO_LIBRARY:
		snprintf(text, size, "libdebuginfod.so.1 cannot be loaded");
		break;
	case SILT_DOWNLOAD_FAILED:
		snprintf(text, size, "cannot start the download: %s", strerror(detail));
		break;
	case SILT_DOWNLOAD_CANCELLED:
		snprintf(text, size, "interrupted");
		break;
	case SILT_DOWNLOAD_BROKEN:
	case SILT_DOWNLOAD_DONE:
		snprintf(text, size, "the connection broke, or its answer makes no sense");
		break;
	}
}

/* ---- one file ---- */

struct fetch {
	struct silt_symbols *sy;
	struct silt_symbols_module *m;
	const struct silt_wanted *wanted;
	const struct silt_server *server;
	bool *silent; /* the server's */
	struct silt_download_limits limits;
	bool brought; /* any file came */
};

/* In a sandboxed child: the file may be anything. */
static bool is_what_was_asked(const struct silt_wanted *wanted, const char *path, uint64_t max_memory, unsigned seconds)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct silt_altlink link = {.id = wanted->id, .id_len = wanted->id_len};
		struct silt_object *o = NULL;
		const uint8_t *id;
		size_t len;

		silt_child_reset_signals();
		silt_sandbox_enter(STDERR_FILENO, max_memory, seconds);
		alarm(seconds);
		if (silt_object_create(path, &o, NULL))
			_exit(1);
		if (wanted->is_alt)
			_exit(silt_altlink_matches(o, &link) ? 0 : 1);
		id = silt_object_build_id(o, &len);
		_exit(len == wanted->id_len && memcmp(id, wanted->id, len) == 0 ? 0 : 1);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void remember(const struct fetch *f, const char *why)
{
	silt_miss_remember(f->sy->options.cache_dir, f->server->url, f->wanted->id, f->wanted->id_len, why);
}

/* A server that does not answer is not asked again in this run, and named once. */
static int give_up(const struct fetch *f, const char *why, struct silt_error *err)
{
	*f->silent = true;
	return silt_symbols_warn(f->sy, err, "debuginfod: %s: %s: it is not asked again, and names come from what is here", f->server->url,
				 why);
}

/* The file of a download that went well. */
static int accept(struct fetch *f, const char *file, struct silt_error *err)
{
	const struct silt_symbols_options *o = &f->sy->options;
	struct silt_error local;
	char path[PATH_MAX];

	if (!is_what_was_asked(f->wanted, file, silt_limit_or_default(SILT_LIMIT_PARSER_MEMORY, o->max_memory),
			       (unsigned)silt_limit_or_default(SILT_LIMIT_PARSER_SECONDS, o->timeout_seconds))) {
		remember(f, "what it sends is no ELF file, or has another build-id: not used");
		attempt(f->sy, f->m, "%s: what it sends is no ELF file, or has another build-id: not used", f->server->url);
		return silt_symbols_warn(f->sy, err, "debuginfod: %s: what it sent for %s is no ELF file, or has another build-id: "
					 "not used", f->server->url, f->m->path);
	}
	if (silt_store_keep(f->server->store, file, f->wanted->id, f->wanted->id_len, &local))
		return give_up(f, local.msg, err);
	silt_store_path(f->server->store, f->wanted->id, f->wanted->id_len, path);
	attempt(f->sy, f->m, "%s: downloaded to %s", f->server->url, path);
	f->brought = true;
	return SILT_OK;
}

static int settle(struct fetch *f, enum silt_download_outcome outcome, int detail, const char *file, struct silt_error *err)
{
	char why[256];

	if (outcome == SILT_DOWNLOAD_DONE)
		return accept(f, file, err);
	describe(outcome, detail, &f->limits, why, sizeof(why));
	if (outcome == SILT_DOWNLOAD_CANCELLED)
		return silt_error_set(err, SILT_E_CANCELLED, "%s: the download was interrupted", f->server->url);
	attempt(f->sy, f->m, "%s: %s", f->server->url, why);
	if (outcome == SILT_DOWNLOAD_NO_LIBRARY) {
		f->sy->no_servers = true;
		return silt_symbols_warn(f->sy, err, "debuginfod: libdebuginfod.so.1 cannot be loaded, so no server is asked: install "
					 "the package libdebuginfod1");
	}
	if (outcome == SILT_DOWNLOAD_UNKNOWN) {
		remember(f, why);
		return SILT_OK;
	}
	if (outcome == SILT_DOWNLOAD_TOO_LARGE)
		return silt_symbols_warn(f->sy, err, "debuginfod: %s: %s: %s", f->server->url, f->m->path, why);
	return give_up(f, why, err);
}

static int download(struct fetch *f, struct silt_error *err)
{
	struct silt_download d = {.url = f->server->url, .id = f->wanted->id, .id_len = f->wanted->id_len,
				  .what = base_name(f->m->path), .limits = f->limits};
	char dir[PATH_MAX], file[PATH_MAX] = "";
	enum silt_download_outcome outcome;
	struct silt_error local;
	struct guard guard;
	int detail = 0, r;

	guard_start(&guard);
	if (silt_store_open(f->server->store, dir, &local)) {
		guard_end(&guard);
		return give_up(f, local.msg, err);
	}
	d.dir = dir;
	d.signals = guard.fd;
	outcome = silt_download_run(&d, file, &detail);
	r = settle(f, outcome, detail, file, err);
	silt_store_close(dir);
	guard_end(&guard); /* where a signal ends the program, this is its end */
	return r;
}

static int ask_server(struct fetch *f, struct silt_error *err)
{
	char why[256];

	if (*f->silent) {
		attempt(f->sy, f->m, "%s: not asked: it did not answer before", f->server->url);
		return SILT_OK;
	}
	if (!f->server->store) {
		*f->silent = true;
		return silt_symbols_warn(f->sy, err, "debuginfod: %s: there is no directory to keep files in: set HOME, XDG_CACHE_HOME or "
					 "cache-dir", f->server->url);
	}
	if (silt_miss_is_known(f->sy->options.cache_dir, f->server->url, f->wanted->id, f->wanted->id_len, f->limits.miss_seconds, why,
			       sizeof(why))) {
		attempt(f->sy, f->m, "%s: %s (remembered)", f->server->url, why);
		return SILT_OK;
	}
	return download(f, err);
}

static bool was_asked_for(const struct silt_symbols_module *m, const struct silt_wanted *wanted)
{
	for (size_t i = 0; i < m->asked_for.count; i++)
		if (m->asked_for.items[i].id_len == wanted->id_len && memcmp(m->asked_for.items[i].id, wanted->id, wanted->id_len) == 0)
			return true;
	return false;
}

/* Asks one server after the other. *brought: the module's files are to be sought again. */
static int fetch_wanted(struct silt_symbols *sy, struct silt_symbols_module *m, const struct silt_wanted *wanted,
			const struct silt_download_limits *limits, bool *brought, struct silt_error *err)
{
	char path[PATH_MAX];

	if (was_asked_for(m, wanted))
		return SILT_OK;
	if (!silt_vec_push(&m->asked_for, *wanted))
		return silt_error_set(err, SILT_E_NOMEM, "out of memory while asking servers");
	for (size_t i = 0; i < sy->options.server_count && !sy->no_servers; i++) {
		struct fetch f = {sy, m, wanted, &sy->options.servers[i], &sy->silent[i], *limits, false};
		int r;

		/* Another module may have brought it: programs share dwz files. */
		if (f.server->store && silt_store_path(f.server->store, wanted->id, wanted->id_len, path) && access(path, F_OK) == 0)
			f.brought = true;
		r = f.brought ? SILT_OK : ask_server(&f, err);
		*brought |= f.brought;
		if (r || f.brought)
			return r;
	}
	return SILT_OK;
}

/* ---- all modules ---- */

static struct silt_download_limits limits_of(const struct silt_download_limits *l)
{
	return (struct silt_download_limits){
		.max_bytes = silt_limit_or_default(SILT_LIMIT_DOWNLOAD_BYTES, l->max_bytes),
		.max_seconds = (unsigned)silt_limit_or_default(SILT_LIMIT_DOWNLOAD_SECONDS, l->max_seconds),
		.idle_seconds = (unsigned)silt_limit_or_default(SILT_LIMIT_DOWNLOAD_IDLE, l->idle_seconds),
		.miss_seconds = (unsigned)silt_limit_or_default(SILT_LIMIT_DOWNLOAD_MISS, l->miss_seconds),
	};
}

/* Modules whose files are to be sought. Nobody can supply a vdso. */
static size_t collect(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, bool cached,
		      struct silt_pool_work *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		struct silt_symbols_module *m = &sy->modules.items[work[i].module];

		m->asked |= m->path[0] == '[' || (cached && !m->asked_for.count && silt_cache_is_complete(sy, m));
		if (!m->asked)
			ret[n++] = (struct silt_pool_work){.module = work[i].module, .seek = true};
		m->wanted.count = 0;
	}
	return n;
}

static int ask_once(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, bool *brought, struct silt_error *err)
{
	struct silt_download_limits limits = limits_of(&sy->options.download);
	int r = silt_pool_run(sy, work, count, err);

	for (size_t i = 0; i < count && !r; i++) {
		struct silt_symbols_module *m = &sy->modules.items[work[i].module];
		bool again = false;

		for (size_t k = 0; k < m->wanted.count && !r; k++)
			r = fetch_wanted(sy, m, &m->wanted.items[k], &limits, &again, err);
		m->asked = !again;
		*brought |= again;
	}
	return r;
}

/* Silt's own store; directories that the user named are the user's. */
static void trim_store(const struct silt_symbols *sy)
{
	int dir = sy->options.cache_dir ? silt_cache_dir_open(sy->options.cache_dir, SILT_CACHE_STORE, false, NULL) : -1;

	if (dir < 0)
		return;
	silt_cache_dir_trim(dir, silt_limit_default(SILT_LIMIT_DOWNLOAD_STORE), silt_limit_default(SILT_LIMIT_CACHE_FILES));
	close(dir);
}

int silt_servers_ask(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, bool cached,
		     struct silt_error *err)
{
	struct silt_pool_work *left;
	bool any = false, brought = true;
	int r = SILT_OK;

	if (!sy->options.server_count)
		return sy->options.servers_wanted ? silt_symbols_warn(sy, err, "debuginfod: no server is named: set DEBUGINFOD_URLS or "
								      "debuginfod-urls, or put srv*URL into the symbol path") : SILT_OK;
	if (sy->no_servers)
		return SILT_OK;
	left = calloc(count + 1, sizeof(*left));
	if (!left)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory while asking servers");
	for (int round = 0; round < ROUNDS && brought && !r; round++) {
		size_t n = collect(sy, work, count, cached, left);

		brought = false;
		if (n)
			r = ask_once(sy, left, n, &brought, err);
		any |= brought;
	}
	free(left);
	if (any) {
		trim_store(sy);
		nanosleep(&(struct timespec){.tv_nsec = SETTLE_NS}, NULL);
	}
	return r;
}
