/* SPDX-License-Identifier: MIT */
/*
 * Line programs at random: an address that is asked for alone, which lets most of the program be passed over, has the answer that
 * it has among all others, and that a plain interpreter gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "symbols/lines.h"

enum { PROGRAMS = 1500, BASE = 0x1000, ADDRESSES = 600, OPCODE_BASE = 14, LINE_RANGE = 14, MAX_BYTES = 4096 };

static const uint8_t operand_counts[OPCODE_BASE - 1] = {0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 2};
static uint64_t state = 88172645463325252u;

static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static size_t put_leb(uint8_t *p, uint64_t v)
{
	size_t n = 0;

	do {
		p[n] = v & 0x7f;
		v >>= 7;
		if (v)
			p[n] |= 0x80;
	} while (p[n++] & 0x80);
	return n;
}

static size_t set_address(uint8_t *p, uint64_t address)
{
	p[0] = 0;
	p[1] = 9;
	p[2] = 2;
	memcpy(p + 3, &address, 8);
	return 11;
}

/* Some sequences, of which some lie behind others, overlap, go back, or are left by linkers at 0. */
static size_t make_program(uint8_t *p)
{
	size_t n = 0, sequences = 1 + draw(8);

	for (size_t s = 0; s < sequences; s++) {
		size_t ops = draw(40);

		n += set_address(p + n, draw(10) ? BASE + draw(ADDRESSES) : 0);
		for (size_t i = 0; i < ops; i++) {
			switch (draw(16)) {
			case 0: /* copy */
				p[n++] = 1;
				break;
			case 1: /* advance_pc; at times backwards */
				p[n++] = 2;
				n += put_leb(p + n, draw(12) ? draw(30) : (uint64_t)-(int64_t)draw(50));
				break;
			case 2: /* advance_line, set_file, set_column, set_isa */
				p[n++] = (uint8_t)(draw(3) ? 3 + draw(3) : 12);
				n += put_leb(p + n, draw(60));
				break;
			case 3: /* negate_stmt, set_basic_block, const_add_pc, prologue_end, epilogue_begin */
				p[n++] = (uint8_t[]){6, 7, 8, 10, 11}[draw(5)];
				break;
			case 4: /* fixed_advance_pc */
				p[n++] = 9;
				p[n++] = (uint8_t)draw(30);
				p[n++] = 0;
				break;
			case 5: /* an unknown opcode with two operands */
				p[n++] = 13;
				p[n++] = 1;
				p[n++] = 2;
				break;
			case 6: /* discriminator, or an unknown extended opcode */
				p[n++] = 0;
				p[n++] = 2;
				p[n++] = draw(2) ? 4 : 0x80;
				p[n++] = (uint8_t)draw(9);
				break;
			case 7:
				if (!draw(6))
					n += set_address(p + n, BASE + draw(ADDRESSES));
				break;
			default:
				p[n++] = (uint8_t)(OPCODE_BASE + draw(256 - OPCODE_BASE));
			}
		}
		if (draw(12)) {
			p[n++] = 0;
			p[n++] = 1;
			p[n++] = 1;
		}
	}
	return n;
}

struct plain {
	uint64_t address;
	uint32_t file, line, column, discriminator;
};

static uint64_t get_leb(const uint8_t **p)
{
	uint64_t v = 0;
	unsigned shift = 0;

	do
		v |= shift < 64 ? (uint64_t)(**p & 0x7f) << shift : 0;
	while (shift += 7, *(*p)++ & 0x80);
	return v;
}

/* After the standard (6.2.5), row by row: the first stretch between two rows of a sequence that holds the address. */
static struct silt_row interpret(const uint8_t *p, size_t size, uint64_t pc)
{
	struct plain m = {0, 1, 1, 0, 0}, row = {0};
	const uint8_t *end = p + size;
	bool in_sequence = false, discarded = false;

	while (p < end) {
		uint8_t op = *p++;
		bool emit = op == 1, ends = false;

		if (op >= OPCODE_BASE) {
			m.address += (op - OPCODE_BASE) / LINE_RANGE;
			m.line += (uint32_t)(-5 + (op - OPCODE_BASE) % LINE_RANGE);
			emit = true;
		} else if (op == 0) {
			uint64_t length = get_leb(&p);
			const uint8_t *next = p + length;

			ends = emit = *p == 1;
			if (*p == 2)
				memcpy(&m.address, p + 1, 8);
			else if (*p == 4)
				m.discriminator = p[1];
			p = next;
		} else if (op == 2) {
			m.address += get_leb(&p);
		} else if (op == 3) {
			uint64_t v = get_leb(&p);

			m.line += (uint32_t)(v & 0x40 && v < 0x80 ? v | ~(uint64_t)0x7f : v);
		} else if (op == 4) {
			m.file = (uint32_t)get_leb(&p);
		} else if (op == 5) {
			m.column = (uint32_t)get_leb(&p);
		} else if (op == 8) {
			m.address += (255 - OPCODE_BASE) / LINE_RANGE;
		} else if (op == 9) {
			m.address += (uint64_t)p[0] | (uint64_t)p[1] << 8;
			p += 2;
		} else {
			for (unsigned i = operand_counts[op - 1]; i; i--)
				get_leb(&p);
		}
		if (!emit)
			continue;
		if (in_sequence && !discarded && row.address <= pc && pc < m.address)
			return (struct silt_row){true, row.file, row.line, row.column, row.discriminator};
		if (!in_sequence)
			discarded = !m.address;
		in_sequence = true;
		row = m;
		m.discriminator = 0;
		if (ends) {
			m = (struct plain){0, 1, 1, 0, 0};
			in_sequence = false;
		}
	}
	return (struct silt_row){0};
}

static bool same_row(const struct silt_row *a, const struct silt_row *b)
{
	return a->found == b->found && (!a->found || (a->file == b->file && a->line == b->line && a->column == b->column &&
						      a->discriminator == b->discriminator));
}

static void an_address_alone_has_the_answer_it_has_among_others(void **unused)
{
	static uint8_t program[MAX_BYTES];
	static struct silt_row all[ADDRESSES];
	uint64_t pcs[ADDRESSES];
	struct silt_dwarf dw = {0};
	size_t found = 0;

	(void)unused;
	for (size_t i = 0; i < ADDRESSES; i++)
		pcs[i] = BASE + i;
	for (int round = 0; round < PROGRAMS; round++) {
		size_t size = make_program(program);
		struct silt_lines l = {.dw = &dw, .version = 4, .min_instruction = 1, .line_base = -5, .line_range = LINE_RANGE,
				       .opcode_base = OPCODE_BASE, .operand_counts = operand_counts,
				       .program = {program, program + size, false}};

		assert_true(size < MAX_BYTES);
		silt_lines_find(&l, pcs, ADDRESSES, all);
		for (size_t i = 0; i < ADDRESSES; i += 1 + draw(40)) {
			struct silt_row alone, plain = interpret(program, size, pcs[i]);

			silt_lines_find(&l, &pcs[i], 1, &alone);
			found += alone.found;
			if (!same_row(&alone, &all[i]) || !same_row(&alone, &plain))
				fail_msg("program %d, address +%zu: line %u alone, %u among others, %u by the standard", round, i,
					 alone.line, all[i].line, plain.line);
		}
		silt_lines_deinit(&l);
	}
	assert_true(found > PROGRAMS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_alone_has_the_answer_it_has_among_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
