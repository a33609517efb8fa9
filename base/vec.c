/* SPDX-License-Identifier: MIT */
/* Growing arrays: see vec.h. */
#include "base/vec.h"

#include <stdint.h>
#include <string.h>

#include "base/pages.h"

bool silt_vec_grow(void *items_ptr, size_t *cap, size_t need, size_t element_size)
{
	size_t n = *cap < 8 ? 8 : *cap + *cap / 2;
	size_t bytes;
	void *old, *items;

	if (n < need)
		n = need;
	if (__builtin_mul_overflow(n, element_size, &bytes))
		return false;
	/* memcpy: the pointer's own type is not known here, and void ** may not alias it. */
	memcpy(&old, items_ptr, sizeof(old));
	items = realloc(old, bytes);
	if (!items)
		return false;
	silt_pages_large(items, bytes);
	memcpy(items_ptr, &items, sizeof(items));
	*cap = n;
	return true;
}
