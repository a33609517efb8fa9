/* SPDX-License-Identifier: MIT */
/** Abbreviation tables (.debug_abbrev), prepared for passing over entries quickly. */
#ifndef SILT_SYMBOLS_ABBREV_H
#define SILT_SYMBOLS_ABBREV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/vec.h"
#include "symbols/cursor.h"
#include "symbols/object.h"

/** What an entry means for finding code. */
enum silt_entry_kind {
	SILT_ENTRY_OTHER,    /* nothing: passed over with all below it */
	SILT_ENTRY_FUNCTION, /* DW_TAG_subprogram */
	SILT_ENTRY_INLINE,   /* DW_TAG_inlined_subroutine */
	SILT_ENTRY_BLOCK,    /* lexical, try and catch blocks */
	SILT_ENTRY_SCOPE,    /* namespaces, modules: code may be below */
	SILT_ENTRY_TYPE,     /* classes: code is below in rare cases only */
};

struct silt_attr {
	uint16_t name, form;
	int8_t size;       /* bytes of its values; -1: depends on the data */
	uint32_t implicit; /* index into the table's implicit constants */
};

struct silt_abbrev {
	uint64_t code;
	uint32_t attr_first;
	uint16_t attr_count;
	uint16_t tag;
	int32_t fixed_size;   /* bytes of all attributes; -1: depends on the data */
	int32_t sibling_at;   /* offset of DW_AT_sibling after the code, when fixed; -1 */
	uint8_t sibling_size; /* 1, 2, 4 or 8; 0: no DW_AT_sibling of fixed form */
	uint8_t kind;         /* enum silt_entry_kind */
	bool has_children;
	bool has_pc;          /* DW_AT_low_pc or DW_AT_ranges is among the attributes */
};

struct silt_abbrevs {
	SILT_VEC(struct silt_abbrev) entries;
	SILT_VEC(struct silt_attr) attrs;
	SILT_VEC(int64_t) implicit;
	struct silt_map by_code; /* only when codes are not 1, 2, 3 … */
	bool dense;
	bool has_code; /* some function among the entries has addresses */
	uint64_t key;
	bool used;
};

enum { SILT_ABBREV_SLOTS = 128 };

/** Tables read lately. All zero is an empty cache. */
struct silt_abbrev_cache {
	struct silt_abbrevs slots[SILT_ABBREV_SLOTS];
};

/** Sizes of forms that depend on the unit. */
struct silt_form_sizes {
	uint8_t address, offset;
	uint16_t version;
};

void silt_abbrev_cache_deinit(struct silt_abbrev_cache *cache);
/** The table at an offset of .debug_abbrev, or NULL when it is damaged or memory is out. It may be evicted by the next
 *  call with other arguments. */
const struct silt_abbrevs *silt_abbrevs_get(struct silt_abbrev_cache *cache, struct silt_bytes section, uint64_t offset,
					    struct silt_form_sizes sizes);

/** Behind silt_abbrev_find, for tables with gaps. */
const struct silt_abbrev *silt_abbrev_find_sparse(const struct silt_abbrevs *t, uint64_t code);

/** NULL for an unknown code. */
static inline const struct silt_abbrev *silt_abbrev_find(const struct silt_abbrevs *t, uint64_t code)
{
	if (t->dense)
		return code - 1 < t->entries.count ? &t->entries.items[code - 1] : NULL;
	return silt_abbrev_find_sparse(t, code);
}

/** Moves over one value of a form. */
void silt_form_skip(struct silt_cursor *c, uint16_t form, struct silt_form_sizes sizes);

/** Moves over one attribute value of an entry. */
static inline void silt_attr_skip(struct silt_cursor *c, const struct silt_attr *attr, struct silt_form_sizes sizes)
{
	if (attr->size >= 0)
		silt_cursor_skip(c, (uint64_t)attr->size);
	else
		silt_form_skip(c, attr->form, sizes);
}

/** Moves over all attributes of an entry. */
static inline void silt_abbrev_skip(struct silt_cursor *c, const struct silt_abbrevs *t, const struct silt_abbrev *a,
				    struct silt_form_sizes sizes)
{
	if (a->fixed_size >= 0) {
		silt_cursor_skip(c, (uint64_t)a->fixed_size);
		return;
	}
	for (unsigned i = 0; i < a->attr_count; i++)
		silt_attr_skip(c, &t->attrs.items[a->attr_first + i], sizes);
}

#endif
