/* SPDX-License-Identifier: MIT */
/*
 * Stacks of modules that were rebuilt between two dumps, matched by what a build leaves alone: names and lines.
 *
 * Offsets of different builds mean nothing to each other, so stacks through such a module never match exactly. They
 * are matched in two passes. First by function, file and line, where lines count from the beginning of the function:
 * an edit above a function moves its lines, not its meaning. What is left goes by functions alone; several call sites
 * of one function then become one row, whose sums are right though its line is only one of them. Frames in modules
 * that were not rebuilt must be equal in both passes.
 */
#include "analyze/analysis.h"

#include <stdlib.h>
#include <string.h>

struct matcher {
	struct silt_analysis *report;
	uint32_t *stacks; /* through at least one rebuilt module */
	uint32_t count;
	uint64_t *weight;          /* per catalog stack: live bytes in AFTER */
	struct silt_intern *names; /* functions and files */
	uint64_t *key;             /* scratch for one stack's key */
	size_t key_used, key_room;
	bool with_lines;
	bool nameless; /* the stack last keyed holds a rebuilt frame without a name */
};

enum { ITEM_SAME = 1, ITEM_REBUILT, ITEM_NAMELESS }; /* what a key's item stands for */

static int no_memory(struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "not enough memory to match rebuilt modules");
}

static uint32_t twin_of(const struct silt_analysis *r, uint32_t location)
{
	const struct silt_location *l = silt_catalog_location(&r->catalog, location);

	return l->module == SILT_NONE ? SILT_NONE : r->catalog.modules[l->module].twin;
}

static bool touches_rebuilt(const struct silt_analysis *r, uint32_t stack)
{
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(&r->catalog, stack, &count, NULL);

	for (uint32_t i = 0; i < count; i++)
		if (twin_of(r, locations[i]) != SILT_NONE)
			return true;
	return false;
}

static int find_stacks(struct matcher *m, struct silt_error *err)
{
	struct silt_analysis *r = m->report;

	m->stacks = malloc(((size_t)silt_catalog_stack_count(&r->catalog) + 1) * sizeof(*m->stacks));
	m->weight = calloc((size_t)silt_catalog_stack_count(&r->catalog) + 1, sizeof(*m->weight));
	if (!m->stacks || !m->weight)
		return no_memory(err);
	for (uint32_t i = 0; i < r->snapshots[SILT_AFTER]->context_count; i++) {
		const struct silt_context *c = &r->snapshots[SILT_AFTER]->contexts[i];

		m->weight[r->stacks[SILT_AFTER][c->stack]] += c->live_bytes;
	}
	for (uint32_t i = 0; i < silt_catalog_stack_count(&r->catalog); i++)
		if (touches_rebuilt(r, i))
			m->stacks[m->count++] = i;
	return 0;
}

