/* SPDX-License-Identifier: MIT */
/** Symbols of a file that is mapped into the target, looked up by name in the file. Nothing in it is believed. */
#ifndef SILT_CAPTURE_TARGET_ELF_VIEW_H
#define SILT_CAPTURE_TARGET_ELF_VIEW_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct silt_elf_table {
	const uint8_t *symbols;
	uint64_t count;
	const char *strings;
	uint64_t strings_size;
	const uint8_t *versions; /* .gnu.version, NULL: none */
};

struct silt_elf_view {
	const uint8_t *bytes; /* the file, mapped */
	uint64_t size;
	const Elf64_Ehdr *header;
	const Elf64_Phdr *segments;
	struct silt_elf_table dynamic, full; /* .dynsym, .symtab; count 0: none */
	uint64_t eh_frame; /* address of .eh_frame when it ends with a terminator, 0: none */
};

struct silt_elf_symbol {
	uint64_t value, size;
	uint8_t type, bind; /* STT_*, STB_* */
};

/** Maps the file behind fd (which may be closed afterwards). */
int silt_elf_view_open(int fd, const char *name, struct silt_elf_view *ret, struct silt_error *err);
void silt_elf_view_close(struct silt_elf_view *v);
/** A definition of name in a table; the default version before others. */
bool silt_elf_view_find(const struct silt_elf_table *t, const char *name, struct silt_elf_symbol *ret);
/** The name of an allocation function that allocators have where they are linked in beside the C library's (jemalloc's prefixes, mimalloc);
 *  NULL: none. Such a function is called by the program alone. */
const char *silt_elf_view_private_malloc(const struct silt_elf_view *v);
/** For many names at once: calls found for every definition in the table, in its order. */
void silt_elf_view_each(const struct silt_elf_table *t,
			void (*found)(void *data, const char *name, const struct silt_elf_symbol *symbol, bool hidden_version),
			void *data);
/** size bytes of the file at virtual address vaddr; NULL when no segment's file part holds them. */
const uint8_t *silt_elf_view_at(const struct silt_elf_view *v, uint64_t vaddr, uint64_t size);

#endif
