/* SPDX-License-Identifier: MIT */
/* Downloading by libdebuginfod: the child that does it, and the parent that watches time, size and signals. */
#include "symbols/debuginfod.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/progress.h"
#include "symbols/sandbox.h"

static const char library[] = "libdebuginfod.so.1";

enum {
	MAX_MEMORY = 512 << 20, /* libcurl takes a few MB; headers without end take more */
	STEP_MS = 100,
	MAX_LINE = 1024,
};

/* How the child ends: what libdebuginfod said. */
enum child_status { CHILD_DONE, CHILD_NOT_FOUND, CHILD_UNREACHABLE, CHILD_TOO_LARGE, CHILD_TIMEOUT, CHILD_NO_LIBRARY, CHILD_OTHER };

/* elfutils' debuginfod.h, which the build does not need. */
struct client;
struct api {
	struct client *(*begin)(void);
	int (*find_debuginfo)(struct client *, const unsigned char *, int, char **);
};

/* NULL when all is there, else why not. */
static const char *load(struct api *api)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return dlerror();
	/* ISO C has no cast from an object pointer to a function pointer; POSIX has the same representation. */
	*(void **)&api->begin = dlsym(handle, "debuginfod_begin");
	*(void **)&api->find_debuginfo = dlsym(handle, "debuginfod_find_debuginfo");
	return api->begin && api->find_debuginfo ? NULL : "functions are missing in it";
}

bool silt_debuginfod_is_there(const char **ret_why)
{
	struct api api;

	*ret_why = load(&api);
	return !*ret_why;
}

/* ---- the child ---- */

static void set_limit(__rlimit_resource_t what, uint64_t value)
{
	struct rlimit limit, old;

	limit.rlim_cur = limit.rlim_max = !getrlimit(what, &old) && old.rlim_max < value ? old.rlim_max : value;
	setrlimit(what, &limit);
}

/* What users set for other programs stays in force where it is about the network (proxies, headers); limits and the place of
 * files are ours. */
static bool set_environment(const struct silt_download *d)
{
	char size[32];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)d->limits.max_bytes);
	unsetenv("DEBUGINFOD_PROGRESS");
	unsetenv("DEBUGINFOD_MAXTIME");
	unsetenv("DEBUGINFOD_RETRY_LIMIT");
	return !setenv("DEBUGINFOD_URLS", d->url, 1) && !setenv("DEBUGINFOD_CACHE_PATH", d->dir, 1) &&
	       !setenv("DEBUGINFOD_TIMEOUT", "0", 1) && !setenv("DEBUGINFOD_MAXSIZE", size, 1) && !setenv("DEBUGINFOD_VERBOSE", "1", 1);
}

static enum child_status status_of(int error)
{
	switch (error) {
	case ENOENT:
		return CHILD_NOT_FOUND;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ECONNREFUSED:
		return CHILD_UNREACHABLE;
	case EFBIG:
		return CHILD_TOO_LARGE;
	case ETIME:
		return CHILD_TIMEOUT;
	default:
		return CHILD_OTHER;
	}
}

static void __attribute__((noreturn)) run_child(const struct silt_download *d, int out, pid_t parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd;
	struct client *client;
	struct api api;

	silt_child_reset_signals();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || null < 0)
		_exit(CHILD_OTHER);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(out, STDERR_FILENO); /* where the library tells the server's status: only there */
	close_range(STDERR_FILENO + 1, ~0u, 0);
	umask(077);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_FSIZE, d->limits.max_bytes);
	silt_child_limit_memory(MAX_MEMORY);
	if (!set_environment(d))
		_exit(CHILD_OTHER);
	if (load(&api))
		_exit(CHILD_NO_LIBRARY);
	client = api.begin();
	if (!client)
		_exit(CHILD_OTHER);
	fd = api.find_debuginfo(client, d->id, (int)d->id_len, NULL);
	_exit(fd >= 0 ? CHILD_DONE : (int)status_of(-fd));
}

/* ---- the parent ---- */

