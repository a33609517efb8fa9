/* SPDX-License-Identifier: MIT */
/**
 * A bounded, sticky reader for DWARF bytes: the hot path of the room, so everything is inline.
 *
 * After a read beyond the end `bad` is set, the cursor stands at the end and every read gives 0. Unlike the reader of
 * base/ it accepts padded LEB128 numbers, as assemblers write them.
 */
#ifndef SILT_SYMBOLS_CURSOR_H
#define SILT_SYMBOLS_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct silt_cursor {
	const uint8_t *p, *end;
	bool bad;
};

static inline struct silt_cursor silt_cursor_at(const uint8_t *data, uint64_t size, uint64_t offset)
{
	if (!data || offset > size)
		return (struct silt_cursor){data, data, true};
	return (struct silt_cursor){data + offset, data + size, false};
}

static inline size_t silt_cursor_left(const struct silt_cursor *c)
{
	return (size_t)(c->end - c->p);
}

static inline void silt_cursor_fail(struct silt_cursor *c)
{
	c->p = c->end;
	c->bad = true;
}

static inline void silt_cursor_skip(struct silt_cursor *c, uint64_t n)
{
	if (n > silt_cursor_left(c))
		silt_cursor_fail(c);
	else
		c->p += n;
}

#define SILT_CURSOR_FIXED(name, type)                            \
	static inline type silt_cursor_##name(struct silt_cursor *c) \
	{                                                        \
		type v;                                          \
                                                                 \
		if (silt_cursor_left(c) < sizeof(v)) {           \
			silt_cursor_fail(c);                     \
			return 0;                                \
		}                                                \
		memcpy(&v, c->p, sizeof(v));                     \
		c->p += sizeof(v);                               \
		return v;                                        \
	}
SILT_CURSOR_FIXED(u8, uint8_t)
SILT_CURSOR_FIXED(u16, uint16_t)
SILT_CURSOR_FIXED(u32, uint32_t)
SILT_CURSOR_FIXED(u64, uint64_t)
#undef SILT_CURSOR_FIXED

/** Little-endian number of 1..8 bytes. */
static inline uint64_t silt_cursor_sized(struct silt_cursor *c, unsigned size)
{
	uint64_t v = 0;

	switch (size) {
	case 1:
		return silt_cursor_u8(c);
	case 2:
		return silt_cursor_u16(c);
	case 4:
		return silt_cursor_u32(c);
	case 8:
		return silt_cursor_u64(c);
	case 3:
		v = silt_cursor_u16(c);
		return v | (uint64_t)silt_cursor_u8(c) << 16;
	default:
		silt_cursor_fail(c);
		return 0;
	}
}

/** Bits beyond 64 are dropped. */
static inline uint64_t silt_cursor_uleb(struct silt_cursor *c)
{
	const uint8_t *p = c->p;
	uint64_t v;
	unsigned shift = 7;

	if (p < c->end && *p < 0x80) {
		c->p = p + 1;
		return *p;
	}
	if (p == c->end) {
		c->bad = true;
		return 0;
	}
	v = *p++ & 0x7f;
	while (p < c->end) {
		uint8_t byte = *p++;

		if (shift < 64)
			v |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
		if (!(byte & 0x80)) {
			c->p = p;
			return v;
		}
	}
	silt_cursor_fail(c);
	return 0;
}

static inline int64_t silt_cursor_sleb(struct silt_cursor *c)
{
	uint64_t v = 0;
	unsigned shift = 0;
	uint8_t byte;

	do {
		byte = silt_cursor_u8(c);
		if (shift < 64)
			v |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (shift < 64 && (byte & 0x40))
		v |= ~(uint64_t)0 << shift;
	return (int64_t)v;
}

static inline void silt_cursor_skip_leb(struct silt_cursor *c)
{
	while (c->p < c->end)
		if (!(*c->p++ & 0x80))
			return;
	c->bad = true;
}

/** A terminated string in place; NULL when it has no end. */
static inline const char *silt_cursor_string(struct silt_cursor *c)
{
	const char *s = (const char *)c->p;
	const uint8_t *nul = memchr(c->p, 0, silt_cursor_left(c));

	if (!nul) {
		silt_cursor_fail(c);
		return NULL;
	}
	c->p = nul + 1;
	return s;
}

#endif
