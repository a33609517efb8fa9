/* SPDX-License-Identifier: MIT */
/**
 * The agent's inner interfaces: the code that lives inside the target. Freestanding; see docs/INTERNALS.md.
 *
 * Thread rules: every function here may be called by any thread at any time, from signal handlers too, and takes no
 * lock that could be held across a signal. What several threads write is written with single atomic operations.
 */
#ifndef SILT_CAPTURE_AGENT_AGENT_H
#define SILT_CAPTURE_AGENT_AGENT_H

#include "capture/agent/attach.h"
#include "capture/agent/cfi.h"
#include "capture/agent/sys.h"
#include "capture/agent/trace_db.h"

#define AGENT_PAGE 4096u
#define AGENT_CHUNK_CLASSES 14
#define AGENT_TP_SMALL 1024u
#define AGENT_TP_LARGE 65536u
#define AGENT_EXTRA_MAX 8
#define AGENT_RULES 65536u

struct agent_thread;

struct agent_tp_slot {
	uint64_t tp; /* claimed with CAS from 0, never given back */
	struct agent_thread *thread;
};

enum {
	AGENT_FILTERED = 1,        /* sampling or a minimum size is set */
	AGENT_BY_THREAD = 4,       /* contexts carry the thread: is this still the one we know? */
	AGENT_FORKED = 8,          /* forked inside the agent, and still with a copy of the parent's database: see forks.c */
	AGENT_MODULES_CHANGED = 2, /* ld.so freed something: look at the module list again */
	AGENT_NOTED = 16, /* changes of the tables are noted for forked children: see undo.h */
};

/* All that must not survive a fork: the kernel zeroes these pages in the child (MADV_WIPEONFORK), so a NULL base there
 * says "look again". Hot fields first. */
struct agent_hot {
	uint8_t *base;   /* this process's slot once all is set up; NULL: not tracking (yet, or any more) */
	uint8_t *slot;   /* the same, from the moment it is mapped */
	uint32_t *root;  /* the live table's directory */
	uint64_t single_tp; /* thread pointer of the only thread; 0 once there are more; AGENT_NOBODY: see single_kept */
	struct agent_thread *single_thread; /* its record; one that is always busy while it has none */
	uint32_t attention; /* AGENT_*: the common way must not be taken blindly */
	uint32_t inherited; /* blocks of before were entered, some perhaps already given back: an address may be there when it comes anew */
	uint64_t module_generation; /* counts unloads, in steps of WALK_GENERATION: older walks are void */
	uint32_t module_lock;
	uint32_t births; /* threads started so far */
	uint64_t alone; /* random state for samples taken outside any thread's */
	struct silt_db_options options;
	uint64_t free_chunks[4][AGENT_CHUNK_CLASSES]; /* Treiber stacks: tag << 32 | ref */
	uint64_t small_run; /* what is left of the run that small pieces are cut from: first unit << 32 | end */
	uint32_t side_odd;  /* 1: oddly aligned blocks were recorded */
	uint64_t single_kept; /* single_tp's value of before and after, while all frees must go the slow way */
	struct agent_tp_slot tp_small[AGENT_TP_SMALL];
	struct agent_tp_slot tp_large[AGENT_TP_LARGE];
} __attribute__((aligned(AGENT_PAGE)));
extern struct agent_hot agent_hot;

#define AGENT_NOBODY 1ull /* no thread's pointer */
/** The only thread's thread pointer; 0 once there are more. */
static ALWAYS_INLINE uint64_t agent_single(void)
{
	return agent_hot.single_tp == AGENT_NOBODY ? agent_hot.single_kept : agent_hot.single_tp;
}

/** Is the calling thread the only one? Then what follows may do without locked operations, each of which waits for all before it, and
 *  so for one cache miss after the other. */
static ALWAYS_INLINE bool agent_alone(void)
{
	return agent_single() == arch_thread_pointer();
}

static ALWAYS_INLINE uint64_t shared_add64(bool alone, uint64_t *p, uint64_t v)
{
	return alone ? arch_add64_local(p, v) : ATOMIC_ADD(p, v);
}

