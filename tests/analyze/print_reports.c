/* SPDX-License-Identifier: MIT */
/* Prints one of the named reports of two fixed snapshots: golden.sh compares them with golden/NAME. */
#include <stdlib.h>
#include <string.h>

#include "analyze/analyze.h"
#include "build_snapshot.h"
#include "fake_symbols.h"

#define CXX "/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30"

static const struct fake_address SYMBOLS[] = {
	{ CXX, 2, 0xa0, { { .function = "operator new(unsigned long)", .linkage = "_Znwm" } } },
	{ "/bin/app", 1, 0x100,
	  { { .function = "std::__new_allocator<Item>::allocate(unsigned long, void const*)",
	      .file = "/usr/include/c++/12/bits/new_allocator.h", .line = 137, .inlined = true },
	    { .function = "Cache::insert(Item const&)", .file = "/src/app/cache.cpp", .line = 20 } } },
	{ "/bin/app", 1, 0x110, { { .function = "Cache::evict()", .file = "/src/app/cache.cpp", .line = 44 } } },
	{ "/bin/app", 1, 0x120, { { .function = "read_\033[2Jall", .file = "/src/app/main.cpp", .line = 90 } } },
	{ "/bin/app", 1, 0x200, { { .function = "main", .file = "/src/app/main.cpp", .line = 7 } } },
	{ "/lib/libc.so.6", 3, 0x500, { { .function = "__libc_start_call_main" } } },
};

struct growth {
	uint64_t insert, evict, all, raw, jit, pool, overflow, untracked; /* blocks */
};

static uint32_t stack3(struct silt_snapshot *s, uint32_t flags, uint32_t a, uint32_t b, uint32_t c)
{
	uint32_t frames[] = { a, b, c };

	return build_stack(s, flags, frames, 3);
}

static void add(struct silt_snapshot *s, uint32_t stack, uint64_t count, uint64_t size, uint32_t kind, uint32_t thread)
{
	uint32_t c = build_context(s, stack, count * size, count, count * size / 2, count / 2);

	s->contexts[c].kind = kind;
	s->contexts[c].thread = thread;
	for (uint64_t i = 0; i < count; i++)
		build_block(s, (s->blocks.count + 1) * 4096, size, c);
}

static struct silt_snapshot *snapshot(const struct growth *g)
{
	struct silt_snapshot *s = build_snapshot();
	uint32_t app = build_module(s, "/bin/app", 1), cxx = build_module(s, CXX, 2);
	uint32_t libc = build_module(s, "/lib/libc.so.6", 3), plain = build_module(s, "/opt/lib\xff.so", 0);
	uint32_t op_new = build_frame(s, cxx, 0xa0), insert = build_frame(s, app, 0x100);
	uint32_t evict = build_frame(s, app, 0x110), all = build_frame(s, app, 0x120);
	uint32_t main_frame = build_frame(s, app, 0x200), start = build_frame(s, libc, 0x500);
	uint32_t raw = build_frame(s, plain, 0x777), jit = build_frame(s, SILT_NONE, 0x7f0000001234);
	uint32_t main_thread = build_thread(s, 100, "app"), worker = build_thread(s, 101, "worker");
	uint32_t jit_frames[] = { raw, jit };

	s->process.with_threads = true;
	add(s, stack3(s, 0, op_new, insert, main_frame), g->insert, 4096, SILT_KIND_HEAP, main_thread);
	add(s, stack3(s, 0, evict, main_frame, start), g->evict, 100, SILT_KIND_HEAP, worker);
	add(s, stack3(s, 0, all, main_frame, start), g->all, 1 << 20, SILT_KIND_MMAP, main_thread);
	add(s, stack3(s, SILT_STACK_DEPTH, raw, main_frame, start), g->raw, 64, SILT_KIND_HEAP, worker);
	add(s, build_stack(s, SILT_STACK_NO_CFI, jit_frames, 2), g->jit, 48, SILT_KIND_HEAP, main_thread);
	add(s, stack3(s, 0, insert, evict, main_frame), g->pool, 16, SILT_KIND_POOL, main_thread);
	add(s, build_stack(s, SILT_STACK_OVERFLOW, NULL, 0), g->overflow, 32, SILT_KIND_HEAP, SILT_NONE);
	add(s, build_stack(s, SILT_STACK_UNTRACKED, NULL, 0), g->untracked, 8, SILT_KIND_HEAP, SILT_NONE);
	return s;
}

/* Every second context of AFTER is made newer than BEFORE. */
static void age(struct silt_snapshot *a)
{
	a->process.epoch = 2;
	a->process.capture_ns += 60000000000;
	for (uint32_t i = 0; i < a->context_count; i += 2)
		a->contexts[i].epoch = 2;
}

static bool word(const char *text, const char *word_)
{
	return strstr(text, word_) != NULL;
}

/* A report's name says its options: "show-top2-json". */
static struct silt_report_options options_of(const char *name)
{
	struct silt_report_options o = { .top = word(name, "top2") ? 2 : -1 };

	o.json = word(name, "json");
	o.color = word(name, "color");
	o.all_frames = word(name, "all-frames");
	o.only_new = word(name, "new");
	o.width = word(name, "narrow") ? 60 : 0;
	o.focus = word(name, "focus-none") ? "no such name" : word(name, "focus") ? "Cache" : NULL;
	o.min_bytes = word(name, "min") ? 1000 : 0;
	o.by = word(name, "function") ? SILT_BY_FUNCTION :
	       word(name, "file")     ? SILT_BY_FILE :
	       word(name, "module")   ? SILT_BY_MODULE :
	       word(name, "size")     ? SILT_BY_SIZE :
	       word(name, "thread")   ? SILT_BY_THREAD :
					SILT_BY_STACK;
	o.sort = word(name, "count") ? SILT_SORT_COUNT : SILT_SORT_BYTES;
	return o;
}

int main(int argc, char **argv)
{
	static const struct growth BEFORE = { 100, 50, 4, 20, 3, 8, 0, 1 }, AFTER = { 400, 10, 2, 20, 9, 9, 5, 1 };
	struct silt_snapshot *b = snapshot(&BEFORE), *a = snapshot(&AFTER);
	struct silt_error err = { 0 };
	struct silt_report_options o;
	int rc;

	if (argc != 2)
		return 2;
	o = options_of(argv[1]);
	age(a);
	if (word(argv[1], "estimated"))
		b->process.sample_bytes = a->process.sample_bytes = 65536;
	if (word(argv[1], "unchanged"))
		a->contexts = b->contexts;
	if (word(argv[1], "empty"))
		a->context_count = 0;
	if (word(argv[1], "notes")) {
		a->process.ending = "killed by SIGKILL";
		a->process.min_size = 16;
		a->process.pause_ns = 1500000;
		silt_snapshot_note(a, NULL, "12 blocks were lost: the trace database was full");
	}
	fake_symbols_set(SYMBOLS, SILT_ARRAY_LEN(SYMBOLS));
	if (strncmp(argv[1], "show", 4) == 0)
		rc = silt_report_show(a, &o, stdout, &err);
	else
		rc = silt_report_diff(b, a, &o, stdout, &err);
	if (rc != 0)
		fprintf(stderr, "%s\n", err.msg);
	silt_snapshot_destroy(b);
	silt_snapshot_destroy(a);
	return rc != 0;
}
