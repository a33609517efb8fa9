/* SPDX-License-Identifier: MIT */
/*
 * Damaged unwind tables: bytes of real ones are changed at random, and lookups must neither leave the module nor last.
 * Built with the address sanitizer; the tables are the whole module and lie in an allocation of exactly their size.
 *
 * usage: test_cfi_mutate ROUNDS FILE...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/agent/cfi_image.h"
#include "tests/agent/cfi_probe.h"

#define EDITS_MAX 3
#define LOOKUPS 3
#define SLOW_NS 1000000000L

/* The tables of one file, cut out. */
struct tables {
	uint8_t *bytes;
	size_t size, hdr_size;
	uint64_t *pcs; /* functions, as distances from bytes */
	size_t pc_count;
};

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint64_t random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

static int32_t i32_at(const uint8_t *p)
{
	int32_t v;

	memcpy(&v, p, 4);
	return v;
}

/* Expects what every linker writes: header first, pcrel sdata4, table of datarel sdata4; .eh_frame right behind. */
static bool tables_cut(const struct cfi_image *image, struct tables *ret)
{
	const uint8_t *hdr = image->module.eh_frame_hdr, *p, *end = image->base + image->size;
	uint32_t count, len;

	if (!hdr || memcmp(hdr, "\x01\x1b\x03\x3b", 4) != 0)
		return false;
	count = (uint32_t)i32_at(hdr + 8);
	p = hdr + 4 + i32_at(hdr + 4);
	if (p < hdr)
		return false;
	ret->hdr_size = (size_t)(p - hdr); /* .eh_frame follows */
	while (p + 4 <= end && (len = (uint32_t)i32_at(p)) != 0)
		p += 4 + len;
	ret->size = (size_t)(p + 4 - hdr);
	ret->bytes = malloc(ret->size);
	ret->pcs = malloc(count * sizeof(*ret->pcs));
	if (!ret->bytes || !ret->pcs)
		return false;
	memcpy(ret->bytes, hdr, ret->size);
	ret->pc_count = count;
	for (uint32_t i = 0; i < count; i++)
		ret->pcs[i] = (uint64_t)(int64_t)i32_at(hdr + 12 + 8 * (size_t)i);
	return true;
}

static uint8_t byte_change(uint8_t old)
{
	static const uint8_t telling[] = {0x00, 0x7f, 0x80, 0xff, 0x0a, 0x0b, 0x0f, 0x10, 0x16, 0x2f, 0x01, 0x9c};

	switch (random_below(4)) {
	case 0:
		return (uint8_t)(old ^ 1u << random_below(8));
	case 1:
		return (uint8_t)(old + (random_below(2) ? 1 : -1));
	case 2:
		return telling[random_below(sizeof(telling))];
	default:
		return (uint8_t)random_below(256);
	}
}

/* Where the damage goes: anywhere, into the header, or near the FDE of the function that is looked up. */
static size_t place_choose(const struct tables *t, size_t function)
{
	size_t entry = 12 + 8 * function + 4;
	uint64_t place;

	switch (random_below(8)) {
	case 0:
		return (size_t)random_below(t->size);
	case 1:
		return (size_t)random_below(16);
	case 2:
		return t->hdr_size + (size_t)random_below(24); /* the first CIE, which most FDEs use */
	default:
		place = (uint64_t)(int64_t)i32_at(t->bytes + entry) + random_below(40);
		return place < t->size ? (size_t)place : 0;
	}
}

static bool round_run(struct tables *t, unsigned long *found)
{
	size_t function = (size_t)random_below(t->pc_count), places[EDITS_MAX];
	uint8_t old[EDITS_MAX];
	unsigned edits = 1 + (unsigned)random_below(EDITS_MAX);
	struct cfi_module m;
	struct timespec from, to;

	for (unsigned i = 0; i < edits; i++) {
		places[i] = place_choose(t, function);
		if (places[i] >= t->size)
			places[i] = 0;
		old[i] = t->bytes[places[i]];
		t->bytes[places[i]] = byte_change(old[i]);
	}
	m.lo = (uint64_t)(uintptr_t)t->bytes;
	m.hi = m.lo + t->size;
	m.eh_frame_hdr = t->bytes;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (unsigned i = 0; i < LOOKUPS; i++)
		*found += cfi_probe(&m, m.lo + t->pcs[function] + random_below(i ? 64 : 1), random_state);
	clock_gettime(CLOCK_MONOTONIC, &to);
	for (unsigned i = edits; i-- > 0;)
		t->bytes[places[i]] = old[i];
	return (to.tv_sec - from.tv_sec) * 1000000000L + to.tv_nsec - from.tv_nsec < SLOW_NS;
}

/* The undamaged module cut off at every byte: the same code must find the new end. */
static void cut_run(const struct tables *t)
{
	for (size_t size = 1; size < t->size; size += 1 + size / 256) {
		uint8_t *bytes = malloc(size);
		struct cfi_module m;

		if (!bytes)
			return;
		memcpy(bytes, t->bytes, size);
		m.lo = (uint64_t)(uintptr_t)bytes;
		m.hi = m.lo + size;
		m.eh_frame_hdr = bytes;
		for (size_t i = 0; i < 8; i++)
			cfi_probe(&m, m.lo + t->pcs[random_below(t->pc_count)], size);
		free(bytes);
	}
}

static bool file_run(const char *path, unsigned long rounds)
{
	struct cfi_image image;
	struct tables t = {0};
	unsigned long found = 0;
	bool ok = true;

	if (cfi_image_load(path, &image) != 0 || !tables_cut(&image, &t)) {
		printf("%s: no tables of the usual kind\n", path);
		return false;
	}
	cut_run(&t);
	for (unsigned long i = 0; i < rounds && ok; i++)
		ok = round_run(&t, &found);
	printf("%s: %lu rounds, %lu of %lu lookups gave a row%s\n", path, rounds, found, rounds * LOOKUPS,
	       ok ? "" : ": one took more than a second");
	free(t.bytes);
	free(t.pcs);
	cfi_image_unload(&image);
	/* Damage that is always noticed, or never, would mean that nothing was tested. */
	return ok && found > rounds / 10 && found < rounds * LOOKUPS;
}

int main(int argc, char **argv)
{
	unsigned long rounds;
	bool ok = true;

	if (argc < 3)
		return 2;
	rounds = strtoul(argv[1], NULL, 10) / (unsigned long)(argc - 2);
	for (int i = 2; i < argc; i++)
		ok &= file_run(argv[i], rounds);
	return ok ? 0 : 1;
}
