/* SPDX-License-Identifier: MIT */
/*
 * Stacks of this very process, walked from many situations and compared with libunwind and with libgcc's unwinder.
 *
 * usage: test_cfi_walk FIXTURE.so...   (fixtures/frames.c and fixtures/throw.cpp, built by several compilers)
 *
 * At each visited point four walks start: cfi_step with all registers, the 24-bit rules with rsp and rbp only, libunwind,
 * and libgcc. With libunwind every frame must agree in pc, stack pointer and all callee-saved registers; with libgcc in
 * the pcs. The 24-bit walk must agree with the full one up to the first row it cannot express.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include "capture/agent/cfi.h"

#define FRAMES_MAX 1200
#define MODULES_MAX 64
#define CALLEE_SAVED 6
#define SHOW_MAX 5

struct frame {
	uint64_t pc, sp, saved[CALLEE_SAVED];
	uint32_t known; /* bit n: saved[n] */
};

struct walk {
	struct frame frames[FRAMES_MAX];
	unsigned n;
	bool ended;   /* at an outermost frame, not for lack of information */
	bool generic; /* the 24-bit walk met a row it cannot express */
};

/* What the current situation has seen so far. */
struct tally {
	unsigned long walks, frames, generic, guessed, different;
	unsigned deepest;
};

static const int saved_dwarf[CALLEE_SAVED] = {3, 6, 12, 13, 14, 15};
static const int saved_unw[CALLEE_SAVED] = {UNW_X86_64_RBX, UNW_X86_64_RBP, UNW_X86_64_R12,
					    UNW_X86_64_R13, UNW_X86_64_R14, UNW_X86_64_R15};

static struct cfi_module modules[MODULES_MAX];
static unsigned module_count;
static struct tally tally;
static unsigned long realigned; /* gcc's realigned frames met by 24-bit walks */
static __thread struct walk full, compact, unw, gcc;
static _Unwind_Reason_Code (*gcc_backtrace)(_Unwind_Trace_Fn, void *);
static uintptr_t (*gcc_ip)(struct _Unwind_Context *);
static void (*visitor)(void);

static int module_add(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct cfi_module *m = &modules[module_count];

	(void)size;
	(void)arg;
	if (module_count == MODULES_MAX)
		return 1;
	memset(m, 0, sizeof(*m));
	m->lo = UINT64_MAX;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uint64_t at = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD) {
			m->lo = at < m->lo ? at : m->lo;
			m->hi = at + p->p_memsz > m->hi ? at + p->p_memsz : m->hi;
		}
		if (p->p_type == PT_GNU_EH_FRAME)
			m->eh_frame_hdr = (const uint8_t *)(uintptr_t)at;
	}
	module_count++;
	return 0;
}

static bool row_at(uint64_t pc, struct cfi_row *ret)
{
	for (unsigned i = 0; i < module_count; i++)
		if (pc >= modules[i].lo && pc < modules[i].hi)
			return cfi_find_row(&modules[i], pc, ret);
	return false;
}

/* Through the kernel, so that a wrong address is an error and not the end of the test. */
static bool memory_read(void *arg, uint64_t addr, uint64_t *ret)
{
	struct iovec to = {ret, 8}, from = {(void *)(uintptr_t)addr, 8};

	(void)arg;
	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 8;
}

static struct frame *frame_add(struct walk *w, uint64_t pc, uint64_t sp)
{
	struct frame *f;

	if (w->n == FRAMES_MAX)
		return NULL;
	f = &w->frames[w->n++];
	f->pc = pc;
	f->sp = sp;
	f->known = 0;
	return f;
}

static void regs_capture(const ucontext_t *uc, struct cfi_regs *ret)
{
	static const int order[CFI_REGS] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
					    REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
					    REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

	for (unsigned i = 0; i < CFI_REGS; i++)
		ret->v[i] = (uint64_t)uc->uc_mcontext.gregs[order[i]];
	ret->known = (1u << CFI_REGS) - 1;
}

static void full_walk(const struct cfi_regs *start, struct walk *w)
{
	struct cfi_regs regs = *start;
	struct cfi_row row;
	bool exact = true;

	w->n = 0;
	w->ended = false;
	for (;;) {
		struct frame *f = frame_add(w, regs.v[CFI_RA], regs.v[CFI_RSP]);

		if (!f)
			return;
		for (unsigned i = 0; i < CALLEE_SAVED; i++) {
			f->saved[i] = regs.v[saved_dwarf[i]];
			f->known |= (regs.known >> saved_dwarf[i] & 1) << i;
		}
		if (!row_at(regs.v[CFI_RA] - !exact, &row) || !cfi_step(&row, &regs, memory_read, NULL))
			return;
		exact = row.signal_frame;
		if (regs.v[CFI_RA] == 0) {
			w->ended = true;
			return;
		}
	}
}

