/* SPDX-License-Identifier: MIT */
/* Fuzzing of the sections that name other files. Input: one byte, which of them; then its bytes. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "symbols/links.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct silt_bytes section = {data + 1, size - 1};
	struct silt_debuglink d;
	struct silt_altlink a;
	bool is_alt;

	if (!size)
		return 0;
	/* What is accepted must be safe to use: a terminated name, a length inside the section. */
	if (data[0] % 3 == 0) {
		if (silt_debuglink_parse(section, &d) && (strchr(d.name, '/') || !*d.name))
			abort();
		return 0;
	}
	if (data[0] % 3 == 1 ? silt_altlink_parse(section, &a) : silt_debug_sup_parse(section, &a, &is_alt))
		if (strlen(a.name) + 1 + a.id_len > section.size || a.id + a.id_len > data + size || a.id_len < 2 || a.id_len > 64)
			abort();
	return 0;
}

size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	static const char *const seeds[] = {"\0prog.debug\0\0\1\2\3\4", "\1/usr/lib/debug/.dwz/x.debug\0\1\2\3\4\5\6\7\10",
					    "\2\5\0\0../common\0\4\1\2\3\4", "\2\5\0\1\0\4\1\2\3\4"};
	static const size_t sizes[] = {17, 37, 18, 10};

	if (i >= sizeof(sizes) / sizeof(sizes[0]))
		return 0;
	*ret = malloc(sizes[i]);
	if (!*ret)
		return 0;
	memcpy(*ret, seeds[i], sizes[i]);
	return sizes[i];
}
