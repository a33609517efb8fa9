/* SPDX-License-Identifier: MIT */
/* The agent in a process that was running already: the table of hooks for the attacher, and what it lets a thread run. */
#include "capture/agent/attach.h"

#include "capture/agent/attached.h"
#include "capture/agent/real.h"

/* Hooks by their assembler names, for their types do not matter here. */
#define C_HOOK(name, class)                                                                                 \
	extern const char hook_of_##name[] __asm__(#name);                                                  \
	ATTACH_HOOK(name, hook_of_##name, agent_real.name, class)

C_HOOK(malloc, SILT_HOOK_ALLOC)
C_HOOK(calloc, SILT_HOOK_ALLOC)
C_HOOK(realloc, SILT_HOOK_ALLOC)
C_HOOK(reallocarray, SILT_HOOK_ALLOC)
C_HOOK(free, SILT_HOOK_ALLOC)
C_HOOK(cfree, SILT_HOOK_ALLOC)
C_HOOK(free_sized, SILT_HOOK_ALLOC)
C_HOOK(free_aligned_sized, SILT_HOOK_ALLOC)
C_HOOK(memalign, SILT_HOOK_ALLOC)
C_HOOK(aligned_alloc, SILT_HOOK_ALLOC)
C_HOOK(posix_memalign, SILT_HOOK_ALLOC)
C_HOOK(valloc, SILT_HOOK_ALLOC)
C_HOOK(pvalloc, SILT_HOOK_ALLOC)
C_HOOK(strdup, SILT_HOOK_STRING)
C_HOOK(strndup, SILT_HOOK_STRING)
C_HOOK(realpath, SILT_HOOK_STRING)
C_HOOK(mmap, SILT_HOOK_MAP)
C_HOOK(munmap, SILT_HOOK_MAP)
C_HOOK(mremap, SILT_HOOK_MAP)
C_HOOK(mlockall, SILT_HOOK_PROCESS)
C_HOOK(prctl, SILT_HOOK_PROCESS)
C_HOOK(pthread_create, SILT_HOOK_PROCESS)
C_HOOK(thrd_create, SILT_HOOK_PROCESS)
C_HOOK(fork, SILT_HOOK_PROCESS)
#define X(name, args) C_HOOK(name, SILT_HOOK_OPERATOR)
AGENT_REAL_NEW(X)
AGENT_REAL_DELETE(X)
#undef X

extern const char hook_of_syscall[] __asm__("syscall");
extern void *agent_syscall_real __attribute__((visibility("hidden")));
ATTACH_HOOK(syscall, hook_of_syscall, agent_syscall_real, SILT_HOOK_PROCESS)

extern const struct silt_agent_hook __start_agent_hooks[], __stop_agent_hooks[] __attribute__((visibility("hidden")));
extern const char agent_attach_enter[] __attribute__((visibility("hidden")));

static struct silt_agent_module modules[SILT_AGENT_MODULES];

EXPORT struct silt_agent_attach silt_agent_attach = {
	.magic = SILT_AGENT_ATTACH_MAGIC,
	.version = SILT_AGENT_ATTACH_VERSION,
	.size = sizeof(struct silt_agent_attach),
	.hooks = __start_agent_hooks,
	.hooks_end = __stop_agent_hooks,
	.enter = agent_attach_enter,
	.modules = modules,
};

/* For attach_enter.S, which cannot ask the compiler where the field is. */
_Static_assert(__builtin_offsetof(struct silt_agent_attach, leave) == 40, "attach_enter.S knows this offset");

#define AHEAD 8192u /* bytes: what a prefetch takes, in chunks of the usual size */
#define AHEAD_LINES 3u /* prefetched for every chunk: a number that changes is mispredicted, which costs more */
#define AHEAD_EACH 512u /* bytes of one chunk that are prefetched at most: behind it others may not follow */

struct entering {
	uint32_t context;
	const uint64_t *free, *free_end; /* what is left of them */
	uint64_t entered;
	uint32_t count;
	struct silt_agent_block batch[512];
};

static void enter_batch(struct entering *e)
{
	e->entered += live_enter_all(e->batch, e->count, agent_hot.options.min_size, e->context);
	e->count = 0;
}

/* A chunk is in use when the next one says so, and it is in no list. */
static void enter_chunk(struct entering *e, uint64_t chunk, uint64_t size, uint64_t next_word)
{
	uint64_t addr = chunk + 16;

	if (!chunk || !(next_word & 1))
		return;
	while (e->free < e->free_end && (*e->free & ~15ull) < addr)
		e->free++;
	if (e->free < e->free_end && (*e->free & ~15ull) == addr)
		return;
	/* By pages, so that each becomes one chunk of the table. */
	if (e->count && (e->count == sizeof(e->batch) / sizeof(e->batch[0]) || e->batch[e->count - 1].addr >> 12 != addr >> 12))
		enter_batch(e);
	e->batch[e->count++] = (struct silt_agent_block){ addr, size - 8 };
}

/* As capture/heap/glibc_walk.c does, which also knows what to do where this gives up. */
static bool walk_stretch(struct entering *e, const struct silt_agent_stretch *s)
{
	uint64_t chunk = 0, size = 0, p = s->start;

	while (p < s->end) {
		uint64_t left = s->end - p, word = left >= 16 ? *(const uint64_t *)(p + 8) : 0, next = word & ~15ull;

		if (p == s->top && s->top && left >= 16) {
			enter_chunk(e, chunk, size, word);
			return true;
		}
		if (left < 16 || (!s->main && !next && !(word & ~1ull) && left < 48))
			return !s->main; /* the mark that ends a heap, and a fence post before it */
		if (next == 16 && !(word & 0xe) && !s->main) {
			enter_chunk(e, chunk, size, word);
			return true;
		}
		/* 8 is no flag; 2: mapped by itself; 4: of another arena than the main one. */
		if (word & 10 || (s->main && word & 4) || next < 32 || next > left)
			return false;
		/* The chain is one of misses of the cache otherwise: where the next chunk is stands in this one. */
		for (uint64_t at = 0; at < AHEAD_LINES * 64; at += 64)
			__builtin_prefetch((const void *)(p + AHEAD + at));
		for (uint64_t at = AHEAD_LINES * 64; at < next && at < AHEAD_EACH; at += 64)
			__builtin_prefetch((const void *)(p + AHEAD + at));
		enter_chunk(e, chunk, size, word);
		chunk = p;
		size = next;
		p += next;
	}
	enter_chunk(e, chunk, size, 1);
	return true;
}

#define READY_BYTES (1ull << 20) /* in one stop of a thread */

static uint64_t ready_at, ready_end; /* memory taken ahead for the blocks of before; [ready_at, ready_end) was not touched yet */

/* Each page is written to, with what it holds: where a hypervisor keeps page tables of its own, the first touch of a page costs several
 * microseconds even when it is mapped, and would do so while all threads wait. */
static int32_t ready_memory(struct silt_agent_attach *a)
{
	uint64_t end;

	if (!ready_end) {
		uint64_t run;

		db_expect_small(a->expected);
		run = agent_hot.small_run;
		ready_at = (uint64_t)db_at((uint32_t)(run >> 32));
		ready_end = (uint64_t)db_at((uint32_t)run);
	}
	end = ready_end - ready_at < READY_BYTES ? ready_end : ready_at + READY_BYTES;
	for (; ready_at < end; ready_at = (ready_at | (AGENT_PAGE - 1)) + 1)
		__atomic_fetch_add((uint8_t *)ready_at, 0, __ATOMIC_RELAXED);
	a->ready = ready_at >= ready_end;
	return 0;
}

/* The blocks stand in the database's file, for as long as this takes, and what is to be walked. */
static int32_t enter_blocks(struct silt_agent_attach *a)
{
	uint64_t size = a->block_count * sizeof(struct silt_agent_block) + a->stretch_count * sizeof(struct silt_agent_stretch) +
			a->free_count * sizeof(uint64_t);
	long r = sys_mmap(NULL, size, 1 /* PROT_READ */, 0x8001 /* MAP_SHARED | MAP_POPULATE */, a->db_fd, a->blocks);
	const struct silt_agent_block *b = (const void *)r;
	const struct silt_agent_stretch *s;
	static struct entering e; /* too large for the stack this runs on */
	uint64_t i;

	if (sys_failed(r))
		return SILT_AGENT_E_MAP;
	s = (const void *)(b + a->block_count);
	e = (struct entering){ .context = stack_before_attach(), .free = (const void *)(s + a->stretch_count) };
	e.free_end = e.free + a->free_count;
	/* Each system call is two stops of this thread, while all others wait. */
	if (!ready_end)
		db_expect_small(a->expected);
	agent_hot.inherited = 1;
	e.entered = live_enter_all(b, a->block_count, agent_hot.options.min_size, e.context);
	for (i = 0; i < a->stretch_count && walk_stretch(&e, &s[i]); i++)
		;
	enter_batch(&e);
	a->entered = e.entered;
	a->result = i < a->stretch_count ? SILT_AGENT_E_ODD : 0;
	sys_munmap((void *)r, size);
	agent_db()->attached = 2;
	return a->result;
}

/* Called by attach_enter.S on a stack of the agent's, with signals blocked and all registers kept. */
__attribute__((visibility("hidden"), used)) void agent_attach_run(void)
{
	struct silt_agent_attach *a = &silt_agent_attach;

	if (a->operation == SILT_AGENT_START)
		a->result = agent_start_attached(a);
	else if (a->operation == SILT_AGENT_READY && agent_hot.base)
		a->result = ready_memory(a);
	else if ((a->operation == SILT_AGENT_BLOCKS || a->operation == SILT_AGENT_WALK) && agent_hot.base)
		a->result = enter_blocks(a);
}
