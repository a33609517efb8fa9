/* SPDX-License-Identifier: MIT */
/* The launcher's second thread: it tells of each change of the futex, and is gone before the page is, however short a time it had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/agent/trace_db.h"
#include "cli/waker.h"

static struct silt_db_run *page_map(void)
{
	void *p = mmap(NULL, SILT_DB_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static bool told(struct silt_waker *w)
{
	struct pollfd fd = { .fd = w->fd, .events = POLLIN };
	uint64_t n;

	return poll(&fd, 1, 20000) == 1 && read(w->fd, &n, sizeof(n)) == sizeof(n);
}

static void tells(void **state)
{
	struct silt_db_run *page = page_map();
	struct silt_waker w;

	(void)state;
	assert_int_equal(silt_waker_start(&w, page), 0);
	assert_true(told(&w)); /* once at the start: what happened before is not missed */
	for (int i = 0; i < 100; i++) {
		__atomic_add_fetch(&page->wake, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &page->wake, FUTEX_WAKE, 1, NULL, NULL, 0);
		assert_true(told(&w));
	}
	silt_waker_stop(&w);
	munmap(page, SILT_DB_RUN_SIZE);
}

static void ends_first(void **state)
{
	(void)state;
	for (int i = 0; i < 3000; i++) {
		struct silt_db_run *page = page_map();
		struct silt_waker w;

		assert_int_equal(silt_waker_start(&w, page), 0);
		silt_waker_stop(&w);
		munmap(page, SILT_DB_RUN_SIZE); /* a thread that still ran would crash us */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(tells), cmocka_unit_test(ends_first) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
