/* SPDX-License-Identifier: MIT */
/**
 * One face for libdwarf 20210528 (Debian 12, Ubuntu 22.04) and 0.3.0 or newer: the only file that includes libdwarf.h.
 *
 * Everything goes through dwarf_object_init_b with sections of our own: the old library crashes or refuses on
 * compressed sections and odd build-ids when it opens files itself, and mixing both ways in one process makes it call
 * its own methods on our objects. Version macros exist since 0.3.0; 0.1.1 and 0.2.0 have neither face and are refused
 * by the build.
 */
#ifndef SILT_SYMBOLS_DWARF_COMPAT_H
#define SILT_SYMBOLS_DWARF_COMPAT_H

#include <stdint.h>
#include <string.h>

#include <dwarf.h>
#include <libdwarf.h>

#include "base/types.h"

#ifdef DW_LIBDWARF_VERSION_MAJOR
#define SILT_LIBDWARF_MODERN 1
#else
#define SILT_LIBDWARF_MODERN 0
#endif

#if SILT_LIBDWARF_MODERN && (DW_LIBDWARF_VERSION_MAJOR > 0 || DW_LIBDWARF_VERSION_MINOR >= 7)
typedef Dwarf_Unsigned silt_libdwarf_index;
#else
typedef Dwarf_Half silt_libdwarf_index;
#endif

/** A section as libdwarf shall see it. */
struct silt_libdwarf_section {
	const char *name;
	const uint8_t *data;
	uint64_t size;
};

/** What libdwarf asks us about; must outlive the Dwarf_Debug. The first member is a plain zero because the old
 *  library looks at the first byte of the object when it closes it. */
struct silt_libdwarf_file {
	uint64_t zero;
	const struct silt_libdwarf_section *sections;
	size_t count;
	uint8_t address_size;
#if SILT_LIBDWARF_MODERN
	Dwarf_Obj_Access_Interface_a access;
#else
	Dwarf_Obj_Access_Interface access;
#endif
};

#if SILT_LIBDWARF_MODERN
typedef Dwarf_Obj_Access_Section_a silt_libdwarf_section_info;
#define SILT_LIBDWARF_FIELD(f) as_##f
#define SILT_LIBDWARF_ACCESS(f) ai_##f
#else
typedef Dwarf_Obj_Access_Section silt_libdwarf_section_info;
#define SILT_LIBDWARF_FIELD(f) f
#define SILT_LIBDWARF_ACCESS(f) f
#endif

static inline int silt_libdwarf_get_section(void *object, silt_libdwarf_index i, silt_libdwarf_section_info *ret, int *error)
{
	const struct silt_libdwarf_file *f = object;

	(void)error;
	if (i > f->count)
		return DW_DLV_NO_ENTRY;
	memset(ret, 0, sizeof(*ret));
	ret->SILT_LIBDWARF_FIELD(name) = i ? f->sections[i - 1].name : "";
	ret->SILT_LIBDWARF_FIELD(size) = i ? f->sections[i - 1].size : 0;
	ret->SILT_LIBDWARF_FIELD(type) = 1; /* SHT_PROGBITS */
	return DW_DLV_OK;
}

static inline int silt_libdwarf_load(void *object, silt_libdwarf_index i, Dwarf_Small **ret, int *error)
{
	const struct silt_libdwarf_file *f = object;

	(void)error;
	if (i == 0 || i > f->count)
		return DW_DLV_NO_ENTRY;
	*ret = (Dwarf_Small *)(uintptr_t)f->sections[i - 1].data;
	return DW_DLV_OK;
}

static inline Dwarf_Unsigned silt_libdwarf_count(void *object)
{
	return ((const struct silt_libdwarf_file *)object)->count + 1; /* section 0 is ELF's empty one */
}

static inline Dwarf_Small silt_libdwarf_address_size(void *object)
{
	return ((const struct silt_libdwarf_file *)object)->address_size;
}

#if SILT_LIBDWARF_MODERN
static inline Dwarf_Small silt_libdwarf_order(void *object)
{
	(void)object;
	return DW_END_little;
}

static inline Dwarf_Unsigned silt_libdwarf_filesize(void *object)
{
	const struct silt_libdwarf_file *f = object;
	Dwarf_Unsigned sum = 0;

	for (size_t i = 0; i < f->count; i++)
		sum += f->sections[i].size;
	return sum;
}

static const Dwarf_Obj_Access_Methods_a silt_libdwarf_methods = {
	.om_get_section_info = silt_libdwarf_get_section,
	.om_get_byte_order = silt_libdwarf_order,
	.om_get_length_size = silt_libdwarf_address_size,
	.om_get_pointer_size = silt_libdwarf_address_size,
	.om_get_filesize = silt_libdwarf_filesize,
	.om_get_section_count = silt_libdwarf_count,
	.om_load_section = silt_libdwarf_load,
};
#else
static inline Dwarf_Endianness silt_libdwarf_order(void *object)
{
	(void)object;
	return DW_OBJECT_LSB;
}

static const Dwarf_Obj_Access_Methods silt_libdwarf_methods = {
	.get_section_info = silt_libdwarf_get_section,
	.get_byte_order = silt_libdwarf_order,
	.get_length_size = silt_libdwarf_address_size,
	.get_pointer_size = silt_libdwarf_address_size,
	.get_section_count = silt_libdwarf_count,
	.load_section = silt_libdwarf_load,
};
#endif

/** DW_DLV_OK, DW_DLV_NO_ENTRY (no DWARF) or DW_DLV_ERROR. Close with silt_libdwarf_close. */
static inline int silt_libdwarf_open(struct silt_libdwarf_file *f, Dwarf_Debug *ret, Dwarf_Error *error)
{
	f->access.SILT_LIBDWARF_ACCESS(object) = f;
	f->access.SILT_LIBDWARF_ACCESS(methods) = &silt_libdwarf_methods;
	/* It keeps a list of what it gave out and frees the rest when it is closed. That costs a little for each handle, but it
	 * loses handles of its own: 20210528 goes on after an error in a form that is given indirectly, and writes the next
	 * error over it. */
	dwarf_set_de_alloc_flag(1);
	return dwarf_object_init_b(&f->access, NULL, NULL, DW_GROUPNUMBER_ANY, ret, error);
}

static inline void silt_libdwarf_close(Dwarf_Debug dbg)
{
#if SILT_LIBDWARF_MODERN
	dwarf_object_finish(dbg);
#else
	Dwarf_Error error = NULL;

	dwarf_object_finish(dbg, &error);
#endif
}

#endif