static void compact_walk(const struct cfi_regs *start, struct walk *w)
{
	uint64_t pc = start->v[CFI_RA], sp = start->v[CFI_RSP], bp = start->v[CFI_RBP], cfa, at;
	struct cfi_row row;
	bool exact = true;

	w->n = 0;
	w->ended = w->generic = false;
	for (;;) {
		struct frame *f = frame_add(w, pc, sp);
		uint32_t c;

		if (!f)
			return;
		f->saved[1] = bp;
		f->known = 1u << 1;
		c = row_at(pc - !exact, &row) ? cfi_compact(&row) : CFI_T_NONE;
		exact = false;
		switch (CFI_TYPE(c)) {
		case CFI_T_RSP:
		case CFI_T_RBP:
			cfa = (CFI_TYPE(c) == CFI_T_RSP ? sp : bp) + 8 * CFI_OFF(c);
			if (CFI_RBP_AT(c) && !memory_read(NULL, cfa - 8 * CFI_RBP_AT(c), &bp))
				return;
			break;
		case CFI_T_RBP_DEREF:
			realigned++;
			at = bp;
			if (!memory_read(NULL, at - 8 * CFI_OFF(c), &cfa) || !memory_read(NULL, at, &bp))
				return;
			break;
		case CFI_T_SIGNAL:
			if (!memory_read(NULL, sp + 120, &bp) || !memory_read(NULL, sp + 168, &pc) ||
			    !memory_read(NULL, sp + 160, &sp))
				return;
			exact = true;
			continue;
		default:
			w->ended = CFI_TYPE(c) == CFI_T_END;
			w->generic = CFI_TYPE(c) == CFI_T_GENERIC;
			return;
		}
		if (!memory_read(NULL, cfa - 8, &pc))
			return;
		sp = cfa;
		if (pc == 0) {
			w->ended = true;
			return;
		}
	}
}

static void unw_walk(unw_context_t *uc, struct walk *w)
{
	unw_cursor_t cursor;
	unw_word_t v, sp;

	w->n = 0;
	if (unw_init_local(&cursor, uc) != 0)
		return;
	do {
		struct frame *f;

		unw_get_reg(&cursor, UNW_REG_IP, &v);
		unw_get_reg(&cursor, UNW_REG_SP, &sp);
		if (v == 0 || (f = frame_add(w, v, sp)) == NULL)
			return;
		for (unsigned i = 0; i < CALLEE_SAVED; i++)
			if (unw_get_reg(&cursor, saved_unw[i], &v) == 0) {
				f->saved[i] = v;
				f->known |= 1u << i;
			}
	} while (unw_step(&cursor) > 0);
}

static _Unwind_Reason_Code gcc_frame(struct _Unwind_Context *context, void *arg)
{
	uint64_t pc = gcc_ip(context);

	return pc != 0 && frame_add(arg, pc, 0) ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/* Walks compared here begin at the frame with this pc: each walker has its own frames below. */
static unsigned walk_find(const struct walk *w, uint64_t pc)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->frames[i].pc == pc)
			return i;
	return w->n;
}

static bool frame_equal(const struct frame *a, const struct frame *b)
{
	uint32_t both = a->known & b->known;

	if (a->pc != b->pc || (a->sp != b->sp && b->sp != 0))
		return false;
	for (unsigned i = 0; i < CALLEE_SAVED; i++)
		if ((both >> i & 1) && a->saved[i] != b->saved[i])
			return false;
	return true;
}

/* Index of the first frame that differs, counted from pc's frame; -1: equal. prefix: b may be shorter. */
static int walk_compare(const struct walk *a, const struct walk *b, uint64_t pc, bool prefix)
{
	unsigned i = walk_find(a, pc), j = walk_find(b, pc), n = 0;

	if (i == a->n || j == b->n)
		return 0;
	for (; i < a->n && j < b->n; i++, j++, n++)
		if (!frame_equal(&a->frames[i], &b->frames[j]))
			return (int)n;
	return (i == a->n || prefix) && j == b->n ? -1 : (int)n;
}

