/* SPDX-License-Identifier: MIT */
/* Goes every way from an allocation function to the kernel and into other code, with one thread. First it writes the addresses of the
 * functions, then it stops itself. */
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static void *volatile kept;

static void small_and_heap(void)
{
	void *blocks[40];

	for (unsigned i = 0; i < 8; i++) /* the heap grows */
		blocks[i] = malloc(60000);
	for (unsigned i = 8; i < 40; i++)
		blocks[i] = malloc(16 + i * 40);
	for (unsigned i = 0; i < 8; i += 2) /* holes */
		free(blocks[i]);
	blocks[0] = calloc(1, 2000);		 /* memset */
	blocks[9] = realloc(blocks[9], 3000);	 /* memcpy */
	blocks[10] = realloc(blocks[10], 20000); /* to a new place */
	blocks[2] = realloc(blocks[10], 40000);
	for (unsigned i = 11; i < 40; i++)
		free(blocks[i]);
	for (unsigned i = 0; i < 8; i++) /* the heap shrinks */
		if (i != 4 && i != 6)
			free(blocks[i]);
	free(blocks[8]);
	free(blocks[9]);
}

static void mapped(void)
{
	kept = malloc(140000);
	kept = realloc(kept, 280000);
	kept = realloc(kept, 200000);
	kept = realloc(kept, 1000); /* into the heap */
	free(kept);
	kept = calloc(1, 500000);
	free(kept);
	if (!posix_memalign((void **)&kept, 4096, 9000))
		free(kept);
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

int main(void)
{
	uintptr_t entries[6] = { (uintptr_t)malloc, (uintptr_t)calloc, (uintptr_t)realloc, (uintptr_t)free, (uintptr_t)posix_memalign };

#ifdef __GLIBC__
	entries[5] = (uintptr_t)malloc_trim;
#endif
	kept = malloc(100); /* the heap is there when it is looked for */
	free(kept);
	if (write(1, entries, sizeof(entries)) != (ssize_t)sizeof(entries))
		return 1;
	raise(SIGSTOP);
	small_and_heap();
	mapped();
	return 0;
}
