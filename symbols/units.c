/* SPDX-License-Identifier: MIT */
/* Unit headers of .debug_info: our own reader for DWARF 2 to 5, libdwarf for what that does not understand. */
#include "symbols/dwarf_compat.h"
#include "symbols/dwarf_file.h"

enum {
	MAX_UNITS = 4 << 20,  /* the largest programs known have some hundred thousand */
};

static bool sizes_are_known(const struct silt_unit *u)
{
	return (u->address_size == 4 || u->address_size == 8) && (u->offset_size == 4 || u->offset_size == 8);
}

/* What stands between the fields all unit types have and the first entry (DWARF 5, 7.5.1). */
static bool read_type_fields(struct silt_cursor *c, struct silt_unit *u)
{
	switch (u->type) {
	case DW_UT_compile:
	case DW_UT_partial:
		return true;
	case DW_UT_skeleton:
	case DW_UT_split_compile:
		u->dwo_id = silt_cursor_u64(c);
		u->has_dwo_id = true;
		return true;
	case DW_UT_type:
	case DW_UT_split_type:
		silt_cursor_u64(c); /* signature */
		silt_cursor_sized(c, u->offset_size);
		return true;
	default:
		return false;
	}
}

bool silt_unit_header_read(struct silt_dwarf *dw, uint64_t offset, struct silt_unit *ret)
{
	struct silt_bytes info = silt_dwarf_section(dw, SILT_DW_INFO);
	struct silt_cursor c = silt_cursor_at(info.data, info.size, offset);
	struct silt_unit u = {.offset = offset, .offset_size = 4};
	uint64_t length = silt_cursor_u32(&c);

	if (length == UINT32_MAX) {
		length = silt_cursor_u64(&c);
		u.offset_size = 8;
	}
	if (c.bad || length > silt_cursor_left(&c))
		return false;
	u.end = (uint64_t)(c.p - info.data) + length;
	c.end = c.p + length;
	u.version = silt_cursor_u16(&c);
	if (u.version < 2 || u.version > 5)
		return false;
	if (u.version >= 5) {
		u.type = silt_cursor_u8(&c);
		u.address_size = silt_cursor_u8(&c);
		u.abbrev = silt_cursor_sized(&c, u.offset_size);
		if (!read_type_fields(&c, &u))
			return false;
	} else {
		u.abbrev = silt_cursor_sized(&c, u.offset_size);
		u.address_size = silt_cursor_u8(&c);
	}
	if (c.bad || !sizes_are_known(&u))
		return false;
	u.die = (uint64_t)(c.p - info.data);
	*ret = u;
	return true;
}

static int failed(struct silt_dwarf *dw, Dwarf_Debug dbg, Dwarf_Error error, struct silt_error *err)
{
	silt_error_set(err, SILT_E_BAD_DATA, "%s: debug information is damaged: %s", silt_object_path(dw->object),
		       error ? dwarf_errmsg(error) : "unknown error");
	if (error)
		dwarf_dealloc_error(dbg, error);
	return SILT_E_BAD_DATA;
}

/* One step of libdwarf's unit loop. start is where the header lies: libdwarf tells only where the next one is. */
static int next_unit(struct silt_dwarf *dw, Dwarf_Debug dbg, uint64_t start, struct silt_unit *ret, Dwarf_Error *error)
{
	Dwarf_Unsigned length, type_offset, next = 0;
	Dwarf_Half version, address_size, offset_size, extension, type = 0;
	Dwarf_Off abbrev;
	Dwarf_Sig8 signature;
	Dwarf_Die die = NULL;
	Dwarf_Off at = 0;
	int r;

	r = dwarf_next_cu_header_d(dbg, 1, &length, &version, &abbrev, &address_size, &offset_size, &extension, &signature,
				   &type_offset, &next, &type, error);
	if (r != DW_DLV_OK)
		return r;
	/* The header's own length differs by version and unit type: where the first entry is, is libdwarf's to say. */
	r = dwarf_siblingof_b(dbg, NULL, 1, &die, error);
	if (r == DW_DLV_OK) {
		r = dwarf_dieoffset(die, &at, error);
		dwarf_dealloc_die(die);
	}
	*ret = (struct silt_unit){.offset = start, .end = next, .die = at, .abbrev = abbrev, .version = version,
				  .address_size = (uint8_t)address_size, .offset_size = (uint8_t)offset_size,
				  .type = (uint8_t)(version >= 5 ? type : 0)};
	if (next <= start || next > dw->sections[SILT_DW_INFO].size)
		return DW_DLV_ERROR;
	if (r == DW_DLV_NO_ENTRY || at <= start || at >= next)
		ret->die = 0; /* an empty unit */
	return r == DW_DLV_ERROR ? r : DW_DLV_OK;
}

static bool keep(struct silt_dwarf *dw, const struct silt_unit *u)
{
	struct silt_unit *copy = silt_arena_alloc(dw->arena, sizeof(*copy));

	if (!copy || !silt_vec_push(&dw->units, copy))
		return false;
	*copy = *u;
	return true;
}

static int read_all(struct silt_dwarf *dw, Dwarf_Debug dbg, uint64_t from, struct silt_error *err)
{
	Dwarf_Error error = NULL;
	struct silt_unit u;
	uint64_t start = 0;
	int r;

	while ((r = next_unit(dw, dbg, start, &u, &error)) == DW_DLV_OK) {
		if (dw->units.count >= MAX_UNITS)
			return silt_error_set(err, SILT_E_LIMIT, "%s: too many units of debug information",
					      silt_object_path(dw->object));
		if (start >= from && u.die && sizes_are_known(&u) && !keep(dw, &u))
			return silt_error_set(err, SILT_E_NOMEM, "%s: out of memory", silt_object_path(dw->object));
		start = u.end;
	}
	return r == DW_DLV_NO_ENTRY ? SILT_OK : failed(dw, dbg, error, err);
}

int silt_units_read_foreign(struct silt_dwarf *dw, uint64_t from, struct silt_error *err)
{
	struct silt_bytes info = silt_dwarf_section(dw, SILT_DW_INFO), abbrev = silt_dwarf_section(dw, SILT_DW_ABBREV);
	struct silt_bytes addr = silt_dwarf_section(dw, SILT_DW_ADDR);
	/* Only what headers need: with fewer sections libdwarf has less to stumble over. It looks at the low_pc of every
	 * unit, which may be an index into .debug_addr. */
	struct silt_libdwarf_section sections[] = {{".debug_info", info.data, info.size},
						   {".debug_abbrev", abbrev.data, abbrev.size},
						   {".debug_addr", addr.data, addr.size}};
	struct silt_libdwarf_file file = {.sections = sections,
					  .count = SILT_ARRAY_LEN(sections) - !addr.size,
					  .address_size = silt_object_is_64(dw->object) ? 8 : 4};
	Dwarf_Error error = NULL;
	Dwarf_Debug dbg = NULL;
	int r;

	r = silt_libdwarf_open(&file, &dbg, &error);
	if (r == DW_DLV_NO_ENTRY)
		return silt_error_set(err, SILT_E_NOT_FOUND, "%s: no debug information", silt_object_path(dw->object));
	if (r == DW_DLV_ERROR)
		return failed(dw, dbg, error, err);
	r = read_all(dw, dbg, from, err);
	silt_libdwarf_close(dbg);
	return r;
}
