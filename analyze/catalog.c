/* SPDX-License-Identifier: MIT */
/* Identities over snapshots: modules by build-id, locations by module and offset, stacks by locations. */
#include "analyze/catalog.h"

#include <stdlib.h>
#include <string.h>

static const char DELETED[] = " (deleted)"; /* proc(5): appended to the path of an unlinked mapped file */

const char *silt_path_name(const char *path, size_t *ret_len)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash && slash[1] ? slash + 1 : path;
	size_t len = strlen(name);

	if (len > sizeof(DELETED) - 1 && strcmp(name + len - (sizeof(DELETED) - 1), DELETED) == 0)
		len -= sizeof(DELETED) - 1;
	*ret_len = len;
	return name;
}

static int no_memory(struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "not enough memory to compare stacks");
}

int silt_catalog_init(struct silt_catalog *c, struct silt_error *err)
{
	memset(c, 0, sizeof(*c));
	c->module_keys = silt_intern_create();
	c->locations = silt_intern_create();
	c->stacks = silt_intern_create();
	if (c->module_keys && c->locations && c->stacks)
		return 0;
	silt_catalog_deinit(c);
	return no_memory(err);
}

void silt_catalog_deinit(struct silt_catalog *c)
{
	free(c->modules);
	silt_intern_destroy(c->module_keys);
	silt_intern_destroy(c->locations);
	silt_intern_destroy(c->stacks);
	memset(c, 0, sizeof(*c));
}

uint32_t silt_catalog_module_count(const struct silt_catalog *c)
{
	return silt_intern_count(c->module_keys);
}

uint32_t silt_catalog_location_count(const struct silt_catalog *c)
{
	return silt_intern_count(c->locations);
}

uint32_t silt_catalog_stack_count(const struct silt_catalog *c)
{
	return silt_intern_count(c->stacks);
}

/* Interns "<kind><bytes>". */
static uint32_t add_key(struct silt_intern *t, char kind, const void *bytes, size_t size, bool *ret_new)
{
	char small[256], *key = small;
	uint32_t number;

	if (size >= sizeof(small) && !(key = malloc(size + 1)))
		return SILT_NONE;
	key[0] = kind;
	if (size > 0)
		memcpy(key + 1, bytes, size);
	number = silt_key_add(t, key, size + 1, ret_new);
	if (key != small)
		free(key);
	return number;
}

static bool reserve_modules(struct silt_catalog *c, uint32_t count)
{
	struct silt_catalog_module *modules;
	uint32_t room = c->module_room ? c->module_room : 64;

	if (count <= c->module_room)
		return true;
	while (room < count)
		room = room > UINT32_MAX / 2 ? UINT32_MAX : room * 2;
	modules = reallocarray(c->modules, room, sizeof(*modules));
	if (!modules)
		return false;
	c->modules = modules;
	c->module_room = room;
	return true;
}

/* The number of a name that does not end where its string does. */
static uint32_t find_key(const struct silt_intern *t, const char *name, size_t len)
{
	char *copy = strndup(name, len);
	uint32_t number = silt_intern_find(t, copy);

	free(copy);
	return number;
}

/* Modules without build-id that only the other side has, by the last part of their path. */
struct nameless {
	struct silt_intern *names;
	uint32_t *module; /* per name: catalog module, or SILT_NONE where the name is not unique */
};

static bool nameless_init(struct nameless *n, const struct silt_catalog *c, unsigned side)
{
	n->names = silt_intern_create();
	n->module = calloc((size_t)silt_catalog_module_count(c) + 1, sizeof(*n->module));
	if (!n->names || !n->module)
		return false;
	for (uint32_t i = 0; i < silt_catalog_module_count(c); i++) {
		size_t len;
		const char *name = silt_path_name(c->modules[i].path, &len);
		bool fresh;
		uint32_t at;

		if (c->modules[i].build_id_len > 0 || (c->modules[i].sides & (1u << side)))
			continue;
		at = silt_key_add(n->names, name, len, &fresh);
		if (at == SILT_NONE)
			return false;
		n->module[at] = fresh ? i : SILT_NONE;
	}
	return true;
}

static void nameless_deinit(struct nameless *n)
{
	silt_intern_destroy(n->names);
	free(n->module);
}

