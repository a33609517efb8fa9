/* SPDX-License-Identifier: MIT */
/**
 * Layout of the trace database: shared memory written by the agent inside the target and read by capture.
 * Freestanding: plain integers only. docs/INTERNALS.md explains the ideas.
 *
 * One memfd ("silt-db") per `silt run`, made and held by the launcher:
 *
 *   offset 0                     struct silt_db_run: options, slot table, marks
 *   SLOT_OFFSET + i * SLOT_SIZE  slot i: the database of one process image
 *
 * The file is sparse; only touched pages cost memory. A process maps the run page and a window of its slot, and lets
 * the window grow with mremap. A forked child needs no descriptor: it duplicates the run page's mapping with
 * mremap(old_size = 0) up to its own slot's offset and drops the front.
 *
 * Inside a slot everything is found by "refs": offsets from the slot's start in units of SILT_DB_UNIT bytes, ref 0 =
 * none. Nothing is ever moved. Words that several threads write are changed with single atomic operations, so a reader
 * that stops the target anywhere finds a consistent database, give or take the operation in flight.
 */
#ifndef SILT_CAPTURE_AGENT_TRACE_DB_H
#define SILT_CAPTURE_AGENT_TRACE_DB_H

#include <stdint.h>

#define SILT_DB_RUN_MAGIC 0x6e7552744c695321ull /* "!SiLtRun" */
#define SILT_DB_MAGIC 0x62446574536c6953ull
#define SILT_DB_VERSION 4u
#define SILT_DB_NAME "silt-db"

#define SILT_DB_RUN_SIZE 65536ull /* bytes of the run area that are mapped */
#define SILT_DB_SLOT_OFFSET 65536ull
#define SILT_DB_SLOT_SIZE (16ull << 30)
#define SILT_DB_SLOTS 1024u
#define SILT_DB_FILE_SIZE (SILT_DB_SLOT_OFFSET + SILT_DB_SLOTS * SILT_DB_SLOT_SIZE)
#define SILT_DB_UNIT 32ull /* bytes per ref unit */

/* The environment variable that leads an exec'ed image to the database: "PID:FD:INODE:RUNID", decimal, decimal, decimal,
 * 16 hex digits. The agent opens /proc/PID/fd/FD, compares the inode and the run id, maps, closes. */
#define SILT_DB_ENV "SILT_AGENT"
/* AddressSanitizer ends a program in which another object stands before its run-time library, as a preloaded one does, unless this
 * is among its options. */
#define SILT_DB_ASAN "ASAN_OPTIONS="
#define SILT_DB_ASAN_OPTION "verify_asan_link_order=0"

enum silt_db_flags {
	SILT_DB_THREADS = 1,   /* contexts carry the thread */
	SILT_DB_NO_FOLLOW = 2, /* leave children and exec'ed images alone */
	SILT_DB_INHERIT_ALWAYS = 4, /* forked children know their parent's blocks, however many they are */
	SILT_DB_INHERIT_NEVER = 8,
};

struct silt_db_options {
	uint32_t flags;        /* enum silt_db_flags */
	uint32_t max_depth;    /* frames kept per stack, 1..SILT_DB_MAX_DEPTH */
	uint64_t db_limit;     /* bytes stacks and contexts may take in one slot */
	uint64_t min_size;     /* smaller allocations are not tracked */
	uint64_t sample_bytes; /* 0: track every allocation */
	uint64_t mmap_min;     /* anonymous mappings from this size on are tracked */
};
#define SILT_DB_MAX_DEPTH 512u
#define SILT_DB_DEFAULT_DEPTH 128u

enum silt_db_slot_state {
	SILT_SLOT_FREE = 0,    /* all zero on disk: may be claimed */
	SILT_SLOT_CLAIMED = 1, /* claimed by pid, being set up */
	SILT_SLOT_ACTIVE = 2,
	SILT_SLOT_DONE = 3, /* launcher only: its dump is being written, then it is punched out and FREE */
	SILT_SLOT_LEAVING = 4, /* launcher only: not wanted any more, but whole; a forked child may be about to read it */
	SILT_SLOT_CLEARING = 5, /* launcher only: being punched out */
};

