/* SPDX-License-Identifier: MIT */
/* Moving first instructions: what is moved must do the same at its new place, and what cannot be moved must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>

#include "capture/attach/relocate.h"

/* Functions written by hand: they take one number and return another. */
struct example {
	const char *name;
	const char *code;
	uint32_t size;
	uint32_t skipped; /* bytes left alone in front */
	uint32_t moved;	  /* bytes moved; 0: must be refused */
	long in, out;
};
#define CODE(text) text, sizeof(text) - 1

static const struct example examples[] = {
	/* push rbp; mov rbp, rsp; lea rax, [rdi + 1]; pop rbp; ret */
	{ "plain", CODE("\x55\x48\x89\xe5\x48\x8d\x47\x01\x5d\xc3"), 0, 8, 41, 42 },
	/* endbr64 first: it stays */
	{ "endbr64", CODE("\xf3\x0f\x1e\xfa\x48\x8d\x47\x01\x48\xff\xc0\xc3"), 4, 7, 40, 42 },
	/* mov rax, [rip + 9]; add rax, rdi; ret; nops; a number */
	{ "relative to rip", CODE("\x48\x8b\x05\x09\x00\x00\x00\x48\x01\xf8\xc3\x90\x90\x90\x90\x90\x05\0\0\0\0\0\0\0"), 0, 7, 37, 42 },
	/* add rax, imm8 of memory behind the displacement: cmp dword [rip + 9], 5; sete al; movzx eax, al; ret */
	{ "immediate behind the displacement",
	  CODE("\x83\x3d\x09\x00\x00\x00\x05\x0f\x94\xc0\x0f\xb6\xc0\xc3\x90\x90\x05\0\0\0"), 0, 7, 0, 1 },
	/* test rdi, rdi; je +4; mov eax, 42 (its end); …; xor eax, eax; ret */
	{ "conditional", CODE("\x48\x85\xff\x74\x06\xb8\x2a\0\0\0\xc3\x31\xc0\xc3"), 0, 5, 1, 42 },
	{ "conditional, taken", CODE("\x48\x85\xff\x74\x06\xb8\x2a\0\0\0\xc3\x31\xc0\xc3"), 0, 5, 0, 0 },
	/* jmp +3 over two bytes and padding; mov eax, 42; ret: a short jump, then room that nobody runs */
	{ "short jump", CODE("\xeb\x03\x90\x90\x90\xb8\x2a\0\0\0\xc3"), 0, 5, 0, 42 },
	/* call to behind the ret: lea rax, [rdi + rdi]; ret. Then inc rax; ret */
	{ "call", CODE("\xe8\x04\0\0\0\x48\xff\xc0\xc3\x48\x8d\x04\x3f\xc3"), 0, 5, 20, 41 },
	/* inc rdi; cmp rdi, 42; jl back to the cmp: lands inside the bytes to be replaced */
	{ "loop into its start", CODE("\x48\xff\xc7\x48\x83\xff\x2a\x7c\xfa\x48\x89\xf8\xc3"), 0, 0, 0, 0 },
	/* xor eax, eax; ret, and other code right behind */
	{ "too short", CODE("\x31\xc0\xc3\x55\x53\x41\x54\x41\x55"), 0, 0, 0, 0 },
	/* xor eax, eax; ret, alignment behind */
	{ "short with room", CODE("\x31\xc0\xc3\x66\x90\x0f\x1f\x40\x00"), 0, 5, 7, 0 },
	/* jrcxz: has no 32-bit form */
	{ "jrcxz", CODE("\xe3\x03\x31\xc0\xc3\x31\xc0\xc3\x90\x90"), 0, 0, 0, 0 },
	/* no instruction */
	{ "undecodable", CODE("\x06\x07\x0e\x16\x17\x1e"), 0, 0, 0, 0 },
};

static uint8_t *memory_near(void)
{
	uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	memset(p, 0xcc, 8192);
	return p;
}

static uint64_t own_size(const struct example *x)
{
	return strncmp(x->name, "too short", 9) && strncmp(x->name, "short with", 10) ? x->size : 3;
}

static void run_examples(void **state)
{
	(void)state;
	for (size_t i = 0; i < SILT_ARRAY_LEN(examples); i++) {
		const struct example *x = &examples[i];
		uint8_t *at = memory_near(), *to = at + 4096;
		struct silt_moved moved;
		struct silt_error err = { 0 };
		uint8_t before[64];
		int32_t rel;
		int rc;

		memcpy(at, x->code, x->size);
		memcpy(before, at, sizeof(before));
		rc = silt_relocate(before, sizeof(before), own_size(x), (silt_addr)(uintptr_t)at, (silt_addr)(uintptr_t)to, to, &moved,
				   &err);
		if (!x->moved) {
			if (rc != SILT_E_UNSUPPORTED || !err.msg[0])
				fail_msg("%s: %d, not refused", x->name, rc);
			continue;
		}
		if (rc || moved.at != (silt_addr)(uintptr_t)at + x->skipped || moved.size != x->moved)
			fail_msg("%s: %d (%s), %u bytes", x->name, rc, err.msg, rc ? 0 : moved.size);
		/* The jump that will stand there leads to the trampoline: both ways give the answer. */
		assert_int_equal(((long (*)(long))(uintptr_t)at)(x->in), x->out);
		memset(at + x->skipped, 0xcc, x->moved);
		rel = (int32_t)(to - (at + x->skipped + SILT_JUMP_SIZE));
		at[x->skipped] = 0xe9;
		memcpy(at + x->skipped + 1, &rel, 4);
		if (((long (*)(long))(uintptr_t)at)(x->in) != x->out)
			fail_msg("%s: the moved function gives another answer", x->name);
		munmap(at, 8192);
	}
}

/* A trampoline too far away is refused where something relative must reach, never made wrong. */
static void far_away(void **state)
{
	static const uint8_t code[64] = "\x48\x8b\x05\x09\x00\x00\x00\x48\x01\xf8\xc3";
	uint8_t out[SILT_TRAMPOLINE_MAX];
	struct silt_moved moved;

	(void)state;
	assert_int_equal(silt_relocate(code, sizeof(code), 11, 0x400000, 0x7f0000000000, out, &moved, NULL), SILT_E_UNSUPPORTED);
	assert_int_equal(silt_relocate(code, sizeof(code), 11, 0x400000, 0x10000, out, &moved, NULL), 0);
}

/* Any bytes at all: an answer or a refusal, within the room. */
static void random_bytes(void **state)
{
	uint64_t x = 88172645463325252ull;

	(void)state;
	for (int n = 0; n < 300000; n++) {
		uint8_t code[64], out[SILT_TRAMPOLINE_MAX + 32];
		struct silt_moved moved;

		for (size_t i = 0; i < sizeof(code); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			code[i] = (uint8_t)x;
		}
		memset(out, 0xa5, sizeof(out));
		if (!silt_relocate(code, sizeof(code), x % 70, 0x400000, 0x500000, out, &moved, NULL)) {
			assert_true(moved.out_size <= SILT_TRAMPOLINE_MAX && moved.size >= SILT_JUMP_SIZE &&
				    moved.size <= SILT_MOVED_MAX && moved.count <= SILT_ARRAY_LEN(moved.from));
		}
		for (size_t i = SILT_TRAMPOLINE_MAX; i < sizeof(out); i++)
			assert_int_equal(out[i], 0xa5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(run_examples),
		cmocka_unit_test(far_away),
		cmocka_unit_test(random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
