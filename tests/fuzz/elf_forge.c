/* SPDX-License-Identifier: MIT */
/* ELF files around given sections, and the way from them into the parser. */
#include "elf_forge.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "symbols/worker.h"

enum { ADDRESSES = 96, MAX_SECTIONS = 32 };

static void header(struct silt_writer *w, uint64_t shoff, size_t sections)
{
	Elf64_Ehdr eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_DYN,
			 .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = sizeof(eh), .e_shoff = shoff,
			 .e_ehsize = sizeof(eh), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1,
			 .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = (uint16_t)sections, .e_shstrndx = (uint16_t)(sections - 1)};
	Elf64_Phdr ph = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = FORGE_TEXT, .p_memsz = FORGE_TEXT_SIZE,
			 .p_align = 4096};

	silt_writer_bytes(w, &eh, sizeof(eh));
	silt_writer_bytes(w, &ph, sizeof(ph));
}

void forge_elf(struct silt_writer *w, const struct forge_section *sections, size_t count)
{
	Elf64_Shdr heads[MAX_SECTIONS + 3] = {{0}};
	struct silt_writer names = {0};
	uint64_t at = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);

	silt_writer_u8(&names, 0);
	heads[1] = (Elf64_Shdr){.sh_name = (uint32_t)names.size, .sh_type = SHT_NOBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
				.sh_addr = FORGE_TEXT, .sh_size = FORGE_TEXT_SIZE};
	silt_writer_bytes(&names, ".text", 6);
	for (size_t i = 0; i < count && i < MAX_SECTIONS; i++) {
		const struct forge_section *s = &sections[i];

		heads[i + 2] = (Elf64_Shdr){.sh_name = (uint32_t)names.size, .sh_type = s->type, .sh_flags = s->flags,
					    .sh_offset = at, .sh_size = s->size, .sh_link = s->link, .sh_addralign = 1};
		silt_writer_bytes(&names, s->name, strlen(s->name) + 1);
		at += s->size;
	}
	heads[count + 2] = (Elf64_Shdr){.sh_name = (uint32_t)names.size, .sh_type = SHT_STRTAB, .sh_offset = at, .sh_addralign = 1};
	silt_writer_bytes(&names, ".shstrtab", 10);
	heads[count + 2].sh_size = names.size;
	header(w, at + names.size, count + 3);
	for (size_t i = 0; i < count; i++)
		silt_writer_bytes(w, sections[i].data, sections[i].size);
	silt_writer_bytes(w, names.data, names.size);
	silt_writer_bytes(w, heads, (count + 3) * sizeof(heads[0]));
	silt_writer_deinit(&names);
}

void forge_parse(const uint8_t *elf, size_t size)
{
	static int sink = -1;
	uint64_t pcs[ADDRESSES];
	int fd = memfd_create("forged", MFD_CLOEXEC);
	char path[64];
	struct silt_job job = {.query = {.path = path}, .pcs = pcs, .count = ADDRESSES};

	if (sink < 0)
		sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (sink < 0 || fd < 0 || silt_write_all(fd, "memfd", elf, size, NULL))
		abort();
	for (size_t i = 0; i < ADDRESSES; i++)
		pcs[i] = FORGE_TEXT + FORGE_TEXT_SIZE / 4 * i / ADDRESSES;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	(void)silt_worker_run(&job, sink);
	close(fd);
}
