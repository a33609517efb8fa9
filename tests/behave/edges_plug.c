/* SPDX-License-Identifier: MIT */
/* A library for edges.c: frames of its own between the program and malloc. */
#include <stdlib.h>

__attribute__((visibility("default"))) void *plug_allocate(size_t n);
void *plug_allocate(size_t n)
{
	void *volatile p = malloc(n);

	return p;
}
