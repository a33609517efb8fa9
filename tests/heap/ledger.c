/* SPDX-License-Identifier: MIT */
/*
 * A program that keeps a ledger of its own live blocks, for comparison with a walk of its heap.
 *
 *   ledger MODE SEED LEDGER_FILE
 *
 * It allocates and frees at random the way MODE says, parks all its threads, prints "ready" and waits for a line on standard
 * input; then it writes "address requested-size usable-size" of every live block and ends at the next line.
 * With -DLEDGER_ALL (glibc, dynamic) it stands in front of malloc, so that libc's own blocks are in the ledger too;
 * otherwise the ledger holds the program's blocks alone. The ledger's memory is no heap memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS (1u << 22)
#define THREADS_MAX 64
#define HELD_MAX 20000

struct slot {
	uintptr_t addr; /* 0 free, 1 was used */
	size_t size;
};

static struct slot *slots;
static int table_lock;

static void lock(void)
{
	while (__atomic_exchange_n(&table_lock, 1, __ATOMIC_ACQUIRE))
		;
	if (!slots)
		slots = mmap(NULL, SLOTS * sizeof(*slots), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void unlock(void)
{
	__atomic_store_n(&table_lock, 0, __ATOMIC_RELEASE);
}

static size_t home(uintptr_t addr)
{
	return (addr >> 4) * 0x9e3779b97f4a7c15ull >> 42;
}

static void note(void *p, size_t size)
{
	size_t i = home((uintptr_t)p);

	if (!p)
		return;
	lock();
	while (slots[i].addr > 1)
		i = (i + 1) % SLOTS;
	slots[i].addr = (uintptr_t)p;
	slots[i].size = size;
	unlock();
}

static void forget(void *p)
{
	size_t i = home((uintptr_t)p);

	if (!p)
		return;
	lock();
	while (slots[i].addr && slots[i].addr != (uintptr_t)p)
		i = (i + 1) % SLOTS;
	if (slots[i].addr)
		slots[i].addr = 1;
	unlock();
}

#ifdef LEDGER_ALL
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);
#define REAL(name) __libc_##name
#define OURS(name) name
#else
#define REAL(name) name
#define OURS(name) my_##name
#endif

void *OURS(malloc)(size_t n)
{
	void *p = REAL(malloc)(n);

	note(p, n);
	return p;
}

void *OURS(calloc)(size_t a, size_t b)
{
	void *p = REAL(calloc)(a, b);

	note(p, a * b);
	return p;
}

void OURS(free)(void *p)
{
	forget(p);
	REAL(free)(p);
}

void *OURS(realloc)(void *old, size_t n)
{
	void *p;

	forget(old);
	p = REAL(realloc)(old, n);
	note(p, n);
	return p;
}

void *OURS(memalign)(size_t align, size_t n)
{
	void *p = REAL(memalign)(align, n);

	note(p, n);
	return p;
}

#ifdef LEDGER_ALL
int posix_memalign(void **ret, size_t align, size_t n)
{
	*ret = memalign(align, n);
	return *ret ? 0 : ENOMEM;
}

void *aligned_alloc(size_t align, size_t n)
{
	return memalign(align, n);
}
#endif

/* ---- what the modes do ---- */

struct mode {
	const char *name;
	int threads;
	unsigned rounds;
	size_t small, large; /* sizes are below small, one in 50 below large */
	unsigned aligned;    /* one in so many is aligned; 0: none */
	unsigned keep;       /* blocks held by a thread, about */
};

static const struct mode modes[] = {
	{ "plain", 1, 60000, 600, 9000, 40, 4000 },	{ "small", 1, 80000, 130, 300, 0, 8000 },
	{ "threads", 8, 30000, 600, 40000, 60, 2000 },	{ "many", 40, 4000, 300, 3000, 60, 300 },
	{ "mapped", 1, 3000, 3000, 900000, 5, 300 },	{ "mappedthreads", 6, 1500, 3000, 600000, 5, 100 },
	{ "sbrk", 1, 40000, 600, 60000, 40, 2000 },	{ "nobrk", 1, 40000, 600, 60000, 40, 3000 },
	{ "nobrkthreads", 6, 20000, 600, 60000, 40, 1500 },
	{ "empty", 1, 0, 1, 1, 0, 0 },			{ "drained", 4, 20000, 600, 9000, 40, 0 },
	{ "arenas1", 8, 20000, 600, 9000, 40, 1500 },	{ "trim", 4, 30000, 900, 30000, 40, 500 },
	{ "exits", 12, 8000, 600, 9000, 40, 500 },	{ "heaps", 3, 20000, 20000, 120000, 40, 6000 },
	{ "nomap", 3, 4000, 3000, 3000000, 20, 60 },	{ "fast", 2, 80000, 120, 120, 0, 12000 },
	{ "aligned", 2, 20000, 2000, 50000, 1, 1000 },	{ "fill", 1, 40000, 600, 9000, 0, 5000 },
	{ "reserved", 2, 1500, 3000, 900000, 5, 200 },	{ "behind", 1, 1500, 3000, 100000, 5, 200 },
	{ "moved", 1, 400, 80000000, 80000000, 1, 40 },
};

static const struct mode *mode;
static uint64_t seed;
static pthread_barrier_t parked, leave;

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static size_t pick_size(uint64_t *x)
{
	size_t most = next(x) % 50 ? mode->small : mode->large;

	return next(x) % 200 ? next(x) % most : 0;
}

static void *pick_block(uint64_t *x, size_t n)
{
	void *p;

	if (mode->aligned && next(x) % mode->aligned == 0)
		p = OURS(memalign)(16u << next(x) % 10, n);
	else if (next(x) % 5 == 0)
		p = OURS(calloc)(1, n);
	else
		p = OURS(malloc)(n);
	/* Contents that look like anything: zeroes, ones, addresses of blocks, chunk headers. */
	if (p && n >= 32) {
		uint64_t words[4] = { next(x) % 2 ? (uintptr_t)p + 64 : 0, next(x) % 3 ? 0x21 : next(x), 0x91,
				      next(x) % 2 ? 0x31 : (uintptr_t)p };

		memcpy(p, words, next(x) % 5 * 8);
		memcpy((char *)p + n - 8, words, 8);
	}
	return p;
}

/* What stops brk from growing: a page right behind the heap. */
static void block_brk(void)
{
	uintptr_t end = ((uintptr_t)sbrk(0) + 4095) & ~4095ul;

	mmap((void *)end, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

static void disturb(uint64_t *x, unsigned round)
{
	if (!strcmp(mode->name, "sbrk") && round % 9000 == 4000)
		memset(sbrk((intptr_t)(next(x) % 70000 + 1)), 0x21, 1);
	if (!strncmp(mode->name, "nobrk", 5) && round == 6000)
		block_brk();
#ifdef __GLIBC__
	if (!strcmp(mode->name, "trim") && round % 5000 == 2500)
		malloc_trim(0);
#endif
}

static void work(uint64_t x, void **held)
{
	unsigned count = 0;

	for (unsigned i = 0; i < mode->rounds; i++) {
		unsigned at = count ? (unsigned)(next(&x) % count) : 0;

		disturb(&x, i);
		if (count < mode->keep && next(&x) % 3) {
			held[count++] = pick_block(&x, pick_size(&x));
		} else if (count && next(&x) % 4 == 0) {
			size_t n = pick_size(&x);
			void *p = OURS(realloc)(held[at], n ? n : 1);

			held[at] = p;
		} else if (count) {
			OURS(free)(held[at]);
			held[at] = held[--count];
		} else {
			OURS(free)(pick_block(&x, pick_size(&x)));
		}
	}
	if (!strcmp(mode->name, "fast") || !strcmp(mode->name, "fill"))
		for (unsigned i = 0; i < count; i += 2) /* many free chunks that have not been joined */
			OURS(free)(held[i]);
}

static void **new_list(void)
{
	return mmap(NULL, HELD_MAX * sizeof(void *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *run(void *arg)
{
	work(seed * 1000003 + (uintptr_t)arg * 7919 + 1, new_list());
	pthread_barrier_wait(&parked);
	if (!strcmp(mode->name, "exits") && (uintptr_t)arg % 2)
		return NULL;
	pthread_barrier_wait(&leave);
	return NULL;
}

/* ---- output without the heap ---- */

static char out[1 << 16];
static size_t out_used;

static void flush(int fd)
{
	if (write(fd, out, out_used) != (ssize_t)out_used)
		_exit(3);
	out_used = 0;
}

static void put_hex(uint64_t v, char end)
{
	char digits[16];
	int n = 0;

	do
		digits[n++] = "0123456789abcdef"[v % 16];
	while (v /= 16);
	while (n)
		out[out_used++] = digits[--n];
	out[out_used++] = end;
}

static void write_ledger(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	for (size_t i = 0; slots && i < SLOTS; i++) {
		if (slots[i].addr <= 1)
			continue;
		put_hex(slots[i].addr, ' ');
		put_hex(slots[i].size, ' ');
		put_hex(malloc_usable_size((void *)slots[i].addr), '\n');
		if (out_used > sizeof(out) - 100)
			flush(fd);
	}
	flush(fd);
	close(fd);
}

static void wait_line(void)
{
	char c = 0;

	while (c != '\n')
		if (read(0, &c, 1) != 1)
			_exit(4);
}

/* Address space without end, and a block whose mapping is joined to it: to its beginning, or (where a gap as large as the block was left)
 * to its end. */
static void reserve(void)
{
	size_t vast = 300ul << 30, gap = 1ul << 20;
	char *p = mmap(NULL, vast + gap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		_exit(7);
	if (!strcmp(mode->name, "behind")) {
		munmap(p + vast, gap);
		OURS(malloc)(gap - 4000);
	}
}

static void set_options(void)
{
#ifdef __GLIBC__
	if (!strcmp(mode->name, "arenas1"))
		mallopt(M_ARENA_MAX, 1);
	if (!strcmp(mode->name, "fast"))
		mallopt(M_MXFAST, 160);
	if (!strcmp(mode->name, "trim"))
		mallopt(M_TRIM_THRESHOLD, 4096);
	if (!strcmp(mode->name, "nomap"))
		mallopt(M_MMAP_THRESHOLD, 32 << 20);
#endif
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS_MAX];

	for (size_t i = 0; argc == 4 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(modes[i].name, argv[1]))
			mode = &modes[i];
	if (!mode) {
		for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
			dprintf(1, "%s\n", modes[i].name);
		return 2;
	}
	seed = strtoull(argv[2], NULL, 10) + 1;
	if (!strcmp(mode->name, "reserved") || !strcmp(mode->name, "behind"))
		reserve();
	set_options();
	pthread_barrier_init(&parked, NULL, (unsigned)mode->threads);
	pthread_barrier_init(&leave, NULL, (unsigned)(mode->threads - (!strcmp(mode->name, "exits") ? mode->threads / 2 : 0)));
	for (int i = 1; i < mode->threads; i++)
		if (pthread_create(&threads[i], NULL, run, (void *)(uintptr_t)i))
			return 5;
	work(seed * 1000003, new_list());
	pthread_barrier_wait(&parked);
	if (!strcmp(mode->name, "exits"))
		for (int i = 1; i < mode->threads; i += 2)
			pthread_join(threads[i], NULL);
	usleep(20000); /* the others reach the second barrier */
	if (write(1, "ready\n", 6) != 6)
		return 6;
	wait_line();
	write_ledger(argv[3]);
	if (write(1, "written\n", 8) != 8)
		return 6;
	wait_line();
	_exit(0);
}
