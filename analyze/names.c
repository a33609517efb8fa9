/* SPDX-License-Identifier: MIT */
/* Asks the symbols room about catalog locations and finds where a stack begins for a reader. */
#include "analyze/names.h"

#include <stdlib.h>
#include <string.h>

enum { MODULE_NEW = -1, MODULE_UNUSABLE = -2 };
enum { STATE_NONE, STATE_WANTED, STATE_KNOWN, STATE_TRAMPOLINE }; /* from KNOWN on nothing need be asked */

/* What the kernel has a handler return to is no function that anybody called, and mostly has no name: this is what debuggers call it. */
static const struct silt_symbol_frame trampoline = { .function = "<signal handler called>" };

/* The frame on the inner side of an interrupted one, to which a handler was to return. */
static void find_trampolines(struct silt_names *n)
{
	const struct silt_catalog *c = n->catalog;
	bool any = false;

	for (uint32_t i = 0; i < silt_catalog_location_count(c) && !any; i++)
		any = silt_catalog_location(c, i)->flags & SILT_FRAME_INTERRUPTED;
	for (uint32_t i = 0; i < silt_catalog_stack_count(c) && any; i++) {
		uint32_t count;
		const uint32_t *locations = silt_catalog_stack(c, i, &count, NULL);

		for (uint32_t k = 1; k < count; k++)
			if (silt_catalog_location(c, locations[k])->flags & SILT_FRAME_INTERRUPTED &&
			    !(silt_catalog_location(c, locations[k - 1])->flags & SILT_FRAME_INTERRUPTED))
				n->state[locations[k - 1]] = STATE_TRAMPOLINE;
	}
}

int silt_names_init(struct silt_names *n, const struct silt_catalog *c, const struct silt_symbols_options *options,
		    struct silt_error *err)
{
	memset(n, 0, sizeof(*n));
	n->catalog = c;
	n->symbols = silt_symbols_create(options);
	n->modules = calloc((size_t)silt_catalog_module_count(c) + 1, sizeof(*n->modules));
	n->state = calloc((size_t)silt_catalog_location_count(c) + 1, sizeof(*n->state));
	if (!n->symbols || !n->modules || !n->state)
		return silt_error_set(err, SILT_E_NOMEM, "not enough memory to look up names");
	for (uint32_t i = 0; i < silt_catalog_module_count(c); i++)
		n->modules[i] = MODULE_NEW;
	find_trampolines(n);
	return 0;
}

void silt_names_deinit(struct silt_names *n)
{
	silt_symbols_destroy(n->symbols);
	free(n->modules);
	free(n->state);
	memset(n, 0, sizeof(*n));
}

/* The number of a module in symbols, or MODULE_UNUSABLE. A module that cannot be added costs its names only. */
static int symbols_module(struct silt_names *n, uint32_t module, struct silt_error *err)
{
	const struct silt_catalog_module *m = &n->catalog->modules[module];
	struct silt_error local;
	char *path;
	size_t len;

	if (n->modules[module] != MODULE_NEW)
		return n->modules[module];
	/* The kernel's " (deleted)" is no part of the name. Should another file be there now, its build-id tells;
	 * without a build-id nothing would. */
	len = strlen(m->path);
	if (m->build_id_len > 0) {
		size_t name_len;
		const char *name = silt_path_name(m->path, &name_len);

		len = (size_t)(name - m->path) + name_len;
	}
	path = strndup(m->path, len);
	if (!path)
		return silt_error_set(err, SILT_E_NOMEM, "not enough memory to look up names");
	local.code = SILT_OK;
	n->modules[module] = silt_symbols_add_module(n->symbols, path, m->build_id_len ? m->build_id : NULL,
						     m->build_id_len, &local);
	free(path);
	if (n->modules[module] >= 0)
		return n->modules[module];
	if (n->modules[module] == SILT_E_NOMEM)
		return silt_error_set(err, SILT_E_NOMEM, "not enough memory to look up names");
	n->modules[module] = MODULE_UNUSABLE;
	return MODULE_UNUSABLE;
}

int silt_names_want(struct silt_names *n, uint32_t location, struct silt_error *err)
{
	const struct silt_location *l = silt_catalog_location(n->catalog, location);
	int module, rc;

	if (n->state[location] != STATE_NONE)
		return 0;
	n->state[location] = STATE_WANTED;
	n->pending = true;
	if (l->module == SILT_NONE)
		return 0;
	module = symbols_module(n, l->module, err);
	if (module == MODULE_UNUSABLE)
		return 0;
	if (module < 0)
		return module;
	rc = silt_symbols_request(n->symbols, module, l->offset, l->flags & SILT_FRAME_INTERRUPTED, err);
	return rc < 0 ? rc : 0;
}

