/* SPDX-License-Identifier: MIT */
/* DWARF 5, 7.3.5.3: a hash table of ids, a table of row numbers beside it, then rows of offsets and rows of sizes. */
#include "symbols/package_index.h"

enum {
	MAX_COLUMNS = 16, /* eight sections are defined */
	/* Column numbers (7.3.5.3, table 7.1). GNU's version 2 has the same for these but for the last, which it lacks. */
	COLUMN_INFO = 1,
	COLUMN_ABBREV = 3,
	COLUMN_STR_OFFSETS = 6,
	COLUMN_RNGLISTS = 8,
};

struct table {
	struct silt_bytes section;
	uint32_t version, columns, rows, slots;
	uint64_t ids, row_numbers, names, offsets, sizes; /* where the tables begin */
};

static bool open_table(struct silt_bytes section, struct table *t)
{
	struct silt_cursor c = silt_cursor_at(section.data, section.size, 0);
	uint64_t end;

	t->section = section;
	/* Version 5 has 16 bits and 16 of padding, version 2 has 32. */
	t->version = silt_cursor_u32(&c) & UINT16_MAX;
	t->columns = silt_cursor_u32(&c);
	t->rows = silt_cursor_u32(&c);
	t->slots = silt_cursor_u32(&c);
	if (c.bad || (t->version != 2 && t->version != 5) || t->columns > MAX_COLUMNS || !t->slots || t->slots & (t->slots - 1))
		return false;
	t->ids = (uint64_t)(c.p - section.data);
	t->row_numbers = t->ids + 8ull * t->slots;
	t->names = t->row_numbers + 4ull * t->slots;
	t->offsets = t->names + 4ull * t->columns;
	t->sizes = t->offsets + 4ull * t->columns * t->rows;
	end = t->sizes + 4ull * t->columns * t->rows;
	return end <= section.size;
}

static uint32_t word_at(const struct table *t, uint64_t offset)
{
	struct silt_cursor c = silt_cursor_at(t->section.data, t->section.size, offset);

	return silt_cursor_u32(&c);
}

static uint64_t id_at(const struct table *t, uint32_t slot)
{
	struct silt_cursor c = silt_cursor_at(t->section.data, t->section.size, t->ids + 8ull * slot);

	return silt_cursor_u64(&c);
}

/* The row of an id, counted from 1; 0: none. */
static uint32_t find_row(const struct table *t, uint64_t id)
{
	uint32_t mask = t->slots - 1, slot = (uint32_t)id & mask, step = ((uint32_t)(id >> 32) & mask) | 1;

	for (uint32_t probes = 0; probes < t->slots; probes++, slot = (slot + step) & mask) {
		uint32_t row = word_at(t, t->row_numbers + 4ull * slot);

		if (!row)
			return 0;
		if (id_at(t, slot) == id)
			return row <= t->rows ? row : 0;
	}
	return 0;
}

bool silt_package_index_find(struct silt_bytes section, uint64_t id, struct silt_package_row *ret)
{
	struct silt_package_row found = {.info_size = 0};
	struct table t;
	uint32_t row;

	if (!open_table(section, &t) || !(row = find_row(&t, id)))
		return false;
	for (uint32_t i = 0; i < t.columns; i++) {
		uint64_t cell = 4ull * ((uint64_t)(row - 1) * t.columns + i);
		uint32_t offset = word_at(&t, t.offsets + cell);

		switch (word_at(&t, t.names + 4ull * i)) {
		case COLUMN_INFO:
			found.info = offset;
			found.info_size = word_at(&t, t.sizes + cell);
			break;
		case COLUMN_ABBREV:
			found.parts.abbrev = offset;
			break;
		case COLUMN_STR_OFFSETS:
			found.parts.str_offsets = offset;
			break;
		case COLUMN_RNGLISTS:
			/* Version 2 means .debug_macro by this number. */
			if (t.version >= 5)
				found.parts.rnglists = offset;
			break;
		default:
			break;
		}
	}
	*ret = found;
	return found.info_size > 0;
}
