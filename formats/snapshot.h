/* SPDX-License-Identifier: MIT */
/**
 * The snapshot model: what silt knows of one process at one moment.
 *
 * Columnar: plain arrays with counts, owned by the snapshot. Strings are interned in the snapshot's arena
 * and live as long as it does. Everything is optional except process; whatever is partial has a note.
 *
 * Indices into arrays are uint32_t; SILT_NONE means "none". A reader guarantees that every index in a
 * snapshot it returns is in range, so users need not check again.
 * Not thread-safe while being built; any number of threads may read a finished snapshot.
 */
#ifndef SILT_FORMATS_SNAPSHOT_H
#define SILT_FORMATS_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/types.h"

#define SILT_NONE UINT32_MAX

/* silt_process.method of a process that was not tracked: its blocks come from walking the allocator's structures. Sizes are
 * usable sizes, contexts stand for types and have no stack, and nothing is known of what was freed. */
#define SILT_METHOD_WALK "heap walk"

enum silt_kind { /* what sort of allocation a context made */
	SILT_KIND_HEAP = 0, /* malloc family and operator new */
	SILT_KIND_MMAP = 1, /* anonymous mmap by the program itself */
	SILT_KIND_POOL = 2, /* announced by silt_alloc() of silt.h */
};

struct silt_process {
	uint32_t pid;
	uint32_t parent_pid;
	const char *exe;
	const char *argv; /* arguments joined by single spaces, for people */
	const char *host;
	const char *kernel;
	const char *libc;      /* "glibc 2.36" or NULL */
	const char *allocator; /* "glibc", "jemalloc (/usr/lib/…)" … or NULL */
	const char *method;    /* how the capture was made: "launcher", "ptrace", "exit", SILT_METHOD_WALK … */
	const char *ending;    /* NULL while running, else "exited with status 0", "killed by SIGSEGV" … */
	int64_t start_ns;      /* CLOCK_REALTIME when tracking began */
	int64_t capture_ns;    /* CLOCK_REALTIME of the snapshot */
	uint64_t pause_ns;     /* longest stop of any thread that the capture caused */
	uint64_t session[2];   /* random identity of the tracked process image: equal in two dumps = same run */
	uint32_t epoch;        /* blocks with a higher epoch were allocated after this snapshot was taken */
	uint64_t sample_bytes; /* 0: every allocation; else mean bytes between samples: figures are estimates */
	uint64_t min_size;     /* allocations below this were not tracked (0: none left out) */
	uint32_t max_depth;
	bool with_threads; /* contexts carry the allocating thread */
};

struct silt_range {
	silt_addr start, end; /* run-time addresses, end exclusive */
	uint64_t file_offset;
	uint32_t prot; /* PROT_READ | PROT_WRITE | PROT_EXEC */
};

struct silt_module {
	const char *path; /* as the kernel or loader named it; "[vdso]" too */
	const uint8_t *build_id;
	uint32_t build_id_len; /* 0: none */
	uint32_t range_first, range_count; /* into ranges */
	silt_addr bias;                    /* run-time address minus link-time (ELF) address */
	uint32_t generation;               /* how often its addresses had been in use by others before */
	bool unloaded;
};

/* A code location. offset is the link-time (ELF virtual) address: run-time address - bias. For module
 * SILT_NONE it is the raw run-time address. It is the raw return address: subtract 1 before looking it up,
 * unless INTERRUPTED is set. */
enum {
	SILT_FRAME_INTERRUPTED = 1, /* a signal arrived here: the address is exact, no return address */
};
struct silt_frame {
	uint32_t module;
	uint32_t flags;
	uint64_t offset;
};

enum { /* why a stack may be incomplete, or stand for more than itself */
	SILT_STACK_NO_CFI = 1,     /* stopped at code without unwind information (JIT) */
	SILT_STACK_DEPTH = 2,      /* deeper than the depth limit */
	SILT_STACK_BROKEN = 4,     /* the unwinder met something impossible and stopped */
	SILT_STACK_OVERFLOW = 8,   /* the one bucket for stacks that did not fit the trace database */
	SILT_STACK_UNTRACKED = 16, /* "(before attach)", "(no stack)" and the like */
};
struct silt_stack {
	uint32_t frame_first, frame_count; /* into stack_frames; innermost frame first */
	uint32_t flags;
};

