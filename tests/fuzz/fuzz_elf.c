/* SPDX-License-Identifier: MIT */
/* Fuzzing of the readers of ELF files: headers, notes, dynamic section; sections with their decompression, symbols. */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#include "driver.h"
#include "elf_forge.h"
#include "symbols/elf_reader.h"
#include "symbols/object.h"

static void count_symbol(void *data, const struct silt_elf_symbol *s)
{
	*(size_t *)data += strlen(s->name) + s->size;
}

static void read_object(struct silt_object *o)
{
	struct silt_bytes bytes;
	struct silt_span span;
	size_t sum = 0, count;

	for (unsigned i = 0; i < FORGE_DWARF_SECTIONS; i++)
		if (silt_object_has(o, forge_dwarf_names[i]) && !silt_object_section(o, forge_dwarf_names[i], &bytes, NULL))
			for (size_t k = 0; k < bytes.size; k += 64)
				sum += bytes.data[k];
	silt_object_symbols(o, false, count_symbol, &sum);
	silt_object_symbols(o, true, count_symbol, &sum);
	silt_object_code(o, &count);
	for (uint32_t i = 0; i < 64; i++)
		sum += silt_object_section_span(o, i, &span);
	*(volatile size_t *)&sum = sum + silt_object_crc(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct silt_elf_info info;
	struct silt_object *o;
	uint8_t *copy;

	(void)silt_elf_inspect_memory(data, size, "input", &info, NULL);
	if (!size)
		return 0;
	copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return 0;
	memcpy(copy, data, size);
	if (silt_object_create_memory("input", copy, size, size, &o, NULL) == SILT_OK) {
		read_object(o);
		silt_object_destroy(o);
	}
	return 0;
}

static void symbol(struct silt_writer *w, uint32_t name, uint8_t info, uint64_t value, uint64_t size)
{
	silt_writer_u32(w, name);
	silt_writer_u8(w, info);
	silt_writer_u8(w, 0);
	silt_writer_u16(w, 1);
	silt_writer_u64(w, value);
	silt_writer_u64(w, size);
}

/* SHF_COMPRESSED or .zdebug: header, then 4096 bytes of nothing. */
static void compressed(struct silt_writer *w, int how)
{
	static const uint8_t nothing[4096];
	uint8_t out[8192];
	uLongf n = sizeof(out);

	if (how == 3) {
		silt_writer_bytes(w, "ZLIB\0\0\0\0\0\0\x10", 12);
	} else {
		silt_writer_u32(w, (uint32_t)how);
		silt_writer_u32(w, 0);
		silt_writer_u64(w, sizeof(nothing));
		silt_writer_u64(w, 1);
	}
	if (how == 2)
		n = (uLongf)ZSTD_compress(out, sizeof(out), nothing, sizeof(nothing), 3);
	else
		compress(out, &n, nothing, sizeof(nothing));
	silt_writer_bytes(w, out, n);
}

size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	static const uint8_t note[] = {4, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0, 0xab, 0xcd, 0xef, 1};
	static const char strings[] = "\0first\0second\0malloc\0libc.so.6";
	struct silt_writer w = {0}, symbols = {0}, packed = {0};

	if (i >= 4)
		return 0;
	symbol(&symbols, 0, 0, 0, 0);
	symbol(&symbols, 1, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), FORGE_TEXT, 64);
	symbol(&symbols, 7, ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE), FORGE_TEXT + 64, 0);
	symbol(&symbols, 14, ELF64_ST_INFO(STB_WEAK, STT_GNU_IFUNC), FORGE_TEXT + 128, 8);
	if (i)
		compressed(&packed, (int)i);
	struct forge_section sections[] = {
		{i & 1 ? ".symtab" : ".dynsym", i & 1 ? SHT_SYMTAB : SHT_DYNSYM, 3, 0, symbols.data, symbols.size},
		{".strtab", SHT_STRTAB, 0, 0, strings, sizeof(strings)},
		{".note.gnu.build-id", SHT_NOTE, 0, SHF_ALLOC, note, sizeof(note)},
		{i == 3 ? ".zdebug_info" : ".debug_info", SHT_PROGBITS, 0, i && i < 3 ? SHF_COMPRESSED : 0, packed.data, packed.size},
	};

	forge_elf(&w, sections, sizeof(sections) / sizeof(sections[0]));
	silt_writer_deinit(&symbols);
	silt_writer_deinit(&packed);
	*ret = w.data;
	return w.size;
}
