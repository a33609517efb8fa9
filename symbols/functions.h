/* SPDX-License-Identifier: MIT */
/** Which functions and inlined calls of a unit cover given addresses: one pass over the unit's entries. */
#ifndef SILT_SYMBOLS_FUNCTIONS_H
#define SILT_SYMBOLS_FUNCTIONS_H

#include "symbols/dwarf_file.h"
#include "symbols/forms.h"

#define SILT_NO_SCOPE UINT32_MAX
#define SILT_NO_FILE UINT32_MAX

/** A function, or a call of one that was inlined. */
struct silt_scope {
	uint64_t die;    /* its entry, in .debug_info */
	uint32_t parent; /* the scope it was inlined into, SILT_NO_SCOPE for a function */
	uint32_t call_file; /* where the inlined call stood; SILT_NO_FILE unknown (0 is a file in DWARF 5) */
	uint32_t call_line, call_column; /* 0 unknown */
	uint64_t start;  /* entry address of a function */
};

struct silt_scopes {
	SILT_VEC(struct silt_scope) items;
	silt_spans spans; /* working memory */
};

void silt_scopes_deinit(struct silt_scopes *s);

/**
 * For each of n sorted addresses the innermost scope that covers it, or SILT_NO_SCOPE, in ret_scope; scopes are
 * appended to s (its old content is dropped). Damage ends the pass; what was found before it stands.
 */
int silt_functions_find(struct silt_dwarf *dw, struct silt_unit *u, const uint64_t *pcs, size_t n, bool inlines,
			struct silt_scopes *s, uint32_t *ret_scope, struct silt_error *err);

#endif
