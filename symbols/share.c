/* SPDX-License-Identifier: MIT */
/* Shared memory of the children of one module. */
#include "symbols/share.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_SECTIONS = 64,      /* of all files that one module needs; further ones are not shared */
	LOCK_TRIES = 100,       /* of a lock that is held for some hundred instructions */
	LOCK_NS = 1000000,      /* between them: whoever holds it may wait for a processor */
	WAIT_NS = 20 * 1000000, /* then it is looked whether the other is still there */
	PAGE = 4096,
};

enum section_state { MAKING, MADE, FAILED };

struct section {
	struct silt_share_key key;
	uint64_t at; /* in the room behind the header */
	unsigned owner;
	_Atomic uint32_t state; /* enum section_state; a futex */
};

/* In shared memory: nothing here is to be trusted for where memory is. */
struct board {
	_Atomic uint64_t turn;
	_Atomic uint64_t lost; /* bits, by member */
	_Atomic uint32_t lock;
	uint32_t count;
	uint64_t used;
	struct section sections[MAX_SECTIONS];
};

struct silt_share {
	struct board *board;
	uint8_t *room;
	uint64_t capacity;
	size_t mapped;
};

struct silt_share *silt_share_create(uint64_t capacity)
{
	size_t header = (sizeof(struct board) + PAGE - 1) / PAGE * PAGE;
	struct silt_share *s = capacity < SIZE_MAX / 2 ? calloc(1, sizeof(*s)) : NULL;
	void *map;

	if (!s)
		return NULL;
	s->mapped = header + (size_t)capacity;
	map = mmap(NULL, s->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		free(s);
		return NULL;
	}
	s->board = map;
	s->room = (uint8_t *)map + header;
	s->capacity = capacity;
	return s;
}

void silt_share_destroy(struct silt_share *s)
{
	if (s)
		munmap(s->board, s->mapped);
	free(s);
}

void silt_share_lost(struct silt_share *s, unsigned member)
{
	if (s)
		atomic_fetch_or(&s->board->lost, UINT64_C(1) << member % SILT_SHARE_MEMBERS);
}

uint64_t silt_share_turn(struct silt_share *s)
{
	return atomic_fetch_add(&s->board->turn, 1);
}

/* False when somebody died with it, or keeps it. */
static bool lock(struct board *b)
{
	static const struct timespec some = {0, LOCK_NS};

	for (int i = 0; i < LOCK_TRIES; i++) {
		uint32_t free_lock = 0;

		if (atomic_compare_exchange_weak(&b->lock, &free_lock, 1))
			return true;
		syscall(SYS_futex, &b->lock, FUTEX_WAIT, 1, &some, NULL, 0);
	}
	return false;
}

static void unlock(struct board *b)
{
	atomic_store(&b->lock, 0);
	syscall(SYS_futex, &b->lock, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint32_t section_count(const struct board *b)
{
	return b->count < MAX_SECTIONS ? b->count : MAX_SECTIONS;
}

/* Whose turn the section is; with the lock held. */
static enum silt_share_role claim(struct silt_share *s, unsigned member, const struct silt_share_key *key, uint32_t *ret_number)
{
	struct board *b = s->board;
	uint64_t at = (b->used + PAGE - 1) / PAGE * PAGE;
	uint32_t n = section_count(b);

	for (uint32_t i = 0; i < n; i++) {
		if (memcmp(&b->sections[i].key, key, sizeof(*key)) == 0) {
			*ret_number = i;
			return SILT_SHARE_OTHER;
		}
	}
	if (n == MAX_SECTIONS || at > s->capacity || key->size > s->capacity - at)
		return SILT_SHARE_NONE;
	b->sections[n].key = *key;
	b->sections[n].at = at;
	b->sections[n].owner = member;
	atomic_store(&b->sections[n].state, MAKING);
	b->used = at + key->size;
	b->count = n + 1;
	*ret_number = n;
	return SILT_SHARE_MAKE;
}

/* Waits until the section is made. False when it never will be. */
static bool wait_for(const struct board *b, const struct section *section)
{
	static const struct timespec some = {0, WAIT_NS};
	uint32_t state;

	while ((state = atomic_load(&section->state)) == MAKING) {
		if (atomic_load(&b->lost) >> section->owner % SILT_SHARE_MEMBERS & 1)
			return atomic_load(&section->state) == MADE;
		syscall(SYS_futex, &section->state, FUTEX_WAIT, MAKING, &some, NULL, 0);
	}
	return state == MADE;
}

enum silt_share_role silt_share_section(struct silt_share *s, unsigned member, const struct silt_share_key *key, bool wait,
					uint8_t **ret, uint32_t *ret_number)
{
	const struct section *section;
	enum silt_share_role role;
	uint64_t at;

	if (!lock(s->board))
		return SILT_SHARE_NONE;
	role = claim(s, member, key, ret_number);
	unlock(s->board);
	if (role == SILT_SHARE_NONE)
		return role;
	section = &s->board->sections[*ret_number];
	if (role == SILT_SHARE_OTHER) {
		if (atomic_load(&section->state) == MAKING && !wait)
			return role;
		role = wait_for(s->board, section) ? SILT_SHARE_TAKE : SILT_SHARE_NONE;
	}
	at = section->at;
	if (at > s->capacity || key->size > s->capacity - at)
		return SILT_SHARE_NONE;
	*ret = s->room + at;
	return role;
}

void silt_share_made(struct silt_share *s, uint32_t number, bool good)
{
	_Atomic uint32_t *state = &s->board->sections[number].state;

	atomic_store(state, good ? MADE : FAILED);
	syscall(SYS_futex, state, FUTEX_WAKE, SILT_SHARE_MEMBERS, NULL, NULL, 0);
}