static ALWAYS_INLINE uint32_t shared_add32(bool alone, uint32_t *p, uint32_t v)
{
	return alone ? arch_add32_local(p, v) : ATOMIC_ADD(p, v);
}

static ALWAYS_INLINE bool shared_cas32(bool alone, uint32_t *p, uint32_t expected, uint32_t desired)
{
	return alone ? arch_cas32_local(p, expected, desired) : atomic_cas32(p, expected, desired);
}

/* Ranges fixed at start; not wiped. */
struct agent_ranges {
	uint64_t ldso_lo, ldso_size; /* the dynamic loader's mapping */
	uint64_t own_lo, own_size;   /* the agent's */
	uint64_t skip_lo, skip_size; /* the allocator's own module, when it is not libc: its inner calls are not the program's */
	/* Where hooks stand at the functions' entries, calls from inside libc pass them too. */
	uint64_t libc_lo, libc_size; /* whose mappings are not the program's */
	uint32_t linked_in; /* the allocator is part of the program: which mappings are its own shows only in the stack */
	uint32_t more_count;
	struct silt_agent_skip more[SILT_AGENT_SKIPS]; /* the bodies of the hooked functions */
};
extern struct agent_ranges agent_ranges;
bool agent_skips_more(uint64_t caller);
/** Is this caller the allocator's own code, or the agent itself? (An allocator's entry point may only jump to another of its
 *  names, which is hooked too: then the caller is the first hook.) Its calls are not the program's. */
static ALWAYS_INLINE bool agent_skips(uint64_t caller)
{
	return caller - agent_ranges.skip_lo < agent_ranges.skip_size || caller - agent_ranges.own_lo < agent_ranges.own_size ||
	       (agent_ranges.more_count && agent_skips_more(caller));
}

/* ---- life (life.c) ---- */
/** Slow half of agent_ready: sets the agent up at the first call, or anew in a forked child. */
bool agent_start(void);
/** True when this process is tracked. */
static ALWAYS_INLINE bool agent_ready(void)
{
	return LIKELY(agent_hot.base != NULL) || agent_start();
}
/** The program's path. */
const char *agent_exe(void);
extern struct silt_db_run *agent_run;
extern char agent_env_line[160];  /* "SILT_AGENT=…"; "" when children are not followed or nothing is tracked */
extern char agent_own_path[1024]; /* the agent object's path as LD_PRELOAD had it */
/** In a forked child that has not had a reason to start: what it would need for an exec is known without. */
bool agent_asleep(void);
extern uint32_t agent_attached;   /* 1: mapped into a running process, unknown to its loader and unwinder */
extern uint32_t agent_no_syscalls; /* a seccomp filter may be in force: no system calls but memory growth */
static inline struct silt_db *agent_db(void)
{
	return (struct silt_db *)(void *)agent_hot.slot;
}
void agent_lost(enum silt_db_lost what);

/* ---- the functions behind the hooks (resolve.c) ---- */
/** What the kernel and the loader say of this process. */
struct agent_world {
	uint64_t phdr, phnum, ldso_base;
	const void *first_map; /* struct link_map of the main program */
};
bool agent_look_around(struct agent_world *ret);
/** Resolves everything of struct agent_real; idempotent. */
void agent_resolve(void);
/** The next definition of name behind the agent in the loader's search order; NULL: none. ret_module (may be NULL): who. */
void *agent_next(const char *name, const void **ret_map);
/** The first definition in search order, the agent's own left out. */
void *agent_first(const char *name, const void **ret_map);