/* The catalog's number for one module of a snapshot, SILT_NONE when out of memory. */
static uint32_t add_module(struct silt_catalog *c, const struct silt_module *m, unsigned side,
			   const struct nameless *others)
{
	const char *path = m->path ? m->path : "";
	uint32_t number = SILT_NONE;
	bool fresh = false;

	if (m->build_id_len > 0) {
		number = add_key(c->module_keys, 'b', m->build_id, m->build_id_len, &fresh);
	} else {
		size_t len;
		const char *name = silt_path_name(path, &len);
		uint32_t at = find_key(others->names, name, len);

		if (at != SILT_NONE)
			number = others->module[at];
		if (number == SILT_NONE)
			number = add_key(c->module_keys, 'p', path, strlen(path), &fresh);
	}
	if (number == SILT_NONE || !reserve_modules(c, number + 1))
		return SILT_NONE;
	if (fresh)
		c->modules[number] = (struct silt_catalog_module){.twin = SILT_NONE};
	c->modules[number].path = path;
	c->modules[number].build_id = m->build_id;
	c->modules[number].build_id_len = m->build_id_len;
	c->modules[number].sides |= 1u << side;
	return number;
}

static int add_modules(struct silt_catalog *c, const struct silt_snapshot *s, unsigned side, uint32_t *ret_map,
		       struct silt_error *err)
{
	struct nameless others;
	int rc = 0;

	if (!nameless_init(&others, c, side))
		rc = no_memory(err);
	for (uint32_t i = 0; i < s->module_count && rc == 0; i++) {
		ret_map[i] = add_module(c, &s->modules[i], side, &others);
		if (ret_map[i] == SILT_NONE)
			rc = no_memory(err);
	}
	nameless_deinit(&others);
	return rc;
}

static int add_locations(struct silt_catalog *c, const struct silt_snapshot *s, const uint32_t *modules,
			 bool merge_anonymous, uint32_t *ret_map, struct silt_error *err)
{
	for (uint32_t i = 0; i < s->frame_count; i++) {
		const struct silt_frame *f = &s->frames[i];
		struct silt_location l = {
			.module = f->module == SILT_NONE ? SILT_NONE : modules[f->module],
			.flags = f->flags & SILT_FRAME_INTERRUPTED,
			.offset = f->module == SILT_NONE && merge_anonymous ? 0 : f->offset,
		};

		ret_map[i] = silt_intern_add_bytes(c->locations, &l, sizeof(l));
		if (ret_map[i] == SILT_NONE)
			return no_memory(err);
	}
	return 0;
}

/* Stacks of a damaged or hostile file may overlap, so that a small file means endless work. */
static int check_stacks(const struct silt_snapshot *s, uint32_t *ret_deepest, struct silt_error *err)
{
	uint64_t sum = 0;

	*ret_deepest = 0;
	for (uint32_t i = 0; i < s->stack_count; i++) {
		sum += s->stacks[i].frame_count;
		if (s->stacks[i].frame_count > *ret_deepest)
			*ret_deepest = s->stacks[i].frame_count;
	}
	if (sum > 16ull * s->stack_frame_count + 1000000)
		return silt_error_set(
			err, SILT_E_LIMIT,
			"the stacks of process %u add up to %llu frames where %u are stored: the file is damaged",
			s->process.pid, (unsigned long long)sum, s->stack_frame_count);
	return 0;
}

static int add_stacks(struct silt_catalog *c, const struct silt_snapshot *s, const uint32_t *locations,
		      uint32_t *ret_map, struct silt_error *err)
{
	uint32_t deepest, *key;
	int rc = check_stacks(s, &deepest, err);

	if (rc < 0)
		return rc;
	key = calloc((size_t)deepest + 1, sizeof(*key));
	if (!key)
		return no_memory(err);
	for (uint32_t i = 0; i < s->stack_count && rc == 0; i++) {
		const struct silt_stack *st = &s->stacks[i];

		key[0] = st->flags;
		for (uint32_t k = 0; k < st->frame_count; k++)
			key[k + 1] = locations[s->stack_frames[st->frame_first + k]];
		ret_map[i] = silt_intern_add_bytes(c->stacks, key, ((size_t)st->frame_count + 1) * sizeof(*key));
		if (ret_map[i] == SILT_NONE)
			rc = no_memory(err);
	}
	free(key);
	return rc;
}

