/* SPDX-License-Identifier: MIT */
/* Numbers with units. */
#include "cli/quantity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A number with a unit from `units`: pairs of suffix and factor, ended by NULL. */
struct unit {
	const char *suffix;
	uint64_t factor;
};

static bool parse_scaled(const char *text, const struct unit *units, uint64_t *ret)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (end == text || errno || *text == '-')
		return false;
	for (; units->suffix; units++)
		if (!strcasecmp(end, units->suffix))
			return !__builtin_mul_overflow((uint64_t)n, units->factor, ret);
	return false;
}

bool silt_quantity_size(const char *text, uint64_t *ret)
{
	static const struct unit units[] = { { "", 1 },		  { "K", 1ull << 10 }, { "KB", 1ull << 10 },
					     { "M", 1ull << 20 }, { "MB", 1ull << 20 }, { "G", 1ull << 30 },
					     { "GB", 1ull << 30 }, { NULL, 0 } };

	return parse_scaled(text, units, ret);
}

bool silt_quantity_time(const char *text, uint64_t *ret_ns)
{
	static const struct unit units[] = { { "ms", 1000000ull },	 { "s", 1000000000ull },
					     { "m", 60000000000ull },	 { "h", 3600000000000ull },
					     { "", 1000000000ull },	 { NULL, 0 } };

	return parse_scaled(text, units, ret_ns) && *ret_ns >= 1000000ull;
}

bool silt_quantity_range(const char *text, uint64_t low, uint64_t high, uint64_t *ret)
{
	return silt_quantity_size(text, ret) && *ret >= low && *ret <= high;
}