/* ---- memory of the slot (memory.c) ---- */
/** Hands out bytes of the slot, aligned to 64, zeroed; never given back. 0 when the slot is full. */
uint32_t db_alloc(uint64_t bytes);
/** The same for pieces of which there are many. */
uint32_t db_alloc_small(uint64_t bytes);
static inline void *db_at(uint32_t ref)
{
	return agent_hot.slot + (uint64_t)ref * SILT_DB_UNIT;
}
/** Maps a slot's window at a place with room to grow. Returns its address or NULL. fd < 0: by duplicating the run page. */
uint8_t *db_map_slot(uint32_t slot, int fd, uint64_t *ret_mapped);
/** A filter may forbid system calls from here on: takes room for what is to come, then does without any. */
void agent_before_seccomp(void);
/** Grows the window ahead of a time without system calls. */
void db_reserve(uint64_t bytes);
/** Small pieces of so many bytes are about to be wanted: takes and readies them in one go. */
void db_expect_small(uint64_t bytes);
/** Bytes of the slot's window that are mapped for certain; in a forked child, of the window that was the parent's. */
extern uint64_t db_window;

/** Notes that a part of a sparse table is about to be written to. */
static ALWAYS_INLINE void db_touch(uint64_t *parts, uint64_t part)
{
	if (UNLIKELY(!(ATOMIC_LOAD(&parts[part / 64]) >> part % 64 & 1)))
		__atomic_fetch_or(&parts[part / 64], 1ull << part % 64, __ATOMIC_ACQ_REL);
}

/* ---- live table (live.c) ---- */
/** Records a block under context. size in bytes as requested. */
void live_insert(uint64_t addr, uint64_t size, uint32_t context);
/** Records blocks in order of their addresses, quickly: nobody else may be at it. Returns how many. */
uint64_t live_enter_all(const struct silt_agent_block *b, uint64_t count, uint64_t min_size, uint32_t context);
/** Takes a block out. Returns its context and size, or 0 when it is not known. */
uint32_t live_remove(uint64_t addr, uint64_t *ret_size);
/** Takes out all blocks that begin in [lo, hi). */
void live_remove_range(uint64_t lo, uint64_t hi);
/** The same for the bare entry (without its offset): size may be SILT_DB_SIZE_HUGE, of which the side table knows more. 0: none. */
uint64_t live_take(uint64_t addr);
void live_put(uint64_t addr, uint64_t entry);
/** Enters all blocks of a page on which there are none yet: as its chunk has them in another table (capacity 1: in the page's word),
 *  `live` of them. addr: any of that page. */
bool live_enter_page(uint64_t addr, const uint64_t *entries, uint32_t capacity, uint32_t live);

/* ---- side table (side.c) ---- */
void side_insert(uint64_t addr, uint64_t size, uint32_t context, bool mapping);
uint32_t side_remove(uint64_t addr, uint64_t *ret_size);
void side_insert_odd(uint64_t addr, uint64_t size, uint32_t context);
struct silt_db_side *side_table(void);
/** Takes back a change that was noted. */
void side_undo(const struct silt_db_undo *u);
uint32_t side_remove_odd(uint64_t addr, uint64_t *ret_size);
void side_remove_odd_range(uint64_t lo, uint64_t hi);
struct side_piece {
	uint64_t addr, size;
	uint32_t context;
};
/** Takes [lo, hi) out of all recorded mappings, cutting or splitting them. Returns how many pieces that were; the first `max` are
 *  stored in ret_taken. */
uint32_t side_cut(uint64_t lo, uint64_t hi, struct side_piece *ret_taken, uint32_t max);
/** Whether addr lies in a recorded mapping. */
bool side_has(uint64_t addr);

/* ---- modules and rules (modules.c, rules.c) ---- */
struct agent_module {
	uint64_t start, end;
	uint64_t eh_frame_hdr;
	const void *link_map;
	uint32_t generation;
	uint32_t alive;
};
/** The module that holds pc, or NULL. The result stays valid while the module does. */
const struct agent_module *module_find(uint64_t pc);
/** Where its unwind tables are. */
struct cfi_module module_tables(const struct agent_module *m);
/** The tables for pc without the module table: that may be locked by this very thread, in what a handler jumped away from. */
bool module_tables_at(uint64_t pc, struct cfi_module *ret);
/** Looks for unloaded modules after the loader was active. */
void module_refresh(void);
/** Enters every living module into a new database (after fork); from_parent: those that are gone, too, as it has them. */
void module_register_all(const struct silt_db_module *from_parent);
/** Names the loader's lookup function; called once at start. */
void module_setup(void *dl_find_object);
/** Modules the loader does not tell of: those of programs without that function, and the agent itself where it was mapped by
 *  an attacher. They stay. The array must, too. */
