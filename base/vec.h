/* SPDX-License-Identifier: MIT */
/**
 * Growing arrays.
 *
 *   SILT_VEC(struct row) rows = {0};
 *   if (!silt_vec_push(&rows, row)) → out of memory, rows unchanged
 *   rows.items[i], rows.count
 *   silt_vec_free(&rows);
 */
#ifndef SILT_BASE_VEC_H
#define SILT_BASE_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define SILT_VEC(type) \
	struct {       \
		type *items; \
		size_t count, cap; \
	}

/** Makes room for `need` elements in all. False when out of memory; nothing changes then. */
#define silt_vec_reserve(v, need) \
	((v)->cap >= (need) || silt_vec_grow(&(v)->items, &(v)->cap, (need), sizeof(*(v)->items)))

/** Appends a copy of item. False when out of memory. */
#define silt_vec_push(v, item) \
	(silt_vec_reserve(v, (v)->count + 1) ? ((v)->items[(v)->count++] = (item), true) : false)

/** Frees the array and leaves an empty one. */
#define silt_vec_free(v) (free((v)->items), (v)->items = NULL, (v)->count = (v)->cap = 0, (void)0)

/** Behind silt_vec_reserve: items_ptr is the address of the array pointer. */
bool silt_vec_grow(void *items_ptr, size_t *cap, size_t need, size_t element_size);

#endif
