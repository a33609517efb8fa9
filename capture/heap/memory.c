/* SPDX-License-Identifier: MIT */
/* Reading target memory: a page cache for small reads, a moving window for large ones, and the reader of a process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "capture/heap/heap_internal.h"

#define CACHE_PAGES 4096u /* 16 MiB, of which only pages in use cost memory */
#define WORDS_MAX 128u /* in one system call */
#define WINDOW_MIN SILT_HEAP_PAGE
#define WINDOW_MAX (1u << 20)

/* ---- a process ---- */

void silt_heap_process_init(struct silt_heap_process *p, pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	p->pid = pid;
	p->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
}

void silt_heap_process_deinit(struct silt_heap_process *p)
{
	if (p->mem_fd >= 0)
		close(p->mem_fd);
	p->mem_fd = -1;
}

static size_t read_process(void *data, silt_addr addr, void *buffer, size_t size)
{
	const struct silt_heap_process *p = data;
	struct iovec local = { buffer, size }, remote = { (void *)(uintptr_t)addr, size };
	ssize_t n = process_vm_readv(p->pid, &local, 1, &remote, 1, 0);

	/* Some sandboxes forbid the system call but not the file. */
	if (n < 0 && (errno == EPERM || errno == ENOSYS) && p->mem_fd >= 0 && addr <= INT64_MAX)
		n = pread(p->mem_fd, buffer, size, (off_t)addr);
	return n > 0 ? (size_t)n : 0;
}

/* A system call for many words: thousands of threads have theirs in pages of their own. */
static size_t read_process_words(void *data, const silt_addr *at, uint64_t *ret, size_t count)
{
	const struct silt_heap_process *p = data;
	struct iovec local = { ret, 0 }, remote[WORDS_MAX];
	ssize_t n;

	if (count > WORDS_MAX)
		count = WORDS_MAX;
	for (size_t i = 0; i < count; i++)
		remote[i] = (struct iovec){ (void *)(uintptr_t)at[i], sizeof(*ret) };
	local.iov_len = count * sizeof(*ret);
	n = process_vm_readv(p->pid, &local, 1, remote, count, 0);
	return n > 0 ? (size_t)n / sizeof(*ret) : 0;
}

struct silt_heap_reader silt_heap_process_reader(struct silt_heap_process *p)
{
	return (struct silt_heap_reader){ .read = read_process, .data = p, .any_thread = true, .read_words = read_process_words };
}

/* ---- small reads ---- */

bool silt_heap_memory_init(struct silt_heap_memory *m, const struct silt_heap_reader *reader)
{
	m->reader = *reader;
	m->tags = calloc(CACHE_PAGES, sizeof(*m->tags));
	m->pages = malloc((size_t)CACHE_PAGES * SILT_HEAP_PAGE);
	if (m->tags && m->pages)
		return true;
	silt_heap_memory_deinit(m);
	return false;
}

void silt_heap_memory_deinit(struct silt_heap_memory *m)
{
	free(m->tags);
	free(m->pages);
	m->tags = NULL;
	m->pages = NULL;
}

void silt_heap_memory_forget(struct silt_heap_memory *m)
{
	memset(m->tags, 0, CACHE_PAGES * sizeof(*m->tags));
}

static const uint8_t *cached_page(struct silt_heap_memory *m, uint64_t page)
{
	size_t slot = (size_t)(page ^ page >> 12) % CACHE_PAGES;
	uint8_t *bytes = m->pages + slot * SILT_HEAP_PAGE;

	if (m->tags[slot] == page + 1)
		return bytes;
	m->tags[slot] = 0;
	if (m->reader.read(m->reader.data, page * SILT_HEAP_PAGE, bytes, SILT_HEAP_PAGE) != SILT_HEAP_PAGE)
		return NULL;
	m->tags[slot] = page + 1;
	return bytes;
}

bool silt_heap_memory_read(struct silt_heap_memory *m, silt_addr addr, void *buffer, size_t size)
{
	uint8_t *out = buffer;

	while (size) {
		size_t offset = addr % SILT_HEAP_PAGE, part = SILT_HEAP_PAGE - offset;
		const uint8_t *page = cached_page(m, addr / SILT_HEAP_PAGE);

		if (!page)
			return false;
		if (part > size)
			part = size;
		memcpy(out, page + offset, part);
		out += part;
		addr += part;
		size -= part;
	}
	return true;
}

bool silt_heap_memory_u64(struct silt_heap_memory *m, silt_addr addr, uint64_t *ret)
{
	return silt_heap_memory_read(m, addr, ret, sizeof(*ret));
}

bool silt_heap_memory_u32(struct silt_heap_memory *m, silt_addr addr, uint32_t *ret)
{
	return silt_heap_memory_read(m, addr, ret, sizeof(*ret));
}

void silt_heap_memory_words(struct silt_heap_memory *m, const silt_addr *at, uint64_t *ret, size_t count)
{
	for (size_t done = 0; done < count; done++) {
		if (m->reader.read_words)
			done += m->reader.read_words(m->reader.data, at + done, ret + done, count - done);
		/* Where it stopped, for whatever reason, looks the other way. */
		if (done < count && !silt_heap_memory_u64(m, at[done], &ret[done]))
			ret[done] = 0;
	}
}

/* ---- the window ---- */

bool silt_heap_window_init(struct silt_heap_window *w, struct silt_heap_memory *m, struct silt_heap_ahead *ahead)
{
	*w = (struct silt_heap_window){ .m = m, .ahead = ahead, .own = malloc(WINDOW_MAX), .goal = WINDOW_MIN };
	w->bytes = w->own;
	return w->own;
}

void silt_heap_window_deinit(struct silt_heap_window *w)
{
	free(w->own);
	w->own = NULL;
	w->bytes = NULL;
}

/* Where pieces follow each other, all that is left of a stretch is likely to be wanted. */
static bool take_ahead(struct silt_heap_window *w, silt_addr addr, size_t need, silt_addr limit)
{
	return w->ahead && w->goal == WINDOW_MAX &&
	       silt_heap_ahead_take(w->ahead, addr, need, limit, &w->bytes, &w->start, &w->size);
}

/* Large blocks are jumped over, and what lies inside them is better left alone: it may be swapped out. Where pieces
 * follow each other, they grow. */
const uint8_t *silt_heap_window_refill(struct silt_heap_window *w, silt_addr addr, size_t need, silt_addr limit)
{
	bool follows = addr >= w->start && addr <= w->start + w->size;
	size_t size;

	if (addr >= limit || limit - addr < need || need > WINDOW_MAX)
		return NULL;
	if (follows && w->goal < WINDOW_MAX)
		w->goal *= 4;
	else if (!follows && addr - w->start - w->size > w->size)
		w->goal = WINDOW_MIN;
	if (w->goal > WINDOW_MAX)
		w->goal = WINDOW_MAX;
	if (take_ahead(w, addr, need, limit))
		return w->bytes + (addr - w->start);
	size = w->goal > need ? w->goal : need;
	/* Up to a page's end: the kernel copies page by page. */
	size = ((addr + size) | (SILT_HEAP_PAGE - 1)) + 1 - addr;
	if (size > WINDOW_MAX)
		size = WINDOW_MAX;
	if (size > limit - addr)
		size = (size_t)(limit - addr);
	w->bytes = w->own;
	w->start = addr;
	w->size = w->m->reader.read(w->m->reader.data, addr, w->own, size);
	if (w->size >= need)
		return w->bytes;
	w->goal = WINDOW_MIN;
	return NULL;
}