struct watch {
	const struct silt_download *d;
	pid_t pid;
	int out; /* -1: closed */
	char line[MAX_LINE];
	size_t line_len;
	int http_status; /* the last one, 0: none */
	uint64_t started_ms, moved_ms, bytes;
	char files[PATH_MAX]; /* the directory that the library writes to */
	struct silt_progress progress;
	char label[160];
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* What was written so far, and whether it is complete does not matter. */
static uint64_t bytes_written(const char *path)
{
	DIR *dir = opendir(path);
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;

	while (dir && (e = readdir(dir)))
		if (!fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	if (dir)
		closedir(dir);
	return sum;
}

/* "header HTTP/1.1 404 Not Found": the library's error is the same for a file that is missing and a server that fails. */
static void take_line(struct watch *w)
{
	int status;

	w->line[w->line_len] = '\0';
	w->line_len = 0;
	if (sscanf(w->line, "header HTTP/%*[0-9.] %d", &status) == 1 || sscanf(w->line, "%*[^:]returned error: %d", &status) == 1)
		w->http_status = status;
}

static void listen_to(struct watch *w)
{
	char text[4096];
	ssize_t n = read(w->out, text, sizeof(text));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(w->out);
		w->out = -1;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (text[i] == '\n')
			take_line(w);
		else if (w->line_len < MAX_LINE - 1)
			w->line[w->line_len++] = text[i];
	}
}

/* True when a limit is reached; *ret says which. */
static bool is_over(struct watch *w, enum silt_download_outcome *ret)
{
	const struct silt_download_limits *limits = &w->d->limits;
	uint64_t bytes = bytes_written(w->files), now = now_ms();

	if (bytes != w->bytes) {
		w->bytes = bytes;
		w->moved_ms = now;
	}
	silt_progress_update(&w->progress, bytes, 0);
	if (bytes > limits->max_bytes)
		*ret = SILT_DOWNLOAD_TOO_LARGE;
	else if (now - w->started_ms >= (uint64_t)limits->max_seconds * 1000)
		*ret = SILT_DOWNLOAD_TOO_LONG;
	else if (now - w->moved_ms >= (uint64_t)limits->idle_seconds * 1000)
		*ret = SILT_DOWNLOAD_IDLE;
	else
		return false;
	return true;
}

/* The child's own account of it. */
static enum silt_download_outcome judge(const struct watch *w, int status, int *ret_detail)
{
	*ret_detail = w->http_status;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGXFSZ ? SILT_DOWNLOAD_TOO_LARGE : SILT_DOWNLOAD_BROKEN;
	switch ((enum child_status)WEXITSTATUS(status)) {
	case CHILD_DONE:
		return SILT_DOWNLOAD_DONE;
	case CHILD_TOO_LARGE:
		return SILT_DOWNLOAD_TOO_LARGE;
	case CHILD_TIMEOUT:
		return SILT_DOWNLOAD_IDLE;
	case CHILD_NO_LIBRARY:
		return SILT_DOWNLOAD_NO_LIBRARY;
	case CHILD_UNREACHABLE:
		return SILT_DOWNLOAD_UNREACHABLE;
	case CHILD_NOT_FOUND:
	case CHILD_OTHER:
		break;
	}
	/* 404 and 410 are about the file, and so is a directory (file://) that lacks it. */
	if (w->http_status == 404 || w->http_status == 410 ||
	    (WEXITSTATUS(status) == CHILD_NOT_FOUND && strncasecmp(w->d->url, "file:", 5) == 0))
		return SILT_DOWNLOAD_UNKNOWN;
	if (w->http_status == 406 || w->http_status == 413) /* debuginfod's answer to a size limit */
		return SILT_DOWNLOAD_TOO_LARGE;
	return w->http_status >= 300 ? SILT_DOWNLOAD_REFUSED : SILT_DOWNLOAD_BROKEN;
}

static enum silt_download_outcome watch(struct watch *w, int *ret_detail)
{
	enum silt_download_outcome outcome = SILT_DOWNLOAD_DONE;
	bool ended = false, stopped = false;
	int status = 0;

	while (!ended && !stopped) {
		struct pollfd fds[2] = {{.fd = w->out, .events = POLLIN}, {.fd = w->d->signals, .events = POLLIN}};

		if (poll(fds, 2, w->out < 0 ? STEP_MS / 10 : STEP_MS) > 0) {
			if (fds[0].revents)
				listen_to(w);
			if (fds[1].revents) {
				outcome = SILT_DOWNLOAD_CANCELLED;
				stopped = true;
			}
		}
		ended = waitpid(w->pid, &status, WNOHANG) != 0;
		if (!ended && !stopped)
			stopped = is_over(w, &outcome);
	}
	if (!ended) {
		kill(w->pid, SIGKILL);
		while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	/* What it said last. Nobody else has the other end. */
	while (w->out >= 0 && ended)
		listen_to(w);
	return stopped ? outcome : judge(w, status, ret_detail);
}

/* The file as the library leaves it: DIR/BUILD-ID/debuginfo. */
static bool file_is_there(const struct watch *w, char path[PATH_MAX])
{
	struct stat st;

	return snprintf(path, PATH_MAX, "%s/debuginfo", w->files) < PATH_MAX && !lstat(path, &st) && S_ISREG(st.st_mode) && st.st_size &&
	       (uint64_t)st.st_size <= w->d->limits.max_bytes;
}

enum silt_download_outcome silt_download_run(const struct silt_download *d, char ret_path[PATH_MAX], int *ret_detail)
{
	struct watch w = {.d = d, .started_ms = now_ms()};
	enum silt_download_outcome outcome;
	pid_t parent = getpid();
	size_t used;
	int fds[2];

	w.moved_ms = w.started_ms;
	*ret_detail = 0;
	used = (size_t)snprintf(w.files, sizeof(w.files), "%s/", d->dir);
	if (used + 2 * d->id_len >= sizeof(w.files) || pipe2(fds, O_CLOEXEC)) {
		*ret_detail = used + 2 * d->id_len >= sizeof(w.files) ? ENAMETOOLONG : errno;
		return SILT_DOWNLOAD_FAILED;
	}
	for (size_t i = 0; i < d->id_len; i++)
		snprintf(w.files + used + 2 * i, 3, "%02x", d->id[i]);
	w.pid = fork();
	if (w.pid == 0)
		run_child(d, fds[1], parent);
	close(fds[1]);
	w.out = fds[0];
	if (w.pid < 0) {
		*ret_detail = errno;
		close(w.out);
		return SILT_DOWNLOAD_FAILED;
	}
	snprintf(w.label, sizeof(w.label), "bytes of %.60s from %.70s", d->what, d->url);
	silt_error_one_line(w.label);
	silt_progress_start(&w.progress, w.label, NULL);
	outcome = watch(&w, ret_detail);
	silt_progress_end(&w.progress);
	if (w.out >= 0)
		close(w.out);
	return outcome == SILT_DOWNLOAD_DONE && !file_is_there(&w, ret_path) ? SILT_DOWNLOAD_BROKEN : outcome;
}
