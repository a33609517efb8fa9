/* SPDX-License-Identifier: MIT */
/* Instructions are decoded with Zydis; what is relative to their place is written anew (Intel SDM volume 2). */
#include "capture/attach/relocate.h"

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <string.h>

struct instruction {
	ZydisDecodedInstruction i;
	uint8_t relative_at, relative_size; /* of the operand relative to the next instruction; size 0: none */
	int64_t relative;
	bool branch;
};

struct mover {
	const uint8_t *code;
	uint8_t *out;
	struct silt_moved *m;
	silt_addr to;
	bool ended; /* no way leads behind the last instruction */
};

static bool decode(const uint8_t *code, uint32_t size, struct instruction *ret)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction *i = &ret->i;

#if !__has_include(<Zydis/Disassembler.h>) /* Zydis 3: Ubuntu 22.04 */
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_ADDRESS_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeBuffer(&decoder, code, size, i)))
		return false;
#else
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, code, size, i)))
		return false;
#endif
	ret->relative_size = 0;
	ret->relative = 0;
	ret->branch = false;
	for (int k = 0; k < 2; k++)
		if (i->raw.imm[k].size && i->raw.imm[k].is_relative) {
			ret->relative_at = i->raw.imm[k].offset;
			ret->relative_size = i->raw.imm[k].size / 8;
			ret->relative = i->raw.imm[k].value.s;
			ret->branch = true;
		}
	if (!ret->branch && (i->attributes & ZYDIS_ATTRIB_HAS_MODRM) && i->raw.modrm.mod == 0 && i->raw.modrm.rm == 5) {
		ret->relative_at = i->raw.disp.offset;
		ret->relative_size = i->raw.disp.size / 8;
		ret->relative = i->raw.disp.value;
	}
	return true;
}

static bool ends_flow(const struct instruction *x)
{
	return x->i.meta.category == ZYDIS_CATEGORY_RET || x->i.meta.category == ZYDIS_CATEGORY_UNCOND_BR;
}

static bool is_padding(const uint8_t *p, uint64_t n)
{
	for (uint64_t at = 0; at < n;) {
		struct instruction x;

		if (!decode(p + at, (uint32_t)(n - at), &x) ||
		    (x.i.mnemonic != ZYDIS_MNEMONIC_NOP && x.i.mnemonic != ZYDIS_MNEMONIC_INT3))
			return false;
		at += x.i.length;
	}
	return true;
}

static int put_rel32(struct mover *v, silt_addr target, struct silt_error *err)
{
	int64_t rel = (int64_t)(target - (v->to + v->m->out_size + 4));
	int32_t rel32 = (int32_t)rel;

	if (rel != rel32)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "its first instructions reach farther than two gigabytes");
	memcpy(v->out + v->m->out_size, &rel32, 4);
	v->m->out_size += 4;
	return 0;
}

static void put(struct mover *v, const void *bytes, uint32_t size)
{
	memcpy(v->out + v->m->out_size, bytes, size);
	v->m->out_size += size;
}

/* Branches become their 32-bit forms. A call's return address must be the original one: it is what unwinders know, and the
 * trampoline may go away meanwhile. */
static int move_branch(struct mover *v, const struct instruction *x, silt_addr target, silt_addr next, struct silt_error *err)
{
	uint8_t two[2];

	switch (x->i.meta.category) {
	case ZYDIS_CATEGORY_UNCOND_BR:
		put(v, "\xe9", 1);
		return put_rel32(v, target, err);
	case ZYDIS_CATEGORY_COND_BR:
		if (x->i.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (x->i.opcode & 0xf0) == 0x70)
			two[1] = (uint8_t)(0x80 | (x->i.opcode & 0xf));
		else if (x->i.opcode_map == ZYDIS_OPCODE_MAP_0F && (x->i.opcode & 0xf0) == 0x80)
			two[1] = x->i.opcode;
		else
			return silt_error_set(err, SILT_E_UNSUPPORTED, "it begins with a loop instruction");
		two[0] = 0x0f;
		put(v, two, 2);
		return put_rel32(v, target, err);
	case ZYDIS_CATEGORY_CALL:
		put(v, "\xff\x35\5\0\0\0\xe9", 7); /* push the word behind the jump; jmp */
		v->ended = true;
		if (put_rel32(v, target, err))
			return SILT_E_UNSUPPORTED;
		put(v, &next, 8);
		return 0;
	default:
		return silt_error_set(err, SILT_E_UNSUPPORTED, "it begins with a branch of an unknown kind");
	}
}

