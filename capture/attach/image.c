/* SPDX-License-Identifier: MIT */
/* Loading the agent object: a shared object with relative relocations only (tests/lint/agent_object.sh holds it to that). */
#include "capture/attach/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/types.h"
#include "capture/target/elf_view.h"

#define IMAGE_MAX (64ull << 20)

struct silt_elf_rela {
	uint64_t at, value;
};

static int bad(const char *path, struct silt_error *err)
{
	return silt_error_set(err, SILT_E_BAD_DATA, "%s is no agent object of this silt: silt is not installed completely", path);
}

static bool lay_out(const struct silt_elf_view *v, struct silt_image *im)
{
	uint64_t end = 0, data = UINT64_MAX;

	for (uint32_t i = 0; i < v->header->e_phnum; i++) {
		const Elf64_Phdr *ph = &v->segments[i];

		if (ph->p_type == PT_GNU_EH_FRAME)
			im->eh_frame_hdr = ph->p_vaddr;
		if (ph->p_type != PT_LOAD)
			continue;
		if (ph->p_memsz > IMAGE_MAX || ph->p_vaddr > IMAGE_MAX || ph->p_filesz > ph->p_memsz)
			return false;
		if (ph->p_vaddr + ph->p_memsz > end)
			end = ph->p_vaddr + ph->p_memsz;
		if ((ph->p_flags & PF_W) && ph->p_vaddr < data)
			data = ph->p_vaddr;
		if (ph->p_flags & PF_X) {
			im->text_at = ph->p_vaddr;
			im->text_size = ph->p_memsz;
		}
		if (ph->p_vaddr + ph->p_filesz > im->file_size)
			im->file_size = ph->p_vaddr + ph->p_filesz;
	}
	im->size = (end + 4095) & ~4095ull;
	im->data_at = data & ~4095ull;
	return im->text_size && data != UINT64_MAX && im->text_at + im->text_size <= im->data_at;
}

static bool take_relocations(const struct silt_elf_view *v, struct silt_image *im)
{
	const Elf64_Shdr *table = (const void *)(v->bytes + v->header->e_shoff);

	if (v->header->e_shoff > v->size || (uint64_t)v->header->e_shnum * sizeof(*table) > v->size - v->header->e_shoff)
		return false;
	for (uint32_t i = 0; i < v->header->e_shnum; i++) {
		const Elf64_Rela *r;
		uint64_t n = table[i].sh_size / sizeof(*r);

		if (table[i].sh_type != SHT_RELA || !(table[i].sh_flags & SHF_ALLOC))
			continue;
		r = (const void *)silt_elf_view_at(v, table[i].sh_addr, table[i].sh_size);
		im->relocations = r ? calloc(n + 1, sizeof(*im->relocations)) : NULL;
		if (!im->relocations)
			return false;
		for (uint64_t k = 0; k < n; k++) {
			if (ELF64_R_TYPE(r[k].r_info) != R_X86_64_RELATIVE || r[k].r_offset > im->file_size - 8)
				return false;
			im->relocations[k] = (struct silt_elf_rela){ r[k].r_offset, (uint64_t)r[k].r_addend };
		}
		im->relocation_count = n;
		return true;
	}
	return false;
}

static int fill(const struct silt_elf_view *v, const char *path, struct silt_image *im, struct silt_error *err)
{
	struct silt_elf_symbol symbol;

	if (!lay_out(v, im))
		return bad(path, err);
	im->bytes = calloc(1, im->size);
	if (!im->bytes)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the agent");
	for (uint32_t i = 0; i < v->header->e_phnum; i++) {
		const Elf64_Phdr *ph = &v->segments[i];
		const uint8_t *from = ph->p_type == PT_LOAD ? silt_elf_view_at(v, ph->p_vaddr, ph->p_filesz) : NULL;

		if (ph->p_type == PT_LOAD && !from)
			return bad(path, err);
		if (from)
			memcpy(im->bytes + ph->p_vaddr, from, ph->p_filesz);
	}
	if (!take_relocations(v, im) || !silt_elf_view_find(&v->dynamic, SILT_AGENT_ATTACH_SYMBOL, &symbol) ||
	    symbol.value > im->file_size - sizeof(struct silt_agent_attach))
		return bad(path, err);
	im->attach_at = symbol.value;
	if (silt_image_attach(im)->magic != SILT_AGENT_ATTACH_MAGIC ||
	    silt_image_attach(im)->version != SILT_AGENT_ATTACH_VERSION ||
	    silt_image_attach(im)->size != sizeof(struct silt_agent_attach))
		return bad(path, err);
	/* Relocated for 0: addresses are offsets, and names can be read already. */
	for (uint64_t i = 0; i < im->relocation_count; i++)
		memcpy(im->bytes + im->relocations[i].at, &im->relocations[i].value, 8);
	return 0;
}

int silt_image_load(const char *path, struct silt_image *ret, struct silt_error *err)
{
	struct silt_image im = { 0 };
	struct silt_elf_view v;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return silt_error_os(err, errno, "cannot open the agent %s", path);
	rc = silt_elf_view_open(fd, path, &v, err);
	close(fd);
	if (rc)
		return rc;
	rc = fill(&v, path, &im, err);
	silt_elf_view_close(&v);
	if (rc)
		silt_image_unload(&im);
	else
		*ret = im;
	return rc;
}

void silt_image_relocate(struct silt_image *im, silt_addr base)
{
	im->base = base;
	for (uint64_t i = 0; i < im->relocation_count; i++) {
		uint64_t value = base + im->relocations[i].value;

		memcpy(im->bytes + im->relocations[i].at, &value, 8);
	}
}

struct silt_agent_attach *silt_image_attach(const struct silt_image *im)
{
	return (struct silt_agent_attach *)(void *)(im->bytes + im->attach_at);
}

void *silt_image_at(const struct silt_image *im, silt_addr addr, uint64_t size)
{
	uint64_t at = addr - im->base;

	return at <= im->size && size <= im->size - at ? im->bytes + at : NULL;
}

const char *silt_image_hook_name(const struct silt_image *im, uint32_t i)
{
	const struct silt_agent_attach *a = silt_image_attach(im);
	const struct silt_agent_hook *h = silt_image_at(im, (silt_addr)(uintptr_t)(a->hooks + i), sizeof(*h));
	const char *name;

	if (!h || (silt_addr)(uintptr_t)(a->hooks + i) >= (silt_addr)(uintptr_t)a->hooks_end)
		return NULL;
	name = silt_image_at(im, (silt_addr)(uintptr_t)h->name, 1);
	return name && memchr(name, 0, (size_t)(im->bytes + im->size - (const uint8_t *)name)) ? name : NULL;
}

void silt_image_unload(struct silt_image *im)
{
	free(im->bytes);
	free(im->relocations);
	memset(im, 0, sizeof(*im));
}
