/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing of everything that reads debug information: units, abbreviations, forms, functions, names, ranges, line tables,
 * by way of the worker that a parsing child runs. Input: sections, each its number (1 byte), its length (2 bytes) and its
 * bytes; the harness makes an ELF file of them.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "elf_forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct forge_section sections[FORGE_DWARF_SECTIONS];
	struct silt_writer w = {0};
	size_t n = 0;

	while (size >= 3 && n < FORGE_DWARF_SECTIONS) {
		size_t length = data[1] | (size_t)data[2] << 8;

		if (length > size - 3)
			length = size - 3;
		sections[n++] = (struct forge_section){.name = forge_dwarf_names[data[0] % FORGE_DWARF_SECTIONS],
						       .type = SHT_PROGBITS, .data = data + 3, .size = length};
		data += 3 + length;
		size -= 3 + length;
	}
	forge_elf(&w, sections, n);
	if (silt_writer_ok(&w))
		forge_parse(w.data, w.size);
	silt_writer_deinit(&w);
	return 0;
}

size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	static const struct { unsigned version; int indexed; } kinds[] = {{2, 0}, {3, 0}, {4, 0}, {5, 0}, {5, 1}};
	struct silt_writer sections[FORGE_DWARF_SECTIONS] = {{0}}, w = {0};

	if (i > sizeof(kinds) / sizeof(kinds[0]))
		return 0;
	if (i < sizeof(kinds) / sizeof(kinds[0]))
		forge_unit(sections, kinds[i].version, kinds[i].indexed);
	else
		forge_foreign_unit(sections);
	for (unsigned s = 0; s < FORGE_DWARF_SECTIONS; s++) {
		if (!sections[s].size)
			continue;
		silt_writer_u8(&w, (uint8_t)s);
		silt_writer_u16(&w, (uint16_t)sections[s].size);
		silt_writer_bytes(&w, sections[s].data, sections[s].size);
	}
	forge_free(sections);
	*ret = w.data;
	return w.size;
}