struct silt_db_slot_entry {
	uint32_t state; /* atomic, enum silt_db_slot_state; FREE -> CLAIMED by the agent with CAS */
	uint32_t pid;   /* as the launcher numbers the process */
	uint64_t serial; /* counts claims: of two slots of one pid the higher one is the later image */
	/* atomic: serial << 16 | forked children that have not copied yet what they inherit from this slot. Those that end first stay
	 * counted. */
	uint64_t forks;
};
#define SILT_DB_FORKS(f) ((uint32_t)(f) & 0xffffu)

#define SILT_DB_RUN_MARKS 256
struct silt_db_mark {
	uint32_t state; /* 0 free, 1 being written, 2 complete */
	uint32_t slot;
	uint32_t tid;
	uint32_t epoch;
	int64_t time_ns; /* CLOCK_REALTIME */
	uint32_t capture; /* 1: silt_capture(name): the launcher is asked to write a dump of that name */
	uint32_t done;    /* launcher: handled */
	char name[96];
};

struct silt_db_run {
	uint64_t magic;
	uint32_t version;
	uint32_t launcher_pid;
	int32_t launcher_fd; /* the memfd's number in the launcher */
	uint32_t wake;       /* futex: bumped by agents when the launcher should look (new slot, capture request) */
	uint64_t run_id;     /* random */
	uint64_t inode;      /* the memfd's st_ino */
	struct silt_db_options options;
	char socket[64];        /* abstract unix socket of the launcher (without the leading NUL), or "" */
	uint32_t untracked;     /* atomic: processes that found no slot or could not map one */
	uint32_t next_slot;     /* hint where to look for a free one */
	uint32_t mark_next;     /* atomic: marks ever asked for; index modulo SILT_DB_RUN_MARKS */
	uint64_t claims;        /* atomic: slots ever claimed */
	uint32_t beat;          /* launcher: counts up about once a second; agents may be without a clock (seccomp) */
	uint32_t from_start;    /* 1: attached to by the launcher that had just started it, which stays until it ends */
	uint64_t inherited;     /* atomic: bytes of tables that forked children have copied, over all slots in use */
	struct silt_db_slot_entry slots[SILT_DB_SLOTS];
	struct silt_db_mark marks[SILT_DB_RUN_MARKS];
};

/* ---- one slot ---- */

/* Stack trie. A stack is its innermost node; parents lead outward. Segment k holds nodes
 * [k * SEG, (k + 1) * SEG); node 0 is not used. */
struct silt_db_node {
	uint64_t pcword; /* pc | generation << 48 | flags << 56; see below */
	uint32_t parent; /* caller's node, 0: outermost */
};
#define SILT_DB_PC_MASK 0x0000ffffffffffffull
#define SILT_DB_PC_GENERATION(w) ((uint32_t)((w) >> 48) & 0xffu)
#define SILT_DB_GENERATION_LAST 253u    /* of loads in the module table */
#define SILT_DB_GENERATION_NONE 254u    /* pc lay in no module that the loader knew */
#define SILT_DB_GENERATION_UNNAMED 255u /* in one that is not in the module table: too many were, or too many at its place */
#define SILT_DB_PC_INTERRUPTED (1ull << 56) /* pc is where a signal arrived, not a return address */
#define SILT_DB_NODE_SEG 4096u
#define SILT_DB_NODE_SEGS 16384u /* 64 Mi nodes */

/* Contexts: the unit of accounting. Segmented the same way; context 0 is not used. */
struct silt_db_context {
	uint64_t hash;  /* of frames, epoch, kind, thread */
	uint32_t node;  /* innermost node, 0: no frames */
	uint32_t flags; /* SILT_STACK_* bits in 0..15, kind in 16..23 */
	uint32_t epoch;
	uint32_t thread;      /* index into the thread table + 1, 0: not tracked */
	uint64_t alloc_count; /* flushed part; add what threads' caches hold. With sampling: in 1/256 */
	uint64_t alloc_bytes;
};
#define SILT_DB_CONTEXT_KIND(f) (((f) >> 16) & 0xffu)
#define SILT_DB_CONTEXT_SEG 1024u
#define SILT_DB_CONTEXT_SEGS 16384u /* 16 Mi contexts: 24 bits */
#define SILT_DB_CONTEXT_OVERFLOW 1u /* the bucket used when a table is full, flag SILT_STACK_OVERFLOW */