void module_give(const struct silt_agent_module *list, uint32_t count);

extern uint64_t agent_rules[AGENT_RULES];
#define RULE_EXACT (1ull << 47) /* key bit: look the pc up itself, not pc - 1 */
#define RULE_MUL 0x9e3779b97f4a7c15ull
/* An entry exclusive-ored with a return address << 16 has none of these bits where it is that address's (its low 48 bits') and of type
 * CFI_T_RSP: then its low 16 bits are what is to be added. (An empty one adds nothing to where an address below 64 KiB, or 0, stands.) */
#define RULE_PLAIN 0xffffffff00000007ull
/** Finds the rule in the larger table behind, or in the call frame information, and caches it. */
uint32_t rule_miss(uint64_t key);
/** Forgets rules of [lo, hi). */
void rule_purge(uint64_t lo, uint64_t hi);
/** How to leave the frame of a return address (or exact pc | RULE_EXACT): bits 0..23 as cfi.h's compact rule, bits 24..31 the
 *  module's generation. The low 16 bits of the key choose the entry and the other 32 are its tag, so a hit is exact and one
 *  word holds it all. Frames of 64 KiB and more that are left by rsp are not among them: see RULE_PLAIN. */
static ALWAYS_INLINE uint32_t rule_get(uint64_t key)
{
	uint64_t word = ATOMIC_LOAD(&agent_rules[key & 0xffff]);

	if (LIKELY(word >> 32 == key >> 16) && LIKELY(word)) /* an empty entry seems to be one of the first 64 KiB's */
		return (uint32_t)word;
	return rule_miss(key);
}

/* ---- walking (walk*.c) ---- */
struct stack_use;
struct walk_frame { /* frames are kept innermost first */
	uint64_t slot; /* where the frame's pc was read */
	uint64_t pc;
	union {
		uint64_t bp;  /* rbp in the frame */
		uint64_t key; /* where a memo has a shape, in the inner frames: what pc is multiplied by */
	};
	union {
		struct {
			uint32_t rule;
			uint32_t bits; /* WALK_*, and from WALK_NODE_SHIFT on the frame's node in the database, where nodes_from says so */
		};
		uint64_t rule_bits; /* both, written at once */
	};
};

/* Behind a walk's last frame stands a closing one, whose word never is as remembered. */
extern const uint64_t walk_closing_word;
struct walk_list { /* one walk */
	struct walk_frame *frame;
	struct walk_frame *end;
	uint32_t uses_bp; /* not 0: a frame but the outermost is left in another way than by rsp */
	uint32_t flags; /* SILT_DB_STACK_* */
	uint64_t *tail; /* for each frame the hash's sum from it outward; 0 for the one behind the last */
	uint32_t specials; /* frames that read more words than their return address and rbp */
	uint32_t rules;    /* all frames' rules, ored */
	struct walk_frame *nodes_from; /* from here outward the frames' nodes are known */
	struct walk_frame *plain_end;  /* the first of those, or the outermost frame: before it all are plain */
};

/* A word that a walk depends on beside its return addresses, and what it held. */
struct walk_word {
	uint64_t addr, value;
};

/* Of a shallow walk: what another one of as many frames, which ends with the same outer ones, has in common with it. */
struct walk_again {
	struct walk_frame *behind; /* the first of the outer ones */
	uint64_t until;            /* its slot */
	uint64_t base;             /* the hash's sum over the outer ones, and stack_rest of what it was counted for */
	uint64_t rules;            /* the outer ones', ored */
	struct walk_frame *nodes_from; /* as in the list */
};

