/* SPDX-License-Identifier: MIT */
/*
 * One unit of DWARF, written by hand after the standard: sections 7.5 (entries), 6.2 (line tables), 7.25 and 7.28 (range
 * lists). Offsets that are known only later are written as zero and put in afterwards.
 */
#include <string.h>

#include "elf_forge.h"

/* The few numbers of the standard that are used here: libdwarf's and libdw's dwarf.h are not the same everywhere. */
enum {
	TAG_LEXICAL_BLOCK = 0x0b, TAG_COMPILE_UNIT = 0x11, TAG_INLINED = 0x1d, TAG_SUBPROGRAM = 0x2e, TAG_NAMESPACE = 0x39,
	AT_SIBLING = 1, AT_NAME = 3, AT_STMT_LIST = 0x10, AT_LOW_PC = 0x11, AT_HIGH_PC = 0x12, AT_LANGUAGE = 0x13, AT_COMP_DIR = 0x1b,
	AT_INLINE = 0x20, AT_ABSTRACT_ORIGIN = 0x31, AT_EXTERNAL = 0x3f, AT_RANGES = 0x55, AT_CALL_COLUMN = 0x57, AT_CALL_FILE = 0x58,
	AT_CALL_LINE = 0x59, AT_LINKAGE_NAME = 0x6e, AT_STR_OFFSETS_BASE = 0x72, AT_ADDR_BASE = 0x73, AT_RNGLISTS_BASE = 0x74,
	FORM_ADDR = 1, FORM_DATA2 = 5, FORM_DATA4 = 6, FORM_STRING = 8, FORM_DATA1 = 0x0b, FORM_FLAG = 0x0c, FORM_STRP = 0x0e,
	FORM_UDATA = 0x0f, FORM_REF4 = 0x13, FORM_INDIRECT = 0x16, FORM_SEC_OFFSET = 0x17, FORM_ADDRX = 0x1b, FORM_LINE_STRP = 0x1f,
	FORM_IMPLICIT_CONST = 0x21, FORM_RNGLISTX = 0x23, FORM_STRX1 = 0x25,
	LANG_CPP = 4,
};

const char *const forge_dwarf_names[FORGE_DWARF_SECTIONS] = {
	[FORGE_INFO] = ".debug_info", [FORGE_ABBREV] = ".debug_abbrev", [FORGE_STR] = ".debug_str", [FORGE_LINE] = ".debug_line",
	[FORGE_LINE_STR] = ".debug_line_str", [FORGE_RANGES] = ".debug_ranges", [FORGE_RNGLISTS] = ".debug_rnglists",
	[FORGE_ADDR] = ".debug_addr", [FORGE_STR_OFFSETS] = ".debug_str_offsets", [FORGE_ARANGES] = ".debug_aranges",
	[FORGE_NAMES] = ".debug_names", [FORGE_GDB_INDEX] = ".gdb_index"};

static void put_u32(struct silt_writer *w, size_t at, uint64_t value)
{
	uint32_t v = (uint32_t)value;

	if (silt_writer_ok(w))
		memcpy(w->data + at, &v, 4);
}

static void text(struct silt_writer *w, const char *s)
{
	silt_writer_bytes(w, s, strlen(s) + 1);
}

/* An abbreviation: its tag, whether it has children, then name and form of each attribute up to 0. */
static void abbrev(struct silt_writer *w, unsigned code, unsigned tag, int children, const unsigned *attrs)
{
	silt_writer_varint(w, code);
	silt_writer_varint(w, tag);
	silt_writer_u8(w, (uint8_t)children);
	for (; *attrs; attrs += 2) {
		silt_writer_varint(w, attrs[0]);
		silt_writer_varint(w, attrs[1]);
		if (attrs[1] == FORM_IMPLICIT_CONST)
			silt_writer_u8(w, 7);
	}
	silt_writer_u16(w, 0);
}

struct shape {
	unsigned version, name, pc, size, offset, ranges;
};

