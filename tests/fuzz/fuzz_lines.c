/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing of line tables. Input: 2 bytes, the length of .debug_line_str; those bytes; the rest is .debug_line, which a sound
 * unit refers to.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "elf_forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct silt_writer unit[FORGE_DWARF_SECTIONS];
	struct silt_writer w = {0};
	size_t strings;

	if (size < 2)
		return 0;
	strings = data[0] | (size_t)data[1] << 8;
	data += 2;
	size -= 2;
	if (strings > size)
		strings = size;
	if (!unit[FORGE_INFO].size)
		forge_unit(unit, 4, 0);
	struct forge_section sections[] = {
		{".debug_info", SHT_PROGBITS, 0, 0, unit[FORGE_INFO].data, unit[FORGE_INFO].size},
		{".debug_abbrev", SHT_PROGBITS, 0, 0, unit[FORGE_ABBREV].data, unit[FORGE_ABBREV].size},
		{".debug_str", SHT_PROGBITS, 0, 0, unit[FORGE_STR].data, unit[FORGE_STR].size},
		{".debug_line_str", SHT_PROGBITS, 0, 0, data, strings},
		{".debug_line", SHT_PROGBITS, 0, 0, data + strings, size - strings},
	};

	forge_elf(&w, sections, sizeof(sections) / sizeof(sections[0]));
	if (silt_writer_ok(&w))
		forge_parse(w.data, w.size);
	silt_writer_deinit(&w);
	return 0;
}

size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	struct silt_writer sections[FORGE_DWARF_SECTIONS] = {{0}}, w = {0};

	if (i >= 4)
		return 0;
	forge_unit(sections, i + 2, 0);
	silt_writer_u16(&w, (uint16_t)sections[FORGE_LINE_STR].size);
	silt_writer_bytes(&w, sections[FORGE_LINE_STR].data, sections[FORGE_LINE_STR].size);
	silt_writer_bytes(&w, sections[FORGE_LINE].data, sections[FORGE_LINE].size);
	forge_free(sections);
	*ret = w.data;
	return w.size;
}
