/* SPDX-License-Identifier: MIT */
/* silt symbols --list: for each module what was found, where, and what was tried. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "analyze/json.h"
#include "base/types.h"
#include "cli/commands.h"
#include "cli/symbols_command.h"
#include "formats/dump.h"
#include "symbols/elf_reader.h"
#include "symbols/rooted.h"

struct module {
	const char *path;
	const uint8_t *build_id;
	size_t build_id_len;
	int number; /* in symbols; negative: it cannot be added */
};

struct list {
	const struct silt_symbols_request *q;
	struct silt_snapshot *snapshot; /* NULL: one file */
	struct silt_elf_info file;
	SILT_VEC(struct module) modules;
	struct silt_symbols *symbols;
};

/* What kinds of names there are: for people, and in JSON. */
static const struct {
	unsigned source;
	const char *text, *word;
} SOURCES[] = {
	{SILT_SOURCE_DWARF, "functions, inlined calls, files and lines", "dwarf"},
	{SILT_SOURCE_SPLIT, "entries of its units (split DWARF)", "split"},
	{SILT_SOURCE_ALT, "what it shares with others (dwz)", "alt"},
	{SILT_SOURCE_SYMTAB, "names of functions", "symtab"},
	{SILT_SOURCE_PACKED, "names of functions, packed (.gnu_debugdata)", "gnu_debugdata"},
	{SILT_SOURCE_DYNSYM, "names of exported functions", "dynsym"},
};

static int add_module(struct list *l, struct module m, struct silt_error *err)
{
	for (size_t i = 0; i < l->modules.count; i++) {
		const struct module *old = &l->modules.items[i];

		/* A library that was loaded twice is one. */
		if (strcmp(old->path, m.path) == 0 && old->build_id_len == m.build_id_len &&
		    (!m.build_id_len || memcmp(old->build_id, m.build_id, m.build_id_len) == 0))
			return SILT_OK;
	}
	m.number = silt_symbols_add_module(l->symbols, m.path, m.build_id_len ? m.build_id : NULL, m.build_id_len, err);
	if (m.number == SILT_E_NOMEM || !silt_vec_push(&l->modules, m))
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	return SILT_OK;
}

/* What is no dump may be an ELF file, which lies below the sysroot. r is how reading it as a dump ended, with err. */
static int read_file(struct list *l, int r, struct silt_error *err)
{
	struct silt_error not_elf = {0};
	char path[PATH_MAX];

	if (!silt_rooted_path(l->q->options.sysroot ? l->q->options.sysroot : "", l->q->file, path))
		return r;
	if (silt_elf_identify(path, &l->file, &not_elf) == SILT_OK)
		return add_module(l, (struct module){l->q->file, l->file.build_id, l->file.build_id_len, 0}, err);
	if (not_elf.code != SILT_E_UNSUPPORTED)
		return r;
	*err = not_elf;
	return not_elf.code;
}

static int read_modules(struct list *l, struct silt_error *err)
{
	struct silt_read_options options = {0};
	int r = silt_dump_read(l->q->file, &options, &l->snapshot, err);

	if (r)
		return read_file(l, r, err);
	r = silt_symbols_add_process(l->symbols, l->snapshot->process.pid, l->snapshot->process.capture_ns, err);
	for (uint32_t i = 0; !r && i < l->snapshot->module_count; i++) {
		const struct silt_module *m = &l->snapshot->modules[i];

		r = add_module(l, (struct module){m->path, m->build_id, m->build_id_len, 0}, err);
	}
	return r;
}