int silt_catalog_add(struct silt_catalog *c, const struct silt_snapshot *s, unsigned side, bool merge_anonymous,
		     uint32_t **ret_stacks, struct silt_error *err)
{
	uint32_t *modules = calloc((size_t)s->module_count + 1, sizeof(*modules));
	uint32_t *locations = calloc((size_t)s->frame_count + 1, sizeof(*locations));
	uint32_t *stacks = calloc((size_t)s->stack_count + 1, sizeof(*stacks));
	int rc = modules && locations && stacks ? 0 : no_memory(err);

	if (rc == 0)
		rc = add_modules(c, s, side, modules, err);
	if (rc == 0)
		rc = add_locations(c, s, modules, merge_anonymous, locations, err);
	if (rc == 0)
		rc = add_stacks(c, s, locations, stacks, err);
	free(modules);
	free(locations);
	if (rc < 0) {
		free(stacks);
		return rc;
	}
	*ret_stacks = stacks;
	return 0;
}

/* "libz.so" of "/usr/lib/libz.so.1.2.13": what stays the same when a file is replaced by its next version. */
static const char *stem(const char *path, size_t *ret_len)
{
	const char *name = silt_path_name(path, ret_len);
	const char *so = memmem(name, *ret_len, ".so", 3);

	if (so && (so + 3 == name + *ret_len || so[3] == '.'))
		*ret_len = (size_t)(so + 3 - name);
	return name;
}

static bool one_sided(const struct silt_catalog *c, uint32_t i, unsigned side)
{
	return c->modules[i].sides == 1u << side && c->modules[i].twin == SILT_NONE;
}

/* The module of one side with this path, if the other side does not have it. */
static uint32_t find_path(const struct silt_catalog *c, const char *path, unsigned side)
{
	for (uint32_t i = 0; path && i < silt_catalog_module_count(c); i++)
		if (one_sided(c, i, side) && strcmp(c->modules[i].path, path) == 0)
			return i;
	return SILT_NONE;
}

static void make_twins(struct silt_catalog *c, uint32_t a, uint32_t b)
{
	c->modules[a].twin = b;
	c->modules[b].twin = a;
}

int silt_catalog_pair(struct silt_catalog *c, const char *exe_before, const char *exe_after,
		      struct silt_error *err)
{
	uint32_t count = silt_catalog_module_count(c);
	uint32_t a = find_path(c, exe_before, SILT_BEFORE), b = find_path(c, exe_after, SILT_AFTER);
	struct silt_intern *stems = silt_intern_create();
	uint32_t *first = calloc((size_t)count + 1, sizeof(*first));
	int rc = first && stems ? 0 : no_memory(err);

	if (a != SILT_NONE && b != SILT_NONE)
		make_twins(c, a, b);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		size_t len;
		const char *name = stem(c->modules[i].path, &len);
		bool fresh;
		uint32_t at;

		if (!one_sided(c, i, SILT_BEFORE))
			continue;
		at = silt_key_add(stems, name, len, &fresh);
		if (at == SILT_NONE)
			rc = no_memory(err);
		else if (fresh)
			first[at] = i;
	}
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		size_t len;
		const char *name = stem(c->modules[i].path, &len);
		uint32_t at = find_key(stems, name, len);

		if (at != SILT_NONE && one_sided(c, i, SILT_AFTER) && one_sided(c, first[at], SILT_BEFORE))
			make_twins(c, first[at], i);
	}
	silt_intern_destroy(stems);
	free(first);
	return rc;
}

const struct silt_location *silt_catalog_location(const struct silt_catalog *c, uint32_t number)
{
	return silt_key_bytes(c->locations, number);
}

const uint32_t *silt_catalog_stack(const struct silt_catalog *c, uint32_t number, uint32_t *ret_count,
				   uint32_t *ret_flags)
{
	const uint32_t *key = silt_key_bytes(c->stacks, number);

	*ret_count = (uint32_t)(silt_intern_size(c->stacks, number) / sizeof(*key)) - 1;
	if (ret_flags)
		*ret_flags = key[0];
	return key + 1;
}
