/* SPDX-License-Identifier: MIT */
/*
 * Line programs, decoded in one pass without keeping rows: the addresses wanted are sorted, so each stretch between two
 * rows is compared with the next of them only. libdwarf would allocate every row, and its 20210528 release starts the
 * file register of DWARF 5 programs at 0 where compilers rely on 1.
 */
#include "symbols/lines.h"

#include <dwarf.h>
#include <stdio.h>

#include "symbols/forms.h"
#include "symbols/search.h"

enum {
	MAX_FORMATS = 32, /* columns of a DWARF 5 directory or file table; five are defined */
};

struct format {
	uint64_t content;
	struct silt_attr attr;
};

void silt_lines_deinit(struct silt_lines *l)
{
	silt_vec_free(&l->dirs);
	silt_vec_free(&l->files);
}

static bool read_tables_v4(struct silt_lines *l, struct silt_cursor *c)
{
	const char *s;

	while ((s = silt_cursor_string(c)) && *s)
		if (!silt_vec_push(&l->dirs, s))
			return false;
	while ((s = silt_cursor_string(c)) && *s) {
		struct silt_line_file f = {s, silt_cursor_uleb(c)};

		silt_cursor_skip_leb(c);
		silt_cursor_skip_leb(c);
		if (!silt_vec_push(&l->files, f))
			return false;
	}
	return !c->bad;
}

static bool read_formats(struct silt_cursor *c, struct format formats[MAX_FORMATS], unsigned *ret_count)
{
	unsigned count = silt_cursor_u8(c);

	if (count > MAX_FORMATS)
		return false;
	for (unsigned i = 0; i < count; i++) {
		formats[i].content = silt_cursor_uleb(c);
		formats[i].attr = (struct silt_attr){.form = (uint16_t)silt_cursor_uleb(c)};
	}
	*ret_count = count;
	return !c->bad;
}

/* One DWARF 5 table: directories, or files. */
static bool read_table_v5(struct silt_lines *l, struct silt_cursor *c, const struct silt_unit *u,
			  const struct silt_unit_root *root, bool files)
{
	struct format formats[MAX_FORMATS];
	uint64_t rows;
	unsigned count;

	if (!read_formats(c, formats, &count))
		return false;
	rows = silt_cursor_uleb(c);
	if (rows > silt_cursor_left(c) || (rows && !count))
		return false; /* every row takes at least a byte */
	for (uint64_t i = 0; i < rows; i++) {
		struct silt_line_file f = {NULL, 0};

		for (unsigned k = 0; k < count; k++) {
			struct silt_value v = silt_value_read(c, u, NULL, &formats[k].attr);

			if (formats[k].content == DW_LNCT_path)
				f.name = silt_value_string(l->dw, u, root, &v);
			else if (formats[k].content == DW_LNCT_directory_index)
				f.dir = v.u;
		}
		if (c->bad || !(files ? silt_vec_push(&l->files, f) : silt_vec_push(&l->dirs, f.name)))
			return false;
	}
	return true;
}

static bool read_header(struct silt_lines *l, struct silt_cursor *c, const struct silt_unit *unit,
			const struct silt_unit_root *root)
{
	struct silt_unit u = *unit; /* forms in the header have the sizes of the header */
	struct silt_cursor tables;
	uint64_t length;

	if (l->version >= 5) {
		l->address_size = silt_cursor_u8(c);
		silt_cursor_skip(c, 1); /* segment selectors: none on any Linux machine */
	}
	length = silt_cursor_sized(c, l->offset_size);
	if (length > silt_cursor_left(c))
		return false;
	l->program = (struct silt_cursor){c->p + length, c->end, false};
	tables = (struct silt_cursor){c->p, c->p + length, false};
	l->min_instruction = silt_cursor_u8(&tables);
	if (l->version >= 4)
		silt_cursor_skip(&tables, 1); /* operations per instruction: 1 but for VLIW machines */
	silt_cursor_skip(&tables, 1);         /* default_is_stmt: statement marks do not matter here */
	l->line_base = (int8_t)silt_cursor_u8(&tables);
	l->line_range = silt_cursor_u8(&tables);
	l->opcode_base = silt_cursor_u8(&tables);
	l->operand_counts = tables.p;
	if (!l->opcode_base || !l->line_range)
		return false;
	silt_cursor_skip(&tables, l->opcode_base - 1u);
	if (tables.bad)
		return false;
	u.offset_size = l->offset_size;
	u.address_size = l->address_size;
	/* A damaged file table costs the names, not the program's lines. */
	if (l->version < 5)
		(void)read_tables_v4(l, &tables);
	else if (read_table_v5(l, &tables, &u, root, false))
		(void)read_table_v5(l, &tables, &u, root, true);
	return true;
}

