/* SPDX-License-Identifier: MIT */
/* Reading .gnu_debuglink, .gnu_debugaltlink and .debug_sup. */
#include "symbols/links.h"

#include <string.h>

#include "symbols/cursor.h"

enum { MIN_ID = 2, MAX_ID = 64, SUP_VERSION = 5 };

bool silt_debuglink_parse(struct silt_bytes section, struct silt_debuglink *ret)
{
	const char *name = (const char *)section.data;
	size_t len = section.data ? strnlen(name, section.size) : 0, crc_at = (len + 4) / 4 * 4;

	/* A name with a directory could lead anywhere. */
	if (!len || len >= section.size || crc_at + 4 > section.size || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return false;
	ret->name = name;
	memcpy(&ret->crc, section.data + crc_at, 4);
	return true;
}

bool silt_altlink_parse(struct silt_bytes section, struct silt_altlink *ret)
{
	struct silt_cursor c = silt_cursor_at(section.data, section.size, 0);
	const char *name = c.bad ? NULL : silt_cursor_string(&c);
	size_t left = silt_cursor_left(&c);

	if (!name || !*name || left < MIN_ID || left > MAX_ID)
		return false;
	*ret = (struct silt_altlink){name, c.p, left};
	return true;
}

bool silt_debug_sup_parse(struct silt_bytes section, struct silt_altlink *ret, bool *ret_is_alt)
{
	struct silt_cursor c = silt_cursor_at(section.data, section.size, 0);
	uint16_t version = silt_cursor_u16(&c);
	uint8_t is_alt = silt_cursor_u8(&c);
	const char *name = c.bad ? NULL : silt_cursor_string(&c);
	uint64_t len = silt_cursor_uleb(&c);

	if (c.bad || !name || version != SUP_VERSION || is_alt > 1 || len < MIN_ID || len > MAX_ID || len > silt_cursor_left(&c))
		return false;
	*ret = (struct silt_altlink){name, c.p, (size_t)len};
	*ret_is_alt = is_alt;
	return true;
}

bool silt_altlink_find(struct silt_object *o, struct silt_altlink *ret)
{
	struct silt_bytes section;
	bool is_alt;

	if (!silt_object_section(o, ".gnu_debugaltlink", &section, NULL))
		return silt_altlink_parse(section, ret);
	return !silt_object_section(o, ".debug_sup", &section, NULL) && silt_debug_sup_parse(section, ret, &is_alt) && !is_alt &&
	       *ret->name;
}

bool silt_altlink_matches(struct silt_object *o, const struct silt_altlink *link)
{
	struct silt_altlink own;
	struct silt_bytes section;
	bool is_alt;
	size_t len;
	const uint8_t *id = silt_object_build_id(o, &len);

	if (len == link->id_len && memcmp(id, link->id, len) == 0)
		return true;
	return !silt_object_section(o, ".debug_sup", &section, NULL) && silt_debug_sup_parse(section, &own, &is_alt) && is_alt &&
	       own.id_len == link->id_len && memcmp(own.id, link->id, own.id_len) == 0;
}