/* Nodes and contexts are found through hash levels, each four times as large as the one before: places of 4 bytes. */
#define SILT_DB_LEVELS 10u
#define SILT_DB_LEVEL_SIZE(k) (4096u << 2 * (k))
struct silt_db_levels {
	uint32_t ref[SILT_DB_LEVELS];
};

/* Stack flags: the same values as SILT_STACK_* in formats/snapshot.h (a test compares them). */
#define SILT_DB_STACK_NO_CFI 1u
#define SILT_DB_STACK_DEPTH 2u
#define SILT_DB_STACK_BROKEN 4u
#define SILT_DB_STACK_OVERFLOW 8u
#define SILT_DB_STACK_UNTRACKED 16u

/* Live table: heap address -> entry, two-level directory of page words.
 *   root[addr >> 30]            ref of a leaf (u32), 0: none
 *   leaf[(addr >> 12) & 0x3ffff] page word (u64):
 *       0                 nothing
 *       bit 63 clear      the page's only entry, inline
 *       bit 63 set        ref of a chunk in bits 16..47, its capacity (entries) in bits 0..15
 * A chunk is `capacity` entries (u64), at any place in the chunk:
 *       0 empty, SILT_DB_ENTRY_TOMB removed, else
 *       bits 0..8   (address & 4095) / 8
 *       bits 9..32  context
 *       bits 33..62 requested size; SILT_DB_SIZE_HUGE: look the address up in the side table
 *       bit 63      frozen: the chunk is being replaced; the entry is valid where the page word still leads to it
 */
/* Blocks of kind pool stand in the live table under their address ^ SILT_DB_POOL_BIT, for a pool's first block often starts
 * where its heap block starts. */
#define SILT_DB_POOL_BIT (1ull << 46)
#define SILT_DB_ROOT_ENTRIES 131072u /* 47-bit addresses */
#define SILT_DB_LEAF_PAGES 262144u
/* Of the sparse tables it is kept which parts were ever written to, a bit for 4 KiB: to read the others would give them memory. A leaf's
 * bits follow its words. */
#define SILT_DB_PART 4096u
#define SILT_DB_LEAF_PARTS (SILT_DB_LEAF_PAGES * 8 / SILT_DB_PART)
#define SILT_DB_LEAF_BYTES (SILT_DB_LEAF_PAGES * 8 + SILT_DB_LEAF_PARTS / 8)
#define SILT_DB_ROOT_PARTS (SILT_DB_ROOT_ENTRIES * 4 / SILT_DB_PART)
#define SILT_DB_PAGE_CHUNK (1ull << 63)
#define SILT_DB_PAGE_REF(w) ((uint32_t)((w) >> 16))
#define SILT_DB_PAGE_CAPACITY(w) ((uint32_t)(w) & 0xffffu)
#define SILT_DB_ENTRY_TOMB 1ull
#define SILT_DB_ENTRY_FROZEN (1ull << 63)
#define SILT_DB_ENTRY_OFFSET(e) ((uint32_t)((e) & 0x1ffu) * 8u)
#define SILT_DB_ENTRY_CONTEXT(e) ((uint32_t)((e) >> 9) & 0xffffffu)
#define SILT_DB_ENTRY_SIZE(e) ((uint32_t)((e) >> 33) & 0x3fffffffu)
#define SILT_DB_SIZE_HUGE 0x3fffffffu

/* Side table: blocks that do not fit an entry (huge, oddly aligned, mappings). Open addressing, never shrinks. */
struct silt_db_side {
	uint64_t key; /* 0 empty, 1 removed, bit 63 set: being written, else the address */
	uint64_t size;
	uint32_t context;
	uint32_t mapping; /* 1: one of the program's own mappings, which may be cut or split */
};
#define SILT_DB_SIDE_ENTRIES 65536u
#define SILT_DB_SIDE_DENSE (SILT_DB_SIDE_ENTRIES / 2) /* filled from the start; the others by hash */
#define SILT_DB_SIDE_PARTS ((SILT_DB_SIDE_ENTRIES - SILT_DB_SIDE_DENSE) * 24 / SILT_DB_PART)
#define SILT_DB_SIDE_BUSY (1ull << 63)

