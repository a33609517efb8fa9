/* SPDX-License-Identifier: MIT */
/*
 * The walk with all registers, for stacks with frames whose unwinding needs more than rsp and rbp (hand-written assembly,
 * lazy binding in ld.so). Starts from the agent's own frames, whose call frame information gives back the registers as
 * they were when the hook was called. Slow (some microseconds), rare, and nothing of it is remembered.
 */
#include "capture/agent/agent.h"
#include "capture/agent/cfi.h"
#include "capture/agent/recover.h"

struct reader {
	uint64_t low;  /* our own stack pointer: nothing below is looked at directly */
	uint64_t high; /* grows with the walk */
};

static bool read_word(void *arg, uint64_t addr, uint64_t *ret)
{
	const struct reader *r = arg;

	if (addr & 7)
		return !agent_no_syscalls && sys_peek(addr, ret);
	if (addr >= r->low && addr < r->high) {
		*ret = *(const volatile uint64_t *)addr;
		return true;
	}
	return !agent_no_syscalls && sys_peek(addr, ret);
}

/* The tables for pc, and the rule that names its module; ret_rule NULL: nobody needs to know. */
static bool tables_for(uint64_t pc, struct cfi_module *ret, uint32_t *ret_rule)
{
	const struct agent_module *m;

	if (!ret_rule)
		return module_tables_at(pc, ret);
	m = module_find(pc);
	*ret_rule = CFI_T_GENERIC | (m ? m->generation : SILT_DB_GENERATION_NONE) << 24;
	if (m)
		*ret = module_tables(m);
	return m != NULL;
}

/* Steps outward once. False: no rule, or it could not be followed; *ret_flags says which. */
static bool step_registers(struct cfi_regs *regs, bool *interrupted, struct reader *reader, uint32_t *ret_rule,
			   uint32_t *ret_flags)
{
	uint64_t pc = regs->v[CFI_RA], lookup = *interrupted ? pc : pc - 1;
	struct cfi_module cm;
	struct cfi_row row;

	*ret_flags = SILT_DB_STACK_NO_CFI;
	if (!tables_for(lookup, &cm, ret_rule))
		return false;
	if (!cm.eh_frame_hdr || !(*interrupted ? cfi_find_row(&cm, pc, &row) : cfi_find_return_row(&cm, pc, &row)))
		return false;
	if (row.regs[CFI_RA].how == CFI_UNDEFINED) {
		*ret_flags = 0;
		return false;
	}
	*ret_flags = SILT_DB_STACK_BROKEN;
	if (!cfi_step(&row, regs, read_word, reader))
		return false;
	*interrupted = row.signal_frame;
	if (regs->v[CFI_RSP] > reader->low)
		reader->high = regs->v[CFI_RSP] + (64 << 10);
	return true;
}

/* The registers of the function that this is inlined into, as far as they outlive a call. */
static ALWAYS_INLINE void registers_here(struct cfi_regs *regs, struct reader *reader)
{
	__asm__ volatile("movq %%rbx, 0x18(%0)\n\t"
			 "movq %%rbp, 0x30(%0)\n\t"
			 "movq %%rsp, 0x38(%0)\n\t"
			 "movq %%r12, 0x60(%0)\n\t"
			 "movq %%r13, 0x68(%0)\n\t"
			 "movq %%r14, 0x70(%0)\n\t"
			 "movq %%r15, 0x78(%0)\n\t"
			 "leaq 0f(%%rip), %%rax\n"
			 "0:\n\t"
			 "movq %%rax, 0x80(%0)"
			 :
			 : "r"(regs->v)
			 : "rax", "memory");
	regs->known = 1u << 3 | 1u << CFI_RBP | 1u << CFI_RSP | 0xfu << 12 | 1u << CFI_RA;
	reader->low = regs->v[CFI_RSP];
	reader->high = reader->low + (64 << 10);
}

NOINLINE void walk_with_registers(struct walk_list *w, uint32_t depth, const uint64_t *fp)
{
	struct cfi_regs regs;
	struct reader reader;
	bool interrupted = true, inside = true;
	uint32_t rule, flags;

	registers_here(&regs, &reader);
	w->end = w->frame;
	w->flags = 0;
	w->specials = 1;
	for (uint32_t guard = 0; guard < depth + 32; guard++) {
		if (inside && regs.v[CFI_RSP] == (uint64_t)&fp[2])
			inside = false;
		if (!inside) {
			if (w->end == w->frame + depth) {
				w->flags |= SILT_DB_STACK_DEPTH;
				return;
			}
			*w->end++ = (struct walk_frame){
				.slot = regs.v[CFI_RSP] - 8,
				.pc = regs.v[CFI_RA],
				.bp = regs.v[CFI_RBP],
				.rule = CFI_T_GENERIC,
				.bits = interrupted ? WALK_INTERRUPTED : 0,
			};
		}
		if (!step_registers(&regs, &interrupted, &reader, &rule, &flags)) {
			if (w->end > w->frame)
				w->end[-1].rule = rule;
			w->flags |= flags;
			return;
		}
		if (w->end > w->frame)
			w->end[-1].rule = rule;
		if (!regs.v[CFI_RA])
			return;
	}
	w->flags |= SILT_DB_STACK_BROKEN;
}

/* Deeper recursion is not followed to its end. */
#define FRAMES_LOOKED_AT 4096u

NOINLINE enum walk_agent walk_finds_agent(const uint64_t *fp)
{
	struct cfi_regs regs;
	struct reader reader;
	bool interrupted = true, inside = true;
	uint32_t flags;

	registers_here(&regs, &reader);
	for (uint32_t i = 0; i < FRAMES_LOOKED_AT; i++) {
		if (inside && regs.v[CFI_RSP] == (uint64_t)&fp[2])
			inside = false;
		if (!inside && regs.v[CFI_RA] - agent_ranges.own_lo < agent_ranges.own_size)
			return WALK_AGENT_THERE;
		if (!step_registers(&regs, &interrupted, &reader, NULL, &flags))
			return flags || inside ? WALK_AGENT_UNKNOWN : WALK_AGENT_GONE;
		if (!regs.v[CFI_RA])
			return inside ? WALK_AGENT_UNKNOWN : WALK_AGENT_GONE;
	}
	return WALK_AGENT_UNKNOWN;
}
