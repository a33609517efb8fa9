/* SPDX-License-Identifier: MIT */
/* One pass over a symbol table for many addresses: nothing of the table is kept. */
#include "symbols/symtab.h"

#include <stdlib.h>

#include "symbols/search.h"

/* The gap below address i: what the table says about the bytes between address i - 1 and address i. */
struct gap {
	struct silt_symbol_hit unsized; /* highest label without size in the gap */
	const struct silt_object *object; /* where it is from */
	uint32_t section;
	uint64_t end;                   /* highest end of a sized symbol in the gap */
};

struct lookup {
	const struct silt_object *object; /* whose symbols come in */
	const uint64_t *pcs;
	size_t n;
	struct silt_symbol_hit *best;
	struct gap *gaps;
};

static int rank_of(const struct silt_elf_symbol *s)
{
	return (s->is_function ? 8 : 0) + (int)s->rank;
}

static bool is_better(const struct silt_elf_symbol *s, int rank, const struct silt_symbol_hit *than)
{
	if (!than->name || s->value != than->start)
		return !than->name || s->value > than->start;
	if (rank != than->rank)
		return rank > than->rank;
	/* Of equals (constructors have two names) the last one in the table, as LLVM has it. */
	return s->size >= than->size;
}

static void take(void *data, const struct silt_elf_symbol *s)
{
	struct lookup *l = data;
	size_t i = silt_lower_bound(l->pcs, l->n, s->value);
	int rank = rank_of(s);
	uint64_t end;

	if (i == l->n)
		return;
	if (!s->size || __builtin_add_overflow(s->value, s->size, &end)) {
		if (is_better(s, rank, &l->gaps[i].unsized)) {
			l->gaps[i].unsized = (struct silt_symbol_hit){s->name, s->value, 0, rank, s->file};
			l->gaps[i].object = l->object;
			l->gaps[i].section = s->section;
		}
		return;
	}
	for (; i < l->n && l->pcs[i] < end; i++)
		if (is_better(s, rank, &l->best[i]))
			l->best[i] = (struct silt_symbol_hit){s->name, s->value, s->size, rank, s->file};
	if (i < l->n && l->gaps[i].end < end)
		l->gaps[i].end = end;
}

static void use_unsized(struct lookup *l)
{
	const struct gap *nearest = NULL;
	uint64_t end = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct silt_span span;

		if (l->gaps[i].unsized.name)
			nearest = &l->gaps[i];
		if (l->gaps[i].end > end)
			end = l->gaps[i].end;
		if (l->best[i].name || !nearest || nearest->unsized.start < end)
			continue;
		if (silt_object_section_span(nearest->object, nearest->section, &span) && l->pcs[i] >= span.start &&
		    l->pcs[i] < span.end)
			l->best[i] = nearest->unsized;
	}
}

int silt_symtab_find(const struct silt_symtab_table *tables, size_t table_count, const uint64_t *pcs, size_t n,
		     struct silt_symbol_hit *hits, struct silt_error *err)
{
	struct lookup l = {.pcs = pcs, .n = n};

	if (!n)
		return SILT_OK;
	l.best = calloc(n, sizeof(*l.best));
	l.gaps = calloc(n, sizeof(*l.gaps));
	if (!l.best || !l.gaps) {
		free(l.best);
		free(l.gaps);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for symbol tables");
	}
	for (size_t i = 0; i < table_count; i++) {
		l.object = tables[i].object;
		silt_object_symbols(tables[i].object, tables[i].dynamic, take, &l);
	}
	use_unsized(&l);
	for (size_t i = 0; i < n; i++)
		if (!hits[i].name)
			hits[i] = l.best[i];
	free(l.best);
	free(l.gaps);
	return SILT_OK;
}
