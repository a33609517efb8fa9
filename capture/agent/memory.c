/* SPDX-License-Identifier: MIT */
/* The slot's memory: a window on the shared file that grows in place, and a bump allocator inside it. */
#include "capture/agent/agent.h"

#include <asm/unistd.h>
#include <linux/futex.h>
#include <linux/mman.h>

#define PROT_RW 3
#ifndef MAP_PRIVATE
#define MAP_PRIVATE 0x02
#endif
#ifndef MAP_FIXED
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#endif
#define MADV_DONTDUMP 16
#define MADV_POPULATE_READ 22 /* Linux 5.14 */

/* A slot's window is put where it can grow to its full size, and where the sanitizers take a mapping for the program's: just below what
 * the kernel hands out to most processes. ThreadSanitizer allows 0x7e8000000000 and up (gcc 12's tsan_platform.h, HiAppMem),
 * MemorySanitizer 0x700000000000 and up; programs built with them end where they find something elsewhere. The second range is for
 * when the first is taken. */
static const struct window_range {
	uint64_t base, count; /* windows that fit */
} ranges[] = { { 0x7e8000000000ull, 32 }, { 0x200000000000ull, SILT_DB_SLOTS } };
#define WINDOW_FIRST (32ull << 20) /* address space counts against RLIMIT_AS, so it grows in small steps */
#define WINDOW_STEP_MAX (64ull << 20)

