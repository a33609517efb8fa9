/* SPDX-License-Identifier: MIT */
/*
 * The rule cache: for every return address met so far, how to get from its frame to the caller's, in one word that is
 * written and read atomically and carries its own tag. A miss reads the call frame information once.
 */
#include "capture/agent/agent.h"
#include "capture/agent/cfi.h"

uint64_t agent_rules[AGENT_RULES];

/* The first table is indexed by the low bits alone, which is quickest where each step of a walk waits for the one before;
 * here keys that share them find each other again: spread by an odd multiplier modulo 2^48, which is a bijection, so that
 * index and tag together are exact here too. */
static uint64_t second[AGENT_RULES];
#define MASK48 0xffffffffffffull

static void enter(uint64_t key, uint32_t rule)
{
	bool wide = CFI_TYPE(rule) == CFI_T_RSP && CFI_OFF(rule) >= 1u << 13;

	if (!wide && key >> 16)
		ATOMIC_STORE(&agent_rules[key & 0xffff], key >> 16 << 32 | rule);
}

COLD uint32_t rule_miss(uint64_t key)
{
	uint64_t pc = key & ~RULE_EXACT;
	uint64_t lookup = key & RULE_EXACT ? pc : pc - 1;
	uint64_t x = key * RULE_MUL & MASK48;
	uint64_t word = ATOMIC_LOAD(&second[x >> 32]);
	const struct agent_module *m;
	struct cfi_module cm;
	struct cfi_row row;
	uint32_t rule = CFI_T_NONE, nowhere = CFI_T_NONE | SILT_DB_GENERATION_NONE << 24;

	if (!key) /* where some threads and coroutines begin */
		return CFI_T_NONE;
	if (key >> 48)
		return nowhere;
	if ((uint32_t)(word >> 32) == (uint32_t)x && word) {
		enter(key, (uint32_t)word);
		return (uint32_t)word;
	}
	m = module_find(lookup);
	if (!m)
		return nowhere; /* not remembered: a module may be mapped there later */
	cm = module_tables(m);
	if (cm.eh_frame_hdr && (key & RULE_EXACT ? cfi_find_row(&cm, pc, &row) : cfi_find_return_row(&cm, pc, &row)))
		rule = cfi_compact(&row) & 0xffffffu;
	rule |= m->generation << 24;
	ATOMIC_STORE(&second[x >> 32], x << 32 | rule);
	enter(key, rule);
	return rule;
}

/* The multiplier's inverse modulo 2^48 (Newton's iteration) turns a stored entry back into its key. */
static uint64_t multiplier_inverse(void)
{
	uint64_t inverse = RULE_MUL;

	for (int i = 0; i < 6; i++)
		inverse *= 2 - RULE_MUL * inverse;
	return inverse;
}

static void purge_word(uint64_t *word, uint64_t key, uint64_t lo, uint64_t hi)
{
	uint64_t pc = key & ~RULE_EXACT;

	if (pc >= lo && pc <= hi) /* a return address may lie just behind the last instruction */
		ATOMIC_STORE(word, 0);
}

COLD void rule_purge(uint64_t lo, uint64_t hi)
{
	uint64_t inverse = multiplier_inverse();

	for (uint64_t i = 0; i < AGENT_RULES; i++) {
		uint64_t word = ATOMIC_LOAD(&agent_rules[i]);

		if (word)
			purge_word(&agent_rules[i], word >> 32 << 16 | i, lo, hi);
		word = ATOMIC_LOAD(&second[i]);
		if (word)
			purge_word(&second[i], (i << 32 | word >> 32) * inverse & MASK48, lo, hi);
	}
}
