/* SPDX-License-Identifier: MIT */
/** Attribute values: reading them, and what they mean as address, string, reference or list of ranges. */
#ifndef SILT_SYMBOLS_FORMS_H
#define SILT_SYMBOLS_FORMS_H

#include "symbols/dwarf_file.h"

struct silt_value {
	uint16_t form; /* 0: absent */
	uint64_t u;    /* number, offset, index; signed forms sign-extended; blocks: their length */
	const uint8_t *bytes; /* blocks and DW_FORM_string */
};

struct silt_ref {
	struct silt_dwarf *dw;
	uint64_t offset;
};

typedef SILT_VEC(struct silt_span) silt_spans;

static inline struct silt_form_sizes silt_unit_sizes(const struct silt_unit *u)
{
	return (struct silt_form_sizes){u->address_size, u->offset_size, u->version};
}

/** Reads one value; the cursor is bad afterwards when the form is unknown. t may be NULL outside of entries. */
struct silt_value silt_value_read(struct silt_cursor *c, const struct silt_unit *u, const struct silt_abbrevs *t,
				  const struct silt_attr *attr);
/** A string, or NULL. root gives the bases (may be NULL: then indexed forms are unknown). */
const char *silt_value_string(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
			      const struct silt_value *v);
/** An address. False when it is none. */
bool silt_value_address(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
			const struct silt_value *v, uint64_t *ret);
/** An entry of this or another unit or of the dwz file. */
bool silt_value_ref(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_value *v, struct silt_ref *ret);
/** True for DW_FORM_addr and the indexed addresses: then DW_AT_high_pc is an end, otherwise a length. */
bool silt_form_is_address(uint16_t form);
/** [low, high) of a low_pc/high_pc pair; false when empty or absent. */
bool silt_value_pc_span(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
			const struct silt_value *low, const struct silt_value *high, struct silt_span *ret);
/** Replaces *ret by the ranges a DW_AT_ranges value names, without empty ones. What a damaged list holds before the
 *  damage is kept. */
void silt_ranges_read(struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
		      const struct silt_value *v, silt_spans *ret);

#endif
