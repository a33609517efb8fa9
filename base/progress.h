/* SPDX-License-Identifier: MIT */
/**
 * A progress bar: only on a terminal, at most ten updates a second, erased at the end.
 *
 * Hooks make terminal and clock replaceable, for tests. One thread at a time.
 */
#ifndef SILT_BASE_PROGRESS_H
#define SILT_BASE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct silt_progress_hooks {
	bool (*is_terminal)(void *data);
	uint64_t (*now_ns)(void *data);
	void (*write)(void *data, const char *text, size_t size);
	unsigned (*columns)(void *data);
	void *data;
};

struct silt_progress {
	struct silt_progress_hooks hooks;
	const char *what; /* "reading x.silt"; borrowed */
	uint64_t next_ns; /* no drawing before this */
	bool active;      /* on a terminal */
	bool drawn;       /* something must be erased */
};

/** Starts a bar on standard error. Nothing is drawn in the first half second: short work shows no bar. hooks may be
 *  NULL for the real terminal (TERM=dumb counts as none). */
void silt_progress_start(struct silt_progress *p, const char *what, const struct silt_progress_hooks *hooks);
/** done of total; total 0: not known, done is shown as a number. */
void silt_progress_update(struct silt_progress *p, uint64_t done, uint64_t total);
/** Erases the bar. */
void silt_progress_end(struct silt_progress *p);

#endif
