/* SPDX-License-Identifier: MIT */
/* The interface of the room: modules, requests, answers, warnings. */
#include "symbols/symbols.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbols/cache.h"
#include "symbols/cache_dir.h"
#include "symbols/search.h"
#include "symbols/servers.h"
#include "symbols/symbols_internal.h"

enum {
	COMPACT_FROM = 4096, /* pending requests are sorted and made distinct when they have doubled since */
	WARNING_NAMES = 4,   /* modules named in the warning about missing debug information */
	MAX_WARNINGS = 1000,
};

/* NULL stays NULL; false when out of memory. */
static bool copy_text(struct silt_symbols *sy, const char **text)
{
	const char *copy = silt_arena_strdup(sy->arena, *text);
	bool good = copy || !*text;

	*text = copy;
	return good;
}

static const char *join_path(struct silt_symbols *sy, const char *dir, const char *name)
{
	size_t size = strlen(dir) + strlen(name) + 2;
	char *path = silt_arena_alloc(sy->arena, size);

	if (path)
		snprintf(path, size, "%s/%s", dir, name);
	return path;
}

static bool copy_options(struct silt_symbols *sy, const struct silt_symbols_options *o)
{
	const char **dirs = silt_arena_array(sy->arena, o->debug_dir_count + 1, sizeof(*dirs));
	struct silt_server *servers = silt_arena_array(sy->arena, o->server_count, sizeof(*servers));
	bool good = dirs && servers, own_store = false;
	const char *store = NULL;

	sy->options = *o;
	good = good && copy_text(sy, &sy->options.sysroot) && copy_text(sy, &sy->options.cache_dir);
	for (size_t i = 0; i < o->debug_dir_count && good; i++) {
		dirs[i] = o->debug_dirs[i];
		good = copy_text(sy, &dirs[i]);
	}
	for (size_t i = 0; i < o->server_count && good; i++) {
		servers[i] = o->servers[i];
		good = copy_text(sy, &servers[i].url) && copy_text(sy, &servers[i].store);
		own_store |= !servers[i].store;
	}
	sy->silent = silt_arena_array(sy->arena, o->server_count + 1, sizeof(*sy->silent));
	if (good && own_store && o->cache_dir) {
		store = join_path(sy, o->cache_dir, SILT_CACHE_STORE);
		good = store;
	}
	for (size_t i = 0; i < o->server_count && good; i++)
		servers[i].store = servers[i].store ? servers[i].store : store;
	/* What servers brought lies where debug files are sought. A symbol path has its own directories in the list already. */
	if (good && store)
		dirs[sy->options.debug_dir_count++] = store;
	sy->options.debug_dirs = dirs;
	sy->options.servers = servers;
	return good && sy->silent;
}

struct silt_symbols *silt_symbols_create(const struct silt_symbols_options *opts)
{
	struct silt_symbols *sy = calloc(1, sizeof(*sy));

	if (!sy)
		return NULL;
	sy->cache_dir = -1;
	sy->arena = silt_arena_create();
	sy->strings = silt_intern_create();
	sy->module_keys = silt_intern_create();
	if (!sy->arena || !sy->strings || !sy->module_keys || (opts && !copy_options(sy, opts))) {
		silt_symbols_destroy(sy);
		return NULL;
	}
	return sy;
}

void silt_symbols_destroy(struct silt_symbols *sy)
{
	if (!sy)
		return;
	silt_cache_save(sy, true);
	for (size_t i = 0; i < sy->modules.count; i++) {
		struct silt_symbols_module *m = &sy->modules.items[i];

		silt_cache_close(m);
		silt_vec_free(&m->notes);
		silt_vec_free(&m->dependencies);
		silt_map_deinit(&m->dependency_map);

		silt_vec_free(&m->pending);
		silt_vec_free(&m->pcs);
		silt_vec_free(&m->answers);
		silt_vec_free(&m->attempts);
		silt_vec_free(&m->found);
		silt_vec_free(&m->wanted);
		silt_vec_free(&m->asked_for);
		silt_vec_free(&m->server_attempts);
	}
	silt_vec_free(&sy->modules);
	silt_vec_free(&sy->warnings);
	silt_vec_free(&sy->processes);
	if (sy->cache_dir >= 0)
		close(sy->cache_dir);
	silt_intern_destroy(sy->module_keys);
	silt_intern_destroy(sy->strings);
	silt_arena_destroy(sy->arena);
	free(sy);
}