/* Maps [want, + size) where nothing is there yet. */
static bool window_try(void *want, uint64_t size)
{
	long r = sys_mmap(want, size, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (sys_failed(r))
		return false;
	if ((void *)r == want)
		return true;
	sys_munmap((void *)r, size); /* kernels before 4.17 take the address as a hint */
	return false;
}

/* A place for the slot; NULL lets the kernel choose. The first round looks whether all of a window would fit, which a limit of address
 * space may forbid. */
static void *window_place(uint32_t slot)
{
	for (int round = 0; round < 2; round++)
		for (uint32_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
			uint64_t room = round == 0 ? SILT_DB_SLOT_SIZE : WINDOW_FIRST;
			uint8_t *want = (uint8_t *)(ranges[i].base + slot % ranges[i].count * SILT_DB_SLOT_SIZE);

			if (!window_try(want, room))
				continue;
			if (room > WINDOW_FIRST)
				sys_munmap(want + WINDOW_FIRST, room - WINDOW_FIRST);
			return want;
		}
	return NULL;
}

uint64_t db_window;

uint8_t *db_map_slot(uint32_t slot, int fd, uint64_t *ret_mapped)
{
	uint64_t offset = SILT_DB_SLOT_OFFSET + slot * SILT_DB_SLOT_SIZE;
	void *want = window_place(slot);
	long r;

	if (fd >= 0) {
		r = sys_mmap(want, WINDOW_FIRST, PROT_RW, MAP_SHARED | MAP_NORESERVE | (want ? MAP_FIXED : 0), fd, offset);
	} else {
		/* old_size 0 duplicates a shared mapping (mremap(2)); it starts at the run page's file offset 0. */
		long all = sys_mremap(agent_run, 0, offset + WINDOW_FIRST, MREMAP_MAYMOVE, NULL);

		if (sys_failed(all))
			return NULL;
		sys_munmap((void *)all, offset);
		r = all + (long)offset;
		if (want) {
			long moved = sys_mremap((void *)r, WINDOW_FIRST, WINDOW_FIRST, MREMAP_MAYMOVE | MREMAP_FIXED, want);

			if (!sys_failed(moved))
				r = moved;
		}
	}
	if (sys_failed(r))
		return NULL;
	sys_madvise((void *)r, WINDOW_FIRST, MADV_DONTDUMP);
	*ret_mapped = WINDOW_FIRST;
	db_window = WINDOW_FIRST;
	return (uint8_t *)r;
}

/* Another thread may have let the window grow, and have been interrupted before it said so: then it is given time to go on. */
enum { GROW_WAITS = 256, GROW_WAIT_NS = 100000 };

static void wait_a_little(void)
{
	static uint32_t never;
	int64_t timeout[2] = { 0, GROW_WAIT_NS };

	sys_futex(&never, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, timeout);
}

/* Any number of threads may try at once: a stale old size makes mremap fail, and the loop looks again. */
static bool window_grow(struct silt_db *db, uint64_t need)
{
	static uint64_t refused; /* the size at which no waiting helped: there is no room, or a limit */
	int waits = 0;

	for (;;) {
		uint64_t mapped = ATOMIC_LOAD(&db->mapped);
		uint64_t step = mapped < WINDOW_STEP_MAX ? mapped : WINDOW_STEP_MAX;
		uint64_t next = mapped + step, signals;
		long r;

		if (mapped >= need)
			return true;
		if (agent_no_syscalls) /* a filter may kill for mremap: what was reserved before it must do */
			return false;
		while (next < need)
			next += step;
		if (next > SILT_DB_SLOT_SIZE)
			next = SILT_DB_SLOT_SIZE;
		if (next < need)
			return false;
		/* A handler that jumped away from here would leave a window larger than anybody knows, which cannot grow again. */
		sys_signals_block(&signals);
		r = sys_mremap(db, mapped, next, 0, NULL);
		if (!sys_failed(r)) {
			atomic_cas64(&db->mapped, mapped, next); /* first, for others wait for it */
			if (ATOMIC_LOAD(&db_window) < next)
				ATOMIC_STORE(&db_window, next);
			sys_madvise((uint8_t *)db + mapped, next - mapped, MADV_DONTDUMP);
		}
		sys_signals_restore(&signals);
		if (!sys_failed(r) || ATOMIC_LOAD(&db->mapped) != mapped)
			continue;
		if (ATOMIC_LOAD(&refused) == mapped)
			return false;
		if (++waits > GROW_WAITS)
			ATOMIC_STORE(&refused, mapped);
		else
			wait_a_little();
	}
}

void db_reserve(uint64_t bytes)
{
	struct silt_db *db = agent_db();

	window_grow(db, ATOMIC_LOAD(&db->used) + bytes);
}

uint32_t db_alloc(uint64_t bytes)
{
	struct silt_db *db = agent_db();
	uint64_t size = (bytes + 63) & ~63ull;
	uint64_t at;

	if (ATOMIC_LOAD(&db->used) + size > SILT_DB_SLOT_SIZE)
		return 0;
	at = ATOMIC_ADD(&db->used, size);
	if (UNLIKELY(at + size > ATOMIC_LOAD(&db->mapped)) && !window_grow(db, at + size)) {
		atomic_cas64(&db->used, at + size, at); /* a smaller wish may still be met */
		return 0;
	}
	return (uint32_t)(at / SILT_DB_UNIT);
}

/* Pages come in runs ahead of need: a page at a time costs a fault each, several times as much. Runs are in proportion to those taken
 * before, so what is taken for nothing stays small. */
#define RUN_SHARE 4u
#define RUN_MIN (64ull << 10)
#define RUN_MAX (1ull << 20)

/* A run of many small pieces lies in [start, end) of the slot, in units: start << 32 | end. */
static uint32_t run_take(uint64_t *run, uint32_t units)
{
	for (;;) {
		uint64_t old = ATOMIC_LOAD(run);
		uint32_t start = (uint32_t)(old >> 32), end = (uint32_t)old;

		if (end - start < units)
			return 0;
		if (atomic_cas64(run, old, (uint64_t)(start + units) << 32 | end))
			return start;
	}
}

static uint32_t run_begin(uint64_t size, uint64_t taken)
{
	uint32_t ref = db_alloc(size);

	if (!ref)
		return 0;
	ATOMIC_ADD(&agent_db()->small_bytes, size);
	ATOMIC_STORE(&agent_hot.small_run,
		     (uint64_t)(ref + taken / SILT_DB_UNIT) << 32 | (ref + (uint32_t)(size / SILT_DB_UNIT)));
	/* Where the kernel does not know it, pages come one by one. For reading: the mapping is shared, so that makes new pages as well,
	 * and maps those that are there many at a time. */
	if (!agent_no_syscalls)
		sys_madvise((void *)((uint64_t)db_at(ref) & ~(uint64_t)(AGENT_PAGE - 1)), size, MADV_POPULATE_READ);
	return ref;
}

void db_expect_small(uint64_t bytes)
{
	if (bytes > RUN_MIN)
		run_begin((bytes + AGENT_PAGE - 1) & ~(uint64_t)(AGENT_PAGE - 1), 0);
}

uint32_t db_alloc_small(uint64_t bytes)
{
	uint32_t units = (uint32_t)((bytes + 63) / 64 * (64 / SILT_DB_UNIT));
	uint32_t ref = run_take(&agent_hot.small_run, units);
	uint64_t size;

	if (ref)
		return ref;
	size = ATOMIC_LOAD(&agent_db()->small_bytes) / RUN_SHARE & ~(uint64_t)(AGENT_PAGE - 1);
	size = size < RUN_MIN ? RUN_MIN : size > RUN_MAX ? RUN_MAX : size;
	ref = run_begin(size, (uint64_t)units * SILT_DB_UNIT);
	return ref ? ref : db_alloc(bytes);
}
