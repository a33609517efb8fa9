/* SPDX-License-Identifier: MIT */
/**
 * One ELF file, mapped read-only or in memory: sections as plain bytes (decompressed when needed), segments,
 * symbols.
 *
 * For use in a parsing child only: a file that is cut short while it is mapped raises SIGBUS.
 */
#ifndef SILT_SYMBOLS_OBJECT_H
#define SILT_SYMBOLS_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/vec.h"
#include "symbols/share.h"

struct silt_object;

struct silt_bytes {
	const uint8_t *data; /* NULL: none */
	size_t size;
};

struct silt_span {
	uint64_t start, end;
};

enum silt_symbol_rank { SILT_SYMBOL_LOCAL, SILT_SYMBOL_WEAK, SILT_SYMBOL_GLOBAL };

struct silt_elf_symbol {
	uint64_t value, size;
	const char *name;
	enum silt_symbol_rank rank;
	bool is_function; /* STT_FUNC or STT_GNU_IFUNC */
	uint32_t section;
	const char *file; /* local symbols: the source file as the compiler was told of it (STT_FILE), or NULL */
};

/** Opens an ELF file. Destroy with silt_object_destroy. */
int silt_object_create(const char *path, struct silt_object **ret, struct silt_error *err);
/** The same of a file image in a mapping of capacity bytes, which it takes over (also on failure). name is for messages. */
int silt_object_create_memory(const char *name, uint8_t *image, size_t size, size_t capacity, struct silt_object **ret,
			      struct silt_error *err);
void silt_object_destroy(struct silt_object *o);

const char *silt_object_path(const struct silt_object *o);
/** Build-id, or length 0. */
const uint8_t *silt_object_build_id(const struct silt_object *o, size_t *ret_len);
bool silt_object_same_file(const struct silt_object *a, const struct silt_object *b);
/** When the file's content or its place was last changed: nanoseconds since 1970; 0 for an image in memory. */
int64_t silt_object_changed(const struct silt_object *o);
bool silt_object_is_64(const struct silt_object *o);
/** True for what a linker is still to read (ET_REL): every section begins at 0, and numbers in it are not final. */
bool silt_object_is_relocatable(const struct silt_object *o);
/** CRC-32 of the whole file, as .gnu_debuglink records it. */
uint32_t silt_object_crc(const struct silt_object *o);

/** Gives memory back: pages of the file that were read. They are read again when they are needed. */
void silt_object_relax(const struct silt_object *o);

/** From now on sections are decompressed into what children of the module share (borrowed until destroy). */
void silt_object_join(struct silt_object *o, struct silt_share *share, unsigned member);
/** The same as another object does. */
void silt_object_join_like(struct silt_object *o, const struct silt_object *other);
/** Decompresses a section that all who share will need, unless another child does it already. */
void silt_object_prepare(struct silt_object *o, const char *name);

/** True when the section exists and has bytes in this file. */
bool silt_object_has(const struct silt_object *o, const char *name);
/** Plain bytes of a section, borrowed until destroy. .debug_ sections are found as .zdebug_ too. A missing section is
 *  SILT_E_NOT_FOUND; one that cannot be decompressed SILT_E_BAD_DATA or SILT_E_UNSUPPORTED. */
int silt_object_section(struct silt_object *o, const char *name, struct silt_bytes *ret, struct silt_error *err);
/** The same of the number-th section of that name, counted from 0: object files have one for each group of sections. */
int silt_object_section_numbered(struct silt_object *o, const char *name, size_t number, struct silt_bytes *ret,
				 struct silt_error *err);
/** Where code may be (executable segments; every address when there is no such segment). */
const struct silt_span *silt_object_code(const struct silt_object *o, size_t *ret_count);

/** Calls fn for every named, defined code symbol of .symtab (or .dynsym). Returns how many. */
size_t silt_object_symbols(struct silt_object *o, bool dynamic, void (*fn)(void *data, const struct silt_elf_symbol *),
			   void *data);
/** Link-time range of a section by its number. */
bool silt_object_section_span(const struct silt_object *o, uint32_t section, struct silt_span *ret);

#endif