static int no_memory(struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "out of memory while looking up symbols");
}

int silt_symbols_warn(struct silt_symbols *sy, struct silt_error *err, const char *fmt, ...)
{
	char text[4096];
	uint32_t before = silt_intern_count(sy->strings), id;
	const char *kept;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	silt_error_one_line(text);
	if (sy->warnings.count >= MAX_WARNINGS)
		return SILT_OK;
	id = silt_intern_add(sy->strings, text);
	kept = silt_intern_text(sy->strings, id);
	if (!kept)
		return no_memory(err);
	if (id < before)
		for (size_t i = 0; i < sy->warnings.count; i++)
			if (sy->warnings.items[i] == kept)
				return SILT_OK;
	return silt_vec_push(&sy->warnings, kept) ? SILT_OK : no_memory(err);
}

int silt_symbols_add_module(struct silt_symbols *sy, const char *path, const uint8_t *build_id, size_t build_id_len,
			    struct silt_error *err)
{
	struct silt_symbols_module m = {0};
	size_t path_len = strlen(path);
	uint32_t number;
	uint8_t *key;

	if (!build_id)
		build_id_len = 0;
	if (build_id_len > sizeof(m.build_id))
		return silt_error_set(err, SILT_E_INVAL, "%s: a build-id of %zu bytes is too long", path, build_id_len);
	key = malloc(path_len + 1 + build_id_len);
	if (!key)
		return no_memory(err);
	memcpy(key, path, path_len + 1);
	if (build_id_len) {
		memcpy(key + path_len + 1, build_id, build_id_len);
		memcpy(m.build_id, build_id, build_id_len);
	}
	number = silt_intern_add_bytes(sy->module_keys, key, path_len + 1 + build_id_len);
	free(key);
	if (number == SILT_INTERN_NONE)
		return no_memory(err);
	if (number < sy->modules.count)
		return (int)number;
	m.build_id_len = build_id_len;
	m.path = silt_intern_text(sy->module_keys, number);
	return silt_vec_push(&sy->modules, m) ? (int)number : no_memory(err);
}

int silt_symbols_add_process(struct silt_symbols *sy, unsigned pid, int64_t captured_ns, struct silt_error *err)
{
	bool known = false;

	if (captured_ns && (!sy->captured || captured_ns < sy->captured))
		sy->captured = captured_ns;
	for (size_t i = 0; i < sy->processes.count; i++)
		known |= sy->processes.items[i] == pid;
	if (known || !pid)
		return SILT_OK;
	return silt_vec_push(&sy->processes, pid) ? SILT_OK : no_memory(err);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts pending requests and drops duplicates. */
static void compact(struct silt_symbols_module *m)
{
	size_t n = 0;

	if (m->pending.count)
		qsort(m->pending.items, m->pending.count, sizeof(*m->pending.items), compare_u64);
	for (size_t i = 0; i < m->pending.count; i++)
		if (!n || m->pending.items[n - 1] != m->pending.items[i])
			m->pending.items[n++] = m->pending.items[i];
	m->pending.count = n;
}

/* The address to look at: a return address lies behind the call it belongs to. */
static uint64_t lookup_address(uint64_t offset, bool exact)
{
	return exact || !offset ? offset : offset - 1;
}

int silt_symbols_request(struct silt_symbols *sy, int module, uint64_t offset, bool exact, struct silt_error *err)
{
	struct silt_symbols_module *m;

	if (module < 0 || (size_t)module >= sy->modules.count)
		return silt_error_set(err, SILT_E_INVAL, "there is no module %d", module);
	m = &sy->modules.items[module];
	if (m->pending.count >= COMPACT_FROM && m->pending.count == m->pending.cap) {
		size_t before = m->pending.count;

		compact(m);
		/* When that saves little the array doubles next, and it takes as many requests until the next time. */
		if (m->pending.count > before / 2 && !silt_vec_reserve(&m->pending, 2 * before))
			return no_memory(err);
	}
	return silt_vec_push(&m->pending, lookup_address(offset, exact)) ? SILT_OK : no_memory(err);
}

/* Drops pending addresses that have an answer already. */
static void drop_known(struct silt_symbols_module *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->pending.count; i++) {
		size_t at = silt_lower_bound(m->pcs.items, m->pcs.count, m->pending.items[i]);

		if (at == m->pcs.count || m->pcs.items[at] != m->pending.items[i])
			m->pending.items[n++] = m->pending.items[i];
	}
	m->pending.count = n;
}

