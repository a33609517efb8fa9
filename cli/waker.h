/* SPDX-License-Identifier: MIT */
/** Makes the agents' futex in the run page an event to poll for: a thread waits for it and writes to a descriptor. */
#ifndef SILT_CLI_WAKER_H
#define SILT_CLI_WAKER_H

#include <pthread.h>
#include <stdbool.h>

#include "capture/capture.h"

struct silt_waker {
	struct silt_db_run *page;
	int fd; /* eventfd: to be read when it was woken */
	pthread_t thread;
	bool running;
	bool ending; /* atomic */
};

/** page stays until silt_waker_stop. Returns 0 or an errno; then fd is never written to, or below 0. */
int silt_waker_start(struct silt_waker *w, struct silt_db_run *page);

/** Ends the thread, before the page is unmapped; closes the descriptor. */
void silt_waker_stop(struct silt_waker *w);

#endif