/* Names of the rebuilt modules' frames, then the lines their functions begin on. */
static int learn_names(struct matcher *m, struct silt_error *err)
{
	struct silt_analysis *r = m->report;

	for (int pass = 0; pass < 2; pass++) {
		int rc = 0;

		for (uint32_t i = 0; i < m->count; i++) {
			uint32_t count;
			const uint32_t *locations = silt_catalog_stack(&r->catalog, m->stacks[i], &count, NULL);

			for (uint32_t k = 0; k < count && rc == 0; k++)
				if (twin_of(r, locations[k]) != SILT_NONE)
					rc = pass == 0 ? silt_names_want(&r->names, locations[k], err)
						       : silt_names_want_start(&r->names, locations[k], err);
		}
		if (rc == 0)
			rc = silt_names_resolve(&r->names, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The part of a function's name that survives a build: without the suffixes of clones the compiler makes, and without
 * the hash Rust puts into its older mangled names. */
static size_t stable_length(const char *name)
{
	static const char *const SUFFIXES[] = {".part.", ".isra.", ".constprop.", ".cold", ".llvm.", ".lto_priv."};
	enum { RUST_HASH = 20 }; /* "17h", 16 hexadecimal digits, "E" */
	size_t len = strlen(name);

	for (size_t i = 0; i < SILT_ARRAY_LEN(SUFFIXES); i++) {
		const char *at = strstr(name, SUFFIXES[i]);

		if (at && (size_t)(at - name) < len)
			len = (size_t)(at - name);
	}
	if (len > RUST_HASH && strncmp(name, "_ZN", 3) == 0 && strncmp(name + len - RUST_HASH, "17h", 3) == 0 &&
	    name[len - 1] == 'E' && strspn(name + len - RUST_HASH + 3, "0123456789abcdef") == 16)
		len -= RUST_HASH;
	return len;
}

static bool push(struct matcher *m, uint64_t item)
{
	if (m->key_used == m->key_room) {
		size_t room = m->key_room ? m->key_room * 2 : 256;
		uint64_t *key = reallocarray(m->key, room, sizeof(*key));

		if (!key)
			return false;
		m->key = key;
		m->key_room = room;
	}
	m->key[m->key_used++] = item;
	return true;
}

static bool push_name(struct matcher *m, const char *name, size_t len)
{
	uint32_t number = silt_intern_add_bytes(m->names, name, len);

	return number != SILT_NONE && push(m, number);
}

/* Lines in the file that holds the physical function count from that function's beginning, those of functions inlined
 * into it, too: an edit above both moves all of them alike. */
static bool push_line(struct matcher *m, const struct silt_symbol_frame *f, const struct silt_symbol_frame *physical,
		      uint32_t start_line)
{
	size_t len = 0;
	const char *file = f->file ? silt_path_name(f->file, &len) : "";
	bool relative = start_line > 0 && f->file && physical->file && strcmp(f->file, physical->file) == 0;

	return push_name(m, file, len) && push(m, relative) &&
	       push(m, relative ? (uint64_t)f->line - start_line : f->line);
}

static bool push_rebuilt(struct matcher *m, uint32_t location)
{
	const struct silt_names *names = &m->report->names;
	uint32_t module = silt_catalog_location(&m->report->catalog, location)->module;
	uint32_t twin = twin_of(m->report, location);
	uint32_t start_line = silt_names_start_line(names, location);
	size_t count;
	const struct silt_symbol_frame *frames = silt_names_frames(names, location, &count);

	if (count == 0 || (!frames[count - 1].linkage && !frames[count - 1].function)) {
		m->nameless = true;
		return push(m, ITEM_NAMELESS) && push(m, location);
	}
	/* Inlining may differ between builds of unlike options; then stacks match on neither pass, as they should:
	 * the frames a reader sees are not the same. */
	for (size_t i = 0; i < count; i++) {
		const char *name = frames[i].linkage    ? frames[i].linkage
				   : frames[i].function ? frames[i].function
							: "";

		if (!push(m, ITEM_REBUILT) || !push(m, module < twin ? module : twin) ||
		    !push_name(m, name, stable_length(name)))
			return false;
		if (m->with_lines && !push_line(m, &frames[i], &frames[count - 1], start_line))
			return false;
	}
	return true;
}

static bool make_key(struct matcher *m, uint32_t stack)
{
	uint32_t count, flags;
	const uint32_t *locations = silt_catalog_stack(&m->report->catalog, stack, &count, &flags);

	m->key_used = 0;
	m->nameless = false;
	if (!push(m, flags))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		bool ok = twin_of(m->report, locations[i]) == SILT_NONE
				  ? push(m, ITEM_SAME) && push(m, locations[i])
				  : push_rebuilt(m, locations[i]);

		if (!ok)
			return false;
	}
	return true;
}

/* On which side a stack was seen. Those through rebuilt modules were seen on one only. */
static unsigned stack_sides(const struct silt_analysis *r, uint32_t stack)
{
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(&r->catalog, stack, &count, NULL);

	for (uint32_t i = 0; i < count; i++)
		if (twin_of(r, locations[i]) != SILT_NONE)
			return r->catalog.modules[silt_catalog_location(&r->catalog, locations[i])->module].sides;
	return 0;
}

struct class
{
	unsigned sides;
	uint32_t stack; /* what its row shows: the heaviest one of AFTER, where names are up to date, else one of BEFORE */
};

static void join_class(const struct matcher *m, struct class *c, uint32_t stack, unsigned sides)
{
	bool after = sides & (1u << SILT_AFTER);
	bool had_after = c->sides & (1u << SILT_AFTER);

	if (c->sides == 0 || (after && (!had_after || m->weight[stack] > m->weight[c->stack])))
		c->stack = stack;
	c->sides |= sides;
}

/* One pass over the stacks not matched so far. */
static int match_pass(struct matcher *m, enum silt_match how, struct silt_error *err)
{
	struct silt_analysis *r = m->report;
	struct silt_intern *keys = silt_intern_create();
	struct class *classes = calloc((size_t)m->count + 1, sizeof(*classes));
	uint32_t *class_of = calloc((size_t)m->count + 1, sizeof(*class_of));
	int rc = keys && classes && class_of ? 0 : no_memory(err);

	m->with_lines = how == SILT_MATCH_LINE;
	for (uint32_t i = 0; i < m->count && rc == 0; i++) {
		unsigned sides = stack_sides(r, m->stacks[i]);

		class_of[i] = SILT_NONE;
		if (r->match[m->stacks[i]] != SILT_MATCH_EXACT)
			continue;
		if (!make_key(m, m->stacks[i])) {
			rc = no_memory(err);
			break;
		}
		if (m->nameless)
			continue;
		class_of[i] = silt_intern_add_bytes(keys, m->key, m->key_used * sizeof(*m->key));
		if (class_of[i] == SILT_NONE) {
			rc = no_memory(err);
			break;
		}
		join_class(m, &classes[class_of[i]], m->stacks[i], sides);
	}
	for (uint32_t i = 0; i < m->count && rc == 0; i++)
		if (class_of[i] != SILT_NONE &&
		    classes[class_of[i]].sides == (1u << SILT_BEFORE | 1u << SILT_AFTER)) {
			r->representative[m->stacks[i]] = classes[class_of[i]].stack;
			r->match[m->stacks[i]] = (unsigned char)how;
		}
	silt_intern_destroy(keys);
	free(classes);
	free(class_of);
	return rc;
}

int silt_analysis_match_rebuilt(struct silt_analysis *r, struct silt_error *err)
{
	struct matcher m = {.report = r, .names = silt_intern_create()};
	int rc = m.names ? find_stacks(&m, err) : no_memory(err);

	if (rc == 0 && m.count > 0)
		rc = learn_names(&m, err);
	if (rc == 0 && m.count > 0)
		rc = match_pass(&m, SILT_MATCH_LINE, err);
	if (rc == 0 && m.count > 0)
		rc = match_pass(&m, SILT_MATCH_FUNCTION, err);
	silt_intern_destroy(m.names);
	free(m.stacks);
	free(m.weight);
	free(m.key);
	return rc;
}
