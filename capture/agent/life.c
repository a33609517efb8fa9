/* SPDX-License-Identifier: MIT */
/*
 * Coming to life: at the first hooked call of a process (or at the agent's initialisation, whichever is first), and again in
 * a forked child, which finds agent_hot wiped. Failure of any step means "not tracked", never an error for the program.
 */
#include "capture/agent/agent.h"
#include "capture/agent/attached.h"
#include "capture/agent/inherit.h"
#include "capture/agent/reach.h"
#include "capture/agent/real.h"
#include "capture/agent/undo.h"

#include <elf.h>

#define MADV_WIPEONFORK 18
#define MADV_REMOVE 9
#define CLOCK_REALTIME 0

extern const char __ehdr_start[], _end[] __attribute__((visibility("hidden"))); /* the linker's: our own first and last byte */

struct agent_hot agent_hot;
struct agent_ranges agent_ranges;
struct agent_real agent_real;
struct silt_db_run *agent_run;
char agent_env_line[160];
char agent_own_path[1024];
uint32_t agent_no_syscalls;
uint32_t agent_attached;
__attribute__((visibility("hidden"))) void *agent_syscall_real, *agent_dlopen_real, *agent_dlmopen_real; /* for stub.S */
static uint32_t deep_libraries; /* a forked child has them, too */

enum state { STATE_NEW, STATE_STARTING, STATE_ACTIVE, STATE_OFF };
static uint32_t state;
static uint8_t *parent_window; /* of a child to come */
static uint64_t parent_size;
static const char *allocator_path, *libc_name = "glibc";
static bool own_malloc;
static char exe[sizeof(((struct silt_db *)0)->exe)];
static char arguments[sizeof(((struct silt_db *)0)->argv)];
static uint32_t arguments_size;

struct link_name { /* the head of struct link_map */
	uint64_t addr;
	const char *name;
};

void agent_lost(enum silt_db_lost what)
{
	ATOMIC_ADD(&agent_db()->lost[what], 1);
}

/* A library whose calls go to the C library's functions directly, past the hooks. */
__attribute__((visibility("hidden"), used)) void agent_deep_library(void)
{
	agent_resolve();
	ATOMIC_ADD(&deep_libraries, 1);
	if (agent_ready())
		agent_lost(SILT_LOST_LIBRARIES);
}

/* The mapped range of a module from its program headers in memory. */
static void module_range(uint64_t base, uint64_t bias, uint64_t *ret_lo, uint64_t *ret_size)
{
	const Elf64_Ehdr *eh = (const void *)base;
	const Elf64_Phdr *ph = (const void *)(base + eh->e_phoff);
	uint64_t lo = ~0ull, hi = 0;

	for (unsigned i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD)
			continue;
		if (bias + ph[i].p_vaddr < lo)
			lo = bias + ph[i].p_vaddr;
		if (bias + ph[i].p_vaddr + ph[i].p_memsz > hi)
			hi = bias + ph[i].p_vaddr + ph[i].p_memsz;
	}
	*ret_lo = lo;
	*ret_size = hi > lo ? hi - lo : 0;
}

static bool path_is(const char *path, const char *name)
{
	const char *base = path;

	for (const char *p = path; *p; p++)
		if (*p == '/')
			base = p + 1;
	return str_prefix(base, name);
}

/* Who serves malloc, and whether operator new and strdup are its own. */
static void know_allocator(void)
{
	const void *first_map = NULL, *malloc_map = NULL, *new_map = NULL, *strdup_map = NULL;
	const struct link_name *l;

	agent_next("malloc", &malloc_map);
	agent_first("malloc", &first_map);
	own_malloc = first_map && first_map != malloc_map; /* only the program stands before the agent */
	agent_next("_Znwm", &new_map);
	agent_next("strdup", &strdup_map);
	l = malloc_map;
	if (!l)
		return;
	allocator_path = l->name;
	if (path_is(l->name, "libc.so") || path_is(l->name, "libc-") || path_is(l->name, "ld-musl"))
		return;
	agent_real.operators_allocate = new_map == malloc_map;
	agent_real.strdup_allocates = strdup_map == malloc_map;
	module_range(l->addr, l->addr, &agent_ranges.skip_lo, &agent_ranges.skip_size);
}

