/* SPDX-License-Identifier: MIT */
/* Demangling through libiberty, within bounds. */
#include "symbols/demangle.h"

#include <ctype.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "symbols/fold_tree.h"

enum {
	/* Recursion of the parsers grows with the name: these fit the stack of guard_start. Longer ones are the work of
	 * generators: nobody reads them. */
	MAX_MANGLED = 1 << 15,
	MAX_MANGLED_D = 1 << 13,
	MAX_READABLE = 1 << 16, /* substitutions let short names double with every few bytes */
	MAX_D_CALLS = 1 << 17,  /* allocations for one name of D, whose parser tries things again and again */
	MAX_D_BYTES = 1 << 23,
	TICK_US = 100000,
	MAX_TICKS = 2,
	MAX_STRIKES = 16, /* names that were given up for time or memory: the file is hostile, the rest stays mangled */
	PLAIN_STACK = 4 << 20,
};
#define LARGE_STACK (64ull << 20)

enum guarded { GUARD_OFF, GUARD_JUMP, GUARD_D };
enum { GAVE_UP_TEXT = 1, GAVE_UP_TIME, GAVE_UP_MEMORY };

/* One demangling at a time in one thread: a signal handler and libiberty's allocator have no other way to know of it. */
static struct {
	sigjmp_buf back;
	volatile sig_atomic_t state; /* enum guarded */
	volatile sig_atomic_t ticks;
	size_t d_calls, d_bytes;
	size_t stack; /* bytes that libiberty may take at once */
	unsigned strikes;
} guard = {.stack = PLAIN_STACK};

struct text {
	size_t size;
	char data[MAX_READABLE];
};

/* ---- bounds ---- */

static void __attribute__((noreturn)) give_up(int why)
{
	guard.state = GUARD_OFF;
	siglongjmp(guard.back, why);
}