/* What happens to a database while a forked child has not copied it yet: for each change of the live and the side table, made before it
 * is seen there, what was there. The child copies the tables as they are and takes back all that was not yet begun at the fork: its
 * private memory holds the number of changes of then (docs/INTERNALS.md). */
enum silt_db_change {
	SILT_CHANGE_LIVE = 0, /* of the live table; size as an entry holds it */
	SILT_CHANGE_SIDE = 1, /* of the side table's dense half: a huge block's size */
	SILT_CHANGE_MAP = 2,  /* the same: a mapping */
	SILT_CHANGE_ODD = 3,  /* of its hashed half */
	SILT_CHANGE_WAS = 16, /* flag: the entry was there, and goes; else it comes */
};
struct silt_db_undo {
	uint64_t seq; /* number of the change + 1; bit 63 set: being written */
	uint64_t addr;
	uint64_t size;
	uint32_t context;
	uint32_t change;
};
#define SILT_DB_UNDO_ENTRIES 262144u
#define SILT_DB_UNDO_BUSY (1ull << 63)

enum silt_db_inherit { /* how a forked child stands to its parent's blocks */
	SILT_INHERIT_NONE = 0,    /* it is no forked child */
	SILT_INHERIT_DONE = 1,    /* they are included */
	SILT_INHERIT_NEVER = 2,   /* not: nobody wants them */
	SILT_INHERIT_LARGE = 3,   /* their tables are too large to be copied unasked */
	SILT_INHERIT_TOTAL = 4,   /* all children together have copied enough */
	SILT_INHERIT_INSIDE = 5,  /* forked by a signal handler that had interrupted the agent */
	SILT_INHERIT_UNSEEN = 6,  /* not forked by fork() */
	SILT_INHERIT_CHANGED = 7, /* the parent went on too far before the child first allocated or freed */
	SILT_INHERIT_GONE = 8,    /* the parent's database is no more */
	SILT_INHERIT_MEMORY = 9,  /* no memory */
};

/* Modules the unwinder met. Valid when state is 2. [start, end) with this generation names one load of one file, or several one
 * after another of the same file. */
struct silt_db_module {
	uint32_t state; /* 0 free, 1 being written, 2 complete */
	uint32_t generation;
	uint64_t start, end; /* mapped range */
	uint64_t bias;
	uint32_t unloaded;     /* 1: gone */
	uint32_t build_id_len; /* 0: none found */
	uint8_t build_id[64];
	char path[1016]; /* cut at the end when longer: then path_cut is 1 */
	uint32_t path_cut;
};
#define SILT_DB_MODULES 4096u

/* A thread's small cache in front of the contexts; counts not yet flushed live here. */
struct silt_db_cache_entry {
	uint64_t hash;
	uint32_t context; /* 0: empty */
	uint32_t epoch;
	uint64_t alloc_count; /* add to the context's own */
	uint64_t alloc_bytes;
};

/* One per thread pointer that ever allocated; reused when the C library reuses the thread's memory. A cache line each: threads
 * write here while they run. */
struct silt_db_thread {
	uint32_t tid;          /* as the kernel numbers it in the process's pid namespace, 0: unknown */
	uint32_t cache_ref;    /* cache entries */
	uint32_t cache_size;   /* entries, a power of two */
	uint32_t aside_context; /* a block set aside by a realloc in flight: it is live. 0: none */
	uint64_t aside_addr;
	uint64_t aside_size;
} __attribute__((aligned(64)));
#define SILT_DB_THREADS_MAX 32768u

enum silt_db_lost { /* what could not be recorded: every report repeats these */
	SILT_LOST_BLOCKS,     /* live blocks without an entry: database full */
	SILT_LOST_MAPPINGS,   /* side table full */
	SILT_LOST_CONTEXTS,   /* allocations put into the overflow bucket */
	SILT_LOST_MODULES,    /* loads that are not in the module table */
	SILT_LOST_THREADS,    /* thread table full: stacks taken the slow way */
	SILT_LOST_NESTED,     /* allocations by signal handlers inside the agent, recorded the slow way */
	SILT_LOST_LIBRARIES,  /* loaded so that their calls pass the hooks by: RTLD_DEEPBIND, or into a namespace of their own */
	SILT_LOST_COUNT = 16,
};

