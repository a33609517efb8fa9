/* SPDX-License-Identifier: MIT */
/* Progress bar: see progress.h. */
#include "base/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_DELAY_NS 500000000ull
#define PROGRESS_INTERVAL_NS 100000000ull
#define PROGRESS_MAX_COLUMNS 200u

static bool stderr_is_terminal(void *data)
{
	const char *term = getenv("TERM");

	(void)data;
	return isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

static uint64_t clock_now(void *data)
{
	struct timespec ts;

	(void)data;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void stderr_write(void *data, const char *text, size_t size)
{
	int saved = errno;
	ssize_t n = write(STDERR_FILENO, text, size);

	(void)data;
	(void)n; /* a bar that cannot be drawn is no reason to fail */
	errno = saved;
}

static unsigned stderr_columns(void *data)
{
	struct winsize ws;

	(void)data;
	return !ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) && ws.ws_col ? ws.ws_col : 80;
}

static const struct silt_progress_hooks real_hooks = {
	stderr_is_terminal, clock_now, stderr_write, stderr_columns, NULL,
};

void silt_progress_start(struct silt_progress *p, const char *what, const struct silt_progress_hooks *hooks)
{
	p->hooks = hooks ? *hooks : real_hooks;
	p->what = what;
	p->drawn = false;
	p->active = p->hooks.is_terminal(p->hooks.data);
	p->next_ns = p->active ? p->hooks.now_ns(p->hooks.data) + PROGRESS_DELAY_NS : 0;
}

static void draw(struct silt_progress *p, uint64_t done, uint64_t total)
{
	char line[PROGRESS_MAX_COLUMNS + 64];
	unsigned columns = p->hooks.columns(p->hooks.data);
	size_t used;

	if (columns > PROGRESS_MAX_COLUMNS)
		columns = PROGRESS_MAX_COLUMNS;
	if (columns < 2)
		return;
	if (total) {
		unsigned percent = done >= total ? 100 : (unsigned)((double)done * 100.0 / (double)total);
		char bar[21];

		memset(bar, '.', 20);
		memset(bar, '#', percent / 5);
		bar[20] = '\0';
		snprintf(line, sizeof(line), "[%s] %3u%% %.150s", bar, percent, p->what);
	} else {
		snprintf(line, sizeof(line), "%" PRIu64 " %.150s", done, p->what);
	}
	used = strlen(line);
	if (used > columns - 1) /* the last column would wrap on some terminals */
		used = columns - 1;
	memmove(line + 1, line, used);
	line[0] = '\r';
	memcpy(line + 1 + used, "\033[K", 3);
	p->hooks.write(p->hooks.data, line, used + 4);
	p->drawn = true;
}

void silt_progress_update(struct silt_progress *p, uint64_t done, uint64_t total)
{
	uint64_t now;

	if (!p->active)
		return;
	now = p->hooks.now_ns(p->hooks.data);
	if (now < p->next_ns)
		return;
	p->next_ns = now + PROGRESS_INTERVAL_NS;
	draw(p, done, total);
}

void silt_progress_end(struct silt_progress *p)
{
	if (p->drawn)
		p->hooks.write(p->hooks.data, "\r\033[K", 4);
	p->drawn = false;
	p->active = false;
}
