/* SPDX-License-Identifier: MIT */
/**
 * Which C++ type a block holds, by its first word: the address of a vtable in a module.
 *
 * In front of a vtable's functions stand the offset to the top of the object and the address of the type's std::type_info,
 * which names it (Itanium C++ ABI, 2.5.2 and 2.9.4): that also works in stripped programs. Code built without run-time type
 * information has no name there; symbol tables may have one.
 */
#ifndef SILT_CAPTURE_HEAP_TYPES_H
#define SILT_CAPTURE_HEAP_TYPES_H

#include "capture/heap/heap.h"

struct silt_heap_types;

struct silt_heap_type {
	uint32_t module;  /* into the modules given at the start */
	uint64_t offset;  /* of the vtable's first function, as a link-time address */
	const char *name; /* mangled, as in type_info ("N2ns3FooE"), or NULL */
};

/** maps and modules must outlive it; NULL when out of memory. */
struct silt_heap_types *silt_heap_types_create(const struct silt_heap_reader *reader, const struct silt_maps *maps,
					       const struct silt_target_modules *modules);
void silt_heap_types_destroy(struct silt_heap_types *t);
/** 0: no type; else its number + 1. Reads the target's memory for words it has not met. */
uint32_t silt_heap_type_of(struct silt_heap_types *t, uint64_t first_word);
uint32_t silt_heap_types_count(const struct silt_heap_types *t);
const struct silt_heap_type *silt_heap_type_get(const struct silt_heap_types *t, uint32_t i);

#endif