/* Names that would not be there without the agent, and operators that only pass calls on: a plugin may come with operator new
 * and delete of its own, or be the first to bring libstdc++, and programs test for the presence of functions. */
static void withdraw_needless(void)
{
#define X(name, ret, args)                                                          \
	if (!agent_real.name)                                                       \
		agent_withdraw(#name);
	AGENT_REAL_C(X)
#undef X
	if (!agent_dlopen_real) /* before glibc 2.34 they came with a library of their own */
		agent_withdraw("dlopen");
	if (!agent_dlmopen_real)
		agent_withdraw("dlmopen");
#define X(name, args)                                                               \
	if (!agent_real.operators_allocate || !agent_real.name)                     \
		agent_withdraw(#name);
	AGENT_REAL_NEW(X)
	AGENT_REAL_DELETE(X)
#undef X
}

void agent_resolve(void)
{
	struct agent_world w;

	if (agent_real.resolved || !agent_look_around(&w))
		return;
#define X(name, ret, args) agent_real.name = (ret(*) args)agent_next(#name, NULL);
	AGENT_REAL_C(X)
#undef X
#define X(name, args) agent_real.name = (void *(*)args)agent_next(#name, NULL);
	AGENT_REAL_NEW(X)
#undef X
#define X(name, args) agent_real.name = (void (*) args)agent_next(#name, NULL);
	AGENT_REAL_DELETE(X)
#undef X
	agent_syscall_real = agent_next("syscall", NULL);
	agent_dlopen_real = agent_next("dlopen", NULL);
	agent_dlmopen_real = agent_next("dlmopen", NULL);
	agent_real.environ_address = agent_first("environ", NULL);
	if (w.ldso_base)
		module_range(w.ldso_base, w.ldso_base, &agent_ranges.ldso_lo, &agent_ranges.ldso_size);
	agent_ranges.own_lo = (uint64_t)__ehdr_start;
	agent_ranges.own_size = (uint64_t)_end - (uint64_t)__ehdr_start;
	know_allocator();
	withdraw_needless();
	module_setup(agent_next("_dl_find_object", NULL));
	ATOMIC_RELEASE(&agent_real.resolved, 1);
}

const char *agent_exe(void)
{
	return exe;
}

/* Read once: a forked child is the same program. */
static void know_program(void)
{
	long n = sys_readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	int fd;

	exe[n > 0 ? n : 0] = 0;
	fd = (int)sys_open("/proc/self/cmdline", 02000000 /* O_CLOEXEC */, 0);
	if (fd < 0)
		return;
	n = sys_read(fd, arguments, sizeof(arguments) - 1);
	arguments_size = n > 0 ? (uint32_t)n : 0;
	sys_close(fd);
}

static void now_realtime(int64_t *ret_ns)
{
	int64_t ts[2];

	if (!sys_failed(sys_clock_gettime(CLOCK_REALTIME, ts)))
		*ret_ns = ts[0] * 1000000000 + ts[1];
}

/* A free slot for the process that the launcher calls `number`, or the number of slots when there is none. */
static uint32_t claim_slot(uint32_t number)
{
	uint32_t start = ATOMIC_LOAD(&agent_run->next_slot) % SILT_DB_SLOTS;

	for (uint32_t i = 0; i < SILT_DB_SLOTS && number; i++) {
		uint32_t k = (start + i) % SILT_DB_SLOTS;

		if (ATOMIC_LOAD(&agent_run->slots[k].state) != SILT_SLOT_FREE ||
		    !atomic_cas32(&agent_run->slots[k].state, SILT_SLOT_FREE, SILT_SLOT_CLAIMED))
			continue;
		agent_run->slots[k].pid = number;
		agent_run->slots[k].serial = ATOMIC_ADD(&agent_run->claims, 1) + 1;
		ATOMIC_STORE(&agent_run->slots[k].forks, agent_run->slots[k].serial << 16);
		ATOMIC_STORE(&agent_run->next_slot, k + 1);
		return k;
	}
	return SILT_DB_SLOTS;
}

static bool tables_create(struct silt_db *db)
{
	db->root_ref = db_alloc(SILT_DB_ROOT_ENTRIES * sizeof(uint32_t));
	db->side_ref = db_alloc(SILT_DB_SIDE_ENTRIES * sizeof(struct silt_db_side));
	db->module_ref = db_alloc(SILT_DB_MODULES * sizeof(struct silt_db_module));
	db->thread_ref = db_alloc(SILT_DB_THREADS_MAX * sizeof(struct silt_db_thread));
	return db->root_ref && db->side_ref && db->module_ref && db->thread_ref && stack_setup();
}

static uint64_t tables_start(void)
{
	return (sizeof(struct silt_db) + 63) & ~63ull;
}

/* As if nothing had been put into them. */
static bool tables_anew(struct silt_db *db)
{
	uint64_t start = tables_start(), page = (start + AGENT_PAGE - 1) & ~(uint64_t)(AGENT_PAGE - 1), used = db->used;

	memset(db->node_segs, 0, sizeof(db->node_segs));
	memset(db->context_segs, 0, sizeof(db->context_segs));
	memset(db->lost, 0, sizeof(db->lost));
	memset(db->root_parts, 0, sizeof(db->root_parts));
	memset(db->side_parts, 0, sizeof(db->side_parts));
	memset(agent_hot.free_chunks, 0, sizeof(agent_hot.free_chunks));
	agent_hot.small_run = db->small_bytes = db->meta_used = 0;
	db->side_high = db->node_levels = db->context_levels = db->thread_count = db->module_count = db->attached = 0;
	db->epoch = 1;
	used = (used + AGENT_PAGE - 1) & ~(uint64_t)(AGENT_PAGE - 1);
	if (used > page && !sys_failed(sys_madvise((uint8_t *)db + page, used - page, MADV_REMOVE))) {
		memset((uint8_t *)db + start, 0, page - start);
		db->used = start;
	}
	return tables_create(db);
}

/* A forked child's tables begin as its parent's. */
static bool tables_fill(struct silt_db *db, bool forked)
{
	if (!tables_create(db))
		return false;
	agent_hot.root = db_at(db->root_ref);
	if (forked) {
		bool ok = inherit(parent_window, parent_size);

		if (ok)
			module_register_all(inherit_modules());
		if (inherit_done() && ok)
			return true;
		if (!tables_anew(db))
			return false;
		agent_hot.root = db_at(db->root_ref);
	}
	module_register_all(NULL);
	return true;
}

static bool slot_begin(uint32_t slot, int fd, bool forked)
{
	uint64_t mapped = 0;
	struct silt_db *db = (void *)db_map_slot(slot, fd, &mapped);

	if (!db)
		return false;
	agent_hot.slot = (uint8_t *)db;
	db->version = SILT_DB_VERSION;
	db->slot = slot;
	db->pid = agent_run->slots[slot].pid;
	db->parent_pid = reach_parent_number();
	db->own_pid = agent_no_syscalls ? 0 : (uint32_t)sys_getpid();
	db->epoch = 1;
	db->mapped = mapped;
	db->base = (uint64_t)db;
	db->used = tables_start();
	now_realtime(&db->start_ns);
	if (sys_getrandom(db->session, sizeof(db->session)) != (long)sizeof(db->session)) {
		db->session[0] = (uint64_t)db->start_ns * RULE_MUL;
		db->session[1] = (uint64_t)db->start_ns ^ db->pid;
	}
	str_copy(db->exe, sizeof(db->exe), exe);
	memcpy(db->argv, arguments, arguments_size);
	db->argv_size = arguments_size;
	db->own_malloc = own_malloc;
	db->lost[SILT_LOST_LIBRARIES] = deep_libraries;
	db->attached = forked ? 0 : agent_attached;
	str_copy(db->libc, sizeof(db->libc), libc_name);
	if (allocator_path)
		str_copy(db->allocator, sizeof(db->allocator), allocator_path);
	agent_hot.options = agent_run->options;
	if (agent_hot.options.max_depth == 0 || agent_hot.options.max_depth > SILT_DB_MAX_DEPTH)
		agent_hot.options.max_depth = SILT_DB_DEFAULT_DEPTH;
	agent_hot.attention = (agent_hot.options.sample_bytes || agent_hot.options.min_size ? AGENT_FILTERED : 0) |
			      (agent_hot.options.flags & SILT_DB_THREADS ? AGENT_BY_THREAD : 0);
	thread_only(arch_thread_pointer(), NULL);
	if (!tables_fill(db, forked))
		return false;
	agent_undo.slot = slot;
	agent_undo.serial = agent_run->slots[slot].serial;
	ATOMIC_RELEASE(&db->magic, SILT_DB_MAGIC);
	ATOMIC_RELEASE(&agent_run->slots[slot].state, SILT_SLOT_ACTIVE);
	ATOMIC_RELEASE(&agent_hot.base, (uint8_t *)db);
	ATOMIC_ADD(&agent_run->wake, 1);
	sys_futex(&agent_run->wake, 1 /* FUTEX_WAKE */, 1, NULL);
	return true;
}

static bool start_first(void)
{
	int fd;
	uint32_t slot;
	bool ok;

	agent_resolve();
	if (!agent_real.resolved || !reach_environment() || !reach_open(&fd))
		return false;
	if (!agent_next("gnu_get_libc_version", NULL)) { /* musl's functions call each other through the hooks */
		ATOMIC_ADD(&agent_run->untracked, 1);
		sys_close(fd);
		return false;
	}
	walk_setup();
	know_program();
	if (sys_failed(sys_madvise(&agent_hot, sizeof(agent_hot), MADV_WIPEONFORK))) {
		sys_close(fd);
		return false;
	}
	slot = claim_slot(reach_own_number(true));
	ok = slot < SILT_DB_SLOTS && slot_begin(slot, fd, false);
	sys_close(fd);
	if (!ok)
		ATOMIC_ADD(&agent_run->untracked, 1);
	if (agent_run->options.flags & SILT_DB_NO_FOLLOW)
		agent_env_line[0] = 0;
	return ok;
}

bool agent_skips_more(uint64_t caller)
{
	for (uint32_t i = 0; i < agent_ranges.more_count; i++)
		if (caller - agent_ranges.more[i].lo < agent_ranges.more[i].size)
			return true;
	return false;
}

/* What the preloaded agent finds out for itself the attacher has seen from outside. */
static void learn(const struct silt_agent_attach *a)
{
	agent_attached = 1;
	agent_real.operators_allocate = a->operators_allocate;
	agent_real.strdup_allocates = a->strdup_allocates;
	agent_ranges.ldso_lo = a->ldso_lo;
	agent_ranges.ldso_size = a->ldso_size;
	agent_ranges.skip_lo = a->skip_lo;
	agent_ranges.skip_size = a->skip_size;
	agent_ranges.libc_lo = a->libc_lo;
	agent_ranges.libc_size = a->libc_size;
	agent_ranges.linked_in = a->linked_in;
	agent_ranges.own_lo = (uint64_t)__ehdr_start;
	agent_ranges.own_size = (uint64_t)_end - (uint64_t)__ehdr_start;
	memcpy(agent_ranges.more, a->skips, sizeof(agent_ranges.more));
	agent_ranges.more_count = a->skip_count;
	allocator_path = a->allocator;
	libc_name = a->libc;
	str_copy(exe, sizeof(exe), a->exe);
	memcpy(arguments, a->argv, sizeof(arguments));
	arguments_size = a->argv_size;
	module_setup((void *)a->find_object);
	module_give(a->modules, a->module_count);
	agent_real.resolved = 1;
}

int32_t agent_start_attached(const struct silt_agent_attach *a)
{
	uint32_t slot;

	learn(a);
	walk_setup();
	if (!reach_map(a->db_fd))
		return SILT_AGENT_E_MAP;
	if (sys_failed(sys_madvise(&agent_hot, sizeof(agent_hot), MADV_WIPEONFORK)))
		return SILT_AGENT_E_FORK;
	slot = claim_slot((uint32_t)sys_getpid());
	if (slot >= SILT_DB_SLOTS || !slot_begin(slot, a->db_fd, false))
		return SILT_AGENT_E_SLOT;
	parent_window = agent_hot.slot;
	if (!a->no_syscalls)
		reach_know_home();
	if (!a->single_threaded)
		thread_many();
	if (a->no_syscalls)
		agent_before_seccomp();
	state = STATE_ACTIVE;
	return 0;
}

/* The parent's database must not be written from here, nor its memory be kept alive. Zeros take its place, so that stray
 * stores of an agent interrupted by a signal handler that forked go nowhere. Whoever detaches finds them by what is noted; those of the
 * grandparent's go. */
static void parent_drop(void)
{
	if (silt_agent_attach.zeros)
		sys_munmap((void *)silt_agent_attach.zeros, silt_agent_attach.zeros_size);
	sys_mmap(parent_window, parent_size, 3, 0x4032 /* PRIVATE | FIXED | ANONYMOUS | NORESERVE */, -1, 0);
	silt_agent_attach.zeros = (uint64_t)parent_window;
	silt_agent_attach.zeros_size = parent_size;
}

/* Without a descriptor when that works; an address space limit may forbid it. */
static bool slot_begin_again(uint32_t slot)
{
	struct silt_db_run *inherited = agent_run;
	bool ok = slot_begin(slot, -1, true);
	int fd;

	if (ok || !reach_open(&fd))
		return ok;
	sys_munmap(agent_run, SILT_DB_RUN_SIZE); /* one mapping of it is enough */
	agent_run = inherited;
	ok = slot_begin(slot, fd, true);
	sys_close(fd);
	return ok;
}

static bool start_forked(void)
{
	uint32_t slot;

	if (agent_run->options.flags & SILT_DB_NO_FOLLOW)
		return false;
	parent_size = db_window;
	/* A sandbox may kill for the calls a slot needs. */
	slot = agent_no_syscalls ? SILT_DB_SLOTS : claim_slot(reach_own_number(false));
	if (slot < SILT_DB_SLOTS && slot_begin_again(slot)) {
		parent_drop();
		return true;
	}
	undo_leave();
	undo_reset();
	ATOMIC_ADD(&agent_run->untracked, 1);
	return false;
}

bool agent_asleep(void)
{
	return !agent_hot.base && ATOMIC_LOAD(&state) == STATE_ACTIVE;
}

static bool start(uint32_t was)
{
	if (was == STATE_NEW ? start_first() : start_forked()) {
		parent_window = agent_hot.slot;
		ATOMIC_RELEASE(&state, STATE_ACTIVE);
		return true;
	}
	agent_hot.base = NULL;
	agent_hot.single_tp = 0;
	ATOMIC_RELEASE(&state, STATE_OFF);
	return false;
}

/* What a handler did in the middle of a child's start would not be recorded, and that may take milliseconds. */
static bool start_undisturbed(uint32_t was)
{
	bool quiet = was == STATE_ACTIVE && !agent_no_syscalls, ok;
	uint64_t signals;

	if (quiet)
		sys_signals_block(&signals);
	ok = ATOMIC_ACQUIRE(&state) == was && atomic_cas32(&state, was, STATE_STARTING) ? start(was) : agent_start();
	if (quiet)
		sys_signals_restore(&signals);
	return ok;
}

COLD bool agent_start(void)
{
	uint32_t was = ATOMIC_ACQUIRE(&state);

	if (agent_hot.base)
		return true;
	if (was == STATE_OFF)
		return false;
	if (was != STATE_STARTING)
		return start_undisturbed(was);
	/* Another thread is at it, or this one is and a signal came in between: wait, but not for long. */
	for (uint32_t i = 0; i < 20000 && !ATOMIC_ACQUIRE(&agent_hot.base); i++)
		arch_pause();
	return agent_hot.base != NULL;
}

/* DT_INIT: glibc's loader passes main's arguments, musl's none. The environment is cleaned in a process that could not be tracked,
 * too. */
__attribute__((visibility("hidden"), used)) void agent_init(int argc, char **argv, char **envp)
{
	char ***place;

	(void)argc;
	(void)argv;
	agent_ready();
	agent_resolve();
	place = agent_real.environ_address;
	if (place && *place)
		reach_hide_environment(*place, place);
	else if (place && envp) /* glibc's, before it has set it */
		reach_hide_environment(envp, NULL);
}