/* The C++ and Rust parts of libiberty hold no lock and allocate before they start: leaving them is safe. */
static void on_tick(int signal_number)
{
	sigset_t set;

	if (guard.state != GUARD_JUMP || ++guard.ticks < MAX_TICKS)
		return;
	sigemptyset(&set);
	sigaddset(&set, signal_number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	give_up(GAVE_UP_TIME);
}

void silt_demangle_guard_start(void)
{
	struct itimerval every = {{0, TICK_US}, {0, TICK_US}};
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	struct rlimit stack;

	sigaction(SIGVTALRM, &action, NULL);
	setitimer(ITIMER_VIRTUAL, &every, NULL);
	/* The kernel keeps 128 MB below the stack free of mappings, so it may grow that far when the limit allows. */
	if (!getrlimit(RLIMIT_STACK, &stack) && stack.rlim_cur < LARGE_STACK && stack.rlim_max >= LARGE_STACK) {
		stack.rlim_cur = LARGE_STACK;
		if (setrlimit(RLIMIT_STACK, &stack))
			return;
	}
	guard.stack = stack.rlim_cur < LARGE_STACK ? PLAIN_STACK : LARGE_STACK / 2;
}

static void *count_allocation(void *p, size_t size)
{
	if (guard.state != GUARD_D)
		return p;
	if (!p || guard.d_calls++ >= MAX_D_CALLS || (guard.d_bytes += size) > MAX_D_BYTES)
		give_up(GAVE_UP_MEMORY); /* what the name took so far is lost: strikes bound that */
	return p;
}

/* libiberty calls these two by name; its own end the program when memory is out. */
void *xmalloc(size_t size);
void *xrealloc(void *old, size_t size);

void *xmalloc(size_t size)
{
	return count_allocation(malloc(size ? size : 1), size);
}

void *xrealloc(void *old, size_t size)
{
	return count_allocation(realloc(old, size ? size : 1), size);
}

static void add_text(const char *data, size_t size, void *opaque)
{
	struct text *t = opaque;

	if (size >= sizeof(t->data) - t->size)
		give_up(GAVE_UP_TEXT);
	memcpy(t->data + t->size, data, size);
	t->size += size;
}

/* ---- languages ---- */

/* cplus_demangle_print_callback takes this much stack at once: a copy of every template for every reference to a parameter. */
static bool fits_stack(const char *mangled)
{
	size_t templates = 1, references = 1;

	for (const char *p = mangled; *p; p++) {
		templates += *p == 'I';
		references += *p == 'R' || *p == 'O';
	}
	return 2 * templates * (2 * references) * 2 * sizeof(void *) <= guard.stack;
}

static bool print_tree(struct demangle_component *tree, struct text *t)
{
	t->size = 0;
	return cplus_demangle_print_callback(DMGL_PARAMS | DMGL_ANSI, tree, add_text, t);
}

/* The name in t, folded already when that was possible in the tree; *ret_folded says so. */
static bool demangle_cxx(const char *mangled, bool fold, struct text *t, bool *ret_folded)
{
	void *volatile memory = NULL;
	struct demangle_component *tree, *folded;
	struct silt_fold_tree nodes;
	volatile bool done = false, by_tree = false;
	void *block = NULL;
	int why;

	if (!fits_stack(mangled))
		return false;
	guard.ticks = 0;
	why = sigsetjmp(guard.back, 0);
	if (!why) {
		guard.state = GUARD_JUMP;
		tree = cplus_demangle_v3_components(mangled, DMGL_PARAMS | DMGL_ANSI, &block);
		memory = block;
		memset(&nodes, 0, sizeof(nodes));
		folded = tree && fold ? silt_fold_tree(&nodes, tree) : NULL;
		by_tree = folded && print_tree(folded, t);
		guard.state = GUARD_OFF;
		if (folded && !by_tree) {
			/* The type of a conversion operator may stand in the arguments that were folded away. */
			free(memory);
			memory = NULL;
			return demangle_cxx(mangled, false, t, ret_folded);
		}
		guard.state = GUARD_JUMP;
		done = by_tree || (tree && print_tree(tree, t));
	}
	guard.state = GUARD_OFF;
	free(memory);
	guard.strikes += why == GAVE_UP_TIME;
	*ret_folded = by_tree;
	return done;
}

static bool demangle_rust(const char *mangled, struct text *t)
{
	volatile bool done = false;
	int why;

	guard.ticks = 0;
	t->size = 0;
	why = sigsetjmp(guard.back, 0);
	if (!why) {
		guard.state = GUARD_JUMP;
		done = rust_demangle_callback(mangled, 0, add_text, t) && t->size;
	}
	guard.state = GUARD_OFF;
	guard.strikes += why == GAVE_UP_TIME;
	return done;
}

static bool demangle_d(const char *mangled, struct text *t)
{
	char *volatile name = NULL;
	size_t size;
	int why;

	if (strlen(mangled) >= MAX_MANGLED_D)
		return false;
	guard.d_calls = guard.d_bytes = 0;
	why = sigsetjmp(guard.back, 0);
	if (!why) {
		guard.state = GUARD_D;
		name = dlang_demangle(mangled, 0);
	}
	guard.state = GUARD_OFF;
	guard.strikes += why != 0;
	size = name ? strlen(name) : sizeof(t->data);
	if (size < sizeof(t->data)) {
		memcpy(t->data, name, size);
		t->size = size;
	}
	free(name);
	return size < sizeof(t->data);
}

bool silt_demangle_is_mangled(const char *name)
{
	return name[0] == '_' && (name[1] == 'Z' || name[1] == 'R' || (name[1] == 'D' && isdigit((unsigned char)name[2])));
}

char *silt_demangle(const char *mangled, enum silt_demangle how)
{
	enum silt_demangle_language language = SILT_NAME_CXX;
	bool fold = how == SILT_DEMANGLE_SHORT, folded = false, done = false;
	struct text t;

	if (how == SILT_DEMANGLE_OFF || !silt_demangle_is_mangled(mangled) || strnlen(mangled, MAX_MANGLED) == MAX_MANGLED ||
	    guard.strikes >= MAX_STRIKES)
		return NULL;
	t.size = 0;
	if (mangled[1] == 'D') {
		language = SILT_NAME_D;
		done = demangle_d(mangled, &t);
	} else {
		/* Rust's older scheme is C++'s with a hash at the end: ask for it first. */
		done = demangle_rust(mangled, &t);
		if (done)
			language = SILT_NAME_RUST;
		else if (mangled[1] == 'Z')
			done = demangle_cxx(mangled, fold, &t, &folded);
	}
	if (!done)
		return NULL;
	t.data[t.size] = '\0';
	return fold && !folded ? silt_demangle_fold(t.data, language) : strdup(t.data);
}
