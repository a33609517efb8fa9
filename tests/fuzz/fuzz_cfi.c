/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing of the agent's CFI reader. Input: 4 bytes where the header is, 4 bytes how far from it the pc is, then
 * the module's bytes. Anything that is not at least that is passed over.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/agent/cfi_probe.h"

#define HEAD 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfi_module m;
	uint32_t hdr;
	int32_t pc;
	uint8_t *bytes;

	if (size <= HEAD)
		return 0;
	memcpy(&hdr, data, 4);
	memcpy(&pc, data + 4, 4);
	/* An allocation of its own, so that the sanitizer sees the module's end. */
	bytes = malloc(size - HEAD);
	if (!bytes)
		return 0;
	memcpy(bytes, data + HEAD, size - HEAD);
	m.lo = (uint64_t)(uintptr_t)bytes;
	m.hi = m.lo + size - HEAD;
	m.eh_frame_hdr = bytes + hdr % (size - HEAD);
	cfi_probe(&m, m.lo + (uint64_t)(int64_t)pc, hdr);
	free(bytes);
	return 0;
}
