/* SPDX-License-Identifier: MIT */
/* Reading values that people write. */
#include "cli/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/types.h"
#include "capture/agent/trace_db.h"

static bool parse_u64(const char *text, uint64_t *ret, const char **ret_rest)
{
	char *end;
	uint64_t value;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	*ret = value;
	*ret_rest = end;
	return true;
}

bool silt_value_count(const char *text, uint64_t *ret)
{
	uint64_t value;

	if (!parse_u64(text, &value, &text) || *text)
		return false;
	*ret = value;
	return true;
}

bool silt_value_size(const char *text, uint64_t *ret)
{
	static const char UNITS[] = "KMGT";
	const char *unit;
	uint64_t value;

	if (!parse_u64(text, &value, &text))
		return false;
	if (*text) {
		unit = strchr(UNITS, *text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
		if (!unit || __builtin_mul_overflow(value, 1ull << (10 * (unit - UNITS + 1)), &value))
			return false;
		text++;
		if (strcmp(text, "iB") != 0 && strcmp(text, "B") != 0 && *text)
			return false;
	}
	*ret = value;
	return true;
}

bool silt_value_seconds(const char *text, uint64_t *ret)
{
	static const struct {
		const char *unit;
		unsigned seconds;
	} units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
	uint64_t value;

	if (!parse_u64(text, &value, &text))
		return false;
	for (size_t i = 0; i < SILT_ARRAY_LEN(units); i++)
		if (strcmp(text, units[i].unit) == 0 && !__builtin_mul_overflow(value, units[i].seconds, &value)) {
			*ret = value;
			return true;
		}
	return false;
}

bool silt_value_bool(const char *text, bool *ret)
{
	static const char *const words[] = {"no", "yes", "off", "on", "false", "true", "0", "1"};

	for (size_t i = 0; i < SILT_ARRAY_LEN(words); i++)
		if (strcasecmp(text, words[i]) == 0) {
			*ret = i % 2;
			return true;
		}
	return false;
}

bool silt_value_word(const char *text, const char *const *words, size_t count, int *ret)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(text, words[i]) == 0) {
			*ret = (int)i;
			return true;
		}
	return false;
}

bool silt_value_inherit(const char *text, uint32_t *flags)
{
	static const char *const WHEN[] = {"auto", "always", "never"};
	static const uint32_t FLAGS[] = {0, SILT_DB_INHERIT_ALWAYS, SILT_DB_INHERIT_NEVER};
	int when;

	if (!silt_value_word(text, WHEN, SILT_ARRAY_LEN(WHEN), &when))
		return false;
	*flags = (*flags & ~(uint32_t)(SILT_DB_INHERIT_ALWAYS | SILT_DB_INHERIT_NEVER)) | FLAGS[when];
	return true;
}
