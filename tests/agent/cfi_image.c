/* SPDX-License-Identifier: MIT */
/* Laying an ELF file out in memory for tests of the CFI reader. */
#include "tests/agent/cfi_image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define PHDRS_MAX 64

static int segments_read(int fd, const Elf64_Phdr *ph, unsigned n, struct cfi_image *image)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t *at = (uint8_t *)(uintptr_t)(ph[i].p_vaddr + image->bias);

		if (ph[i].p_type == PT_LOAD &&
		    pread(fd, at, ph[i].p_filesz, (off_t)ph[i].p_offset) != (ssize_t)ph[i].p_filesz)
			return -1;
		if (ph[i].p_type == PT_GNU_EH_FRAME)
			image->module.eh_frame_hdr = at;
	}
	return 0;
}

static int image_read(int fd, struct cfi_image *ret)
{
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;
	uint64_t lo = UINT64_MAX, hi = 0;

	errno = EINVAL;
	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 ||
	    eh.e_phnum > PHDRS_MAX)
		return -1;
	if (pread(fd, ph, eh.e_phnum * sizeof(*ph), (off_t)eh.e_phoff) != (ssize_t)(eh.e_phnum * sizeof(*ph)))
		return -1;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD)
			continue;
		if (ph[i].p_vaddr < lo)
			lo = ph[i].p_vaddr & ~(uint64_t)(PAGE - 1);
		if (ph[i].p_vaddr + ph[i].p_memsz > hi)
			hi = ph[i].p_vaddr + ph[i].p_memsz;
	}
	if (lo >= hi)
		return -1;
	ret->size = hi - lo;
	ret->base = mmap(NULL, ret->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ret->base == MAP_FAILED)
		return -1;
	ret->bias = (uint64_t)(uintptr_t)ret->base - lo;
	ret->module.lo = (uint64_t)(uintptr_t)ret->base;
	ret->module.hi = ret->module.lo + ret->size;
	return segments_read(fd, ph, eh.e_phnum, ret);
}

int cfi_image_load(const char *path, struct cfi_image *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -1;
	memset(ret, 0, sizeof(*ret));
	r = image_read(fd, ret);
	close(fd);
	return r;
}

void cfi_image_unload(struct cfi_image *image)
{
	munmap(image->base, image->size);
}