static void difference_print(const char *with, const struct walk *a, const struct walk *b, uint64_t pc, int at)
{
	unsigned i = walk_find(a, pc) + (unsigned)at, j = walk_find(b, pc) + (unsigned)at;

	if (tally.different++ >= SHOW_MAX)
		return;
	printf("  frame %d: %s differs (%u and %u frames)\n", at, with, a->n, b->n);
	for (unsigned k = 0; k < 3; k++) {
		Dl_info da = {0}, db = {0};

		if (i + k >= 1 && i + k - 1 < a->n)
			dladdr((void *)(uintptr_t)a->frames[i + k - 1].pc, &da);
		if (j + k >= 1 && j + k - 1 < b->n)
			dladdr((void *)(uintptr_t)b->frames[j + k - 1].pc, &db);
		if (i + k >= 1 && j + k >= 1 && i + k - 1 < a->n)
			printf("    pc %llx sp %llx bp %llx %s %s\n", (unsigned long long)a->frames[i + k - 1].pc,
			       (unsigned long long)a->frames[i + k - 1].sp,
			       (unsigned long long)a->frames[i + k - 1].saved[1],
			       da.dli_fname ? da.dli_fname : "?", da.dli_sname ? da.dli_sname : "?");
		if (i + k >= 1 && j + k >= 1 && j + k - 1 < b->n)
			printf("  / pc %llx sp %llx bp %llx %s %s\n", (unsigned long long)b->frames[j + k - 1].pc,
			       (unsigned long long)b->frames[j + k - 1].sp,
			       (unsigned long long)b->frames[j + k - 1].saved[1],
			       db.dli_fname ? db.dli_fname : "?", db.dli_sname ? db.dli_sname : "?");
	}
}

/* Code without unwind information (libunwind's own setcontext) ends our walk and libgcc's; libunwind goes on with a
 * guess at the frame pointer. */
static bool libunwind_guessed(uint64_t pc)
{
	return !full.ended && unw.n - walk_find(&unw, pc) > full.n - walk_find(&full, pc) &&
	       walk_compare(&full, &gcc, pc, false) == -1 && walk_compare(&unw, &full, pc, true) == -1;
}

/* All four walks from here, compared from the frame at pc on. */
static __attribute__((noinline)) void stacks_compare(uint64_t pc)
{
	struct cfi_regs regs;
	ucontext_t uc;
	unw_context_t unw_context;
	int at;

	getcontext(&uc);
	regs_capture(&uc, &regs);
	full_walk(&regs, &full);
	compact_walk(&regs, &compact);
	unw_getcontext(&unw_context);
	unw_walk(&unw_context, &unw);
	gcc.n = 0;
	gcc_backtrace(gcc_frame, &gcc);

	tally.walks++;
	tally.frames += full.n;
	tally.deepest = full.n > tally.deepest ? full.n : tally.deepest;
	tally.generic += compact.generic;
	at = walk_compare(&full, &unw, pc, false);
	if (at >= 0 && libunwind_guessed(pc))
		tally.guessed++;
	else if (at >= 0)
		difference_print("libunwind", &full, &unw, pc, at);
	if ((at = walk_compare(&full, &gcc, pc, false)) >= 0)
		difference_print("libgcc", &full, &gcc, pc, at);
	if ((at = walk_compare(&full, &compact, pc, compact.generic)) >= 0)
		difference_print("the 24-bit walk", &full, &compact, pc, at);
}

/* Called by the fixtures. */
__attribute__((visibility("default"), noinline)) void frames_visit(void *p, int n)
{
	(void)p;
	(void)n;
	if (visitor)
		visitor();
}

static __attribute__((noinline)) void visit_compare(void)
{
	stacks_compare((uint64_t)(uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0)));
}

/* The situations. */

static bool constructor_ended;

/* Called by a library's constructor before main: the walk must find the loader's start code, which has no unwind
 * information, to be the outermost frame. The other unwinders do not know it. */
__attribute__((visibility("default"))) void frames_constructor_visit(void)
{
	struct cfi_regs regs;
	ucontext_t uc;
	Dl_info last = {0};

	dl_iterate_phdr(module_add, NULL);
	getcontext(&uc);
	regs_capture(&uc, &regs);
	full_walk(&regs, &full);
	compact_walk(&regs, &compact);
	module_count = 0;
	dladdr((void *)(uintptr_t)full.frames[full.n - 1].pc, &last);
	constructor_ended = full.ended && compact.ended &&
			    walk_compare(&full, &compact, full.frames[0].pc, false) == -1 && last.dli_fname &&
			    strstr(last.dli_fname, "ld-linux") != NULL;
}

