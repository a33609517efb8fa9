/* SPDX-License-Identifier: MIT */
/** The little of ELF that capture needs: no DWARF, no libdwarf. Built as a library of its own (silt_elf). */
#ifndef SILT_SYMBOLS_ELF_READER_H
#define SILT_SYMBOLS_ELF_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct silt_elf_info {
	uint16_t machine;       /* EM_X86_64 … */
	uint8_t elf_class;      /* 32 or 64 */
	uint16_t type;          /* ET_EXEC, ET_DYN … */
	bool has_interp;        /* dynamically linked program */
	char interp[256];       /* "/lib64/ld-linux-x86-64.so.2" */
	bool has_dynamic;
	uint8_t build_id[64];
	size_t build_id_len;
	uint64_t first_load_vaddr; /* p_vaddr of the first PT_LOAD, page-aligned down */
	char needed[64][64];       /* DT_NEEDED names, as many as fit */
	size_t needed_count;
	bool exports_malloc;       /* .dynsym or .symtab defines malloc */
};

/** Reads headers, notes and the dynamic section of a file. Any damage is an error, never a crash. */
int silt_elf_inspect(const char *path, struct silt_elf_info *ret, struct silt_error *err);
int silt_elf_inspect_fd(int fd, const char *name, struct silt_elf_info *ret, struct silt_error *err);
/** The same without a look through the symbol tables: exports_malloc stays false. For large files. */
int silt_elf_identify(const char *path, struct silt_elf_info *ret, struct silt_error *err);
int silt_elf_identify_fd(int fd, const char *name, struct silt_elf_info *ret, struct silt_error *err);
/** Both of a file image in memory. */
int silt_elf_inspect_memory(const void *bytes, size_t size, const char *name, struct silt_elf_info *ret, struct silt_error *err);
int silt_elf_identify_memory(const void *bytes, size_t size, const char *name, struct silt_elf_info *ret, struct silt_error *err);
/** Finds a build-id in the bytes of a PT_NOTE segment (any alignment 4 or 8). Returns its length or 0. */
size_t silt_elf_note_build_id(const void *note, size_t size, size_t align, uint8_t ret[64]);

#endif