/* Puts new addresses and answers among the old ones: from the end, in place. */
static void merge(struct silt_symbols_module *m, const struct silt_answer *answers)
{
	size_t old = m->pcs.count, new = m->pending.count, to = old + new;

	m->pcs.count = m->answers.count = to;
	while (new) {
		if (old && m->pcs.items[old - 1] > m->pending.items[new - 1]) {
			old--;
			to--;
			m->pcs.items[to] = m->pcs.items[old];
			m->answers.items[to] = m->answers.items[old];
		} else {
			new--;
			to--;
			m->pcs.items[to] = m->pending.items[new];
			m->answers.items[to] = answers[new];
		}
	}
	silt_vec_free(&m->pending);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* One line for all modules without debug information, not one each. */
static int warn_of_missing(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, struct silt_error *err)
{
	char names[1024] = "";
	size_t missing = 0, used = 0;

	for (size_t i = 0; i < count; i++) {
		const struct silt_symbols_module *m = &sy->modules.items[work[i].module];

		/* The kernel's own code has none that could be installed. */
		if (m->failed || m->sources & SILT_SOURCE_DWARF || m->path[0] == '[')
			continue;
		if (missing++ < WARNING_NAMES && used < sizeof(names) - 1)
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", missing > 1 ? ", " : "",
						 base_name(m->path));
	}
	if (!missing)
		return SILT_OK;
	return silt_symbols_warn(sy, err, "no debug information for %s%s: function names only, no files and lines; install the "
				 "debug packages or name their directory with --debug-dir", names,
				 missing > WARNING_NAMES ? " and others" : "");
}

static int collect_work(struct silt_symbols *sy, struct silt_pool_work *work, size_t *ret_count, struct silt_error *err)
{
	size_t n = 0;

	for (size_t i = 0; i < sy->modules.count; i++) {
		struct silt_symbols_module *m = &sy->modules.items[i];
		struct silt_pool_work w = {.module = (uint32_t)i};

		compact(m);
		drop_known(m);
		if (!m->pending.count)
			continue;
		w.pcs = m->pending.items;
		w.count = m->pending.count;
		w.answers = calloc(w.count, sizeof(*w.answers));
		if (!w.answers || !silt_vec_reserve(&m->pcs, m->pcs.count + w.count) ||
		    !silt_vec_reserve(&m->answers, m->pcs.count + w.count)) {
			free(w.answers);
			*ret_count = n;
			return no_memory(err);
		}
		work[n++] = w;
	}
	*ret_count = n;
	return SILT_OK;
}

/* "[vsyscall]" and the like have no file to look into; the vdso may be that of the running kernel. */
static bool has_file(const struct silt_symbols_module *m)
{
	return m->path[0] != '[' || (strcmp(m->path, "[vdso]") == 0 && m->build_id_len);
}

/* The addresses of one module that nothing is known of yet, and where in its work they came from. */
struct rest {
	const struct silt_pool_work *of;
	uint64_t *pcs;
	size_t *places;
	struct silt_answer *answers;
	size_t count;
};

static void rest_deinit(struct rest *r)
{
	free(r->pcs);
	free(r->places);
	free(r->answers);
}

/* Answers from the cache go straight to their places. */
static bool rest_init(struct rest *r, struct silt_symbols *sy, const struct silt_pool_work *w)
{
	struct silt_symbols_module *m = &sy->modules.items[w->module];
	bool *known = calloc(w->count, sizeof(*known));

	*r = (struct rest){.of = w, .pcs = calloc(w->count, sizeof(*r->pcs)), .places = calloc(w->count, sizeof(*r->places)),
			   .answers = calloc(w->count, sizeof(*r->answers))};
	if (!known || !r->pcs || !r->places || !r->answers) {
		free(known);
		rest_deinit(r);
		return false;
	}
	silt_cache_take(sy, m, w->pcs, w->count, w->answers, known);
	for (size_t i = 0; i < w->count; i++) {
		if (known[i])
			continue;
		r->places[r->count] = i;
		r->pcs[r->count++] = w->pcs[i];
	}
	m->fresh += r->count;
	free(known);
	return true;
}

