/* SPDX-License-Identifier: MIT */
/* Where the code of the allocators that are walked lies, and of the functions by which they get memory: a thread that stands there may be
 * changing what is walked. */
#include <unistd.h>

#include "capture/heap/heap_internal.h"
#include "capture/target/elf_view.h"

#define BEFORE_FIRST 64u /* bytes of a static function that its only caller inlines or not */

struct lookup {
	struct silt_heap *h;
	const struct silt_target_module *m;
	struct silt_elf_view view; /* of programs that are linked statically: they export nothing */
	bool has_view;
};

static void open_file(struct lookup *l)
{
	const struct silt_heap_target *t = &l->h->target;
	int fd = t->pid > 0 ? silt_region_open(t->pid, &t->maps->regions[l->m->region_first]) : -1;

	if (fd < 0)
		return;
	l->has_view = !silt_elf_view_open(fd, l->m->path, &l->view, NULL);
	close(fd);
}

static bool find(const struct lookup *l, const char *name, silt_addr *ret_addr, uint64_t *ret_size)
{
	struct silt_elf_symbol symbol;

	if (silt_heap_symbol(l->h, l->m, name, ret_addr, ret_size))
		return *ret_addr >= l->m->start && *ret_addr < l->m->end;
	if (!l->has_view || !silt_elf_view_find(&l->view.full, name, &symbol))
		return false;
	*ret_addr = l->m->bias + symbol.value;
	*ret_size = symbol.size;
	return *ret_addr >= l->m->start && *ret_addr < l->m->end;
}

static void add(struct silt_heap *h, silt_addr start, silt_addr end, bool calls)
{
	if (end > start && !silt_vec_push(&h->code, ((struct silt_heap_code){ start, end, calls })))
		h->no_memory = true;
}

/* Object files (glibc: one, musl: a few behind each other) that hold these, and static functions before, behind and between them: those
 * have names in programs that are linked statically. */
static void add_allocator(const struct lookup *l, uint64_t size_max, bool ends_known)
{
	static const char *const names[] = {
		"malloc", "free", "realloc", "calloc", "memalign", "aligned_alloc", "malloc_usable_size", "malloc_trim", "mallinfo",
		"malloc_info", "mallopt", "__libc_memalign",
		/* glibc's inner functions */
		"_int_malloc", "_int_free", "_int_realloc", "_int_memalign", "sysmalloc", "sysmalloc_mmap", "munmap_chunk",
		"mremap_chunk", "malloc_consolidate", "new_heap", "arena_get2", "malloc_printerr", "int_mallinfo",
		/* musl's */
		"nontrivial_free", "alloc_slot", "__libc_malloc_impl", "__libc_free", "__libc_realloc",
	};
	silt_addr start = 0, end = 0, addr;
	uint64_t size;

	for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++) {
		if (!find(l, names[i], &addr, &size) || size > size_max)
			continue;
		if (!start || (addr < start && end - addr < size_max))
			start = addr;
		if (addr + size > end && addr + size - start < size_max)
			end = addr + size;
	}
	if (start && (ends_known || l->has_view))
		add(l->h, start - BEFORE_FIRST, end, false);
	else if (start)
		add(l->h, end < size_max ? 0 : end - size_max, start + size_max, false);
}

static void add_calls(const struct lookup *l)
{
	static const char *const names[] = { "brk", "sbrk", "mmap", "munmap", "mremap", "mprotect", "madvise" };
	silt_addr addr;
	uint64_t size;

	for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++)
		if (find(l, names[i], &addr, &size) && size < 4096)
			add(l->h, addr, addr + size, true);
}

void silt_heap_code_find(struct silt_heap *h, const struct silt_target_module *m, uint64_t size_max, bool ends_known)
{
	struct lookup l = { .h = h, .m = m };
	silt_addr addr;
	uint64_t size;

	if (!silt_heap_symbol(h, m, "malloc", &addr, &size))
		open_file(&l);
	add_allocator(&l, size_max, ends_known);
	add_calls(&l);
	if (l.has_view)
		silt_elf_view_close(&l.view);
}

static bool in_code(const struct silt_heap *h, silt_addr pc, bool calls)
{
	for (size_t i = 0; i < h->code.count; i++)
		if (h->code.items[i].calls == calls && pc >= h->code.items[i].start && pc < h->code.items[i].end)
			return true;
	return false;
}

bool silt_heap_in_allocator(const struct silt_heap *h, silt_addr pc)
{
	return in_code(h, pc, false);
}

bool silt_heap_in_calls(const struct silt_heap *h, silt_addr pc)
{
	return in_code(h, pc, true);
}