struct fixture {
	int (*saved)(int, int, int, int), (*vla)(int), (*alloca_early)(int), (*aligned)(int), (*aligned_vla)(int);
	int (*many)(int, int, int, int, int, int, int, int), (*varargs)(int, ...), (*big)(int), (*recursive)(int);
	int (*branches)(int), (*throws)(int);
};
static struct fixture fixtures[32];
static unsigned fixture_count;

static int fixture_open(const char *path)
{
	void *lib = dlopen(path, RTLD_NOW);
	struct fixture *f = &fixtures[fixture_count];

	if (!lib || fixture_count == sizeof(fixtures) / sizeof(fixtures[0])) {
		printf("%s: %s\n", path, lib ? "too many fixtures" : dlerror());
		return -1;
	}
	fixture_count++;
	*(void **)&f->saved = dlsym(lib, "frames_saved");
	*(void **)&f->vla = dlsym(lib, "frames_vla");
	*(void **)&f->alloca_early = dlsym(lib, "frames_alloca_early");
	*(void **)&f->aligned = dlsym(lib, "frames_aligned");
	*(void **)&f->aligned_vla = dlsym(lib, "frames_aligned_vla");
	*(void **)&f->many = dlsym(lib, "frames_aligned_many_args");
	*(void **)&f->varargs = dlsym(lib, "frames_varargs");
	*(void **)&f->big = dlsym(lib, "frames_big");
	*(void **)&f->recursive = dlsym(lib, "frames_recursive");
	*(void **)&f->branches = dlsym(lib, "frames_branches");
	*(void **)&f->throws = dlsym(lib, "frames_throw");
	return f->saved || f->throws ? 0 : -1;
}

static void shapes_run(const struct fixture *f)
{
	if (f->throws) {
		f->throws(1);
		f->throws(9);
		return;
	}
	f->saved(1, 2, 3, 4);
	f->vla(100);
	f->alloca_early(300);
	f->aligned(3);
	f->aligned_vla(200);
	f->many(1, 2, 3, 4, 5, 6, 7, 8);
	f->varargs(3, 1, 2, 3);
	f->big(7);
	f->branches(1);
	f->branches(3);
	f->branches(5);
}

static void shapes_run_all(void)
{
	for (unsigned i = 0; i < fixture_count; i++)
		shapes_run(&fixtures[i]);
}

static void situation_shapes(void)
{
	visitor = visit_compare;
	shapes_run_all();
}

static void situation_deep(void)
{
	visitor = visit_compare;
	for (unsigned i = 0; i < fixture_count; i++)
		if (fixtures[i].recursive)
			fixtures[i].recursive(60);
}

static int qsort_compare(const void *a, const void *b)
{
	visit_compare();
	return *(const int *)a - *(const int *)b;
}

static void situation_qsort(void)
{
	int v[20];

	for (int i = 0; i < 20; i++)
		v[i] = i * 7919 % 20;
	qsort(v, 20, sizeof(*v), qsort_compare);
}

static void on_signal(int sig)
{
	(void)sig;
	visit_compare();
}

/* A handler whose visited shapes come on top of the signal frame. */
static void on_signal_shapes(int sig)
{
	(void)sig;
	visitor = visit_compare;
	shapes_run_all();
	visitor = NULL;
}

static void raise_visitor(void)
{
	raise(SIGUSR1);
}

static void handler_set(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = fn;
	sa.sa_flags = flags;
	sigaction(sig, &sa, NULL);
}

static void situation_signal(void)
{
	handler_set(SIGUSR1, on_signal, 0);
	visitor = raise_visitor;
	shapes_run_all();
	handler_set(SIGUSR1, on_signal_shapes, 0);
	raise(SIGUSR1);
}

static void situation_alternate_stack(void)
{
	static char area[256 * 1024];
	stack_t on = {.ss_sp = area, .ss_size = sizeof(area)}, off = {.ss_flags = SS_DISABLE};

	/* The walkers themselves need room; the area lies far below the stack, and in a thread above it. */
	sigaltstack(&on, NULL);
	handler_set(SIGUSR1, on_signal, SA_ONSTACK);
	visitor = raise_visitor;
	shapes_run_all();
	raise(SIGUSR1);
	sigaltstack(&off, NULL);
}

static void *thread_main(void *arg)
{
	((void (*)(void))arg)();
	return NULL;
}

