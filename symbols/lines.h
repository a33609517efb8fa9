/* SPDX-License-Identifier: MIT */
/** Line number programs (.debug_line, DWARF 2 to 5): rows for given addresses, and the file table. */
#ifndef SILT_SYMBOLS_LINES_H
#define SILT_SYMBOLS_LINES_H

#include "symbols/dwarf_file.h"

struct silt_line_file {
	const char *name;
	uint64_t dir;
};

/** All zero is an empty one; silt_lines_open may be called again and again on the same. */
struct silt_lines {
	struct silt_dwarf *dw;
	uint16_t version;
	uint8_t offset_size, address_size;
	uint8_t min_instruction, line_range, opcode_base;
	int8_t line_base;
	const uint8_t *operand_counts; /* opcode_base - 1 of them */
	struct silt_cursor program;
	const char *comp_dir; /* of the unit, NULL unknown */
	SILT_VEC(const char *) dirs;
	SILT_VEC(struct silt_line_file) files;
};

struct silt_row {
	bool found;
	uint32_t file, line, column;
	uint32_t discriminator; /* which of several blocks on the line; 0: the only one, or the compiler did not say */
};

void silt_lines_deinit(struct silt_lines *l);
/** Reads the header of the unit's line program. SILT_E_NOT_FOUND when the unit has none. */
int silt_lines_open(struct silt_lines *l, struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
		    struct silt_error *err);
/** Runs the program once and fills the row of each of n sorted addresses. */
void silt_lines_find(struct silt_lines *l, const uint64_t *pcs, size_t n, struct silt_row *ret);
/** The path a file number stands for, built in buffer; false when unknown or too long. */
bool silt_lines_path(const struct silt_lines *l, uint32_t file, char *buffer, size_t size);

#endif
