/* SPDX-License-Identifier: MIT */
/** .gnu_debugdata: an ELF file with a symbol table, compressed with xz, inside a stripped one (Fedora's mini debug
 *  information). It names the functions that .dynsym does not export. */
#ifndef SILT_SYMBOLS_DEBUGDATA_H
#define SILT_SYMBOLS_DEBUGDATA_H

#include "symbols/object.h"

/** The ELF file inside. SILT_E_NOT_FOUND: there is none. Destroy with silt_object_destroy. */
int silt_debugdata_open(struct silt_object *object, struct silt_object **ret, struct silt_error *err);

#endif
