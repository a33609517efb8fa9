/* SPDX-License-Identifier: MIT */
/* The order of symbol tables: the module's own, the debug file's, the packed one together with the exported names. */
#include "symbols/tables.h"

#include <stdlib.h>
#include <string.h>

#include "symbols/debugdata.h"
#include "symbols/shift.h"
#include "symbols/symbols.h"

struct search {
	const uint64_t *pcs;
	struct silt_symbol_hit *hits;
	size_t n;
	const struct silt_tables_events *events;
};

static bool all_named(const struct search *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (!s->hits[i].name)
			return false;
	return true;
}

static void tell(const struct search *s, const struct silt_symtab_table *t, bool packed)
{
	unsigned kind = packed ? SILT_SOURCE_PACKED : t->dynamic ? SILT_SOURCE_DYNSYM : SILT_SOURCE_SYMTAB;

	s->events->source(s->events->data, kind, silt_object_path(t->object));
}

static int try_table(const struct search *s, struct silt_object *o, bool dynamic, struct silt_error *err)
{
	struct silt_symtab_table t = {o, dynamic};

	if (!o || !silt_object_has(o, dynamic ? ".dynsym" : ".symtab") || all_named(s))
		return SILT_OK;
	tell(s, &t, false);
	return silt_symtab_find(&t, 1, s->pcs, s->n, s->hits, err);
}

/* The debug file's table in its own addresses: they differ from the module's when that was prelinked afterwards. */
static int try_debug_file(const struct search *s, const struct silt_files *f, struct silt_error *err)
{
	uint64_t shift = f->debug_shift, *moved;
	struct search there = *s;
	size_t first = 0;
	int r;

	if (!f->debug || !shift)
		return try_table(s, f->debug, false, err);
	moved = malloc(s->n * sizeof(*moved));
	there.hits = calloc(s->n, sizeof(*there.hits));
	if (!moved || !there.hits) {
		free(moved);
		free(there.hits);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for symbol tables");
	}
	there.n = silt_shift_apply(s->pcs, s->n, shift, moved, &first);
	there.pcs = moved;
	r = try_table(&there, f->debug, false, err);
	for (size_t i = 0; i < there.n && !r; i++) {
		struct silt_symbol_hit *hit = &s->hits[first + i];

		if (hit->name || !there.hits[i].name)
			continue;
		*hit = there.hits[i];
		hit->start -= shift;
	}
	free(moved);
	free(there.hits);
	return r;
}

/* The packed table leaves out what .dynsym has: only together they say which symbol is the nearest. */
static int try_exported(const struct search *s, struct silt_object *main, struct silt_object **ret_packed, struct silt_error *err)
{
	struct silt_symtab_table both[2] = {{NULL, false}, {main, true}};
	struct silt_error damage;
	int r;

	if (!main || all_named(s))
		return SILT_OK;
	r = silt_debugdata_open(main, ret_packed, &damage);
	if (r && r != SILT_E_NOT_FOUND)
		s->events->damage(s->events->data, damage.msg);
	if (r)
		return try_table(s, main, true, err);
	both[0].object = *ret_packed;
	tell(s, &both[0], true);
	if (silt_object_has(main, ".dynsym"))
		tell(s, &both[1], false);
	return silt_symtab_find(both, 2, s->pcs, s->n, s->hits, err);
}

int silt_tables_find(struct silt_files *files, const uint64_t *pcs, size_t n, struct silt_symbol_hit *hits,
		     const struct silt_tables_events *events, struct silt_object **ret_packed, struct silt_error *err)
{
	struct search s = {pcs, hits, n, events};
	int r;

	*ret_packed = NULL;
	memset(hits, 0, n * sizeof(*hits));
	r = try_table(&s, files->main, false, err);
	if (!r)
		r = try_debug_file(&s, files, err);
	return r ? r : try_exported(&s, files->main, ret_packed, err);
}
