/* SPDX-License-Identifier: MIT */
/* Modules: what the agent's unwinder met, joined with what the memory map shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/decode_internal.h"

/* Loads at one address, one after another, overlap in this list. */
#define OVERLAP_MAX SILT_DB_MODULES

static const uint8_t *copy_bytes(struct silt_snapshot *s, const uint8_t *bytes, uint32_t n)
{
	uint8_t *p = silt_snapshot_array(s, n, 1);

	if (p && n)
		memcpy(p, bytes, n);
	return p;
}

/* The mapped file that an agent's record speaks of: the same place, and nothing that contradicts it. */
static const struct silt_target_module *find_mapped(const struct silt_decode *d, const struct silt_db_module *a,
						    uint32_t *ret_index)
{
	const struct silt_target_modules *list = &d->copy->modules;

	for (uint32_t i = 0; i < list->count && !a->unloaded; i++) {
		const struct silt_target_module *m = &list->list[i];

		if (m->start >= a->end || a->start >= m->end)
			continue;
		if (a->build_id_len && m->build_id_len &&
		    (a->build_id_len != m->build_id_len || memcmp(a->build_id, m->build_id, m->build_id_len)))
			continue;
		*ret_index = i;
		return m;
	}
	return NULL;
}

static void add_ranges(struct silt_decode *d, struct silt_module *out, const struct silt_target_module *m,
		      const struct silt_db_module *a)
{
	struct silt_snapshot *s = d->s;

	out->range_first = s->range_count;
	if (!m) {
		s->ranges[s->range_count++] = (struct silt_range){ .start = a->start, .end = a->end };
		out->range_count = 1;
		return;
	}
	for (uint32_t i = m->region_first; i < m->region_first + m->region_count; i++) {
		const struct silt_region *r = &d->copy->maps.regions[i];

		if (i != m->region_first && !silt_modules_same_file(r, &d->copy->maps.regions[m->region_first]))
			continue;
		s->ranges[s->range_count++] = (struct silt_range){ r->start, r->end, r->file_offset, r->prot };
		out->range_count++;
	}
}

static int add_module(struct silt_decode *d, const struct silt_db_module *a, const struct silt_target_module *m,
		      struct silt_error *err)
{
	struct silt_snapshot *s = d->s;
	struct silt_module *out = &s->modules[s->module_count];
	struct silt_pc_range pcs = { .module = s->module_count, .any_generation = !a };
	char path[sizeof(a->path) + 1];

	if (m) {
		out->path = silt_snapshot_string(s, m->path);
		out->build_id = copy_bytes(s, m->build_id, m->build_id_len);
		out->build_id_len = m->build_id_len;
		out->bias = m->bias;
		pcs.start = m->start;
		pcs.end = m->end;
	}
	if (a) {
		snprintf(path, sizeof(path), "%.*s", (int)sizeof(a->path), a->path);
		if (!m) {
			out->path = silt_snapshot_string(s, path[0] ? path : "(main program)");
			d->cut_paths += a->path_cut != 0;
		}
		if (!out->build_id_len && a->build_id_len <= sizeof(a->build_id)) {
			out->build_id = copy_bytes(s, a->build_id, a->build_id_len);
			out->build_id_len = a->build_id_len;
		}
		out->bias = a->bias;
		out->generation = a->generation;
		out->unloaded = a->unloaded != 0;
		pcs.generation = a->generation & 0xff;
		pcs.start = a->start;
		pcs.end = a->end;
	}
	add_ranges(d, out, m, a);
	if (!out->path || (out->build_id_len && !out->build_id) || !silt_vec_push(&d->ranges, pcs))
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the modules");
	s->module_count++;
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct silt_pc_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

int silt_decode_modules(struct silt_decode *d, struct silt_error *err)
{
	const struct silt_target_modules *mapped = &d->copy->modules;
	const struct silt_db_module *table = NULL;
	uint32_t count = 0;
	bool *met = calloc((size_t)mapped->count + 1, sizeof(*met));
	int rc = 0;

	if (d->db && d->db->module_ref) {
		count = d->db->module_count < SILT_DB_MODULES ? d->db->module_count : SILT_DB_MODULES;
		table = silt_decode_at(d, d->db->module_ref, count * sizeof(*table));
	}
	if (!table)
		count = 0;
	d->s->modules = silt_snapshot_array(d->s, (uint64_t)count + mapped->count, sizeof(*d->s->modules));
	d->s->ranges = silt_snapshot_array(d->s, (uint64_t)count + d->copy->maps.count, sizeof(*d->s->ranges));
	if (!d->s->modules || !d->s->ranges || !met) {
		free(met);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the modules");
	}
	for (uint32_t i = 0; i < count && !rc; i++) {
		const struct silt_target_module *m;
		uint32_t index = 0;

		if (table[i].state != 2 || table[i].start >= table[i].end)
			continue;
		m = find_mapped(d, &table[i], &index);
		if (m && met[index])
			m = NULL; /* its ranges are listed already */
		if (m)
			met[index] = true;
		rc = add_module(d, &table[i], m, err);
	}
	for (uint32_t i = 0; i < mapped->count && !rc; i++)
		if (!met[i])
			rc = add_module(d, NULL, &mapped->list[i], err);
	free(met);
	if (rc)
		return rc;
	if (d->ranges.count)
		qsort(d->ranges.items, d->ranges.count, sizeof(*d->ranges.items), compare_ranges);
	for (size_t i = 0; i < d->ranges.count; i++) {
		silt_addr before = i ? d->ranges.items[i - 1].reach : 0;

		d->ranges.items[i].reach = d->ranges.items[i].end > before ? d->ranges.items[i].end : before;
	}
	return 0;
}

uint32_t silt_decode_module_of(const struct silt_decode *d, silt_addr pc, uint32_t generation)
{
	size_t low = 0, high = d->ranges.count;
	uint32_t fallback = SILT_NONE;
	bool others = false; /* other loads are known there: what is mapped now need not be what was then */

	/* Which of the modules that were there it was, nobody knows. */
	if (generation == SILT_DB_GENERATION_UNNAMED)
		return SILT_NONE;
	while (low < high) { /* the first range that starts above pc */
		size_t mid = low + (high - low) / 2;

		if (d->ranges.items[mid].start <= pc)
			low = mid + 1;
		else
			high = mid;
	}
	for (unsigned steps = 0; low-- > 0 && steps < OVERLAP_MAX; steps++) {
		const struct silt_pc_range *r = &d->ranges.items[low];

		if (r->reach <= pc)
			break;
		if (pc >= r->end)
			continue;
		if (r->any_generation)
			fallback = r->module;
		else if (r->generation == generation)
			return r->module;
		else
			others = true;
	}
	return others ? SILT_NONE : fallback;
}
