/* SPDX-License-Identifier: MIT */
/** Readable names from mangled ones: C++, Rust (both schemes), D. */
#ifndef SILT_SYMBOLS_DEMANGLE_H
#define SILT_SYMBOLS_DEMANGLE_H

#include "symbols/symbols.h"

/** The readable form, or NULL when there is none (not mangled, too long, SILT_DEMANGLE_OFF). Caller frees. */
char *silt_demangle(const char *mangled, enum silt_demangle how);
/** Folds template arguments to <…> and drops parameter lists, in place of the original. Caller frees; NULL when out of
 *  memory. */
char *silt_demangle_fold(const char *name);

#endif