static void abbrevs(struct silt_writer *w, const struct shape *s, int indexed)
{
	unsigned unit[] = {AT_NAME, s->name, AT_LANGUAGE, FORM_DATA1, AT_STMT_LIST, s->offset, AT_COMP_DIR,
			   s->version >= 5 ? FORM_LINE_STRP : FORM_STRP, AT_LOW_PC, s->pc, AT_HIGH_PC, s->size,
			   indexed ? AT_STR_OFFSETS_BASE : 0, s->offset, AT_ADDR_BASE, s->offset, AT_RNGLISTS_BASE, s->offset, 0};
	unsigned space[] = {AT_NAME, s->name, 0};
	unsigned function[] = {AT_SIBLING, FORM_REF4, AT_EXTERNAL, FORM_FLAG, AT_NAME, s->name, AT_LINKAGE_NAME, FORM_STRP, AT_LOW_PC,
			       s->pc, AT_HIGH_PC, s->size, 0};
	unsigned abstract[] = {AT_NAME, s->name, AT_INLINE, s->version >= 5 ? FORM_IMPLICIT_CONST : FORM_DATA1, 0};
	unsigned block[] = {AT_RANGES, s->ranges, 0};
	unsigned inlined[] = {AT_ABSTRACT_ORIGIN, FORM_REF4, AT_LOW_PC, s->pc, AT_HIGH_PC, s->size, AT_CALL_FILE, FORM_DATA1,
			      AT_CALL_LINE, FORM_UDATA, AT_CALL_COLUMN, FORM_DATA2, 0};

	abbrev(w, 1, TAG_COMPILE_UNIT, 1, unit);
	abbrev(w, 2, TAG_NAMESPACE, 1, space);
	abbrev(w, 3, TAG_SUBPROGRAM, 1, function);
	abbrev(w, 4, TAG_SUBPROGRAM, 0, abstract);
	abbrev(w, 5, TAG_LEXICAL_BLOCK, 1, block);
	abbrev(w, 6, TAG_INLINED, 0, inlined);
	silt_writer_u8(w, 0);
}

static void name(struct silt_writer *sections, const struct shape *s, const char *what)
{
	if (s->name == FORM_STRING) {
		text(&sections[FORGE_INFO], what);
		return;
	}
	/* 8 bytes of header, then one offset for each string. */
	silt_writer_u8(&sections[FORGE_INFO], (uint8_t)((sections[FORGE_STR_OFFSETS].size - 8) / 4));
	silt_writer_u32(&sections[FORGE_STR_OFFSETS], (uint32_t)sections[FORGE_STR].size);
	text(&sections[FORGE_STR], what);
}

static void span(struct silt_writer *sections, const struct shape *s, uint64_t low, uint32_t size)
{
	struct silt_writer *info = &sections[FORGE_INFO], *addr = &sections[FORGE_ADDR];

	if (s->pc == FORM_ADDR) {
		silt_writer_u64(info, low);
	} else {
		silt_writer_u8(info, (uint8_t)((addr->size - 8) / 8));
		silt_writer_u64(addr, low);
	}
	if (s->size == FORM_ADDR)
		silt_writer_u64(info, low + size);
	else
		silt_writer_u32(info, size);
}

static void ranges(struct silt_writer *sections, const struct shape *s)
{
	struct silt_writer *old = &sections[FORGE_RANGES], *new = &sections[FORGE_RNGLISTS];

	for (uint64_t i = 0; i < 3; i++) {
		silt_writer_u64(old, 0x40 + i * 0x20);
		silt_writer_u64(old, 0x50 + i * 0x20);
	}
	silt_writer_u64(old, 0);
	silt_writer_u64(old, 0);
	/* Header, one offset, then: base address, offset pairs, start and length, end. */
	silt_writer_u32(new, 0);
	silt_writer_u16(new, 5);
	silt_writer_u16(new, 8);
	silt_writer_u32(new, 1);
	silt_writer_u32(new, 4);
	silt_writer_u8(new, 5);
	silt_writer_u64(new, FORGE_TEXT);
	silt_writer_bytes(new, "\4\x40\x50\4\x60\x70", 6);
	silt_writer_u8(new, 7);
	silt_writer_u64(new, FORGE_TEXT + 0x80);
	silt_writer_bytes(new, "\x10", 2);
	put_u32(new, 0, new->size - 4);
	if (s->ranges == FORM_RNGLISTX)
		silt_writer_u8(&sections[FORGE_INFO], 0);
	else
		silt_writer_u32(&sections[FORGE_INFO], s->version >= 5 ? 16 : 0);
}

