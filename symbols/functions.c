/* SPDX-License-Identifier: MIT */
/* One pass over a unit's entries, descending only where requested addresses lie. */
#include "symbols/functions.h"

#include <dwarf.h>

#include "symbols/search.h"

enum { MAX_DEPTH = 512 }; /* nesting of scopes that are descended into; compilers stay below a hundred */

struct walk {
	struct silt_dwarf *dw;
	struct silt_unit *unit;
	const struct silt_unit_root *root;
	const struct silt_abbrevs *abbrevs;
	struct silt_form_sizes sizes;
	struct silt_cursor c;
	const uint64_t *pcs;
	size_t n;
	uint32_t *scope_of;
	struct silt_scopes *scopes;
	bool inlines;
	bool deep;      /* look below functions that do not match, and below types */
	size_t missing; /* addresses without a function */
	uint32_t stack[MAX_DEPTH]; /* the scope at each level of nesting */
	unsigned depth;
	bool out_of_memory;
};

/* What is read of an entry that may stand for code. */
struct entry {
	struct silt_value low_pc, high_pc, ranges, entry_pc;
	uint64_t call_file, call_line, call_column;
	uint64_t sibling; /* offset in .debug_info, 0: none */
};

void silt_scopes_deinit(struct silt_scopes *s)
{
	silt_vec_free(&s->items);
	silt_vec_free(&s->spans);
}

static uint64_t position(const struct walk *w)
{
	return (uint64_t)(w->c.p - w->dw->sections[SILT_DW_INFO].data);
}

static void read_entry(struct walk *w, const struct silt_abbrev *a, struct entry *e)
{
	memset(e, 0, sizeof(*e));
	e->call_file = SILT_NO_FILE;
	for (unsigned i = 0; i < a->attr_count; i++) {
		const struct silt_attr *attr = &w->abbrevs->attrs.items[a->attr_first + i];
		struct silt_value v;
		struct silt_ref ref;

		switch (attr->name) {
		case DW_AT_low_pc:
			e->low_pc = silt_value_read(&w->c, w->unit, w->abbrevs, attr);
			break;
		case DW_AT_high_pc:
			e->high_pc = silt_value_read(&w->c, w->unit, w->abbrevs, attr);
			break;
		case DW_AT_ranges:
			e->ranges = silt_value_read(&w->c, w->unit, w->abbrevs, attr);
			break;
		case DW_AT_entry_pc:
			e->entry_pc = silt_value_read(&w->c, w->unit, w->abbrevs, attr);
			break;
		case DW_AT_call_file:
			e->call_file = silt_value_read(&w->c, w->unit, w->abbrevs, attr).u;
			break;
		case DW_AT_call_line:
			e->call_line = silt_value_read(&w->c, w->unit, w->abbrevs, attr).u;
			break;
		case DW_AT_call_column:
			e->call_column = silt_value_read(&w->c, w->unit, w->abbrevs, attr).u;
			break;
		case DW_AT_sibling:
			v = silt_value_read(&w->c, w->unit, w->abbrevs, attr);
			e->sibling = silt_value_ref(w->dw, w->unit, &v, &ref) ? ref.offset : 0;
			break;
		default:
			silt_attr_skip(&w->c, attr, w->sizes);
			break;
		}
	}
}

/* Jumps to a sibling. Backward jumps would never end; jumps out of the unit are damage. */
static bool jump(struct walk *w, uint64_t offset)
{
	if (offset <= position(w) || offset >= w->unit->end)
		return false;
	w->c.p = w->dw->sections[SILT_DW_INFO].data + offset;
	return true;
}

/* Passes over one entry's attributes; true when that moved to its sibling. */
static bool skip_to_sibling(struct walk *w, const struct silt_abbrev *a)
{
	if (a->has_children && a->sibling_at >= 0) {
		struct silt_cursor peek = w->c;

		silt_cursor_skip(&peek, (uint64_t)a->sibling_at);
		if (jump(w, w->unit->offset + silt_cursor_sized(&peek, a->sibling_size)))
			return true;
	} else if (a->has_children && a->sibling_size) {
		uint64_t sibling = 0;

		for (unsigned i = 0; i < a->attr_count; i++) {
			const struct silt_attr *attr = &w->abbrevs->attrs.items[a->attr_first + i];

			if (attr->name == DW_AT_sibling)
				sibling = silt_cursor_sized(&w->c, a->sibling_size);
			else
				silt_attr_skip(&w->c, attr, w->sizes);
		}
		return jump(w, w->unit->offset + sibling);
	}
	silt_abbrev_skip(&w->c, w->abbrevs, a, w->sizes);
	return false;
}