static int move_one(struct mover *v, const struct instruction *x, uint32_t from, struct silt_error *err)
{
	silt_addr next = v->m->at + from + x->i.length, target = next + (uint64_t)x->relative;
	uint32_t n = v->m->count;

	if (n == SILT_ARRAY_LEN(v->m->from))
		return silt_error_set(err, SILT_E_UNSUPPORTED, "its first instructions are too many");
	v->m->from[n] = (uint8_t)from;
	v->m->to[n] = (uint8_t)v->m->out_size;
	v->m->count++;
	if (x->branch)
		return move_branch(v, x, target, next, err);
	put(v, v->code + from, x->i.length);
	if (x->relative_size) {
		uint32_t tail = x->i.length - x->relative_at, end = v->m->out_size;
		int64_t rel = (int64_t)(target - (v->to + end));
		int32_t rel32 = (int32_t)rel;

		if (rel != rel32 || x->relative_size != 4 || tail < 4)
			return silt_error_set(err, SILT_E_UNSUPPORTED, "its first instructions reach farther than two gigabytes");
		memcpy(v->out + end - tail, &rel32, 4);
	}
	return 0;
}

/* A branch of the function back into the bytes that are to be replaced would land inside the jump. */
static int check_body(const uint8_t *code, uint64_t size, uint32_t moved, struct silt_error *err)
{
	for (uint64_t at = 0; at < size;) {
		struct instruction x;
		uint64_t target;

		if (!decode(code + at, (uint32_t)(size - at), &x)) {
			at++;
			continue;
		}
		target = at + x.i.length + (uint64_t)x.relative;
		if (x.branch && target > 0 && target < moved)
			return silt_error_set(err, SILT_E_UNSUPPORTED, "it jumps back into its first instructions");
		at += x.i.length;
	}
	return 0;
}

int silt_relocate(const uint8_t *code, uint32_t have, uint64_t function_size, silt_addr entry, silt_addr to,
		  uint8_t out[SILT_TRAMPOLINE_MAX], struct silt_moved *ret, struct silt_error *err)
{
	static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
	struct silt_moved m = { .at = entry };
	struct mover v = { .code = code, .out = out, .m = &m, .to = to };
	uint64_t own = function_size && function_size < have ? function_size : have;
	int rc = 0;

	if (own >= 4 && !memcmp(code, endbr64, 4)) {
		v.code += 4;
		m.at += 4;
		have -= 4;
		own -= 4;
	}
	while (!rc && m.size < SILT_JUMP_SIZE) {
		struct instruction x;

		if (v.ended || m.size >= own) {
			/* Alignment behind a short function may be used up too. */
			if (have < SILT_JUMP_SIZE || !is_padding(v.code + m.size, SILT_JUMP_SIZE - m.size))
				return silt_error_set(err, SILT_E_UNSUPPORTED, "it is shorter than a jump");
			m.size = SILT_JUMP_SIZE;
			break;
		}
		if (!decode(v.code + m.size, have - m.size, &x))
			return silt_error_set(err, SILT_E_UNSUPPORTED, "its first instructions cannot be decoded");
		rc = move_one(&v, &x, m.size, err);
		m.size += x.i.length;
		if (ends_flow(&x))
			v.ended = true;
	}
	if (!rc && m.size <= own)
		rc = check_body(v.code, own, m.size, err);
	if (!rc && !v.ended) {
		put(&v, "\xe9", 1);
		rc = put_rel32(&v, m.at + m.size, err);
	}
	if (!rc)
		*ret = m;
	return rc;
}