static void unit_header(struct silt_writer *info, unsigned version)
{
	silt_writer_u32(info, 0);
	silt_writer_u16(info, (uint16_t)version);
	if (version >= 5) {
		silt_writer_u8(info, 1);
		silt_writer_u8(info, 8);
		silt_writer_u32(info, 0);
	} else {
		silt_writer_u32(info, 0);
		silt_writer_u8(info, 8);
	}
}

static void entries(struct silt_writer *sections, const struct shape *s, int indexed)
{
	struct silt_writer *info = &sections[FORGE_INFO], *str = &sections[FORGE_STR];
	size_t sibling, origin;

	unit_header(info, s->version);
	silt_writer_u8(info, 1);
	name(sections, s, "unit.cpp");
	silt_writer_u8(info, LANG_CPP);
	silt_writer_u32(info, 0);
	silt_writer_u32(info, s->version >= 5 ? 0 : (uint32_t)str->size);
	text(&sections[s->version >= 5 ? FORGE_LINE_STR : FORGE_STR], "/source");
	span(sections, s, FORGE_TEXT, 0x200);
	for (int i = 0; i < 3 && indexed; i++)
		silt_writer_u32(info, i == 2 ? 12 : 8);
	silt_writer_u8(info, 2);
	name(sections, s, "space");
	origin = info->size;
	silt_writer_u8(info, 4);
	name(sections, s, "helper");
	if (s->version < 5)
		silt_writer_u8(info, 1);
	silt_writer_u8(info, 3);
	sibling = info->size;
	silt_writer_u32(info, 0);
	silt_writer_u8(info, 1);
	name(sections, s, "outer");
	silt_writer_u32(info, (uint32_t)str->size);
	text(str, "_ZN5space5outerEv");
	span(sections, s, FORGE_TEXT, 0x100);
	silt_writer_u8(info, 5);
	ranges(sections, s);
	silt_writer_u8(info, 6);
	silt_writer_u32(info, (uint32_t)origin);
	span(sections, s, FORGE_TEXT + 0x48, 8);
	silt_writer_u8(info, 1);
	silt_writer_u8(info, 42);
	silt_writer_u16(info, 3);
	silt_writer_u16(info, 0); /* ends of the block and of the function */
	put_u32(info, sibling, info->size);
	silt_writer_u16(info, 0); /* ends of the namespace and of the unit */
	put_u32(info, 0, info->size - 4);
}

static void file_table(struct silt_writer *line, struct silt_writer *line_str, unsigned version)
{
	if (version < 5) {
		text(line, "include");
		silt_writer_u8(line, 0);
		text(line, "unit.cpp");
		silt_writer_bytes(line, "\0\0", 3);
		text(line, "helper.h");
		silt_writer_bytes(line, "\1\0", 3);
		silt_writer_u8(line, 0);
		return;
	}
	silt_writer_bytes(line, "\1\1\x1f\2", 4); /* one form: path as line_strp; two directories */
	silt_writer_u32(line, 0);
	silt_writer_u32(line, (uint32_t)line_str->size);
	text(line_str, "include");
	silt_writer_bytes(line, "\2\1\x1f\2\x0b\2", 6); /* path as line_strp, directory as data1; two files */
	silt_writer_u32(line, (uint32_t)line_str->size);
	text(line_str, "unit.cpp");
	silt_writer_u8(line, 0);
	silt_writer_u32(line, (uint32_t)line_str->size);
	text(line_str, "helper.h");
	silt_writer_u8(line, 1);
}

