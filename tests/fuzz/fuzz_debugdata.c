/* SPDX-License-Identifier: MIT */
/* Fuzzing of decompression: .gnu_debugdata (xz, lzma) with the ELF file inside, zlib, Zstandard. Input: one byte, which; then
 * the compressed bytes. */
#include <elf.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#include "driver.h"
#include "elf_forge.h"
#include "symbols/decompress.h"
#include "symbols/object.h"

enum { MAX_OUT = 1 << 20 };

static void read_symbol(void *data, const struct silt_elf_symbol *s)
{
	*(size_t *)data += strlen(s->name);
}

static void packed_file(const uint8_t *in, size_t size)
{
	size_t filled, capacity, sum = 0;
	struct silt_object *o;
	uint8_t *image;

	if (silt_unxz(in, size, MAX_OUT, "input", &image, &filled, &capacity, NULL))
		return;
	if (filled > capacity || capacity > MAX_OUT)
		abort();
	if (silt_object_create_memory("input", image, filled, capacity, &o, NULL))
		return;
	silt_object_symbols(o, false, read_symbol, &sum);
	silt_object_destroy(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *out;

	if (!size)
		return 0;
	if (data[0] % 3 == 0) {
		packed_file(data + 1, size - 1);
		return 0;
	}
	out = malloc(4096); /* of exact size: the sanitizer sees what is written behind it */
	if (out)
		(void)(data[0] % 3 == 1 ? silt_inflate : silt_unzstd)(data + 1, size - 1, out, 4096);
	free(out);
	return 0;
}

size_t silt_fuzz_seed(unsigned i, uint8_t **ret)
{
	static const char strings[] = "\0one\0two";
	static const uint8_t symbols[72] = {[24] = 1, [28] = STT_FUNC, [30] = 1, [33] = 0x10, [40] = 16, [48] = 5, [52] = STT_FUNC,
					    [54] = 1, [57] = 0x11};
	struct forge_section sections[] = {{".symtab", SHT_SYMTAB, 3, 0, symbols, sizeof(symbols)},
					   {".strtab", SHT_STRTAB, 0, 0, strings, sizeof(strings)}};
	struct silt_writer w = {0};
	size_t n = 0, room = 16384;
	uLongf zn = 16000;
	uint8_t *out = i < 3 ? calloc(1, room) : NULL;

	if (!out)
		return 0;
	forge_elf(&w, sections, 2);
	out[0] = (uint8_t)i;
	if (i == 0 && lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, w.data, w.size, out + 1, &n, room - 1) != LZMA_OK)
		n = 0;
	if (i == 1 && compress(out + 1, &zn, w.data, w.size) == Z_OK)
		n = zn;
	if (i == 2)
		n = ZSTD_compress(out + 1, room - 1, w.data, w.size, 3);
	silt_writer_deinit(&w);
	*ret = out;
	return n + 1;
}
