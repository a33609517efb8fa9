/* SPDX-License-Identifier: MIT */
/**
 * The DWARF of one file: its sections, its units, its abbreviations. Inside symbols/ only, and in parsing children only.
 *
 * Who does what: libdwarf enumerates the units (headers of every version, type and split units, damage included);
 * below a unit header our own bounded decoders work on the mapped bytes, because libdwarf allocates per entry, per
 * attribute and per line row, and a report may have to pass over hundreds of megabytes of them.
 */
#ifndef SILT_SYMBOLS_DWARF_FILE_H
#define SILT_SYMBOLS_DWARF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/vec.h"
#include "symbols/abbrev.h"
#include "symbols/object.h"

enum silt_dwarf_section {
	SILT_DW_INFO,
	SILT_DW_ABBREV,
	SILT_DW_STR,
	SILT_DW_LINE,
	SILT_DW_LINE_STR,
	SILT_DW_RANGES,
	SILT_DW_RNGLISTS,
	SILT_DW_ADDR,
	SILT_DW_STR_OFFSETS,
	SILT_DW_ARANGES,
	SILT_DW_SECTIONS,
};

#define SILT_DW_NONE UINT64_MAX

/** What the unit's own entry says; read when first needed. */
struct silt_unit_root {
	uint64_t low_pc;
	uint64_t high_pc;   /* end of [low_pc, high_pc), 0: none */
	uint64_t line;      /* offset in .debug_line, SILT_DW_NONE: none */
	uint64_t str_offsets_base, addr_base, rnglists_base;
	uint64_t ranges;    /* value of DW_AT_ranges; SILT_DW_NONE: none */
	uint16_t ranges_form;
	uint16_t language;
	bool has_children;
	const char *name, *comp_dir; /* NULL: none */
};

struct silt_unit {
	uint64_t offset, end; /* the header's first byte, one past the last entry, in .debug_info */
	uint64_t die;         /* the first entry */
	uint64_t abbrev;      /* offset in .debug_abbrev */
	uint16_t version;
	uint8_t address_size, offset_size;
	uint8_t type;         /* DW_UT_compile …; 0 before DWARF 5 */
	const struct silt_unit_root *root;
};

struct silt_dwarf {
	struct silt_object *object;
	struct silt_dwarf *alt; /* dwz: the file that DW_FORM_GNU_ref_alt means; NULL: none */
	const struct silt_span *code;
	size_t code_count;
	struct silt_bytes sections[SILT_DW_SECTIONS];
	bool loaded[SILT_DW_SECTIONS];
	SILT_VEC(struct silt_unit) units; /* by offset */
	struct silt_abbrev_cache abbrevs;
	struct silt_error section_damage; /* the first section that is there and cannot be read; code 0: none so far */
	struct silt_error damage; /* why the list of units is incomplete; code 0: it is complete */
	struct silt_arena *arena;
};

/** Reads the list of units. Borrows object, alt and code until destroy. */
int silt_dwarf_create(struct silt_object *object, struct silt_dwarf *alt, const struct silt_span *code, size_t code_count,
		      struct silt_dwarf **ret, struct silt_error *err);
void silt_dwarf_destroy(struct silt_dwarf *dw);

/** A section's bytes, loaded (and decompressed) on first use; data NULL where missing or damaged. */
struct silt_bytes silt_dwarf_section(struct silt_dwarf *dw, enum silt_dwarf_section id);
/** The unit that holds an offset of .debug_info, or NULL. */
struct silt_unit *silt_dwarf_unit_at(struct silt_dwarf *dw, uint64_t offset);
/** The unit's own entry; NULL when it is damaged. */
const struct silt_unit_root *silt_unit_root(struct silt_dwarf *dw, struct silt_unit *u);
/** The unit's abbreviations; NULL when damaged. Valid until the next call for another unit. */
const struct silt_abbrevs *silt_unit_abbrevs(struct silt_dwarf *dw, const struct silt_unit *u);
/** A cursor over the unit, standing at an offset of .debug_info. */
struct silt_cursor silt_unit_cursor(struct silt_dwarf *dw, const struct silt_unit *u, uint64_t offset);
/** False for addresses that cannot be code: what a linker leaves behind of discarded functions (0, 1, -1, -2). */
bool silt_dwarf_is_code(const struct silt_dwarf *dw, uint64_t address);

/** Units by libdwarf (units.c): fills dw->units. */
int silt_units_read(struct silt_dwarf *dw, struct silt_error *err);

#endif