static void line_table(struct silt_writer *line, struct silt_writer *line_str, unsigned version)
{
	static const uint8_t operands[] = {0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1};
	/* advance_line 9, copy, advance_pc 0x20, set_file 2, special, const_add_pc, set_column 5, negate_stmt, special,
	 * fixed_advance_pc 0x80, set_prologue_end, set_isa 0, copy, set_discriminator, advance_pc, end_sequence */
	static const uint8_t program[] = {3, 9, 1, 2, 0x20, 4, 2, 0x4b, 8, 5, 5, 6, 0x83, 9, 0x80, 0, 10, 12, 0, 1, 0, 2, 4, 3,
					  2, 0x40, 0, 1, 1};
	size_t header;

	silt_writer_u32(line, 0);
	silt_writer_u16(line, (uint16_t)version);
	if (version >= 5)
		silt_writer_bytes(line, "\x8", 2);
	header = line->size;
	silt_writer_u32(line, 0);
	silt_writer_u8(line, 1);
	if (version >= 4)
		silt_writer_u8(line, 1);
	silt_writer_bytes(line, "\1\xfb\xe\xd", 4); /* default_is_stmt, line_base -5, line_range 14, opcode_base 13 */
	silt_writer_bytes(line, operands, sizeof(operands));
	file_table(line, line_str, version);
	put_u32(line, header, line->size - header - 4);
	silt_writer_bytes(line, "\0\x9\2", 3);
	silt_writer_u64(line, FORGE_TEXT);
	silt_writer_bytes(line, program, sizeof(program));
	put_u32(line, 0, line->size - 4);
}

static void aranges(struct silt_writer *w)
{
	silt_writer_u32(w, 0x2c);
	silt_writer_u16(w, 2);
	silt_writer_u32(w, 0);
	silt_writer_u16(w, 8);
	silt_writer_u32(w, 0);
	silt_writer_u64(w, FORGE_TEXT);
	silt_writer_u64(w, 0x200);
	silt_writer_u64(w, 0);
	silt_writer_u64(w, 0);
}

void forge_unit(struct silt_writer sections[FORGE_DWARF_SECTIONS], unsigned version, int indexed)
{
	struct shape s = {version, indexed ? FORM_STRX1 : FORM_STRING, indexed ? FORM_ADDRX : FORM_ADDR,
			  version >= 4 ? FORM_DATA4 : FORM_ADDR, version >= 4 ? FORM_SEC_OFFSET : FORM_DATA4,
			  indexed ? FORM_RNGLISTX : version >= 4 ? FORM_SEC_OFFSET : FORM_DATA4};

	silt_writer_u64(&sections[FORGE_STR_OFFSETS], 5ull << 32);
	silt_writer_u64(&sections[FORGE_ADDR], (8ull << 16 | 5) << 32);
	abbrevs(&sections[FORGE_ABBREV], &s, indexed);
	entries(sections, &s, indexed);
	line_table(&sections[FORGE_LINE], &sections[FORGE_LINE_STR], version);
	aranges(&sections[FORGE_ARANGES]);
	put_u32(&sections[FORGE_STR_OFFSETS], 0, sections[FORGE_STR_OFFSETS].size - 4);
	put_u32(&sections[FORGE_ADDR], 0, sections[FORGE_ADDR].size - 4);
}

void forge_foreign_unit(struct silt_writer sections[FORGE_DWARF_SECTIONS])
{
	static const unsigned attrs[] = {AT_NAME, FORM_INDIRECT, 0};
	struct silt_writer *info = &sections[FORGE_INFO];

	abbrev(&sections[FORGE_ABBREV], 1, TAG_COMPILE_UNIT, 0, attrs);
	silt_writer_u8(&sections[FORGE_ABBREV], 0);
	unit_header(info, 4);
	if (silt_writer_ok(info))
		info->data[info->size - 1] = 7; /* the size of an address */
	silt_writer_u8(info, 1);
	for (int i = 0; i < 24; i++)
		silt_writer_u8(info, 0x94); /* a number that goes on */
	put_u32(info, 0, info->size - 4);
}

void forge_free(struct silt_writer sections[FORGE_DWARF_SECTIONS])
{
	for (int i = 0; i < FORGE_DWARF_SECTIONS; i++)
		silt_writer_deinit(&sections[i]);
}
