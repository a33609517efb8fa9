/* SPDX-License-Identifier: MIT */
/* The thread that waits for the agents' futex. */
#include "cli/waker.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/agent/trace_db.h"

static void *wait_for_futex(void *arg)
{
	struct silt_waker *w = arg;
	const uint64_t one = 1;

	while (!__atomic_load_n(&w->ending, __ATOMIC_ACQUIRE)) {
		uint32_t seen = __atomic_load_n(&w->page->wake, __ATOMIC_ACQUIRE);

		if (__atomic_load_n(&w->ending, __ATOMIC_ACQUIRE)) /* set before the word was changed for us */
			break;
		if (write(w->fd, &one, sizeof(one)) != sizeof(one))
			break;
		syscall(SYS_futex, &w->page->wake, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	return NULL;
}

int silt_waker_start(struct silt_waker *w, struct silt_db_run *page)
{
	int rc;

	*w = (struct silt_waker){.page = page, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (w->fd < 0)
		return errno;
	rc = pthread_create(&w->thread, NULL, wait_for_futex, w);
	w->running = !rc;
	return rc;
}

void silt_waker_stop(struct silt_waker *w)
{
	if (w->running) {
		__atomic_store_n(&w->ending, true, __ATOMIC_RELEASE);
		__atomic_add_fetch(&w->page->wake, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &w->page->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		pthread_join(w->thread, NULL);
		w->running = false;
	}
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}