int silt_lines_open(struct silt_lines *l, struct silt_dwarf *dw, const struct silt_unit *u, const struct silt_unit_root *root,
		    struct silt_error *err)
{
	struct silt_bytes section = silt_dwarf_section(dw, SILT_DW_LINE);
	struct silt_cursor c = silt_cursor_at(section.data, section.size, root->line);
	uint64_t length;

	l->dirs.count = l->files.count = 0;
	l->dw = dw;
	l->comp_dir = root->comp_dir;
	l->program = (struct silt_cursor){NULL, NULL, true};
	if (root->line == SILT_DW_NONE || c.bad)
		return silt_error_set(err, SILT_E_NOT_FOUND, "the unit has no line table");
	l->offset_size = 4;
	l->address_size = u->address_size;
	length = silt_cursor_u32(&c);
	if (length == UINT32_MAX) {
		length = silt_cursor_u64(&c);
		l->offset_size = 8;
	}
	if (c.bad || length > silt_cursor_left(&c))
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: line table at +0x%llx is cut short",
				      silt_object_path(dw->object), (unsigned long long)root->line);
	c.end = c.p + length;
	l->version = silt_cursor_u16(&c);
	if (l->version < 2 || l->version > 5)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "%s: line table at +0x%llx has unknown version %u",
				      silt_object_path(dw->object), (unsigned long long)root->line, l->version);
	if (!read_header(l, &c, u, root)) {
		l->program = (struct silt_cursor){NULL, NULL, true};
		return silt_error_set(err, SILT_E_BAD_DATA, "%s: line table at +0x%llx is damaged",
				      silt_object_path(dw->object), (unsigned long long)root->line);
	}
	return SILT_OK;
}

/* What a special opcode adds. */
struct step {
	uint32_t address;
	int32_t line;
};

struct machine {
	const uint64_t *pcs;
	size_t n, next;     /* the first wanted address that is not below the current row */
	size_t missing;     /* wanted addresses without a row */
	struct silt_row *rows;
	uint64_t address;
	uint32_t file, line, column, discriminator;
	uint64_t row_address; /* of the last row of this sequence */
	struct silt_row row;
	bool in_sequence, discarded;
	struct step steps[256]; /* by opcode; of the special ones */
};

static void machine_reset(struct machine *m)
{
	m->address = 0;
	m->file = 1;
	m->line = 1;
	m->column = 0;
	m->discriminator = 0;
	m->in_sequence = false;
}

static void machine_init(struct machine *m, const struct silt_lines *l)
{
	int32_t line = l->line_base;
	uint32_t address = 0;

	for (unsigned opcode = l->opcode_base; opcode < 256; opcode++) {
		m->steps[opcode] = (struct step){address, line};
		if (++line == l->line_base + l->line_range) {
			line = l->line_base;
			address += l->min_instruction;
		}
	}
	machine_reset(m);
}

/* The last row held from its address up to here. When sequences overlap the first one found stands. */
static void machine_cover(struct machine *m)
{
	for (; m->next < m->n && m->pcs[m->next] < m->address; m->next++) {
		if (!m->rows[m->next].found) {
			m->rows[m->next] = m->row;
			m->missing--;
		}
	}
}

