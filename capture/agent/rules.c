/* SPDX-License-Identifier: MIT */
/*
 * The rule cache: for every return address met so far, how to get from its frame to the caller's, in one word that is
 * written and read atomically and carries its own tag. A miss reads the call frame information once.
 */
#include "capture/agent/agent.h"
#include "capture/agent/cfi.h"

uint64_t agent_rules[AGENT_RULES];

COLD uint32_t rule_miss(uint64_t key)
{
	uint64_t pc = key & ~RULE_EXACT & RULE_MASK48;
	uint64_t lookup = key & RULE_EXACT ? pc : pc - 1;
	uint64_t x = key * RULE_MUL & RULE_MASK48;
	const struct agent_module *m = module_find(lookup);
	struct cfi_module cm;
	struct cfi_row row;
	uint32_t rule = CFI_T_NONE;

	if (!m)
		return CFI_T_NONE; /* not remembered: a module may be mapped there later */
	cm.lo = m->start;
	cm.hi = m->end;
	cm.eh_frame_hdr = (const uint8_t *)m->eh_frame_hdr;
	cm.eh_frame_hdr_size = 0;
	if (cm.eh_frame_hdr && cfi_find_row(&cm, lookup, &row))
		rule = cfi_compact(&row) & 0xffffffu;
	rule |= m->generation << 24;
	ATOMIC_STORE(&agent_rules[x >> 32], (uint64_t)(uint32_t)x << 32 | rule);
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

COLD void rule_purge(uint64_t lo, uint64_t hi)
{
	uint64_t inverse = multiplier_inverse();

	for (uint64_t i = 0; i < AGENT_RULES; i++) {
		uint64_t word = ATOMIC_LOAD(&agent_rules[i]);
		uint64_t pc = (i << 32 | word >> 32) * inverse & RULE_MASK48 & ~RULE_EXACT;

		if (word && pc >= lo && pc <= hi)
			ATOMIC_STORE(&agent_rules[i], 0);
	}
}
