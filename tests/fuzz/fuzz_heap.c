/* SPDX-License-Identifier: MIT */
/*
 * The heap walkers on memory that holds anything. The first byte of the input chooses the glibc layout of a sound image,
 * whether threads are known, and whether free lists count as long; then come changes: offset (2 bytes), length (1, at most 16), bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/driver.h"
#include "tests/heap/image.h"

struct order {
	silt_addr last;
	unsigned runs; /* ascending, so far */
};

static int take(void *data, const struct silt_heap_block *blocks, size_t count)
{
	struct order *o = data;

	for (size_t i = 0; i < count; i++) {
		o->runs += blocks[i].addr <= o->last;
		if (o->runs > 1 || blocks[i].addr == o->last)
			abort();
		o->last = blocks[i].addr;
	}
	return 0;
}

static void change(struct image *m, const uint8_t *data, size_t size)
{
	while (size >= 3) {
		size_t offset = (size_t)(data[0] | data[1] << 8) % IMAGE_SIZE, length = data[2] % 17u;

		data += 3;
		size -= 3;
		if (length > size)
			length = size;
		if (length > IMAGE_SIZE - offset)
			length = IMAGE_SIZE - offset;
		memcpy(m->bytes + offset, data, length);
		data += length;
		size -= length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct image m;
	struct silt_heap_target target = { .reader = image_reader(&m), .maps = &m.maps, .modules = &m.modules };
	struct silt_heap *h;
	struct order order = { 0 };
	bool threads;

	if (!size)
		return 0;
	image_fill(&m, data[0] % IMAGE_VARIANTS);
	threads = data[0] & 0x80;
	target.links_max = data[0] & 0x40 ? 1 : 0;
	change(&m, data + 1, size - 1);
	if (silt_heap_open(&target, &h, NULL))
		return 0;
	silt_heap_busy(h, &m.thread, threads);
	silt_heap_walk(h, &m.maps, threads ? &m.thread : NULL, threads, take, &order, NULL);
	silt_heap_destroy(h);
	return 0;
}

/* Each layout, with a word of the main arena, of a chunk, of a list changed. */
size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	static const uint16_t offsets[] = { 0x290, 0x298, 0x2b8, IMAGE_HEAP + 0x10, IMAGE_HEAP + 0x60, IMAGE_SIZE - 0x1000 };
	uint8_t *seed;

	if (i >= IMAGE_VARIANTS * SILT_ARRAY_LEN(offsets))
		return 0;
	seed = calloc(1, 12);
	if (!seed)
		abort();
	seed[0] = (uint8_t)(0x80 * (i % 2) + i % IMAGE_VARIANTS);
	seed[1] = (uint8_t)offsets[i / IMAGE_VARIANTS];
	seed[2] = (uint8_t)(offsets[i / IMAGE_VARIANTS] >> 8);
	seed[3] = 8;
	seed[4] = 0x31;
	*ret = seed;
	return 12;
}
