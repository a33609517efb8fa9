/* SPDX-License-Identifier: MIT */
/**
 * Walking the heaps of a process that nobody hooked: every live block, read from outside, without debug symbols.
 *
 *   silt_heap_open     where the allocators' roots are; the process may run
 *   (stop every thread)
 *   silt_heap_busy     some thread stands inside the allocator: let it run a little and stop again, a few times
 *   silt_heap_walk     hands out the blocks
 *   (let the threads go)
 *   silt_heap_info …   what was walked, and what could not be
 *
 * Walked: glibc's malloc (2.26 to 2.43 layouts, several copies of it and static programs too) and musl's mallocng.
 * Recognised only: jemalloc, tcmalloc, mimalloc. Nothing in the target's memory is believed: every list is bounded by the
 * size of what it lies in, every size by the mapping, and damage costs a part of one heap and a problem line.
 * Not thread-safe: one thread per struct silt_heap.
 */
#ifndef SILT_CAPTURE_HEAP_HEAP_H
#define SILT_CAPTURE_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"
#include "capture/target/maps.h"
#include "capture/target/modules.h"

/** How target memory is read: a process, a core file, a copy. */
struct silt_heap_reader {
	/** Reads up to `size` bytes at addr. Returns how many could be read from addr on (fewer where memory that cannot be
	 *  read begins; 0: none). */
	size_t (*read)(void *data, silt_addr addr, void *buffer, size_t size);
	void *data;
	bool any_thread; /* read may be called by two threads at once */
	/** Reads count words from anywhere at a time. Returns how many of the first were read. NULL: one by one. */
	size_t (*read_words)(void *data, const silt_addr *at, uint64_t *ret, size_t count);
};

/** Reads the memory of a process: process_vm_readv, and where that is refused /proc/PID/mem. */
struct silt_heap_process {
	pid_t pid;
	int mem_fd; /* /proc/PID/mem, or -1 */
};
void silt_heap_process_init(struct silt_heap_process *p, pid_t pid);
void silt_heap_process_deinit(struct silt_heap_process *p);
/** The reader over it; p must stay where it is. */
struct silt_heap_reader silt_heap_process_reader(struct silt_heap_process *p);

/** A thread of the target. Both fields may be 0: not known. */
struct silt_heap_thread {
	silt_addr pointer; /* thread pointer: fs_base, TPIDR_EL0 */
	silt_addr pc;
	silt_addr sp;  /* 0: not known; for whoever lets threads run on, as the next */
	uint64_t call; /* the number of the system call it is in, ~0: none */
};

/** What is walked. Everything pointed to must stay until the next call that gets other pointers, or destroy. */
struct silt_heap_target {
	struct silt_heap_reader reader;
	const struct silt_maps *maps;
	const struct silt_target_modules *modules;
	pid_t pid; /* a running process: its page map saves reading pages that were never touched; 0: none */
	/* A thread inside an allocator matters although its structures are sound at every moment (musl): a block is changing hands. */
	bool exact;
	uint64_t links_max; /* of free lists, read one by one: beyond, a table of all is made; 0: the usual number */
};

struct silt_heap_block {
	silt_addr addr;      /* what malloc returned */
	uint64_t size;       /* usable bytes, as malloc_usable_size says: at least what was asked for */
	uint64_t first_word; /* the block's first 8 bytes: a C++ object's vtable pointer */
	uint32_t heap;       /* into silt_heap_info */
	uint32_t flags;      /* 0 */
};

/** Gets the blocks in portions, with ascending addresses; but behind the last one may come a second run, of blocks that could
 *  not be told from free ones before. Another result than 0 ends the walk with it. */
typedef int (*silt_heap_sink)(void *data, const struct silt_heap_block *blocks, size_t count);

enum silt_heap_kind {
	SILT_HEAP_MAIN,   /* glibc's main arena: brk */
	SILT_HEAP_ARENA,  /* another arena of glibc */
	SILT_HEAP_MAPPED, /* glibc's blocks with a mapping of their own */
	SILT_HEAP_MUSL,   /* all of mallocng's */
};

