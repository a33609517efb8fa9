/* SPDX-License-Identifier: MIT */
/* The agent's reader of call frame information, at work outside of the target. */
#include "capture/attach/unwind.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture/agent/cfi.h"

#define FRAMES_MAX 100000u
#define MODULE_MAX (4ull << 30)
#define HDR_ROOM 4096u /* behind a module, for a header it lacks */

int silt_unwind_open(struct silt_unwind *u, const struct silt_survey *s, struct silt_error *err)
{
	u->survey = s;
	u->modules = calloc((size_t)s->count + 1, sizeof(*u->modules));
	return u->modules ? 0 : silt_error_set(err, SILT_E_NOMEM, "out of memory");
}

void silt_unwind_close(struct silt_unwind *u)
{
	for (uint32_t i = 0; u->modules && i < u->survey->count; i++)
		if (u->modules[i].bytes)
			munmap(u->modules[i].bytes, u->modules[i].size);
	free(u->modules);
	u->modules = NULL;
}

/* Maps the file's readable parts where they are to each other in memory. */
static void lay_out(const struct silt_survey *s, const struct silt_survey_module *m, struct silt_unwind_module *ret)
{
	uint64_t lo = UINT64_MAX, hi = 0;
	uint8_t *base;
	int fd;

	for (uint32_t i = 0; i < m->view.header->e_phnum; i++) {
		const Elf64_Phdr *ph = &m->view.segments[i];

		if (ph->p_type != PT_LOAD || ph->p_memsz > MODULE_MAX || ph->p_vaddr > UINT64_MAX / 2)
			continue;
		if ((ph->p_vaddr & ~4095ull) < lo)
			lo = ph->p_vaddr & ~4095ull;
		if (ph->p_vaddr + ph->p_memsz > hi)
			hi = (ph->p_vaddr + ph->p_memsz + 4095) & ~4095ull;
	}
	fd = hi > lo && hi - lo <= MODULE_MAX ? silt_region_open(s->pid, &s->maps.regions[m->mapped->region_first]) : -1;
	if (fd < 0)
		return;
	base = mmap(NULL, hi - lo + HDR_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (uint32_t i = 0; base != MAP_FAILED && i < m->view.header->e_phnum; i++) {
		const Elf64_Phdr *ph = &m->view.segments[i];
		uint64_t skew = ph->p_vaddr & 4095;

		/* Only pages that the file holds: what lies behind its end would fault. */
		if (ph->p_type == PT_LOAD && ph->p_filesz && ph->p_memsz <= MODULE_MAX && ph->p_offset >= skew &&
		    ph->p_filesz <= m->view.size && ph->p_offset <= m->view.size - ph->p_filesz)
			mmap(base + (ph->p_vaddr - skew - lo), ph->p_filesz + skew, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
			     (off_t)(ph->p_offset - skew));
	}
	close(fd);
	if (base == MAP_FAILED)
		return;
	ret->bytes = base;
	ret->size = hi - lo + HDR_ROOM;
	ret->first = m->bias + lo;
	if (m->eh_frame)
		silt_survey_eh_hdr((uint64_t)(uintptr_t)base + (m->eh_frame - ret->first), base + (hi - lo));
}

static bool find_row(struct silt_unwind *u, silt_addr pc, struct cfi_row *ret)
{
	const struct silt_survey *s = u->survey;

	for (uint32_t i = 0; i < s->count; i++) {
		const struct silt_survey_module *m = &s->modules[i];
		struct silt_unwind_module *l = &u->modules[i];
		struct cfi_module cm;
		silt_addr hdr;

		if (pc < m->start || pc >= m->end || !(m->eh_frame_hdr || m->eh_frame) || !m->readable)
			continue;
		if (!l->tried)
			lay_out(s, m, l);
		l->tried = true;
		hdr = m->eh_frame_hdr ? m->eh_frame_hdr : l->first + l->size - HDR_ROOM;
		if (!l->bytes || hdr - l->first >= l->size || pc - l->first >= l->size)
			return false;
		cm.lo = (uint64_t)(uintptr_t)l->bytes;
		cm.hi = cm.lo + l->size;
		cm.eh_frame_hdr = l->bytes + (hdr - l->first);
		return cfi_find_row(&cm, cm.lo + (pc - l->first), ret);
	}
	return false;
}

static bool read_word(void *arg, uint64_t addr, uint64_t *ret)
{
	return silt_survey_read(arg, addr, ret, sizeof(*ret));
}

/* DWARF's numbers (psABI figure 3.36). */
static void take_regs(const struct user_regs_struct *r, bool with_all, struct cfi_regs *ret)
{
	const uint64_t v[CFI_REGS] = { r->rax, r->rdx, r->rcx, r->rbx, r->rsi, r->rdi, r->rbp, r->rsp, r->r8,
				       r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->rip };

	memcpy(ret->v, v, sizeof(v));
	ret->known = with_all ? (1u << CFI_REGS) - 1 : 1u << CFI_RSP | 1u << CFI_RA;
}

bool silt_unwind_walk(struct silt_unwind *u, const struct user_regs_struct *r, bool with_all, silt_unwind_visit visit, void *data)
{
	struct cfi_regs regs;
	bool exact = true;

	take_regs(r, with_all, &regs);
	for (uint32_t n = 0; n < FRAMES_MAX; n++) {
		silt_addr pc = regs.v[CFI_RA];
		struct cfi_row row;

		if (!pc || !visit(data, pc, regs.v[CFI_RSP]))
			return true;
		if (!find_row(u, exact ? pc : pc - 1, &row))
			return false;
		if (row.regs[CFI_RA].how == CFI_UNDEFINED)
			return true;
		if (!cfi_step(&row, &regs, read_word, (void *)(uintptr_t)u->survey))
			return false;
		exact = row.signal_frame;
	}
	return false;
}
