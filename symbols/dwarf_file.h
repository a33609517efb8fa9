/* SPDX-License-Identifier: MIT */
/**
 * The DWARF of one file: its sections, its units, its abbreviations. Inside symbols/ only, and in parsing children only.
 *
 * Our own bounded decoders work on the mapped bytes, because libdwarf allocates per unit, entry, attribute and line row,
 * and a report may have to pass over hundreds of megabytes of them. libdwarf is asked for the units of files whose
 * headers are not understood here: a newer one may know them, and it can say what is wrong.
 *
 * Units are read when they are needed: one by its offset (an index names it), or all of them (no index knows an address,
 * or an entry refers to another unit).
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
	SILT_DW_GDB_INDEX,
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
	uint64_t ranges_base; /* of the ranges of the split unit's entries (before DWARF 5) */
	uint64_t dwo_id;
	uint16_t ranges_form;
	uint16_t tag;
	uint16_t language;
	bool has_children;
	bool has_dwo_id;
	const char *name, *comp_dir; /* NULL: none */
	const char *dwo_name;        /* the split file that holds the unit's entries, NULL: they are here */
};

/** Where a unit's part of shared sections begins: 0 everywhere but in .dwp files. */
struct silt_unit_parts {
	uint64_t abbrev, str_offsets, rnglists;
};

struct silt_unit {
	uint64_t offset, end; /* the header's first byte, one past the last entry, in .debug_info */
	uint64_t die;         /* the first entry */
	uint64_t abbrev;      /* offset in .debug_abbrev */
	uint16_t version;
	uint8_t address_size, offset_size;
	uint8_t type;         /* DW_UT_compile …; 0 before DWARF 5 */
	bool has_dwo_id;
	uint64_t dwo_id;      /* from the header of a DWARF 5 skeleton or split unit */
	struct silt_unit_parts parts;
	const struct silt_unit_root *skeleton; /* of a split unit: the entry in the program that refers to it */
	const struct silt_unit_root *root;
	struct silt_entry_places *places; /* entry_path.c */
};

struct silt_dwarf {
	struct silt_object *object;
	struct silt_dwarf *alt; /* dwz: the file that DW_FORM_GNU_ref_alt means; NULL: none */
	size_t info_number;     /* which section of that name is .debug_info */
	struct silt_dwarf *skeleton; /* of a .dwo or .dwp file: the program's DWARF, which has addresses and lines */
	const struct silt_span *code;
	size_t code_count;
	struct silt_bytes sections[SILT_DW_SECTIONS];
	bool loaded[SILT_DW_SECTIONS];
	SILT_VEC(struct silt_unit *) units; /* those read so far, by offset */
	bool listed; /* that is all of them */
	struct silt_abbrev_cache abbrevs;
	struct silt_error section_damage; /* the first section that is there and cannot be read; code 0: none so far */
	uint64_t passed; /* bytes that were read since pages were given back */
	struct silt_error damage; /* why the list of units is incomplete; code 0: it is complete */
	struct silt_entry_places *places; /* of all units (entry_path.c) */
	struct silt_arena *arena;
};

/** Borrows object, alt and code until destroy. SILT_E_NOT_FOUND without debug information, SILT_E_BAD_DATA when not even
 *  its first unit can be read. */
int silt_dwarf_create(struct silt_object *object, struct silt_dwarf *alt, const struct silt_span *code, size_t code_count,
		      struct silt_dwarf **ret, struct silt_error *err);
/** The same for a .dwo or .dwp file of the program whose DWARF is skeleton (borrowed). A .dwo file may have several
 *  .debug_info.dwo, one for each type unit: number says which, SILT_E_NOT_FOUND behind the last. */
int silt_dwarf_create_split(struct silt_object *object, struct silt_dwarf *skeleton, size_t number, struct silt_dwarf **ret,
			    struct silt_error *err);
void silt_dwarf_destroy(struct silt_dwarf *dw);

/** Decompresses what any reader of this object will need, shared out among the children of a module that work on it. */
void silt_dwarf_prepare(struct silt_object *object, bool split);
/** A section's bytes, loaded (and decompressed) on first use; data NULL where missing or damaged. */
struct silt_bytes silt_dwarf_section(struct silt_dwarf *dw, enum silt_dwarf_section id);
/** Reads the headers of all units (once); dw->damage says why some are missing. */
void silt_dwarf_list(struct silt_dwarf *dw);
/** The unit whose header begins at an offset of .debug_info, or NULL. Reads that one alone. */
struct silt_unit *silt_dwarf_unit_starting(struct silt_dwarf *dw, uint64_t offset);
/** The unit that holds an offset of .debug_info, or NULL. */
struct silt_unit *silt_dwarf_unit_at(struct silt_dwarf *dw, uint64_t offset);
/** Makes a unit of a .dwp file known, with the parts of sections that are its own. NULL when its header is damaged. */
struct silt_unit *silt_dwarf_add_unit(struct silt_dwarf *dw, uint64_t offset, const struct silt_unit_parts *parts);
/** The unit's own entry; NULL when it is damaged. */
const struct silt_unit_root *silt_unit_root(struct silt_dwarf *dw, struct silt_unit *u);
/** The unit's abbreviations; NULL when damaged. Valid until the next call for another unit. */
const struct silt_abbrevs *silt_unit_abbrevs(struct silt_dwarf *dw, const struct silt_unit *u);
/** A cursor over the unit, standing at an offset of .debug_info. */
struct silt_cursor silt_unit_cursor(struct silt_dwarf *dw, const struct silt_unit *u, uint64_t offset);
/** False for addresses that cannot be code: what a linker leaves behind of discarded functions (0, 1, -1, -2). */
bool silt_dwarf_is_code(const struct silt_dwarf *dw, uint64_t address);

/** Tells that bytes of the file were read. Now and then its pages are given back: a large program's file would be in memory
 *  as a whole in the end, once for each child. Pointers into sections stay valid. */
void silt_dwarf_passed(struct silt_dwarf *dw, uint64_t bytes);

/** One unit header (units.c). False when there is none, or none that is understood; what the unit's first entry says is
 *  not looked at. */
bool silt_unit_header_read(struct silt_dwarf *dw, uint64_t offset, struct silt_unit *ret);
/** All units by libdwarf (units.c), for those whose headers silt_unit_header_read does not understand. Appends to
 *  dw->units those at or behind `from`. */
int silt_units_read_foreign(struct silt_dwarf *dw, uint64_t from, struct silt_error *err);

#endif