static void print_text(const struct module *m, const struct silt_symbols_module_info *info)
{
	bool any = false;

	printf("%s\n  build-id   ", m->path);
	for (size_t i = 0; i < m->build_id_len; i++)
		printf("%02x", m->build_id[i]);
	puts(m->build_id_len ? "" : "none");
	for (size_t i = 0; i < SILT_ARRAY_LEN(SOURCES); i++) {
		for (size_t k = 0; k < info->found_count; k++) {
			if (info->found[k].kind != SOURCES[i].source)
				continue;
			printf("  %-10s %s: %s\n", any ? "" : "found", SOURCES[i].text, info->found[k].path);
			any = true;
		}
	}
	if (!any)
		puts("  found      nothing: it is shown by offsets");
	for (size_t i = 0; i < info->attempt_count; i++)
		printf("  %-10s %s\n", i ? "" : "tried", info->attempts[i]);
}

static void print_json(struct silt_json *j, const struct module *m, const struct silt_symbols_module_info *info)
{
	silt_json_object(j);
	silt_json_key(j, "path");
	silt_json_string(j, m->path);
	silt_json_key(j, "build_id");
	if (m->build_id_len)
		silt_json_hex(j, m->build_id, m->build_id_len);
	else
		silt_json_null(j);
	silt_json_key(j, "found");
	silt_json_array(j);
	for (size_t i = 0; i < SILT_ARRAY_LEN(SOURCES); i++) {
		for (size_t k = 0; k < info->found_count; k++) {
			if (info->found[k].kind != SOURCES[i].source)
				continue;
			silt_json_object(j);
			silt_json_key(j, "kind");
			silt_json_string(j, SOURCES[i].word);
			silt_json_key(j, "file");
			silt_json_string(j, info->found[k].path);
			silt_json_end(j);
		}
	}
	silt_json_end(j);
	silt_json_key(j, "tried");
	silt_json_array(j);
	for (size_t i = 0; i < info->attempt_count; i++)
		silt_json_string(j, info->attempts[i]);
	silt_json_end(j);
	silt_json_end(j);
}

static void print_all(const struct list *l)
{
	struct silt_symbols_module_info info = {0};
	struct silt_json j;

	silt_json_init(&j, stdout);
	if (l->q->json) {
		silt_json_object(&j);
		silt_json_key(&j, "schema");
		silt_json_string(&j, "silt.symbols-list/1");
		silt_json_key(&j, "modules");
		silt_json_array(&j);
	}
	for (size_t i = 0; i < l->modules.count; i++) {
		const struct module *m = &l->modules.items[i];

		info = (struct silt_symbols_module_info){0};
		if (m->number >= 0)
			silt_symbols_module_info(l->symbols, m->number, &info);
		if (l->q->json)
			print_json(&j, m, &info);
		else
			print_text(m, &info);
	}
	if (l->q->json) {
		silt_json_end(&j);
		silt_json_key(&j, "warnings");
		silt_json_array(&j);
		for (size_t i = 0; i < silt_symbols_warning_count(l->symbols); i++)
			silt_json_string(&j, silt_symbols_warning(l->symbols, i));
		silt_json_end(&j);
		silt_json_end(&j);
		return;
	}
	for (size_t i = 0; i < silt_symbols_warning_count(l->symbols); i++)
		fprintf(stderr, "silt: warning: %s\n", silt_symbols_warning(l->symbols, i));
}

int silt_symbols_list(const struct silt_symbols_request *q)
{
	struct list l = {.q = q, .symbols = silt_symbols_create(&q->options)};
	struct silt_error err = {0};
	int r;

	if (!l.symbols)
		return silt_symbols_no_memory();
	r = read_modules(&l, &err);
	if (!r)
		r = silt_symbols_locate(l.symbols, &err);
	if (r)
		fprintf(stderr, "silt symbols: %s\n", err.msg);
	else
		print_all(&l);
	if (fflush(stdout) != 0 && !r) {
		perror("silt symbols: cannot write the list");
		r = SILT_E_OS;
	}
	silt_symbols_destroy(l.symbols);
	silt_snapshot_destroy(l.snapshot);
	silt_vec_free(&l.modules);
	return r ? SILT_EXIT_UNUSABLE : SILT_EXIT_OK;
}