static inline void machine_emit(struct machine *m, const struct silt_lines *l)
{
	if (!m->in_sequence) {
		m->discarded = !silt_dwarf_is_code(l->dw, m->address);
		m->in_sequence = true;
		m->next = silt_lower_bound(m->pcs, m->n, m->address);
	} else if (m->address > m->row_address) {
		if (m->next < m->n && m->pcs[m->next] < m->address && !m->discarded)
			machine_cover(m);
	} else if (m->address < m->row_address) {
		m->next = silt_lower_bound(m->pcs, m->n, m->address);
	}
	m->row_address = m->address;
	m->row = (struct silt_row){true, m->file, m->line, m->column, m->discriminator};
	m->discriminator = 0;
}

/* DW_LNE_set_address. */
static uint64_t read_address(struct silt_cursor *op, uint64_t length)
{
	return silt_cursor_sized(op, (unsigned)(length - 1 == 4 ? 4 : 8));
}

/* An extended opcode's operands. */
static bool open_extended(struct silt_cursor *c, uint64_t *ret_length, struct silt_cursor *ret)
{
	uint64_t length = silt_cursor_uleb(c);

	if (c->bad || !length || length > silt_cursor_left(c)) {
		silt_cursor_fail(c);
		return false;
	}
	*ret_length = length;
	*ret = (struct silt_cursor){c->p, c->p + length, false};
	silt_cursor_skip(c, length);
	return true;
}

static void run_extended(struct machine *m, struct silt_lines *l, struct silt_cursor *c)
{
	uint64_t length;
	struct silt_cursor op;
	struct silt_line_file f;

	if (!open_extended(c, &length, &op))
		return;
	switch (silt_cursor_u8(&op)) {
	case DW_LNE_end_sequence:
		machine_emit(m, l);
		machine_reset(m);
		break;
	case DW_LNE_set_address:
		m->address = read_address(&op, length);
		break;
	case DW_LNE_set_discriminator:
		m->discriminator = (uint32_t)silt_cursor_uleb(&op);
		break;
	case DW_LNE_define_file:
		f.name = silt_cursor_string(&op);
		f.dir = silt_cursor_uleb(&op);
		if (l->version < 5 && !op.bad)
			(void)silt_vec_push(&l->files, f);
		break;
	default:
		break;
	}
}

/* An extension: the header says how many operands it has. */
static void skip_unknown(const struct silt_lines *l, struct silt_cursor *c, uint8_t opcode)
{
	for (unsigned i = l->operand_counts[opcode - 1]; i && !c->bad; i--)
		silt_cursor_skip_leb(c);
}

static void run_standard(struct machine *m, const struct silt_lines *l, struct silt_cursor *c, uint8_t opcode)
{
	switch (opcode) {
	case DW_LNS_copy:
		machine_emit(m, l);
		break;
	case DW_LNS_advance_pc:
		m->address += silt_cursor_uleb(c) * l->min_instruction;
		break;
	case DW_LNS_advance_line:
		m->line += (uint32_t)silt_cursor_sleb(c);
		break;
	case DW_LNS_set_file:
		m->file = (uint32_t)silt_cursor_uleb(c);
		break;
	case DW_LNS_set_column:
		m->column = (uint32_t)silt_cursor_uleb(c);
		break;
	case DW_LNS_const_add_pc:
		m->address += m->steps[255].address;
		break;
	case DW_LNS_fixed_advance_pc:
		m->address += silt_cursor_u16(c);
		break;
	case DW_LNS_negate_stmt:
	case DW_LNS_set_basic_block:
	case DW_LNS_set_prologue_end:
	case DW_LNS_set_epilogue_begin:
		break;
	case DW_LNS_set_isa:
		silt_cursor_skip_leb(c);
		break;
	default:
		skip_unknown(l, c, opcode);
		break;
	}
}

/* Passes over the rest of a sequence that stands behind every wanted address, as most of a large unit do when few are wanted.
 * False, with the cursor where it was, when it may go back, or has more to tell than rows. */
