/* SPDX-License-Identifier: MIT */
/* Small ELF files and DWARF sections, byte by byte: the seeds of the fuzz targets of symbols/, and the frame they are put in. */
#ifndef SILT_TESTS_FUZZ_ELF_FORGE_H
#define SILT_TESTS_FUZZ_ELF_FORGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/writer.h"

enum { FORGE_TEXT = 0x1000, FORGE_TEXT_SIZE = 0x1000 }; /* where the code of every forged file is */

struct forge_section {
	const char *name;
	uint32_t type, link; /* SHT_…; the number of another section */
	uint64_t flags;
	const void *data;
	size_t size;
};

/** Appends an ELF file of 64 bits: an executable segment, .text as section 1 without bytes, then these. */
void forge_elf(struct silt_writer *w, const struct forge_section *sections, size_t count);

/** The sections that a forged unit consists of. */
enum forge_dwarf {
	FORGE_INFO,
	FORGE_ABBREV,
	FORGE_STR,
	FORGE_LINE,
	FORGE_LINE_STR,
	FORGE_RANGES,
	FORGE_RNGLISTS,
	FORGE_ADDR,
	FORGE_STR_OFFSETS,
	FORGE_ARANGES,
	FORGE_NAMES,
	FORGE_GDB_INDEX,
	FORGE_DWARF_SECTIONS,
};
extern const char *const forge_dwarf_names[FORGE_DWARF_SECTIONS];

/** One unit of DWARF 2 to 5 with a namespace, functions, inlined calls, ranges and lines; indexed: strings and addresses by
 *  index, as in split DWARF (5 only). The writers are empty before; free them with forge_free. */
void forge_unit(struct silt_writer sections[FORGE_DWARF_SECTIONS], unsigned version, int indexed);
/** A unit that silt leaves to libdwarf (its addresses have 7 bytes), with an attribute whose form is given in the entry, as a
 *  number that does not end before the unit does. */
void forge_foreign_unit(struct silt_writer sections[FORGE_DWARF_SECTIONS]);
void forge_free(struct silt_writer sections[FORGE_DWARF_SECTIONS]);

/** Hands an ELF file to the parser, as a child would, with addresses all over FORGE_TEXT. */
void forge_parse(const uint8_t *elf, size_t size);

#endif