struct walk_memo { /* a remembered walk; what the common way needs stands first */
	uint64_t first; /* where its innermost return address lies; 0 when more than return addresses must be compared */
	uint64_t stamp; /* what it was counted for: WALK_USE and the module generation of then */
	struct silt_db_cache_entry *last; /* where; another stack's by now, unless it still has last_key */
	uint64_t last_key;
	uint32_t shape; /* not 0: `again` holds; that of the thread's, when this was the memo's walk (walk_shallow.c) */
	uint16_t capacity; /* frames there is room for, the closing one left out; 0: never used */
	uint16_t extra_count;
	struct walk_list list;
	uint64_t generation;
	uint64_t first_bp; /* as `first`, where no more than return addresses and rbp must be compared */
	uint64_t bp_top;  /* rbp in the innermost frame */
	struct walk_word *saved; /* list.uses_bp: for each frame where it saved rbp, if that matters; else a word that always holds */
	uint64_t checks; /* a bit for each of the first 64 frames: clear where its word of `saved` always holds; few do not */
	struct walk_word *words; /* words_hold: for each frame its return address and, where `checks` says so, its word of `saved` */
	bool words_hold; /* see walk_words.c */
	bool alone;	 /* the only one: see walk_stay.c */
	uint16_t before; /* there: frames there is room for before the first */
	struct walk_frame *base; /* where its room begins */
	union {
		struct walk_word extra[AGENT_EXTRA_MAX];
		struct walk_again again;
	};
} __attribute__((aligned(64)));
#define WALK_GENERATION (1ull << 40)
#define WALK_USE(kind, epoch) ((uint64_t)(kind) << 32 | (epoch)) /* never 0: epochs begin with 1 */
#define WALK_USE_KIND(use) ((uint32_t)((use) >> 32))
enum {
	WALK_INTERRUPTED = 1, /* pc is exact */
	WALK_CHECK = 2,       /* the saved rbp word matters to an outer frame */
	WALK_NEEDS_BP = 4,    /* what lies outward of here depends on rbp in this frame */
	WALK_BITS = 7,
	WALK_NODE_SHIFT = 3,
};

/* Walks that alternate have a memo each: chosen by where the hook's frame is and who called it. A thread that keeps walking anew
 * gets more of them. */
#define WALK_MEMOS 8u
#define WALK_MEMOS_MORE 128u
/* Where the walk before met a remembered one: the slot of the first frame found to be common to them; 0: they did not meet. */
struct walk_meeting {
	uint64_t slot;
	uint32_t turn; /* counts walks */
};
/* Frames of a stack that is called shallow, at most; and those it may have in common with others. */
#define WALK_SHALLOW 48u
#define WALK_OUTER 32
struct agent_thread { /* the first cache lines serve the common way */
	uint32_t busy;   /* inside the agent: a signal handler that gets here takes the nested way */
	uint32_t nested; /* depth of that */
	struct walk_memo *recent; /* the memo used last */
	struct walk_memo *memos;
	uint64_t memo_mask; /* their number - 1 */
	uint64_t memo_multiplier; /* by which one is chosen */
	struct silt_db_thread *shared;
	uint32_t index; /* in the thread table + 1 */
	uint32_t tid;
	uint32_t evictions;
	uint32_t birth; /* agent_hot.births when tid was last looked at */
	uint32_t with_bp; /* so many more walks are unwound with rbp from the start */
	int32_t patch_luck; /* does taking changed return addresses over go far? */
	struct silt_db_cache_entry *cache;
	uint32_t cache_mask;
	uint32_t sample_started;
	int64_t sample_left;
	uint64_t random;
	uint64_t *hints;   /* which nodes stacks begin with (stacks.c); NULL: it has not entered many */
	uint32_t interned; /* how many */
	/* walk_stay.c */
	struct walk_memo *stay; /* the walk kept alone; NULL: never was */
	struct walk_memo *many; /* not NULL: `memos` is `stay`, and these are the memos, with their mask */
	uint64_t many_mask;
	int32_t stay_turn, stay_luck; /* walks until it is judged which way is better; does the kept one serve? */
	uint32_t stay_anew; /* how many of them were put together anew */
	uint32_t rebuilds, rebuilds_next; /* walks not found among the memos; when something is to be done about it */
	struct walk_meeting met;
	/* Of full length: where new frames are put together; a walk unwound anew; a signal handler's. */
	struct walk_frame *spare;
	struct walk_list anew_list, nested_list;
	/* walk_shallow.c */
	uint32_t shallow, shallow_wait, shallow_steps, outer_misses, outer_missed; /* the last: in which turn */
	uint32_t shallow_turn; /* that in which grow_left is 0 */
	uint32_t shape; /* another one whenever `outer` changes */
	int32_t grow_left;   /* shallow walks until the whole stack is unwound again... */
	uint32_t grow_pause; /* ...and how many there were at first */
	int32_t even_luck;   /* do frames lie where they lay? */
	bool outer_nodes; /* the nodes of its frames are known */
	bool outer_fits;  /* the walk just taken ends with it */
	uint64_t outer_generation;
	struct walk_list outer;
	struct walk_frame outer_frames[WALK_OUTER + 1];
	uint64_t outer_tails[WALK_OUTER + 1];
};