/* The unit of accounting: one stack, in one epoch, of one kind, by one thread (where tracked). */
struct silt_context {
	uint32_t stack;
	uint32_t epoch;
	uint32_t thread; /* index into threads, or SILT_NONE */
	uint32_t kind;   /* enum silt_kind */
	uint64_t live_count, live_bytes;
	uint64_t alloc_count, alloc_bytes; /* since tracking began; freed = alloc - live */
};

struct silt_thread {
	uint32_t tid;
	const char *name; /* or NULL */
	bool exited;
};

struct silt_region {
	silt_addr start, end;
	uint64_t file_offset;
	uint32_t prot;
	bool shared;
	uint32_t dev_major, dev_minor;
	uint64_t inode;
	const char *name; /* path, "[heap]", "[anon:…]", or NULL */
};

struct silt_mark { /* silt_mark(name) of silt.h */
	const char *name;
	int64_t time_ns;
	uint32_t epoch;
	uint32_t tid;
};

struct silt_counter {
	const char *name; /* "agent.lost_blocks", "agent.db_bytes", … */
	uint64_t value;
};

/* What the blocks of a context hold, told by their first word: the address of a C++ type's vtable. */
struct silt_type {
	uint32_t context; /* into contexts; no two types have the same, ascending */
	uint32_t module;  /* that holds the vtable, or SILT_NONE: offset is a raw run-time address */
	uint64_t offset;  /* of the vtable's first function, as a link-time address */
	const char *name; /* mangled, as std::type_info has it ("N2ns3FooE"); NULL: not known, symbol tables may tell */
};

/* Blocks as columns, sorted by address. */
struct silt_blocks {
	uint64_t count;
	silt_addr *addr;
	uint64_t *size;    /* requested bytes */
	uint32_t *context; /* into contexts */
};

struct silt_snapshot {
	struct silt_process process;
	struct silt_module *modules;      uint32_t module_count;
	struct silt_range *ranges;        uint32_t range_count;
	struct silt_frame *frames;        uint32_t frame_count;       /* distinct locations */
	uint32_t *stack_frames;           uint32_t stack_frame_count; /* indices into frames */
	struct silt_stack *stacks;        uint32_t stack_count;
	struct silt_context *contexts;    uint32_t context_count;
	struct silt_thread *threads;      uint32_t thread_count;
	struct silt_region *regions;      uint32_t region_count;
	struct silt_mark *marks;          uint32_t mark_count;
	struct silt_counter *counters;    uint32_t counter_count;
	struct silt_type *types;          uint32_t type_count;
	const char **notes;               uint32_t note_count;        /* warnings every report repeats */
	struct silt_blocks blocks;        /* empty unless asked for when reading */
	bool has_blocks;                  /* the source holds blocks, whether or not they were read */
	uint64_t total_count, total_bytes; /* live, over all contexts */
	struct silt_arena *arena;         /* owns all of the above, blocks' columns included */
};

struct silt_arena;

/** An empty snapshot with an arena. NULL when out of memory. Destroy with silt_snapshot_destroy. */
struct silt_snapshot *silt_snapshot_create(void);
/** Frees everything. NULL is fine. */
void silt_snapshot_destroy(struct silt_snapshot *s);
/** Copies text into the snapshot (NULL stays NULL). Returns NULL when out of memory. */
const char *silt_snapshot_string(struct silt_snapshot *s, const char *text);
/** Zeroed array of n elements owned by the snapshot; NULL on overflow or out of memory (n = 0 gives non-NULL). */
void *silt_snapshot_array(struct silt_snapshot *s, uint64_t n, size_t element_size);
/** Appends a note for people ("12 blocks were lost: …"). */
int silt_snapshot_note(struct silt_snapshot *s, struct silt_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** Appends a named counter. */
int silt_snapshot_counter(struct silt_snapshot *s, const char *name, uint64_t value, struct silt_error *err);
/** Sums total_count and total_bytes over the contexts; call when the contexts are complete. */
void silt_snapshot_total(struct silt_snapshot *s);

#endif