struct silt_db {
	uint64_t magic; /* written last */
	uint32_t version;
	uint32_t slot;
	uint32_t pid;        /* of the process, as the launcher numbers it */
	uint32_t parent_pid; /* when set up; 0: unknown */
	uint32_t inherit;    /* enum silt_db_inherit */
	uint32_t epoch;      /* current epoch, from 1; a capture adds 1 after copying */
	int64_t start_ns;    /* CLOCK_REALTIME */
	uint64_t session[2]; /* random */
	uint64_t used;       /* atomic: bytes of the slot handed out so far */
	uint64_t mapped;     /* atomic: bytes of the slot mapped in the target */
	uint64_t base;       /* the slot's address in the target */
	uint64_t meta_used;  /* atomic: bytes given to nodes and contexts, against options.db_limit */
	uint32_t node_count;    /* atomic: next node */
	uint32_t context_count; /* atomic: next context */
	uint32_t thread_count;  /* atomic */
	uint32_t module_count;  /* atomic: entries ever claimed */
	uint32_t own_pid;    /* the process as it numbers itself; 0: not known */
	uint32_t exec_pid;   /* atomic: own_pid while it tries to become another program; where that worked it stays so */
	uint32_t own_malloc; /* 1: the program itself defines malloc: its calls of it never reach the agent */
	uint32_t root_ref, side_ref, node_hash_ref, context_hash_ref, module_ref, thread_ref;
	uint64_t root_parts[SILT_DB_ROOT_PARTS / 64]; /* atomic: parts of the root written to */
	uint64_t side_parts[SILT_DB_SIDE_PARTS / 64]; /* atomic: of the side table's hashed half, by where an entry begins */
	uint32_t side_high;   /* atomic: dense entries of the side table in use lie below */
	uint32_t node_levels, context_levels; /* atomic: hash levels in use */
	uint32_t undo_ref;    /* SILT_DB_UNDO_ENTRIES, 0: none yet */
	uint64_t undo_high;   /* atomic: changes noted have lower numbers */
	uint64_t undo_lost;   /* atomic: of those below this number some were not noted */
	uint64_t small_bytes; /* atomic: bytes handed out to chunks of the live table */
	uint64_t inherited_count, inherited_bytes; /* blocks taken over from the parent */
	uint64_t inherited_cost; /* bytes of its tables, counted in the run page's `inherited`; where they were too large, their size */
	uint64_t lost[SILT_LOST_COUNT]; /* atomic */
	char libc[32];      /* "glibc" */
	char allocator[200]; /* path of the module that serves malloc */
	char exe[1024];      /* the program's file, as /proc/self/exe named it at the start */
	char argv[1024];     /* its arguments, each followed by a NUL, cut at the end */
	uint32_t argv_size;  /* bytes of that */
	uint32_t attached;   /* 0: tracked from its start; 1: attached to; 2: and the blocks of before are entered; or the next */
#define SILT_DB_ATTACHED_AT_START 3u /* before it had allocated anything */
	uint64_t unknown_frees; /* atomic: blocks given back that were never seen: from before the attach, or filtered out */
	uint32_t node_segs[SILT_DB_NODE_SEGS];       /* refs */
	uint32_t context_segs[SILT_DB_CONTEXT_SEGS]; /* refs */
};

/* What several processes and both sides of a capture address by number. */
_Static_assert(sizeof(struct silt_db_node) == 16 && sizeof(struct silt_db_context) == 40, "stacks");
_Static_assert(sizeof(struct silt_db_side) == 24 && sizeof(struct silt_db_cache_entry) == 32, "blocks");
_Static_assert(sizeof(struct silt_db_thread) == 64 && sizeof(struct silt_db_module) % 8 == 0, "threads and modules");
_Static_assert(sizeof(struct silt_db_undo) == 32, "changes");

#endif