static void in_thread(void (*fn)(void))
{
	pthread_t t;

	if (pthread_create(&t, NULL, thread_main, (void *)fn) == 0)
		pthread_join(t, NULL);
}

static void situation_thread(void)
{
	in_thread(situation_shapes);
	in_thread(situation_alternate_stack);
	in_thread(situation_qsort);
}

static ucontext_t main_context, other_context;

static void coroutine_main(void)
{
	visitor = visit_compare;
	shapes_run_all();
	visit_compare();
}

static void situation_coroutine(void)
{
	static char area[1024 * 1024];

	getcontext(&other_context);
	other_context.uc_stack.ss_sp = area;
	other_context.uc_stack.ss_size = sizeof(area);
	other_context.uc_link = &main_context;
	makecontext(&other_context, coroutine_main, 0);
	swapcontext(&main_context, &other_context);
}

static void situation_once(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, visit_compare);
}

/* A timer interrupts at any instruction: prologues, epilogues, procedure linkage tables, the middle of libc. */
static volatile sig_atomic_t interrupts;

static void on_timer(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	(void)sig;
	(void)info;
	interrupts++;
	stacks_compare((uint64_t)uc->uc_mcontext.gregs[REG_RIP]);
}

static int plain_compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void work_some(void)
{
	char text[200];
	int v[64];

	for (int i = 0; i < 64; i++)
		v[i] = i * 7919 % 64;
	qsort(v, 64, sizeof(*v), plain_compare);
	snprintf(text, sizeof(text), "%d %s %.17g", v[3], "text", 1.0 / 3);
	free(strdup(text));
	shapes_run_all();
	for (unsigned i = 0; i < fixture_count; i++)
		if (fixtures[i].recursive)
			fixtures[i].recursive(10);
}

static void situation_interrupted(void)
{
	struct itimerval every = {{0, 1000}, {0, 1000}}, never = {0};
	struct sigaction sa;

	visitor = NULL;
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = on_timer;
	sa.sa_flags = SA_SIGINFO | SA_RESTART;
	sigaction(SIGPROF, &sa, NULL);
	setitimer(ITIMER_PROF, &every, NULL);
	while (interrupts < 1000)
		work_some();
	setitimer(ITIMER_PROF, &never, NULL);
}

static const struct situation {
	const char *name;
	void (*run)(void);
	unsigned long at_least; /* walks, when all fixtures are there */
} situations[] = {
	{"frame shapes", situation_shapes, 100},
	{"deep recursion", situation_deep, 300},
	{"qsort callbacks", situation_qsort, 20},
	{"signal handlers", situation_signal, 100},
	{"alternate signal stack", situation_alternate_stack, 100},
	{"threads", situation_thread, 200},
	{"makecontext", situation_coroutine, 100},
	{"pthread_once", situation_once, 1},
	{"interrupted anywhere", situation_interrupted, 1000},
};

static bool situation_check(const struct situation *s)
{
	bool ok;

	memset(&tally, 0, sizeof(tally));
	s->run();
	visitor = NULL;
	ok = tally.different == 0 && tally.guessed * 50 <= tally.walks && tally.walks >= s->at_least;
	printf("%s: %lu walks, %lu frames, deepest %u, %lu beyond the 24-bit rules, %lu where libunwind guessed, "
	       "%lu different%s\n",
	       s->name, tally.walks, tally.frames, tally.deepest, tally.generic, tally.guessed, tally.different,
	       ok ? "" : ": FAILED");
	return ok;
}

static void at_exit(void)
{
	static const struct situation s = {"atexit handlers", visit_compare, 1};

	if (!situation_check(&s))
		_exit(1);
}

int main(int argc, char **argv)
{
	void *libgcc = dlopen("libgcc_s.so.1", RTLD_NOW);
	bool ok = true;

	setvbuf(stdout, NULL, _IONBF, 0);
	if (!libgcc || argc < 2)
		return 77;
	*(void **)&gcc_backtrace = dlsym(libgcc, "_Unwind_Backtrace");
	*(void **)&gcc_ip = dlsym(libgcc, "_Unwind_GetIP");
	for (int i = 1; i < argc; i++)
		if (fixture_open(argv[i]) != 0)
			return 1;
	dl_iterate_phdr(module_add, NULL);
	atexit(at_exit);
	printf("constructor: %s\n", constructor_ended ? "ends at the loader" : "FAILED");
	ok = constructor_ended;
	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++)
		ok &= situation_check(&situations[i]);
	printf("%lu realigned frames\n", realigned);
	return ok && realigned > 0 ? 0 : 1;
}
