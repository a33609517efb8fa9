/* SPDX-License-Identifier: MIT */
/*
 * The rows of whole libraries against two independent readers of the same sections.
 *
 * usage: test_cfi_oracle READELF LLVM_DWARFDUMP FILE...   a missing tool is given as an empty word
 *
 * readelf --debug-dump=frames-interp is asked first: every row of every FDE, at its first and last byte and one at
 * random between. It prints an expression as "exp" only, and "u" both for undefined and for never mentioned; so
 * llvm-dwarfdump --eh-frame is asked as well, and its rows, expressions written out, must be equal as text. Version 14
 * of it does not restore the CFA in DW_CFA_restore_state (DWARF says it does, readelf and all unwinders do), so behind
 * such an instruction only its registers are compared.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/agent/cfi_image.h"

#define SKIP 77
#define CELLS (CFI_REGS + 8)
#define CELL 24
#define ROWS_MAX 65536
#define SHOW_MAX 20 /* differences printed per file */

static const char *const reg_names[CFI_REGS] = {"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8",
						"r9",  "r10", "r11", "r12", "r13", "r14", "r15", "ra"};

struct row {
	uint64_t loc;
	char cfa[CELL];
	char reg[CFI_REGS][CELL]; /* empty: no column */
};

/* What is gathered while a dump of one file is read. */
struct check {
	const char *path;
	struct cfi_image image;
	unsigned long fdes, lookups, expressions, registers_only, other_fde, different;
};

static struct row rows[ROWS_MAX], cie_row;
static size_t row_count;