int silt_names_want_stack(struct silt_names *n, uint32_t stack, struct silt_error *err)
{
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(n->catalog, stack, &count, NULL);

	for (uint32_t i = 0; i < count; i++) {
		int rc = silt_names_want(n, locations[i], err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The physical function of a known location, NULL where unknown. */
static const struct silt_symbol_frame *physical(const struct silt_names *n, uint32_t location)
{
	size_t count;
	const struct silt_symbol_frame *frames = silt_names_frames(n, location, &count);

	return count > 0 ? &frames[count - 1] : NULL;
}

int silt_names_want_start(struct silt_names *n, uint32_t location, struct silt_error *err)
{
	const struct silt_location *l = silt_catalog_location(n->catalog, location);
	const struct silt_symbol_frame *f = physical(n, location);
	int rc;

	if (!f || f->function_start == 0)
		return 0;
	n->pending = true;
	rc = silt_symbols_request(n->symbols, n->modules[l->module], f->function_start, true, err);
	return rc < 0 ? rc : 0;
}

int silt_names_resolve(struct silt_names *n, struct silt_error *err)
{
	int rc;

	if (!n->pending)
		return 0;
	rc = silt_symbols_resolve(n->symbols, err);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < silt_catalog_location_count(n->catalog); i++)
		if (n->state[i] == STATE_WANTED)
			n->state[i] = STATE_KNOWN;
	n->pending = false;
	return 0;
}

const struct silt_symbol_frame *silt_names_frames(const struct silt_names *n, uint32_t location, size_t *ret_count)
{
	const struct silt_location *l = silt_catalog_location(n->catalog, location);

	*ret_count = 0;
	if (n->state[location] == STATE_TRAMPOLINE) {
		*ret_count = 1;
		return &trampoline;
	}
	if (n->state[location] != STATE_KNOWN || l->module == SILT_NONE || n->modules[l->module] < 0)
		return NULL;
	return silt_symbols_lookup(n->symbols, n->modules[l->module], l->offset, l->flags & SILT_FRAME_INTERRUPTED,
				   ret_count);
}

uint32_t silt_names_start_line(const struct silt_names *n, uint32_t location)
{
	const struct silt_location *l = silt_catalog_location(n->catalog, location);
	const struct silt_symbol_frame *f = physical(n, location);
	size_t count = 0;

	if (!f || f->function_start == 0)
		return 0;
	f = silt_symbols_lookup(n->symbols, n->modules[l->module], f->function_start, true, &count);
	return count > 0 ? f[count - 1].line : 0;
}

const char *silt_names_module_path(const struct silt_names *n, uint32_t location)
{
	const struct silt_location *l = silt_catalog_location(n->catalog, location);

	return l->module == SILT_NONE ? NULL : n->catalog->modules[l->module].path;
}

/* How many of a location's frames are hidden at the innermost end of a stack, and of how many. */
static size_t hidden_frames(const struct silt_names *n, uint32_t location, size_t *ret_count)
{
	const char *module = silt_names_module_path(n, location);
	const struct silt_symbol_frame *frames = silt_names_frames(n, location, ret_count);
	size_t hidden = 0;

	if (*ret_count == 0) { /* one frame without a name */
		*ret_count = 1;
		return silt_module_is_allocator(module) ? 1 : 0;
	}
	while (hidden < *ret_count && silt_frame_is_allocator(module, &frames[hidden]))
		hidden++;
	return hidden;
}

struct silt_stack_start silt_names_stack_start(const struct silt_names *n, uint32_t stack, bool all_frames)
{
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(n->catalog, stack, &count, NULL);

	for (uint32_t i = 0; i < count && !all_frames; i++) {
		size_t frames, hidden = hidden_frames(n, locations[i], &frames);

		if (hidden < frames)
			return (struct silt_stack_start){.location = i, .frame = hidden};
	}
	return (struct silt_stack_start){.location = 0, .frame = 0};
}

int silt_names_want_stack_start(struct silt_names *n, uint32_t stack, bool all_frames, bool *ret_settled,
				struct silt_error *err)
{
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(n->catalog, stack, &count, NULL);

	*ret_settled = true;
	for (uint32_t i = 0; i < count; i++) {
		size_t frames;

		if (n->state[locations[i]] < STATE_KNOWN) {
			*ret_settled = false;
			return silt_names_want(n, locations[i], err);
		}
		if (all_frames || hidden_frames(n, locations[i], &frames) < frames)
			return 0;
	}
	return 0;
}