/** The rest of walk_context: see there. stuck: where m was compared already, the first frame that does not hold, or its end; else
 *  NULL. Returns NULL when the caller is the allocator itself: nothing is to be recorded. use: WALK_USE. */
struct silt_db_cache_entry *walk_changed(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, uint64_t use,
					 struct walk_frame *stuck);
/** The same in the shortest way, where m's walk was a shallow one and this is another of its shape; else walk_changed. */
struct silt_db_cache_entry *walk_again(struct agent_thread *t, struct walk_memo *m, const uint64_t *fp, uint64_t use,
				       struct walk_frame *stuck);
/** Compares a remembered walk that uses rbp, from the hook whose frame is fp: the first frame that does not hold, or the end; NULL
 *  when rbp is not what it was. */
struct walk_frame *walk_verify_bp(struct walk_memo *m, const uint64_t *fp);
/** A signal handler that came while this thread was inside the agent. Returns the context. */
uint32_t walk_interrupting(struct agent_thread *t, const uint64_t *fp, uint32_t kind);
/** With all registers, for stacks that hold frames the compact rules cannot express. */
void walk_with_registers(struct walk_list *w, uint32_t depth, const uint64_t *fp);
/** A frame's pc as the database stores it. */
static inline uint64_t walk_pcword(uint64_t pc, uint32_t rule, bool interrupted)
{
	return (pc & SILT_DB_PC_MASK) | (uint64_t)(rule >> 24) << 48 | (interrupted ? SILT_DB_PC_INTERRUPTED : 0);
}
void walk_setup(void);
/** Gives t its set of memos, or a larger one. False: no memory; t keeps what it has. */
bool walk_memos(struct agent_thread *t, uint32_t n);
/** Makes m match no stack. */
void walk_void(struct walk_memo *m);
/** All of t's memos: what they were counted in is no more. */
void walk_uncount(struct agent_thread *t);
/** All of t's memos match no stack, whatever a handler that jumped away left of them. */
void walk_forget(struct agent_thread *t);
/** A walk's hash together with what else tells contexts apart. */
uint64_t walk_key(const struct walk_list *w, const struct stack_use *use);

/* ---- stacks and contexts (stacks.c) ---- */
/** What tells a stack's contexts apart. */
struct stack_use {
	uint32_t kind, thread, epoch;
};
static ALWAYS_INLINE uint64_t stack_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	return x;
}
/** What the number of frames, and what else tells contexts apart, add to the sum over a walk's frames. */
static ALWAYS_INLINE uint64_t stack_rest(uint32_t n, uint32_t flags, const struct stack_use *use)
{
	return (n | (uint64_t)flags << 10 | (uint64_t)use->kind << 16 | (uint64_t)use->thread << 20 | (uint64_t)use->epoch << 40) *
	       0xa0761d6478bd642full;
}
/** Final hash of a walk. */
static ALWAYS_INLINE uint64_t stack_key(uint64_t sum, uint64_t rest)
{
	/* The sum's multipliers have mixed its upper half. The bit, so that it is never 0, serves for nothing else. */
	return ((sum + rest) ^ (sum + rest) >> 32) | 1u << 31;
}
/** Finds or makes the context; notes the frames' nodes in w where all further out are known. Never 0: SILT_DB_CONTEXT_OVERFLOW when there
 *  is no room. t: whose w is, or NULL where nothing of it may be used. */