/* Passes over everything below an entry whose attributes were passed already. */
static void skip_children(struct walk *w)
{
	uint64_t depth = 1;

	while (depth && !w->c.bad && silt_cursor_left(&w->c)) {
		uint64_t code = silt_cursor_uleb(&w->c);
		const struct silt_abbrev *a;

		if (!code) {
			depth--;
			continue;
		}
		a = silt_abbrev_find(w->abbrevs, code);
		if (!a) {
			silt_cursor_fail(&w->c);
			return;
		}
		if (!skip_to_sibling(w, a) && a->has_children)
			depth++;
	}
}

/* The entry's address ranges into scopes->spans. */
static bool entry_spans(struct walk *w, const struct entry *e)
{
	silt_spans *spans = &w->scopes->spans;
	struct silt_span span;

	spans->count = 0;
	if (e->ranges.form) {
		silt_ranges_read(w->dw, w->unit, w->root, &e->ranges, spans);
	} else if (silt_value_pc_span(w->dw, w->unit, w->root, &e->low_pc, &e->high_pc, &span)) {
		if (!silt_vec_push(spans, span))
			w->out_of_memory = true;
	}
	return spans->count > 0;
}

static bool spans_hit(const struct walk *w)
{
	for (size_t i = 0; i < w->scopes->spans.count; i++) {
		const struct silt_span *s = &w->scopes->spans.items[i];
		size_t at = silt_lower_bound(w->pcs, w->n, s->start);

		if (at < w->n && w->pcs[at] < s->end)
			return true;
	}
	return false;
}

/* Gives the addresses in the ranges to a new scope if they belong to its parent now: so scopes nest properly even when
 * the file's ranges do not. Of functions that share their code (the linker folded them) the first one has it. Returns the
 * scope, or SILT_NO_SCOPE when no address was taken. */
static uint32_t claim(struct walk *w, const struct silt_scope *scope)
{
	uint32_t id = (uint32_t)w->scopes->items.count;
	bool any = false;

	for (size_t i = 0; i < w->scopes->spans.count; i++) {
		const struct silt_span *s = &w->scopes->spans.items[i];

		if (scope->parent == SILT_NO_SCOPE && !silt_dwarf_is_code(w->dw, s->start))
			continue; /* a function the linker discarded */
		for (size_t at = silt_lower_bound(w->pcs, w->n, s->start); at < w->n && w->pcs[at] < s->end; at++) {
			if (w->scope_of[at] != scope->parent)
				continue;
			w->scope_of[at] = id;
			if (scope->parent == SILT_NO_SCOPE)
				w->missing--;
			any = true;
		}
	}
	if (!any)
		return SILT_NO_SCOPE;
	if (id == SILT_NO_SCOPE || !silt_vec_push(&w->scopes->items, *scope)) {
		w->out_of_memory = true;
		return SILT_NO_SCOPE;
	}
	return id;
}

static uint64_t entry_address(struct walk *w, const struct entry *e)
{
	uint64_t address;

	if (silt_value_address(w->dw, w->unit, w->root, &e->entry_pc, &address) ||
	    silt_value_address(w->dw, w->unit, w->root, &e->low_pc, &address))
		return address;
	return w->scopes->spans.items[0].start;
}

static uint32_t clip(uint64_t v)
{
	return v > UINT32_MAX ? 0 : (uint32_t)v;
}

