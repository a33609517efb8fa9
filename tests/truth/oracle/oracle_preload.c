/* SPDX-License-Identifier: MIT */
/*
 * A witness for silt's stacks on real programs, preloaded beside the agent. At allocations chosen at random it takes the
 * stack with libunwind and logs address, size and stack into a file that outlives the process.
 *
 * ORACLE_PLACE=front: it stands before the agent. A chosen block is never freed, so even short-lived ones are in the last
 * dump; silt's innermost frame is then this library. ORACLE_PLACE=behind: it serves the agent, and sees blocks that the
 * program keeps under exactly the stack a user would see; what is freed leaves the log.
 */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <fcntl.h>
#include <libunwind.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEPTH 252
#define RECORDS 24000u
#define SLOTS (1u << 16)
#define EXPORT __attribute__((visibility("default")))

struct record {                   /* oracle.py reads this layout */
	_Atomic uint64_t address; /* 0: not complete, or freed */
	uint64_t size;
	uint32_t depth;
	uint32_t cut;
	uint64_t pcs[DEPTH + 1];
};
struct log {
	_Atomic uint64_t count;
	struct record records[RECORDS];
};

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);

static struct {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void (*free)(void *);
} next = {__libc_malloc, __libc_calloc, __libc_realloc, __libc_free};

static struct log *records;
static bool in_front;
static uint64_t period = 100;
static uint64_t stop_at = UINT64_MAX; /* records after which the process is killed */
static _Atomic int stopping;
static _Atomic uint64_t allocations;
static _Atomic(struct record *) table[SLOTS]; /* by address; entries of freed ones are used again */
static uintptr_t skip[2][2];                  /* this library and, behind it, the agent: [lo, hi) */
static __thread int busy __attribute__((tls_model("initial-exec")));

static bool skipped(uintptr_t pc)
{
	return (pc >= skip[0][0] && pc < skip[0][1]) || (pc >= skip[1][0] && pc < skip[1][1]);
}

static bool chosen(void)
{
	uint64_t n;

	if (!records || busy)
		return false;
	n = atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed) * 0x9e3779b97f4a7c15ull;
	n ^= n >> 29;
	n *= 0xbf58476d1ce4e5b9ull;
	n ^= n >> 32;
	return n % period == 0 && records->count < RECORDS;
}

static uint32_t slot_of(uintptr_t address)
{
	return (uint32_t)((address >> 4) * 0x9e3779b97f4a7c15ull >> 48);
}

static struct record *find(const void *p)
{
	for (uint32_t i = slot_of((uintptr_t)p), n = 0; n < SLOTS; n++, i = (i + 1) % SLOTS) {
		struct record *r = table[i];

		if (!r)
			return NULL;
		if (r->address == (uintptr_t)p)
			return r;
	}
	return NULL;
}

static void enter(struct record *r, void *p, size_t size)
{
	r->size = size;
	r->address = (uintptr_t)p;
	for (uint32_t i = slot_of((uintptr_t)p), n = 0; n < SLOTS; n++, i = (i + 1) % SLOTS) {
		struct record *old = table[i];

		if ((!old || old->address == 0) && atomic_compare_exchange_strong(&table[i], &old, r))
			return;
	}
}

/* The end in mid-work: whoever comes here stays, so that nothing is half recorded when the process is killed. */
static void stand_still(void)
{
	while (stopping)
		pause();
}

static void end_here(void)
{
	if (atomic_exchange(&stopping, 1))
		stand_still();
	usleep(100000);
	kill(getpid(), SIGKILL);
}

static __attribute__((noinline)) struct record *witness(void)
{
	uint64_t n = atomic_fetch_add(&records->count, 1);
	struct record *r;
	unw_context_t context;
	unw_cursor_t cursor;
	unw_word_t pc;

	if (n >= stop_at)
		end_here();
	if (n >= RECORDS)
		return NULL;
	r = &records->records[n];
	busy++;
	if (unw_getcontext(&context) == 0 && unw_init_local(&cursor, &context) == 0) {
		do {
			if (unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || pc == 0)
				break;
			if (r->depth == 0 && skipped(pc))
				continue;
			if (r->depth == DEPTH) {
				r->cut = 1;
				break;
			}
			r->pcs[r->depth++] = pc;
		} while (unw_step(&cursor) > 0);
	}
	busy--;
	return r;
}

static void log_block(struct record *r, void *p, size_t size)
{
	if (r && p)
		enter(r, p, size);
}

EXPORT void *malloc(size_t size)
{
	struct record *r;
	void *p;

	stand_still();
	if (!chosen())
		return next.malloc(size);
	r = witness();
	p = next.malloc(size);
	log_block(r, p, size);
	return p;
}

EXPORT void *calloc(size_t n, size_t size)
{
	struct record *r;
	void *p;

	stand_still();
	if (!chosen())
		return next.calloc(n, size);
	r = witness();
	p = next.calloc(n, size);
	log_block(r, p, n * size);
	return p;
}

EXPORT void free(void *p)
{
	struct record *r = records && p ? find(p) : NULL;

	if (r && in_front)
		return;
	if (r)
		r->address = 0;
	stand_still();
	next.free(p);
}

/* A witnessed block in front is copied, not moved: it must stay. */
static void *move_witnessed(const struct record *old, void *p, size_t size)
{
	void *q = next.malloc(size);

	if (q)
		memcpy(q, p, old->size < size ? old->size : size);
	return q;
}

EXPORT void *realloc(void *p, size_t size)
{
	struct record *old = records && p ? find(p) : NULL, *r;
	void *q;

	stand_still();
	if (old && in_front)
		return move_witnessed(old, p, size);
	if (old)
		old->address = 0;
	if (size == 0 || !chosen())
		return next.realloc(p, size);
	r = witness();
	q = next.realloc(p, size);
	log_block(r, q, size);
	return q;
}

static void own_range(void *symbol, uintptr_t range[2])
{
	const ElfW(Phdr) * ph;
	const ElfW(Ehdr) * eh;
	Dl_info info;

	if (!dladdr(symbol, &info))
		return;
	eh = info.dli_fbase;
	ph = (const ElfW(Phdr) *)((const char *)eh + eh->e_phoff);
	range[0] = (uintptr_t)eh;
	for (int i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && range[0] + ph[i].p_vaddr + ph[i].p_memsz > range[1])
			range[1] = range[0] + ph[i].p_vaddr + ph[i].p_memsz;
}

static __attribute__((constructor)) void begin(void)
{
	const char *path = getenv("ORACLE_LOG"), *place = getenv("ORACLE_PLACE"), *every = getenv("ORACLE_PERIOD");
	const char *stop = getenv("ORACLE_STOP");
	struct log *map;
	int fd;

	if (!path || !place)
		return;
	/* Only the process the driver started is watched: what it starts in turn is not. */
	unsetenv("ORACLE_LOG");
	in_front = strcmp(place, "front") == 0;
	if (in_front) {
		next.malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
		next.calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
		next.realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
		next.free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
	}
	own_range((void *)begin, skip[0]);
	/* Not "malloc": in a program that is not position independent that is the program's own table of jumps. */
	own_range(in_front ? (void *)begin : dlsym(RTLD_DEFAULT, "silt_agent_mark"), skip[1]);
	if (every)
		period = strtoull(every, NULL, 10);
	if (stop)
		stop_at = strtoull(stop, NULL, 10);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(struct log)) != 0)
		_exit(99);
	map = mmap(NULL, sizeof(struct log), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		_exit(99);
	close(fd);
	records = map;
}
