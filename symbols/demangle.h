/* SPDX-License-Identifier: MIT */
/**
 * Readable names from mangled ones: C++ (gcc, clang), Rust (both schemes, without hash), D.
 *
 * Names come from files nobody vouches for. Length, output, memory, stack and, once silt_demangle_guard_start was called,
 * processor time of every name are bounded; a name beyond a bound stays as it is.
 */
#ifndef SILT_SYMBOLS_DEMANGLE_H
#define SILT_SYMBOLS_DEMANGLE_H

#include "symbols/symbols.h"

enum silt_demangle_language { SILT_NAME_CXX, SILT_NAME_RUST, SILT_NAME_D };

/** The readable form, or NULL when there is none (not mangled, beyond a bound, SILT_DEMANGLE_OFF). Caller frees. */
char *silt_demangle(const char *mangled, enum silt_demangle how);
/** True for what begins as a mangled name of one of these languages does: without its readable form it says little. */
bool silt_demangle_is_mangled(const char *name);
/** The short form of a readable name: template arguments become <…>, parameters go. Caller frees; NULL when out of memory. */
char *silt_demangle_fold(const char *name, enum silt_demangle_language language);
/** Starts the processor time bound: a timer of this process on SIGVTALRM, and a larger stack where that is allowed. For
 *  parsing children, before they lock themselves in; not for threads. */
void silt_demangle_guard_start(void);

#endif
