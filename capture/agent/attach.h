/* SPDX-License-Identifier: MIT */
/**
 * What the attacher and the agent object agree on. The attacher maps the object into a running process, relocates it, fills
 * in struct silt_agent_attach (exported under the name SILT_AGENT_ATTACH_SYMBOL) before the target sees it, and then lets
 * one of the target's threads run `enter`, which calls no code but the agent's. Freestanding.
 */
#ifndef SILT_CAPTURE_AGENT_ATTACH_H
#define SILT_CAPTURE_AGENT_ATTACH_H

#include <stdint.h>

#define SILT_AGENT_IMAGE_NAME "silt-agent" /* of the memfd the object is mapped from */
#define SILT_AGENT_ATTACH_SYMBOL "silt_agent_attach"
#define SILT_AGENT_ATTACH_MAGIC 0x6863615474416953ull
#define SILT_AGENT_ATTACH_VERSION 4u

enum silt_hook_class {
	SILT_HOOK_ALLOC,    /* malloc's family: hooked where it is bound */
	SILT_HOOK_OPERATOR, /* hooked where the allocator brings its own: others call malloc */
	SILT_HOOK_STRING,   /* strdup's family: the same */
	SILT_HOOK_MAP,
	SILT_HOOK_PROCESS,
	SILT_HOOK_LOOKUP, /* not hooked: `real` gets the address itself */
};

/* One function the agent can stand in for. */
struct silt_agent_hook {
	const char *name;
	const void *hook;
	void **real; /* gets the way to the original: its first instructions, moved, and a jump behind them */
	uint64_t class;
};

struct silt_agent_skip {
	uint64_t lo, size;
};
#define SILT_AGENT_SKIPS 40u

struct silt_agent_link { /* the public head of struct link_map, which modules are described by */
	uint64_t bias;
	const char *name;
	const void *dynamic;
	const void *next, *prev;
};

/* A module the loader cannot be asked about. */
struct silt_agent_module {
	uint64_t start, end;
	uint64_t eh_frame_hdr; /* 0: none; may lead to own_hdr */
	uint8_t own_hdr[16];   /* for a module that has the table without its header */
	struct silt_agent_link link; /* name leads to path */
	char path[200];
};
#define SILT_AGENT_MODULES 320u

/* A block that was there before, for SILT_AGENT_BLOCKS. */
struct silt_agent_block {
	uint64_t addr, size;
};

/* A stretch of glibc's heap, for SILT_AGENT_WALK: chunks follow each other from start on, up to top (0: not here) or end. All of it is
 * private memory that can be read. */
struct silt_agent_stretch {
	uint64_t start, end, top;
	uint64_t main; /* the main arena's */
};

enum silt_agent_operation {
	SILT_AGENT_START = 1,  /* map the database and set it up */
	SILT_AGENT_BLOCKS = 2, /* enter blocks that were there before */
	SILT_AGENT_READY = 4,  /* after START, before the blocks: a part of the memory they will take; again until `ready` is set */
	SILT_AGENT_WALK = 3,   /* the same, and those of stretches that are free in no list */
};

#define SILT_AGENT_XSTATE 16384u /* bytes of room for a thread's extended registers */

struct silt_agent_attach {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* of this structure */
	const struct silt_agent_hook *hooks, *hooks_end;
	const void *enter; /* saves what a call may change, runs the operation, gives it back, goes on at leave */
	uint64_t leave;    /* the attacher's: where enter goes on, with rax = SYS_getpid */

	/* Set by the attacher. */
	uint32_t operation; /* enum silt_agent_operation */
	int32_t db_fd;      /* the database, in the target's numbers */
	uint32_t single_threaded;
	uint32_t operators_allocate, strdup_allocates, no_syscalls;
	uint32_t argv_size, module_count, skip_count;
	uint32_t linked_in; /* 1: the allocator is part of the program */
	uint64_t find_object; /* _dl_find_object, 0: none */
	uint64_t ldso_lo, ldso_size;
	uint64_t skip_lo, skip_size; /* the allocator's module, where that is not libc */
	uint64_t libc_lo, libc_size; /* whose mmap calls are not the program's */
	struct silt_agent_skip skips[SILT_AGENT_SKIPS]; /* the allocator's entry points: what they call is theirs */
	char libc[32];
	char allocator[200];
	char exe[512];
	char argv[1024];
	uint64_t blocks, block_count; /* where struct silt_agent_block stand in the database's file; behind them, for a walk: */
	uint64_t stretch_count;       /* struct silt_agent_stretch, ascending */
	uint64_t expected;	      /* bytes of the live table that will be wanted: a guess */
	uint64_t free_count;          /* words: blocks that are free although the chunk behind calls them in use; low bits: any */

	/* Set by the agent. */
	int32_t result; /* of the operation: 0 or what failed, SILT_AGENT_E_* */
	uint32_t slot;
	uint64_t entered; /* blocks */
	uint64_t ready;	  /* 1: all that was expected */
	uint64_t zeros, zeros_size; /* in a forked child: what stands where its parent's database was */

	struct silt_agent_module *modules; /* room for SILT_AGENT_MODULES */
};

enum {
	SILT_AGENT_E_MAP = 1,  /* the run page cannot be mapped */
	SILT_AGENT_E_FORK = 2, /* no MADV_WIPEONFORK (Linux 4.14) */
	SILT_AGENT_E_SLOT = 3, /* no free slot, or no room for its tables */
	SILT_AGENT_E_ODD = 4,  /* a chunk makes no sense: to be walked from outside, with care; some blocks are entered */
};

#endif