static bool skim(const struct silt_lines *l, struct silt_cursor *c, uint64_t last)
{
	struct silt_cursor at = *c, op;
	uint64_t length;

	while (!at.bad && at.p < at.end) {
		uint8_t opcode = *at.p++;

		if (opcode >= l->opcode_base)
			continue;
		switch (opcode) {
		case 0:
			if (!open_extended(&at, &length, &op))
				return false;
			switch (silt_cursor_u8(&op)) {
			case DW_LNE_end_sequence:
				*c = at;
				return true;
			case DW_LNE_set_address:
				if (read_address(&op, length) <= last)
					return false;
				break;
			case DW_LNE_define_file:
				return false;
			default:
				break;
			}
			break;
		case DW_LNS_advance_pc:
			if (silt_cursor_uleb(&at) > UINT32_MAX)
				return false; /* backwards */
			break;
		case DW_LNS_fixed_advance_pc:
			silt_cursor_skip(&at, 2);
			break;
		case DW_LNS_advance_line:
		case DW_LNS_set_file:
		case DW_LNS_set_column:
		case DW_LNS_set_isa:
			silt_cursor_skip_leb(&at);
			break;
		case DW_LNS_copy:
		case DW_LNS_const_add_pc:
		case DW_LNS_negate_stmt:
		case DW_LNS_set_basic_block:
		case DW_LNS_set_prologue_end:
		case DW_LNS_set_epilogue_begin:
			break;
		default:
			skip_unknown(l, &at, opcode);
			break;
		}
	}
	return false;
}

void silt_lines_find(struct silt_lines *l, const uint64_t *pcs, size_t n, struct silt_row *ret)
{
	struct machine m = {.pcs = pcs, .n = n, .missing = n, .rows = ret};
	struct silt_cursor c = l->program;
	bool fresh = true; /* the sequence's first row is still to come */

	memset(ret, 0, n * sizeof(*ret));
	machine_init(&m, l);
	while (!c.bad && c.p < c.end && m.missing) {
		uint8_t opcode = *c.p++;

		if (opcode >= l->opcode_base) {
			m.address += m.steps[opcode].address;
			m.line += (uint32_t)m.steps[opcode].line;
			machine_emit(&m, l);
		} else if (opcode) {
			run_standard(&m, l, &c, opcode);
		} else {
			run_extended(&m, l, &c);
		}
		if (fresh && m.in_sequence && m.address > pcs[n - 1] && skim(l, &c, pcs[n - 1]))
			machine_reset(&m);
		fresh = !m.in_sequence;
	}
}

static const char *directory(const struct silt_lines *l, uint64_t dir)
{
	if (l->version >= 5)
		return dir < l->dirs.count ? l->dirs.items[dir] : NULL;
	if (dir == 0)
		return l->comp_dir;
	return dir - 1 < l->dirs.count ? l->dirs.items[dir - 1] : NULL;
}

bool silt_lines_path(const struct silt_lines *l, uint32_t file, char *buffer, size_t size)
{
	size_t index = l->version >= 5 ? file : (size_t)file - 1;
	const char *name, *dir, *base;
	int len;

	if ((l->version < 5 && !file) || index >= l->files.count)
		return false;
	name = l->files.items[index].name;
	if (!name || !*name)
		return false;
	dir = directory(l, l->files.items[index].dir);
	/* In DWARF 5 directory 0 is the compilation directory; others may be relative to it. */
	base = l->comp_dir && dir != l->comp_dir && (l->version < 5 || l->files.items[index].dir) ? l->comp_dir : NULL;
	if (name[0] == '/' || !dir || !*dir)
		len = snprintf(buffer, size, "%s", name);
	else if (dir[0] == '/' || !base || !*base)
		len = snprintf(buffer, size, "%s/%s", dir, name);
	else
		len = snprintf(buffer, size, "%s/%s/%s", base, dir, name);
	return len > 0 && (size_t)len < size;
}
