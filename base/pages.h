/* SPDX-License-Identifier: MIT */
/** Memory by the page: large arrays are first touched all at once, and a fault for every 4 KiB costs more than what is done there. */
#ifndef SILT_BASE_PAGES_H
#define SILT_BASE_PAGES_H

#include <stddef.h>

/** Asks for large pages under [p, + bytes) when it is large and not touched yet. Only a hint: without them all is the same. */
void silt_pages_large(void *p, size_t bytes);
/** Once, at the start of the program: large blocks get mappings of their own for good, so that growing one moves it without
 *  touching it, and freeing one gives it back. */
void silt_pages_setup(void);

#endif
