/* SPDX-License-Identifier: MIT */
/** The sections by which an ELF file names another one that holds its debug information, or a part of it. */
#ifndef SILT_SYMBOLS_LINKS_H
#define SILT_SYMBOLS_LINKS_H

#include "symbols/object.h"

/** .gnu_debuglink (objcopy --add-gnu-debuglink): a name without directory, zero bytes up to a multiple of four, CRC-32. */
struct silt_debuglink {
	const char *name; /* in the section's bytes */
	uint32_t crc;
};
/** False when the section holds no such thing. */
bool silt_debuglink_parse(struct silt_bytes section, struct silt_debuglink *ret);

/** The dwz file of one: by .gnu_debugaltlink (name, then its build-id) or .debug_sup (DWARF 5, 7.3.6). */
struct silt_altlink {
	const char *name;
	const uint8_t *id; /* build-id, or checksum in the dwz file's own .debug_sup */
	size_t id_len;
};
bool silt_altlink_parse(struct silt_bytes section, struct silt_altlink *ret);
/** .debug_sup, which stands in both files: *ret_is_alt tells which of them this is; the name of a dwz file is empty. */
bool silt_debug_sup_parse(struct silt_bytes section, struct silt_altlink *ret, bool *ret_is_alt);

/** The altlink of a file from either section; false when it has none. */
bool silt_altlink_find(struct silt_object *o, struct silt_altlink *ret);
/** True when o is the dwz file that the link means: by its build-id, or by its .debug_sup. */
bool silt_altlink_matches(struct silt_object *o, const struct silt_altlink *link);

#endif
