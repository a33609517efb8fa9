/* SPDX-License-Identifier: MIT */
/**
 * What the children that read one module have in common: whose turn each unit is, and the sections that one of them
 * decompressed for all.
 *
 * It lies in shared memory that the parent makes before it forks them, and that the parent never reads: a child may have been
 * taken over by the file. What such a child writes there harms no other module, and no wait for it is without an end.
 */
#ifndef SILT_SYMBOLS_SHARE_H
#define SILT_SYMBOLS_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct silt_share;

enum { SILT_SHARE_MEMBERS = 64 };

/** Which bytes a section's are, for all children alike. */
struct silt_share_key {
	uint64_t dev, ino, section, size;
};

enum silt_share_role {
	SILT_SHARE_NONE,  /* do it alone */
	SILT_SHARE_MAKE,  /* fill the bytes, then silt_share_made */
	SILT_SHARE_TAKE,  /* the bytes are there */
	SILT_SHARE_OTHER, /* another is at it (only when asked not to wait) */
};

/** Room for capacity bytes of sections, of which only those written take memory. NULL when there is none: children then do
 *  without. Called by the parent. */
struct silt_share *silt_share_create(uint64_t capacity);
/** Unmaps it from this process. NULL is fine. */
void silt_share_destroy(struct silt_share *s);
/** The parent tells that a member is gone: nobody waits for it any longer. */
void silt_share_lost(struct silt_share *s, unsigned member);

/** The next turn that nobody has taken yet, from 0 on. */
uint64_t silt_share_turn(struct silt_share *s);
/** The bytes of a section, which are in the share until it is destroyed. With wait false it does not wait for another who is
 *  making them. */
enum silt_share_role silt_share_section(struct silt_share *s, unsigned member, const struct silt_share_key *key, bool wait,
					uint8_t **ret, uint32_t *ret_number);
/** Ends SILT_SHARE_MAKE. */
void silt_share_made(struct silt_share *s, uint32_t number, bool good);

#endif