uint32_t stack_intern(struct agent_thread *t, uint64_t key, struct walk_list *w, const struct stack_use *use);
struct silt_db_context *stack_context(uint32_t index);
bool stack_setup(void);
/** The context of blocks allocated before the agent came. */
uint32_t stack_before_attach(void);
/** For a table that is being filled with another's contents: a segment's memory. */
struct silt_db_context *stack_context_make(uint32_t index);
struct silt_db_node *stack_node_make(uint32_t index);
/** The same for hash level k: 0 where there is no memory. */
struct silt_db_levels;
uint32_t stack_level_make(struct silt_db_levels *h, uint32_t k);

/* ---- threads (threads.c) ---- */
struct agent_thread *thread_find_slow(uint64_t tp);
/** The calling thread's record, by its thread pointer; NULL when there is no room for one. */
static ALWAYS_INLINE struct agent_thread *thread_get(uint64_t tp)
{
	struct agent_tp_slot *s = &agent_hot.tp_small[(tp * RULE_MUL) >> 54];

	return LIKELY(s->tp == tp) ? s->thread : thread_find_slow(tp);
}
/** The thread's cache entry for key, filled from the shared table when new. */
struct silt_db_cache_entry *thread_cache_get(struct agent_thread *t, uint64_t key, struct walk_list *w,
					     const struct stack_use *use);
/** The same, NULL when it is not in the cache. Two places make a set, one cache line. */
static ALWAYS_INLINE struct silt_db_cache_entry *thread_cache_look(const struct agent_thread *t, uint64_t key)
{
	struct silt_db_cache_entry *set = &t->cache[key & t->cache_mask & ~1u];
	uint64_t second = set[1].hash == key;

	__asm__("" : "+r"(second)); /* no branch: it could not be foreseen */
	return LIKELY(set[second].hash == key) ? set + second : NULL;
}
/** For --threads: has another thread taken this thread pointer over? Then it gets an entry of its own. */
void thread_identify(struct agent_thread *t);
/** From now on more than one thread may run. */
void thread_many(void);
/** The calling thread is the only one. t: its record, or NULL. */
void thread_only(uint64_t tp, struct agent_thread *t);

/* ---- recording (record.c) ---- */
/** fp: the hook's own frame (its return address is the caller). addr is the block. Nothing happens where nothing is tracked. */
void agent_record(uint64_t addr, uint64_t size, const uint64_t *fp);
/** Its rarer ways: filters, no thread record, a signal handler inside the agent. */
void agent_record_slow(uint64_t addr, uint64_t size, const uint64_t *fp, uint32_t kind);
/** The rest of agent_record, where it is not plain that m, the memo for fp, holds this stack; t is busy. stuck: as of walk_changed. */
struct live_place;
void agent_record_changed(uint64_t addr, uint64_t size, const uint64_t *fp, struct agent_thread *t, struct walk_memo *m,
			  struct walk_frame *stuck, const struct live_place *at);
/** What a block of this size stands for where blocks are sampled; counts are in 1/256. */
void sample_weight(uint64_t size, uint64_t *ret_count, uint64_t *ret_bytes);
/** The same for other kinds (numbers of enum silt_kind) and addresses. */
void agent_record_kind(uint64_t addr, uint64_t size, const uint64_t *fp, uint32_t kind);
/* Pool blocks may start where a heap block starts: they live in the table under the address with this bit flipped. */
#define AGENT_POOL_BIT SILT_DB_POOL_BIT

#endif