static void differs(struct check *k, uint64_t pc, const char *fmt, ...)
{
	va_list ap;

	if (++k->different > SHOW_MAX)
		return;
	printf("  %s: pc 0x%llx: ", k->path, (unsigned long long)pc);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* The row at file address pc; NULL and a difference when there is none, NULL without one when another FDE that also
 * covers pc was found (counted). */
static const struct cfi_row *row_at(struct check *k, uint64_t begin, uint64_t end, uint64_t pc)
{
	static struct cfi_row row;

	k->lookups++;
	if (!cfi_find_row(&k->image.module, pc + k->image.bias, &row)) {
		differs(k, pc, "no row found");
		return NULL;
	}
	if (row.pc_begin == begin + k->image.bias && row.pc_end == end + k->image.bias)
		return &row;
	if (pc + k->image.bias >= row.pc_begin && pc + k->image.bias < row.pc_end)
		k->other_fde++;
	else
		differs(k, pc, "the row's range does not hold it");
	return NULL;
}

/* One register rule in readelf's notation. */
static void rule_print(const struct cfi_reg_rule *r, char *ret, size_t size)
{
	switch (r->how) {
	case CFI_OFFSET:
		snprintf(ret, size, "c%+d", r->offset);
		break;
	case CFI_VAL_OFFSET:
		snprintf(ret, size, "v%+d", r->offset);
		break;
	case CFI_REGISTER:
		snprintf(ret, size, "r%d", r->offset);
		break;
	case CFI_EXPR:
		snprintf(ret, size, "exp");
		break;
	case CFI_VAL_EXPR:
		snprintf(ret, size, "vexp");
		break;
	default:
		snprintf(ret, size, r->how == CFI_SAME ? "s" : "u");
	}
}

static void readelf_compare(struct check *k, uint64_t pc, const struct row *want, const struct cfi_row *row)
{
	char cell[CELL];

	if (row->cfa_expr)
		snprintf(cell, sizeof(cell), "exp");
	else
		snprintf(cell, sizeof(cell), "%s%+d", reg_names[row->cfa_reg], row->cfa_offset);
	if (strcmp(cell, want->cfa) != 0)
		differs(k, pc, "CFA is %s, readelf says %s", cell, want->cfa);
	for (unsigned i = 0; i < CFI_REGS; i++) {
		const char *w = want->reg[i][0] ? want->reg[i] : "u";

		if (strcmp(w, "u") == 0 && row->regs[i].how == CFI_SAME)
			continue;
		rule_print(&row->regs[i], cell, sizeof(cell));
		if (strcmp(cell, w) != 0)
			differs(k, pc, "%s is %s, readelf says %s", reg_names[i], cell, w);
	}
}

/* Compares the rows gathered for one FDE; without any, the CIE's row holds everywhere. */
static void readelf_fde_check(struct check *k, uint64_t begin, uint64_t end)
{
	if (begin >= end)
		return;
	if (row_count == 0) {
		rows[0] = cie_row;
		rows[0].loc = begin;
		row_count = 1;
	}
	k->fdes++;
	for (size_t i = 0; i < row_count; i++) {
		uint64_t lo = rows[i].loc, hi = i + 1 < row_count ? rows[i + 1].loc : end, pc[3];

		if (hi <= lo)
			continue;
		pc[0] = lo;
		pc[1] = hi - 1;
		pc[2] = lo + (uint64_t)random() % (hi - lo);
		for (unsigned j = 0; j < 3; j++) {
			const struct cfi_row *row = row_at(k, begin, end, pc[j]);

			if (row)
				readelf_compare(k, pc[j], &rows[i], row);
		}
	}
}

/* Splits at blanks; "(rdi)" behind a register number is a comment. */
static unsigned cells_split(char *line, char *ret[CELLS])
{
	unsigned n = 0;

	for (char *p = strtok(line, " \n"); p && n < CELLS; p = strtok(NULL, " \n"))
		if (*p != '(')
			ret[n++] = p;
	return n;
}

/* "0000000000027280 rsp+8 ...", not the empty line, the end mark or the text around the section. */
static bool readelf_line_is_row(const char *line)
{
	return strspn(line, "0123456789abcdef") == 16 && line[16] == ' ' && !strstr(line, "ZERO");
}

static void readelf_row_parse(char *line, const int *columns, unsigned column_count, struct row *ret)
{
	char *cells[CELLS];
	unsigned n = cells_split(line, cells);

	memset(ret, 0, sizeof(*ret));
	if (n < 2)
		return;
	ret->loc = strtoull(cells[0], NULL, 16);
	snprintf(ret->cfa, CELL, "%s", cells[1]);
	for (unsigned i = 2; i < n && i < column_count; i++)
		if (columns[i] >= 0)
			snprintf(ret->reg[columns[i]], CELL, "%s", cells[i]);
}

static unsigned readelf_header_parse(char *line, int *ret_columns)
{
	char *cells[CELLS];
	unsigned n = cells_split(line, cells);

	for (unsigned i = 0; i < n; i++) {
		ret_columns[i] = -1;
		for (int r = 0; r < CFI_REGS; r++)
			if (strcmp(cells[i], reg_names[r]) == 0)
				ret_columns[i] = r;
	}
	return n;
}

/* CIE rows by the CIE's place, for FDEs that add nothing. */
struct cie {
	unsigned long at;
	struct row row;
};
static struct cie cies[8192];
static size_t cie_count;

static void cie_row_select(unsigned long at)
{
	memset(&cie_row, 0, sizeof(cie_row));
	for (size_t i = 0; i < cie_count; i++)
		if (cies[i].at == at)
			cie_row = cies[i].row;
}

static void readelf_dump_check(struct check *k, FILE *dump)
{
	unsigned long long begin = 0, end = 0;
	unsigned long at, cie;
	int columns[CELLS] = {0};
	unsigned column_count = 0;
	bool in_fde = false, in_cie = false, in_eh_frame = false;
	char line[1024];

	cie_count = 0;
	row_count = 0;
	while (fgets(line, sizeof(line), dump)) {
		bool fde_line = strstr(line, " FDE cie=") != NULL, cie_line = strstr(line, " CIE ") != NULL;

		if (strncmp(line, "Contents of", 11) == 0)
			in_eh_frame = strstr(line, ".eh_frame ") != NULL;
		if (!in_eh_frame)
			continue;
		if (fde_line || cie_line) {
			if (in_fde)
				readelf_fde_check(k, begin, end);
			row_count = 0;
			in_fde = fde_line && sscanf(line, "%lx %*x %*x FDE cie=%lx pc=%llx..%llx", &at, &cie,
						    &begin, &end) == 4;
			in_cie = cie_line && sscanf(line, "%lx", &at) == 1;
			if (in_fde)
				cie_row_select(cie);
		} else if (strncmp(line, "   LOC", 6) == 0) {
			column_count = readelf_header_parse(line, columns);
		} else if (in_fde && readelf_line_is_row(line) && row_count < ROWS_MAX) {
			readelf_row_parse(line, columns, column_count, &rows[row_count++]);
		} else if (in_cie && readelf_line_is_row(line) && cie_count < sizeof(cies) / sizeof(cies[0])) {
			cies[cie_count].at = at;
			readelf_row_parse(line, columns, column_count, &cies[cie_count++].row);
			in_cie = false;
		}
	}
	if (in_fde)
		readelf_fde_check(k, begin, end);
}

/* llvm-dwarfdump's names. */
static const char *llvm_reg(unsigned reg)
{
	static const char *const names[CFI_REGS] = {"RAX", "RDX", "RCX", "RBX", "RSI", "RDI", "RBP", "RSP", "R8",
						    "R9",  "R10", "R11", "R12", "R13", "R14", "R15", "RIP"};

	return reg < CFI_REGS ? names[reg] : "?";
}

/* Names of the operations without operands that expressions in the tested files use. */
static const char *llvm_op(uint8_t op)
{
	switch (op) {
	case 0x06:
		return "DW_OP_deref";
	case 0x12:
		return "DW_OP_dup";
	case 0x1a:
		return "DW_OP_and";
	case 0x1c:
		return "DW_OP_minus";
	case 0x1e:
		return "DW_OP_mul";
	case 0x22:
		return "DW_OP_plus";
	case 0x24:
		return "DW_OP_shl";
	case 0x2a:
		return "DW_OP_ge";
	default:
		return "?";
	}
}

static int64_t leb_read(const uint8_t **p, bool is_signed)
{
	int64_t v = 0;
	unsigned shift = 0;
	uint8_t b;

	do {
		b = *(*p)++;
		v |= (int64_t)(b & 0x7f) << shift;
		shift += 7;
	} while (b & 0x80);
	if (is_signed && (b & 0x40))
		v -= (int64_t)1 << shift;
	return v;
}

static void llvm_expr_print(FILE *out, const uint8_t *p, uint32_t len)
{
	const uint8_t *end = p + len;

	for (bool first = true; p < end; first = false) {
		uint8_t op = *p++;

		fputs(first ? "" : ", ", out);
		if (op >= 0x30 && op <= 0x4f)
			fprintf(out, "DW_OP_lit%d", op - 0x30);
		else if (op >= 0x70 && op <= 0x8f)
			fprintf(out, "DW_OP_breg%d %s%+lld", op - 0x70, llvm_reg(op - 0x70u),
				(long long)leb_read(&p, true));
		else if (op == 0x23)
			fprintf(out, "DW_OP_plus_uconst 0x%llx", (unsigned long long)leb_read(&p, false));
		else
			fputs(llvm_op(op), out);
	}
}

static void llvm_offset_print(FILE *out, const char *base, int32_t offset)
{
	if (offset)
		fprintf(out, "%s%+d", base, offset);
	else
		fputs(base, out);
}

static void llvm_rule_print(FILE *out, const struct cfi_reg_rule *r)
{
	switch (r->how) {
	case CFI_UNDEFINED:
		fputs("undefined", out);
		break;
	case CFI_OFFSET:
		fputs("[", out);
		llvm_offset_print(out, "CFA", r->offset);
		fputs("]", out);
		break;
	case CFI_VAL_OFFSET:
		llvm_offset_print(out, "CFA", r->offset);
		break;
	case CFI_REGISTER:
		fputs(llvm_reg((unsigned)r->offset), out);
		break;
	case CFI_EXPR:
		fputs("[", out);
		llvm_expr_print(out, r->expr, r->expr_len);
		fputs("]", out);
		break;
	case CFI_VAL_EXPR:
		llvm_expr_print(out, r->expr, r->expr_len);
		break;
	}
}

static void llvm_row_print(const struct cfi_row *row, bool with_cfa, char *ret, size_t size)
{
	FILE *out = fmemopen(ret, size, "w");
	const char *separator = ": ";

	if (with_cfa) {
		fputs("CFA=", out);
		if (row->cfa_expr)
			llvm_expr_print(out, row->cfa_expr, row->cfa_expr_len);
		else
			llvm_offset_print(out, llvm_reg(row->cfa_reg), row->cfa_offset);
	}
	for (unsigned i = 0; i < CFI_REGS; i++) {
		if (row->regs[i].how == CFI_SAME)
			continue;
		fprintf(out, "%s%s=", separator, llvm_reg(i));
		llvm_rule_print(out, &row->regs[i]);
		separator = ", ";
	}
	fputc(0, out);
	fclose(out);
}

/* "same" is printed where it was said and left out where it was not; both are the same rule. */
static void llvm_same_drop(char *text)
{
	char *at, *from;

	while ((at = strstr(text, "=same")) != NULL) {
		char *rest = at + 5;

		for (from = at; from > text && from[-1] != ' '; from--)
			;
		if (strncmp(rest, ", ", 2) == 0)
			rest += 2;
		else
			from -= 2; /* the separator before it */
		memmove(from, rest, strlen(rest) + 1);
	}
}

static void llvm_row_check(struct check *k, uint64_t begin, uint64_t end, char *line, bool cfa_valid)
{
	uint64_t pc = strtoull(line, &line, 16);
	char *want = line + 2, got[4096];
	const struct cfi_row *row;

	if (pc >= end)
		return;
	want[strcspn(want, "\n")] = 0;
	llvm_same_drop(want);
	row = row_at(k, begin, end, pc);
	if (!row)
		return;
	if (!cfa_valid) {
		char *regs = strstr(want, ": ");

		k->registers_only++;
		want = regs ? regs : want + strlen(want);
	}
	k->expressions += strstr(want, "DW_OP") != NULL;
	llvm_row_print(row, cfa_valid, got, sizeof(got));
	if (strcmp(got, want) != 0)
		differs(k, pc, "row is %s, llvm-dwarfdump says %s", got, want);
}

static void llvm_dump_check(struct check *k, FILE *dump)
{
	unsigned long long begin = 0, end = 0;
	bool cfa_valid = true, in_eh_frame = false;
	static char line[8192];

	while (fgets(line, sizeof(line), dump)) {
		if (strncmp(line, ".eh_frame", 9) == 0 || strncmp(line, ".debug_frame", 12) == 0)
			in_eh_frame = line[1] == 'e';
		if (!in_eh_frame)
			continue;
		if (strstr(line, " CIE"))
			end = 0;
		if (strstr(line, " FDE cie=") &&
		    sscanf(line, "%*x %*x %*x FDE cie=%*x pc=%llx...%llx", &begin, &end) == 2) {
			k->fdes++;
			cfa_valid = true;
		}
		if (strstr(line, "DW_CFA_restore_state"))
			cfa_valid = false;
		if (strncmp(line, "  0x", 4) == 0)
			llvm_row_check(k, begin, end, line, cfa_valid);
	}
}

typedef void (*dump_check_fn)(struct check *k, FILE *dump);

/* False when the file differs from what the tool says. */
static bool file_check(const char *tool, const char *option, const char *path, dump_check_fn fn)
{
	struct check k = {.path = path};
	char command[4096];
	FILE *dump;

	if (cfi_image_load(path, &k.image) != 0) {
		printf("  %s: cannot be mapped\n", path);
		return false;
	}
	snprintf(command, sizeof(command), "'%s' %s '%s' 2>/dev/null", tool, option, path);
	dump = popen(command, "r");
	if (dump) {
		fn(&k, dump);
		pclose(dump);
	}
	cfi_image_unload(&k.image);
	printf("%s %s: %lu FDEs, %lu rows looked up (%lu with expressions, %lu registers only), %lu in another "
	       "FDE, "
	       "%lu different\n",
	       strrchr(tool, '/') ? strrchr(tool, '/') + 1 : tool, path, k.fdes, k.lookups, k.expressions,
	       k.registers_only, k.other_fde, k.different);
	return k.different == 0 && k.other_fde == 0 && k.lookups > 0;
}

int main(int argc, char **argv)
{
	bool ok = true;

	if (argc < 4 || (!argv[1][0] && !argv[2][0]))
		return SKIP;
	for (int i = 3; i < argc; i++) {
		if (argv[1][0])
			ok &= file_check(argv[1], "--debug-dump=frames-interp", argv[i], readelf_dump_check);
		if (argv[2][0])
			ok &= file_check(argv[2], "--eh-frame", argv[i], llvm_dump_check);
	}
	return ok ? 0 : 1;
}