/* Decides whether to descend below a function, inlined call or block, and in which scope. */
static bool visit_code(struct walk *w, const struct silt_abbrev *a, uint64_t die, const struct entry *e, uint32_t around,
		       uint32_t *ret_scope)
{
	struct silt_scope scope = {.die = die, .parent = a->kind == SILT_ENTRY_FUNCTION ? SILT_NO_SCOPE : around};
	uint32_t id;

	*ret_scope = around;
	if (!entry_spans(w, e))
		return a->kind == SILT_ENTRY_BLOCK ? around != SILT_NO_SCOPE || w->deep : w->deep;
	if (!spans_hit(w))
		return w->deep;
	if (a->kind == SILT_ENTRY_BLOCK)
		return true;
	if (a->kind == SILT_ENTRY_INLINE && (around == SILT_NO_SCOPE || !w->inlines))
		return w->deep;
	scope.call_file = e->call_file < SILT_NO_FILE ? (uint32_t)e->call_file : SILT_NO_FILE;
	scope.call_line = clip(e->call_line);
	scope.call_column = clip(e->call_column);
	scope.start = a->kind == SILT_ENTRY_FUNCTION ? entry_address(w, e) : 0;
	id = claim(w, &scope);
	if (id == SILT_NO_SCOPE)
		return w->deep;
	*ret_scope = id;
	return true;
}

static void visit(struct walk *w, const struct silt_abbrev *a, uint64_t die)
{
	uint32_t around = w->depth ? w->stack[w->depth - 1] : SILT_NO_SCOPE, scope = around;
	bool descend = a->kind == SILT_ENTRY_SCOPE || (w->deep && a->kind == SILT_ENTRY_TYPE);
	bool moved = false;

	if (a->kind == SILT_ENTRY_FUNCTION || a->kind == SILT_ENTRY_INLINE || a->kind == SILT_ENTRY_BLOCK) {
		/* Declarations and abstract instances, the bulk of a C++ unit, have no addresses: nothing to read. */
		if (!a->has_pc && !w->deep && a->kind != SILT_ENTRY_BLOCK) {
			moved = skip_to_sibling(w, a);
		} else {
			struct entry e;

			read_entry(w, a, &e);
			descend = !w->c.bad && visit_code(w, a, die, &e, around, &scope);
			if (!descend && a->has_children && e.sibling)
				moved = jump(w, e.sibling);
		}
	} else if (descend) {
		silt_abbrev_skip(&w->c, w->abbrevs, a, w->sizes);
	} else {
		moved = skip_to_sibling(w, a);
	}
	if (!a->has_children || moved)
		return;
	if (descend && w->depth < MAX_DEPTH)
		w->stack[w->depth++] = scope;
	else
		skip_children(w);
}

static void pass(struct walk *w)
{
	w->depth = 0;
	w->c = silt_unit_cursor(w->dw, w->unit, w->unit->die);
	do {
		uint64_t die = position(w), code = silt_cursor_uleb(&w->c);
		const struct silt_abbrev *a;

		if (!code) {
			if (w->depth)
				w->depth--;
			continue;
		}
		a = silt_abbrev_find(w->abbrevs, code);
		if (!a)
			return;
		visit(w, a, die);
	} while (w->depth && !w->c.bad && !w->out_of_memory && silt_cursor_left(&w->c));
}

int silt_functions_find(struct silt_dwarf *dw, struct silt_unit *u, const uint64_t *pcs, size_t n, bool inlines,
			struct silt_scopes *s, uint32_t *ret_scope, struct silt_error *err)
{
	struct walk w = {.dw = dw, .unit = u, .pcs = pcs, .n = n, .scope_of = ret_scope, .scopes = s, .inlines = inlines};

	s->items.count = 0;
	for (size_t i = 0; i < n; i++)
		ret_scope[i] = SILT_NO_SCOPE;
	w.missing = n;
	w.root = silt_unit_root(dw, u);
	w.abbrevs = w.root ? silt_unit_abbrevs(dw, u) : NULL;
	if (!w.abbrevs)
		return SILT_OK;
	w.sizes = silt_unit_sizes(u);
	pass(&w);
	/* Functions nested in functions (GNU C, Ada, Fortran) and in types are rare: look for them only when something
	 * was not found otherwise. */
	if (w.missing && !w.out_of_memory) {
		w.deep = true;
		pass(&w);
	}
	return w.out_of_memory ? silt_error_set(err, SILT_E_NOMEM, "out of memory") : SILT_OK;
}