/** One heap, complete after the walk. The parts add up: used + cached + free + own + unknown bytes = size. */
struct silt_heap_info {
	enum silt_heap_kind kind;
	silt_addr addr;            /* its arena or context structure; 0 for SILT_HEAP_MAPPED */
	uint64_t size;             /* bytes it got from the system and still has */
	uint64_t used_bytes, used_count;     /* chunks handed out, headers included */
	uint64_t cached_bytes, cached_count; /* free, in a thread's cache */
	uint64_t free_bytes, free_count;     /* free, in bins, and the top chunk */
	uint64_t own_bytes;        /* the allocator's own: tables of thread caches, arena headers, fence posts, alignment;
				    * memory others got from brk in between */
	uint64_t unknown_bytes;    /* not walked: see the problems */
	bool locked;               /* a thread held its lock: blocks at its edge may be wrong */
};

struct silt_heap;

/**
 * Finds the allocators. The threads may run. *ret is made even when there is no allocator that can be walked:
 * silt_heap_count is 0 then, and the problems say why. Fails only for lack of memory.
 */
int silt_heap_open(const struct silt_heap_target *target, struct silt_heap **ret, struct silt_error *err);
/** NULL is fine. */
void silt_heap_destroy(struct silt_heap *h);

/** True when a thread holds an allocator's lock or stands in its code. Threads must stand still. Quick: microseconds, a
 *  few reads per arena. */
bool silt_heap_busy(struct silt_heap *h, const struct silt_heap_thread *threads, uint32_t thread_count);

/** True when pc lies in the code of an allocator that can be walked (or right beside it: its inner functions have no names); musl's only
 *  where target.exact says that it matters. */
bool silt_heap_in_allocator(const struct silt_heap *h, silt_addr pc);
/** The same for mmap, sbrk and the others it calls for memory: which others call, too. */
bool silt_heap_in_calls(const struct silt_heap *h, silt_addr pc);

/**
 * Walks everything. Threads must stand still. maps: the memory map read during this stop. threads may be NULL: thread
 * caches are then found by their content alone. May be called again. A failure is out of memory or the sink's own.
 */
int silt_heap_walk(struct silt_heap *h, const struct silt_maps *maps, const struct silt_heap_thread *threads,
		   uint32_t thread_count, silt_heap_sink sink, void *data, struct silt_error *err);

/** How many blocks a walk would find: a guess, by the first chunks of each heap. Threads may run. What this looks at will be looked at by
 *  a plan, which then finds its own memory ready. */
uint64_t silt_heap_block_guess(struct silt_heap *h, const struct silt_maps *maps);

/** What a walk would do, for whoever can do it faster. Borrowed until the next walk or plan. */
struct silt_heap_plan {
	/** Stretches of glibc's chunks, ascending. */
	const struct silt_heap_stretch {
		silt_addr start, end; /* of private memory that can be read */
		silt_addr top;	      /* the arena's top chunk, 0: not here */
		bool main;	      /* of the main arena */
	} *stretches;
	size_t stretch_count;
	/** Blocks in them that are free although the chunk behind calls them in use, ascending; the low four bits say why. */
	const uint64_t *free;
	size_t free_count;
	/** All other blocks. */
	const struct silt_heap_block *blocks;
	size_t block_count;
};

/** As silt_heap_walk, without walking. UNSUPPORTED: only a walk will do. */
int silt_heap_plan(struct silt_heap *h, const struct silt_maps *maps, const struct silt_heap_thread *threads, uint32_t thread_count,
		   struct silt_heap_plan *ret, struct silt_error *err);

/** Heaps, of all allocators. */
uint32_t silt_heap_count(const struct silt_heap *h);
const struct silt_heap_info *silt_heap_info(const struct silt_heap *h, uint32_t i);
/** True when there is an allocator that can be walked (its heap may still be empty). */
bool silt_heap_walkable(const struct silt_heap *h);
/** "glibc", "musl mallocng", "jemalloc (/usr/lib/…)" or "unknown": the allocator, for people. */
const char *silt_heap_allocator(const struct silt_heap *h);
/** "glibc 2.36", "musl", or NULL. */
const char *silt_heap_libc(const struct silt_heap *h);
/** Upper bound of the number of blocks, known after silt_heap_walk began; for sizing arrays. */
uint64_t silt_heap_block_bound(const struct silt_heap *h);

/** What could not be walked and why: one line each, for people. Valid until the next walk. */
uint32_t silt_heap_problem_count(const struct silt_heap *h);
const char *silt_heap_problem(const struct silt_heap *h, uint32_t i);

#endif
