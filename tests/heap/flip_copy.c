/* SPDX-License-Identifier: MIT */
/*
 * Copies a process's memory, then damages the copy and walks its heap, many times. usage: flip_copy PID ROUNDS SEED
 *
 * Whatever the memory holds, the walk must end, and hand out blocks in order that lie in the process's memory.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture/heap/heap.h"

#define COPY_MAX (96u << 20)
#define ROUND_SECONDS 20

struct copy {
	struct silt_maps maps;
	struct silt_target_modules modules;
	uint8_t **bytes; /* of each region, or NULL */
};

static const struct silt_region *region_of(const struct copy *c, silt_addr addr, uint32_t *ret)
{
	for (uint32_t low = 0, high = c->maps.count; low < high;) {
		uint32_t middle = low + (high - low) / 2;
		const struct silt_region *r = &c->maps.regions[middle];

		if (r->end <= addr)
			low = middle + 1;
		else if (r->start > addr)
			high = middle;
		else
			return *ret = middle, r;
	}
	return NULL;
}

static size_t read_copy(void *data, silt_addr addr, void *buffer, size_t size)
{
	const struct copy *c = data;
	size_t done = 0;

	while (done < size) {
		uint32_t i = 0;
		const struct silt_region *r = region_of(c, addr + done, &i);
		size_t part = r ? r->end - addr - done < size - done ? r->end - addr - done : size - done : 0;

		if (!r || !c->bytes[i])
			break;
		memcpy((uint8_t *)buffer + done, c->bytes[i] + (addr + done - r->start), part);
		done += part;
	}
	return done;
}

static void fail(const char *what, uint64_t value)
{
	fprintf(stderr, "flip_copy: %s: 0x%" PRIx64 "\n", what, value);
	exit(1);
}

static void take_copy(struct copy *c, pid_t pid)
{
	struct silt_heap_process p;
	struct silt_heap_reader reader;
	uint64_t sum = 0;

	silt_heap_process_init(&p, pid);
	reader = silt_heap_process_reader(&p);
	if (silt_maps_read(pid, &c->maps, NULL) || silt_modules_collect(&c->maps, pid, &c->modules, NULL))
		fail("cannot read process", (uint64_t)pid);
	c->bytes = calloc(c->maps.count, sizeof(*c->bytes));
	for (uint32_t i = 0; i < c->maps.count; i++) {
		const struct silt_region *r = &c->maps.regions[i];
		uint64_t size = r->end - r->start;

		if (!(r->prot & PROT_READ) || sum + size > COPY_MAX)
			continue;
		c->bytes[i] = malloc(size);
		if (reader.read(reader.data, r->start, c->bytes[i], size) == size) {
			sum += size;
			continue;
		}
		free(c->bytes[i]);
		c->bytes[i] = NULL;
	}
	silt_heap_process_deinit(&p);
}

struct seen {
	const struct copy *copy;
	silt_addr last;
	unsigned runs; /* of ascending addresses, but the first */
	uint64_t count;
};

static int look(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct seen *s = data;
	uint32_t i;

	for (size_t k = 0; k < count; k++) {
		s->runs += blocks[k].addr < s->last;
		if (blocks[k].addr == s->last || s->runs > 1)
			fail("blocks out of order", blocks[k].addr);
		if (!region_of(s->copy, blocks[k].addr, &i))
			fail("a block outside of memory", blocks[k].addr);
		s->last = blocks[k].addr;
	}
	s->count += count;
	return 0;
}

/* long_lists: free lists are followed in a table, as where they are long. */
static uint64_t walk(const struct copy *c, bool long_lists)
{
	struct silt_heap_target target = { .reader = { read_copy, (void *)c, true }, .maps = &c->maps, .modules = &c->modules,
					   .links_max = long_lists };
	struct silt_heap_thread thread = { 0 };
	struct seen s = { .copy = c };
	struct silt_heap *h;
	struct silt_error err;

	alarm(ROUND_SECONDS);
	if (silt_heap_open(&target, &h, &err) || silt_heap_walk(h, &c->maps, &thread, 1, look, &s, &err))
		fail(err.msg, 0);
	silt_heap_destroy(h);
	alarm(0);
	return s.count;
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

struct undo {
	uint8_t *at;
	uint64_t word;
};

/* Where allocators keep what they believe: writable memory, all of it. */
static unsigned damage(const struct copy *c, uint64_t *x, struct undo *undo)
{
	unsigned n = 0, want = 1 + (unsigned)(next(x) % 30);

	while (n < want) {
		uint32_t i = (uint32_t)(next(x) % c->maps.count);
		const struct silt_region *r = &c->maps.regions[i], *other = &c->maps.regions[next(x) % c->maps.count];
		uint64_t words[] = { next(x), 0, 0x21, 0x11, 2, ~15ull | 1, other->start + 16 * (next(x) % 256), 1ull << next(x) % 64 };

		if (!c->bytes[i] || !(r->prot & PROT_WRITE))
			continue;
		/* Most often near a page's start: there lie the structures. */
		undo[n].at = c->bytes[i] + (next(x) % (r->end - r->start - 8) & (next(x) % 4 ? ~7ull : ~0xfffull));
		memcpy(&undo[n].word, undo[n].at, 8);
		words[7] ^= undo[n].word;
		memcpy(undo[n].at, &words[next(x) % SILT_ARRAY_LEN(words)], 8);
		n++;
	}
	return n;
}

int main(int argc, char **argv)
{
	struct copy c = { 0 };
	struct undo undo[32];
	uint64_t x, sound, rounds;

	if (argc != 4)
		return 2;
	rounds = strtoull(argv[2], NULL, 10);
	x = strtoull(argv[3], NULL, 10) * 2654435761u + 88172645463325252ull;
	take_copy(&c, (pid_t)atoi(argv[1]));
	sound = walk(&c, false);
	if (!sound)
		fail("the sound copy has no blocks", 0);
	if (walk(&c, true) != sound)
		fail("another number of blocks with a table of links than", sound);
	for (uint64_t i = 0; i < rounds; i++) {
		unsigned n = damage(&c, &x, undo);

		walk(&c, i % 2);
		while (n--)
			memcpy(undo[n].at, &undo[n].word, 8);
	}
	if (walk(&c, false) != sound)
		fail("the copy was not restored", sound);
	printf("%" PRIu64 " damaged copies of a heap of %" PRIu64 " blocks were walked\n", rounds, sound);
	return 0;
}
