/* SPDX-License-Identifier: MIT */
/* Function names. */
#include "symbols/names.h"

#include <dwarf.h>
#include <stdio.h>

#include "symbols/entry_path.h"

enum {
	MAX_HOPS = 16, /* origin -> specification -> …: two or three in practice; a loop in a damaged file has no end */
	/* Of the list at dwarfstd.org, which grew after DWARF 5; dwarf.h of Debian 12 ends before them. */
	LANG_C_PLUS_PLUS_17 = 0x2b,
	LANG_C_PLUS_PLUS_20 = 0x2c,
	LANG_HIP = 0x31,
};

/* Reads the naming attributes of one entry. Returns false when it is damaged; next->dw is NULL when nothing follows. */
static bool read_names(struct silt_ref at, struct silt_name *name, struct silt_ref *next)
{
	struct silt_unit *u = silt_dwarf_unit_at(at.dw, at.offset);
	const struct silt_unit_root *root = u && at.offset >= u->die ? silt_unit_root(at.dw, u) : NULL;
	const struct silt_abbrevs *t = root ? silt_unit_abbrevs(at.dw, u) : NULL;
	const struct silt_abbrev *a;
	struct silt_cursor c;
	bool named = false;

	next->dw = NULL;
	if (!t)
		return false;
	c = silt_unit_cursor(at.dw, u, at.offset);
	a = silt_abbrev_find(t, silt_cursor_uleb(&c));
	if (!a)
		return false;
	for (unsigned i = 0; i < a->attr_count && !c.bad; i++) {
		const struct silt_attr *attr = &t->attrs.items[a->attr_first + i];
		struct silt_value v;

		switch (attr->name) {
		case DW_AT_linkage_name:
		case DW_AT_MIPS_linkage_name:
			v = silt_value_read(&c, u, t, attr);
			if (!name->linkage)
				name->linkage = silt_value_string(at.dw, u, root, &v);
			break;
		case DW_AT_name:
			v = silt_value_read(&c, u, t, attr);
			if (!name->name) {
				name->name = silt_value_string(at.dw, u, root, &v);
				named = name->name;
			}
			break;
		case DW_AT_abstract_origin:
		case DW_AT_specification:
			v = silt_value_read(&c, u, t, attr);
			if (!silt_value_ref(at.dw, u, &v, next))
				next->dw = NULL;
			break;
		default:
			silt_attr_skip(&c, attr, silt_unit_sizes(u));
			break;
		}
	}
	if (named)
		name->origin = at;
	/* Partial units, which dwz makes of what several units share, have no language: then it is that of the unit whose entry
	 * led there. */
	if (root->language && (named || !name->name))
		name->language = root->language;
	return true;
}

struct silt_name silt_name_find(struct silt_dwarf *dw, uint64_t die)
{
	struct silt_ref at = {dw, die}, next;
	struct silt_name name = {0};

	for (int hop = 0; hop < MAX_HOPS && !(name.linkage && name.name); hop++) {
		if (!read_names(at, &name, &next) || !next.dw)
			break;
		at = next;
	}
	return name;
}

bool silt_language_mangles(uint16_t language)
{
	switch (language) {
	case DW_LANG_C_plus_plus:
	case DW_LANG_C_plus_plus_03:
	case DW_LANG_C_plus_plus_11:
	case DW_LANG_C_plus_plus_14:
	case LANG_C_PLUS_PLUS_17:
	case LANG_C_PLUS_PLUS_20:
	case LANG_HIP:
	case DW_LANG_D:
	case DW_LANG_Rust:
	case DW_LANG_Swift:
		return true;
	default:
		return false;
	}
}

bool silt_name_qualify(const struct silt_name *name, char *buffer, size_t size)
{
	struct silt_unit *u = name->origin.dw ? silt_dwarf_unit_at(name->origin.dw, name->origin.offset) : NULL;
	uint64_t path[SILT_MAX_PATH];
	const struct silt_abbrevs *t;
	unsigned depth;
	size_t used = 0;

	if (!u || !name->name || !silt_language_mangles(name->language) || !(t = silt_unit_abbrevs(name->origin.dw, u)))
		return false;
	depth = silt_entry_path(name->origin, u, t, path);
	/* path[0] is the unit itself. */
	for (unsigned i = 1; i < depth; i++) {
		struct silt_name scope = {0};
		struct silt_cursor c = silt_unit_cursor(name->origin.dw, u, path[i]);
		const struct silt_abbrev *a;
		struct silt_ref next;
		int len;

		t = silt_unit_abbrevs(name->origin.dw, u);
		a = t ? silt_abbrev_find(t, silt_cursor_uleb(&c)) : NULL;
		if (!a || (a->kind != SILT_ENTRY_SCOPE && a->kind != SILT_ENTRY_TYPE))
			continue;
		if (!read_names((struct silt_ref){name->origin.dw, path[i]}, &scope, &next))
			return false;
		len = snprintf(buffer + used, size - used, "%s::", scope.name ? scope.name : "(anonymous namespace)");
		if (len < 0 || (size_t)len >= size - used)
			return false;
		used += (size_t)len;
	}
	return used && (size_t)snprintf(buffer + used, size - used, "%s", name->name) < size - used;
}
