/* SPDX-License-Identifier: MIT */
/* Addresses grouped by unit: first by what indexes say, then, where they erred, by what the units say. */
#include "symbols/plan.h"

#include <stdlib.h>
#include <string.h>

#include "symbols/unit_index.h"

struct item {
	struct silt_unit *unit; /* whose turn it is, or was; NULL: none */
	bool asked;             /* it was asked, and knows nothing */
	uint32_t index;
};

struct plan {
	struct silt_dwarf *dw;
	struct silt_share *share;
	const uint64_t *wanted;
	void (*work)(void *data, const struct silt_plan_group *group);
	void *data;
	struct silt_unit **units;
	struct item *items;
	uint64_t *pcs;
	uint32_t *indices;
	bool *flags;
};

static bool init(struct plan *p, size_t n)
{
	p->units = calloc(n, sizeof(*p->units));
	p->items = calloc(n, sizeof(*p->items));
	p->pcs = calloc(n, sizeof(*p->pcs));
	p->indices = calloc(n, sizeof(*p->indices));
	p->flags = calloc(n, sizeof(*p->flags));
	return p->units && p->items && p->pcs && p->indices && p->flags;
}

static void deinit(struct plan *p)
{
	free(p->units);
	free(p->items);
	free(p->pcs);
	free(p->indices);
	free(p->flags);
}

static int compare_indices(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static int compare_items(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	uint64_t u = x->unit ? x->unit->offset : UINT64_MAX, v = y->unit ? y->unit->offset : UINT64_MAX;

	if (u != v)
		return u < v ? -1 : 1;
	return compare_indices(a, b);
}

/* One unit and its items, of which those the unit cannot answer are kept at the front of all items. */
static size_t run_group(struct plan *p, size_t first, size_t end, bool retry, size_t kept)
{
	struct silt_unit *unit = p->items[first].unit;
	struct silt_plan_group g = {unit, p->pcs, p->indices, 0, retry && unit ? p->flags : NULL};

	for (size_t i = first; i < end; i++) {
		p->pcs[i - first] = p->wanted[p->items[i].index];
		p->flags[i - first] = true;
	}
	if (g.unknown)
		silt_unit_covers(p->dw, unit, p->pcs, end - first, p->flags);
	for (size_t i = first; i < end; i++) {
		struct item it = p->items[i];

		if (!p->flags[i - first]) {
			p->items[kept++] = it;
			continue;
		}
		p->pcs[g.n] = p->wanted[it.index];
		p->indices[g.n++] = it.index;
	}
	if (!g.n)
		return kept;
	memset(p->flags, 0, g.n * sizeof(*p->flags));
	p->work(p->data, &g);
	for (size_t i = 0; g.unknown && i < g.n; i++)
		if (g.unknown[i])
			p->items[kept++] = (struct item){unit, true, p->indices[i]};
	return kept;
}

/* Works on the first n items. Returns how many of them stay for another round. */
static size_t run_round(struct plan *p, size_t n, bool retry)
{
	/* Every child of the module sorts alike, so a number says which unit is meant. Later rounds are about addresses that only
	 * this one has. */
	bool shared = p->share && retry;
	uint64_t number = 0, turn = shared ? silt_share_turn(p->share) : 0;
	size_t kept = 0;

	qsort(p->items, n, sizeof(*p->items), compare_items);
	for (size_t first = 0, end; first < n; first = end, number++) {
		for (end = first; end < n && p->items[end].unit == p->items[first].unit; end++)
			;
		if (shared && number != turn)
			continue;
		kept = run_group(p, first, end, retry, kept);
		if (shared)
			turn = silt_share_turn(p->share);
	}
	return kept;
}

/* What an index said was wrong: the units' own ranges decide. */
static bool choose_again(struct plan *p, size_t n)
{
	qsort(p->items, n, sizeof(*p->items), compare_indices);
	for (size_t i = 0; i < n; i++)
		p->pcs[i] = p->wanted[p->items[i].index];
	if (silt_unit_index_search(p->dw, p->pcs, n, p->units, NULL))
		return false;
	for (size_t i = 0; i < n; i++) {
		struct item *it = &p->items[i];

		/* When no unit claims the address, an index is better than nothing. */
		if (p->units[i] && !(it->asked && p->units[i] == it->unit))
			it->unit = p->units[i];
		else if (it->asked)
			it->unit = NULL;
	}
	return true;
}

bool silt_plan_run(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, struct silt_share *share,
		   void (*work)(void *data, const struct silt_plan_group *group), void *data)
{
	struct plan p = {.dw = dw, .share = share, .wanted = pcs, .work = work, .data = data};
	bool good = init(&p, n) && !silt_unit_index_find(dw, pcs, n, p.units, NULL);
	size_t kept = 0;

	if (good) {
		for (size_t i = 0; i < n; i++)
			p.items[i] = (struct item){p.units[i], false, (uint32_t)i};
		kept = run_round(&p, n, true);
	}
	if (good && kept && choose_again(&p, kept))
		run_round(&p, kept, false);
	else if (kept)
		good = false;
	deinit(&p);
	return good;
}