/* Looks up in files what the cache does not know. */
static int look_up(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, struct silt_error *err)
{
	struct rest *rests = calloc(count + 1, sizeof(*rests));
	struct silt_pool_work *files = calloc(count + 1, sizeof(*files));
	size_t n = 0, file_count = 0;
	int r = rests && files ? silt_servers_ask(sy, work, count, true, err) : no_memory(err);

	for (size_t i = 0; i < count && !r; i++) {
		if (!has_file(&sy->modules.items[work[i].module]))
			continue;
		if (!rest_init(&rests[n], sy, &work[i]))
			r = no_memory(err);
		else if (rests[n++].count)
			files[file_count++] = (struct silt_pool_work){.module = work[i].module, .pcs = rests[n - 1].pcs,
								      .answers = rests[n - 1].answers, .count = rests[n - 1].count};
	}
	if (!r)
		r = silt_pool_run(sy, files, file_count, err);
	silt_servers_tell(sy);
	if (!r)
		r = warn_of_missing(sy, work, count, err);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < rests[i].count && !r; k++)
			rests[i].of->answers[rests[i].places[k]] = rests[i].answers[k];
		rest_deinit(&rests[i]);
	}
	free(rests);
	free(files);
	return r;
}

int silt_symbols_resolve(struct silt_symbols *sy, struct silt_error *err)
{
	struct silt_pool_work *work = calloc(sy->modules.count + 1, sizeof(*work));
	size_t n = 0;
	int r;

	if (!work)
		return no_memory(err);
	r = collect_work(sy, work, &n, err);
	if (!r)
		r = look_up(sy, work, n, err);
	for (size_t i = 0; i < n; i++) {
		if (!r)
			merge(&sy->modules.items[work[i].module], work[i].answers);
		free(work[i].answers);
	}
	free(work);
	if (!r)
		silt_cache_save(sy, false);
	return r;
}

int silt_symbols_locate(struct silt_symbols *sy, struct silt_error *err)
{
	struct silt_pool_work *work = calloc(sy->modules.count + 1, sizeof(*work));
	size_t n = 0;
	int r;

	if (!work)
		return no_memory(err);
	for (size_t i = 0; i < sy->modules.count; i++)
		if (has_file(&sy->modules.items[i]))
			work[n++] = (struct silt_pool_work){.module = (uint32_t)i, .locate = true};
	r = silt_servers_ask(sy, work, n, false, err);
	if (!r)
		r = silt_pool_run(sy, work, n, err);
	silt_servers_tell(sy);
	free(work);
	return r;
}

const struct silt_symbol_frame *silt_symbols_lookup(const struct silt_symbols *sy, int module, uint64_t offset, bool exact,
						    size_t *ret_count)
{
	const struct silt_symbols_module *m;
	uint64_t pc = lookup_address(offset, exact);
	size_t at;

	*ret_count = 0;
	if (module < 0 || (size_t)module >= sy->modules.count)
		return NULL;
	m = &sy->modules.items[module];
	at = silt_lower_bound(m->pcs.items, m->pcs.count, pc);
	if (at == m->pcs.count || m->pcs.items[at] != pc)
		return NULL;
	*ret_count = m->answers.items[at].count;
	return m->answers.items[at].frames;
}

size_t silt_symbols_warning_count(const struct silt_symbols *sy)
{
	return sy->warnings.count;
}

const char *silt_symbols_warning(const struct silt_symbols *sy, size_t i)
{
	return i < sy->warnings.count ? sy->warnings.items[i] : NULL;
}

int silt_symbols_module_info(const struct silt_symbols *sy, int module, struct silt_symbols_module_info *ret)
{
	const struct silt_symbols_module *m;

	if (module < 0 || (size_t)module >= sy->modules.count)
		return SILT_E_INVAL;
	m = &sy->modules.items[module];
	*ret = (struct silt_symbols_module_info){m->sources, m->dwarf_path, m->attempts.count, m->attempts.items,
						 m->found.count, m->found.items};
	return SILT_OK;
}
