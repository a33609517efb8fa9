/* SPDX-License-Identifier: MIT */
/** Binary search in sorted addresses. */
#ifndef SILT_SYMBOLS_SEARCH_H
#define SILT_SYMBOLS_SEARCH_H

#include <stddef.h>
#include <stdint.h>

/** Index of the first element >= value; n when there is none. */
static inline size_t silt_lower_bound(const uint64_t *sorted, size_t n, uint64_t value)
{
	size_t low = 0;

	while (n) {
		size_t half = n / 2;

		if (sorted[low + half] < value) {
			low += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	return low;
}

#endif
