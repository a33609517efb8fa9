/* SPDX-License-Identifier: MIT */
/* A symbols room for tests: linked in front of the real one, it takes its place. */
#include "fake_symbols.h"

#include <stdlib.h>
#include <string.h>

enum { MODULES = 64 };

static const struct fake_address *fake_table;
static size_t fake_count, fake_requests, fake_resolves;

struct silt_symbols {
	char *paths[MODULES];
	uint8_t builds[MODULES];
	int count;
	bool resolved;
};

void fake_symbols_set(const struct fake_address *table, size_t count)
{
	fake_table = table;
	fake_count = count;
	fake_requests = fake_resolves = 0;
}

size_t fake_symbols_requests(void)
{
	return fake_requests;
}

size_t fake_symbols_resolves(void)
{
	return fake_resolves;
}

struct silt_symbols *silt_symbols_create(const struct silt_symbols_options *opts)
{
	(void)opts;
	return calloc(1, sizeof(struct silt_symbols));
}

void silt_symbols_destroy(struct silt_symbols *sy)
{
	for (int i = 0; sy && i < sy->count; i++)
		free(sy->paths[i]);
	free(sy);
}

int silt_symbols_add_module(struct silt_symbols *sy, const char *path, const uint8_t *build_id, size_t build_id_len,
			    struct silt_error *err)
{
	if (sy->count == MODULES)
		return silt_error_set(err, SILT_E_LIMIT, "too many modules for the fake");
	sy->paths[sy->count] = strdup(path);
	sy->builds[sy->count] = build_id_len ? build_id[0] : 0;
	return sy->count++;
}

int silt_symbols_add_process(struct silt_symbols *sy, unsigned pid, int64_t captured_ns, struct silt_error *err)
{
	(void)sy;
	(void)pid;
	(void)captured_ns;
	(void)err;
	return 0;
}

int silt_symbols_request(struct silt_symbols *sy, int module, uint64_t offset, bool exact, struct silt_error *err)
{
	(void)offset;
	(void)exact;
	if (module < 0 || module >= sy->count)
		return silt_error_set(err, SILT_E_INVAL, "no such module");
	sy->resolved = false;
	fake_requests++;
	return 0;
}

int silt_symbols_resolve(struct silt_symbols *sy, struct silt_error *err)
{
	(void)err;
	sy->resolved = true;
	fake_resolves++;
	return 0;
}

const struct silt_symbol_frame *silt_symbols_lookup(const struct silt_symbols *sy, int module, uint64_t offset,
						    bool exact, size_t *ret_count)
{
	(void)exact;
	*ret_count = 0;
	for (size_t i = 0; i < fake_count; i++) {
		const struct fake_address *a = &fake_table[i];

		if (a->offset != offset || a->build != sy->builds[module] || strcmp(a->module, sy->paths[module]) != 0)
			continue;
		while (*ret_count < 4 && a->frames[*ret_count].function)
			++*ret_count;
		return a->frames;
	}
	return NULL;
}

size_t silt_symbols_warning_count(const struct silt_symbols *sy)
{
	(void)sy;
	return 0;
}

const char *silt_symbols_warning(const struct silt_symbols *sy, size_t i)
{
	(void)sy;
	(void)i;
	return NULL;
}
