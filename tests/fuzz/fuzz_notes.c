/* SPDX-License-Identifier: MIT */
/* Fuzzing of ELF notes, where build-ids are. Input: one byte, the alignment; then the notes. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "symbols/elf_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t id[64];
	size_t n;

	if (!size)
		return 0;
	n = silt_elf_note_build_id(data + 1, size - 1, data[0] & 1 ? 8 : 4, id);
	if (n == 1 || n > sizeof(id) || (n && !memmem(data + 1, size - 1, id, n)))
		abort();
	return 0;
}

size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	/* A property note, then a build-id. */
	static const uint8_t notes[] = {0, 4, 0, 0, 0, 16, 0, 0, 0, 5, 0, 0, 0, 'G', 'N', 'U', 0, 2, 0, 0, 0xc0, 4, 0, 0, 0, 3,
					0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0, 1, 2, 3, 4, 5,
					6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

	if (i >= 2)
		return 0;
	*ret = malloc(sizeof(notes));
	if (!*ret)
		return 0;
	memcpy(*ret, notes, sizeof(notes));
	(*ret)[0] = (uint8_t)i;
	return sizeof(notes);
}
