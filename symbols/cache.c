/* SPDX-License-Identifier: MIT */
/* Keys, facts and answers: what goes into the cache and what comes out of it. */
#include "symbols/cache.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/reader.h"
#include "base/writer.h"
#include "symbols/cache_dir.h"
#include "symbols/cache_file.h"
#include "symbols/elf_reader.h"
#include "symbols/search.h"

enum {
	KEY_VERSION = 1,
	MAX_DEPENDENCIES = 1 << 16, /* the split files of the largest programs; each is looked at whenever answers are taken */
	MAX_TEXT = 1 << 17,
	SAVE_FROM = 4096, /* fresh answers that are worth a write before the end; later ones as many as are kept already */
};

/* ---- keys ---- */

static int add_library(struct dl_phdr_info *info, size_t size, void *data)
{
	/* What reads debug files and shapes names. The rest of the process may differ from run to run. */
	static const char *const names[] = {"libdwarf", "libelf", "libz.", "libzstd", "liblzma"};
	const char *slash = strrchr(info->dlpi_name, '/'), *base = slash ? slash + 1 : info->dlpi_name;
	uint8_t id[64];
	bool wanted = !*info->dlpi_name; /* the program itself */

	(void)size;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		wanted |= strncmp(base, names[i], strlen(names[i])) == 0;
	for (unsigned i = 0; i < info->dlpi_phnum && wanted; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		size_t n;

		if (ph->p_type != PT_NOTE)
			continue;
		n = silt_elf_note_build_id((const void *)(info->dlpi_addr + ph->p_vaddr), ph->p_memsz, ph->p_align, id);
		silt_writer_text(data, (const char *)id, n);
	}
	return 0;
}

/* This build of silt and of its libraries: another one may know better. */
static void add_reader(struct silt_writer *w)
{
	size_t before = w->size;
	struct stat st;

	silt_writer_varint(w, KEY_VERSION);
	dl_iterate_phdr(add_library, w);
	/* Linked without build-ids: then the file has to do. */
	if (w->size - before < 8 && !stat("/proc/self/exe", &st)) {
		silt_writer_u64(w, (uint64_t)st.st_size);
		silt_writer_u64(w, (uint64_t)st.st_mtim.tv_sec << 30 | (uint64_t)st.st_mtim.tv_nsec);
	}
}

static void add_text(struct silt_writer *w, const char *text)
{
	silt_writer_text(w, text ? text : "", text ? strlen(text) : 0);
}

static bool make_key(const struct silt_symbols *sy, const struct silt_symbols_module *m, struct silt_writer *w)
{
	const struct silt_symbols_options *o = &sy->options;
	bool relative = (m->path[0] != '/' && m->path[0] != '[') || (o->sysroot && o->sysroot[0] != '/');
	char cwd[PATH_MAX] = "";

	for (size_t i = 0; i < o->debug_dir_count; i++)
		relative |= o->debug_dirs[i][0] != '/';
	if (relative && !getcwd(cwd, sizeof(cwd)))
		return false;
	add_reader(w);
	add_text(w, cwd);
	add_text(w, m->path);
	silt_writer_text(w, (const char *)m->build_id, m->build_id_len);
	add_text(w, o->sysroot);
	silt_writer_varint(w, o->debug_dir_count);
	for (size_t i = 0; i < o->debug_dir_count; i++)
		add_text(w, o->debug_dirs[i]);
	silt_writer_u8(w, o->no_inlines);
	silt_writer_u8(w, o->bare_names);
	silt_writer_u8(w, (uint8_t)o->demangle);
	silt_writer_u64(w, o->max_memory);
	/* Without a build-id the time of the capture decides whether a file is believed. */
	silt_writer_u64(w, m->build_id_len ? 0 : (uint64_t)sy->captured);
	return silt_writer_ok(w);
}

/* ---- facts ---- */

static void write_facts(const struct silt_symbols_module *m, struct silt_writer *w)
{
	silt_writer_varint(w, m->sources);
	silt_writer_varint(w, m->found.count);
	for (size_t i = 0; i < m->found.count; i++) {
		silt_writer_varint(w, m->found.items[i].kind);
		add_text(w, m->found.items[i].path);
	}
	/* What servers said is asked anew each time. */
	silt_writer_varint(w, m->attempts.count - m->server_attempt_count);
	for (size_t i = 0; i < m->attempts.count - m->server_attempt_count; i++)
		add_text(w, m->attempts.items[i]);
	silt_writer_varint(w, m->notes.count);
	for (size_t i = 0; i < m->notes.count; i++)
		add_text(w, m->notes.items[i]);
	silt_writer_varint(w, m->dependencies.count);
	for (size_t i = 0; i < m->dependencies.count; i++) {
		const struct silt_dependency *d = &m->dependencies.items[i];

		add_text(w, d->root);
		add_text(w, d->path);
		silt_writer_u64(w, d->identity.inode);
		silt_writer_u64(w, d->identity.size);
		silt_writer_u64(w, (uint64_t)d->identity.modified);
		silt_writer_u64(w, (uint64_t)d->identity.changed);
	}
}

static const char *read_text(struct silt_symbols *sy, struct silt_reader *r)
{
	size_t size;
	const char *text = silt_reader_text(r, MAX_TEXT, &size);
	const char *kept = text ? silt_intern_text(sy->strings, silt_intern_add_bytes(sy->strings, text, size)) : NULL;

	if (text && !kept)
		silt_reader_fail(r, "memory");
	return kept;
}

/* What write_facts wrote, into an empty module's lists. */
static bool read_facts(struct silt_symbols *sy, struct silt_reader *r, struct silt_symbols_module *m)
{
	uint64_t count;
	bool good = true;

	m->sources = silt_reader_varint32(r);
	count = silt_reader_count(r, 2);
	for (uint64_t i = 0; i < count && good; i++) {
		unsigned kind = silt_reader_varint32(r);
		struct silt_symbols_found f = {(enum silt_symbols_source)kind, read_text(sy, r)};

		if (kind == SILT_SOURCE_DWARF)
			m->dwarf_path = f.path;
		good = f.path && silt_vec_push(&m->found, f);
	}
	count = silt_reader_count(r, 1);
	for (uint64_t i = 0; i < count && good; i++) {
		const char *text = read_text(sy, r);

		good = text && silt_vec_push(&m->attempts, text);
	}
	count = silt_reader_count(r, 1);
	for (uint64_t i = 0; i < count && good; i++) {
		const char *text = read_text(sy, r);

		good = text && silt_vec_push(&m->notes, text);
	}
	count = silt_reader_count(r, 34);
	for (uint64_t i = 0; i < count && good; i++) {
		struct silt_dependency d = {.root = read_text(sy, r), .path = read_text(sy, r)};

		d.identity.inode = silt_reader_u64(r);
		d.identity.size = silt_reader_u64(r);
		d.identity.modified = (int64_t)silt_reader_u64(r);
		d.identity.changed = (int64_t)silt_reader_u64(r);
		good = d.root && d.path && silt_vec_push(&m->dependencies, d);
	}
	return good && silt_reader_ok(r) && !silt_reader_left(r);
}

static void free_facts(struct silt_symbols_module *m)
{
	silt_vec_free(&m->found);
	silt_vec_free(&m->attempts);
	silt_vec_free(&m->notes);
	silt_vec_free(&m->dependencies);
}

static bool all_hold(const struct silt_symbols_module *m)
{
	for (size_t i = 0; i < m->dependencies.count; i++)
		if (!silt_dependency_holds(&m->dependencies.items[i]))
			return false;
	return m->dependencies.count;
}

/* A process that is still there may have in its mappings what was not to be found without it. */
static bool may_find_more(const struct silt_symbols *sy, const struct silt_symbols_module *m)
{
	for (size_t i = 0; i < sy->processes.count && !(m->sources & SILT_SOURCE_DWARF); i++)
		if (kill((pid_t)sy->processes.items[i], 0) == 0 || errno != ESRCH)
			return true;
	return false;
}

/* ---- taking ---- */

static uint64_t file_limit(const struct silt_symbols *sy)
{
	uint64_t all = silt_limit_or_default(SILT_LIMIT_CACHE_BYTES, sy->options.cache_bytes);
	uint64_t one = silt_limit_default(SILT_LIMIT_CACHE_FILE_BYTES);

	return all < one ? all : one;
}

static bool is_on(const struct silt_symbols *sy)
{
	return sy->options.cache_dir && !sy->options.no_cache;
}

static bool open_cache(struct silt_symbols *sy, bool create)
{
	if (sy->cache_dir < 0 && is_on(sy))
		sy->cache_dir = silt_cache_dir_open(sy->options.cache_dir, SILT_CACHE_ANSWERS, create, NULL);
	return sy->cache_dir >= 0;
}

/* The file of a module's key, with facts that hold in *facts; NULL: there is none. */
static struct silt_cache_file *open_file(struct silt_symbols *sy, const struct silt_symbols_module *m, bool linkage,
					 struct silt_symbols_module *facts)
{
	struct silt_writer key = {0};
	struct silt_cache_file *file = NULL;
	struct silt_reader r;
	const uint8_t *bytes;
	char name[33];
	size_t size;

	if (make_key(sy, m, &key)) {
		silt_cache_name(key.data, key.size, name);
		file = silt_cache_file_open(sy->cache_dir, name, key.data, key.size, file_limit(sy), linkage);
	}
	silt_writer_deinit(&key);
	if (!file)
		return NULL;
	bytes = silt_cache_file_facts(file, &size);
	if (bytes) {
		silt_reader_init(&r, bytes, size, "symbol cache", 0);
		if (read_facts(sy, &r, facts) && all_hold(facts))
			return file;
	}
	free_facts(facts);
	silt_cache_file_destroy(file);
	return NULL;
}

/* Facts of the file become the module's, which has none of its own yet. */
static void adopt(struct silt_symbols *sy, struct silt_symbols_module *m, struct silt_symbols_module *facts)
{
	m->sources = facts->sources;
	m->dwarf_path = facts->dwarf_path;
	memcpy(&m->found, &facts->found, sizeof(m->found));
	memcpy(&m->attempts, &facts->attempts, sizeof(m->attempts));
	memcpy(&m->notes, &facts->notes, sizeof(m->notes));
	for (size_t i = 0; i < facts->dependencies.count; i++)
		m->uncertain |= !silt_cache_depend(m, &facts->dependencies.items[i]);
	silt_vec_free(&facts->dependencies);
	m->failed = m->notes.count;
	for (size_t i = 0; i < m->notes.count; i++)
		silt_symbols_warn(sy, NULL, "%s", m->notes.items[i]);
}

void silt_cache_take(struct silt_symbols *sy, struct silt_symbols_module *m, const uint64_t *pcs, size_t n,
		     struct silt_answer *answers, bool *known)
{
	struct silt_symbols_module facts = {0};

	if (!m->cache_sought && is_on(sy)) {
		m->cache_sought = true;
		if (open_cache(sy, false))
			m->cache = open_file(sy, m, !sy->options.no_linkage, &facts);
		if (m->cache && may_find_more(sy, &facts)) {
			free_facts(&facts);
			silt_cache_close(m);
		}
		if (m->cache) {
			adopt(sy, m, &facts);
			silt_cache_file_touch(m->cache);
		}
	}
	for (size_t i = 0; i < n && m->cache; i++)
		known[i] = silt_cache_file_find(m->cache, pcs[i], sy->arena, &answers[i]);
}

bool silt_cache_is_complete(struct silt_symbols *sy, const struct silt_symbols_module *m)
{
	struct silt_symbols_module facts = {0};
	struct silt_cache_file *file = open_cache(sy, false) ? open_file(sy, m, false, &facts) : NULL;
	bool complete = file && facts.sources & SILT_SOURCE_DWARF && !facts.notes.count;

	free_facts(&facts);
	silt_cache_file_destroy(file);
	return complete;
}

void silt_cache_close(struct silt_symbols_module *m)
{
	silt_cache_file_destroy(m->cache);
	m->cache = NULL;
}

/* ---- keeping ---- */

static uint64_t hash_text(uint64_t hash, const char *text)
{
	return silt_hash_add(hash, silt_hash_bytes(text, strlen(text)));
}

bool silt_cache_depend(struct silt_symbols_module *m, const struct silt_dependency *d)
{
	bool is_new;
	uint32_t *slot = silt_map_slot(&m->dependency_map, hash_text(hash_text(0, d->root), d->path),
				       (uint32_t)m->dependencies.count, &is_new);
	const struct silt_dependency *old;

	if (!slot)
		return false;
	if (!is_new && *slot < m->dependencies.count) {
		old = &m->dependencies.items[*slot];
		if (strcmp(old->root, d->root) == 0 && strcmp(old->path, d->path) == 0) {
			/* Changed between two looks: answers of both are mixed. */
			m->uncertain |= !silt_identity_equal(&old->identity, &d->identity);
			return true;
		}
	}
	m->uncertain |= d->fresh || m->dependencies.count >= MAX_DEPENDENCIES;
	return m->uncertain || silt_vec_push(&m->dependencies, *d);
}

/* All answers of a module, sorted: those in its file, and those of this run. False when out of memory, or when answers that lack
 * their linkage names cannot be completed from the file. */
static bool join(struct silt_symbols *sy, struct silt_cache_file *old, const struct silt_symbols_module *m,
		 struct silt_cache_entry **ret, size_t *ret_count)
{
	size_t old_count = old ? silt_cache_file_count(old) : 0, n = 0, i = 0, k = 0;
	struct silt_cache_entry *all = calloc(old_count + m->pcs.count + 1, sizeof(*all));
	bool good = all && (old || !m->cache || !sy->options.no_linkage);

	for (; i < old_count && good; i++) {
		struct silt_cache_entry entry = {0};

		good = silt_cache_file_entry(old, i, sy->arena, &entry);
		for (; good && k < m->pcs.count && m->pcs.items[k] < entry.pc; k++)
			all[n++] = (struct silt_cache_entry){m->pcs.items[k], m->answers.items[k]};
		k += good && k < m->pcs.count && m->pcs.items[k] == entry.pc;
		all[n] = entry;
		n += good;
	}
	for (; good && k < m->pcs.count; k++)
		all[n++] = (struct silt_cache_entry){m->pcs.items[k], m->answers.items[k]};
	if (good) {
		*ret = all;
		*ret_count = n;
		return true;
	}
	free(all);
	return false;
}

/* Writes what is known of a module; when that is too much, what this run asked. A file that cannot be completed goes. */
static void write_module(struct silt_symbols *sy, struct silt_symbols_module *m, struct silt_cache_file *now,
			 const struct silt_writer *key, const struct silt_writer *facts)
{
	struct silt_cache_entry *entries = NULL;
	size_t count = 0;
	char name[33];
	int r = SILT_E_INVAL;

	silt_cache_name(key->data, key->size, name);
	for (int attempt = 0; attempt < 2 && r; attempt++) {
		if (!join(sy, attempt ? NULL : now, m, &entries, &count))
			continue;
		r = silt_cache_file_write(sy->cache_dir, name, key->data, key->size, facts->data, facts->size, entries, count,
					  file_limit(sy), NULL);
		free(entries);
		entries = NULL;
	}
	if (r)
		unlinkat(sy->cache_dir, name, 0);
	sy->cache_written = true;
}

/* A child may have been taken over by the file it read: that the module itself matters is not left to it. */
static void depend_on_module(const struct silt_symbols *sy, struct silt_symbols_module *m)
{
	struct silt_dependency own = {.root = sy->options.sysroot ? sy->options.sysroot : "", .path = m->path};

	if (m->path[0] == '[')
		return;
	silt_dependency_look(&own);
	m->uncertain |= !silt_cache_depend(m, &own);
}

static void save_module(struct silt_symbols *sy, struct silt_symbols_module *m)
{
	struct silt_symbols_module others = {0};
	struct silt_writer key = {0}, facts = {0};
	struct silt_cache_file *now;

	depend_on_module(sy, m);
	/* What others wrote meanwhile is kept, too. */
	now = open_file(sy, m, true, &others);
	for (size_t i = 0; i < others.dependencies.count; i++)
		m->uncertain |= !silt_cache_depend(m, &others.dependencies.items[i]);
	write_facts(m, &facts);
	if (!m->uncertain && all_hold(m) && make_key(sy, m, &key) && silt_writer_ok(&facts))
		write_module(sy, m, now, &key, &facts);
	m->saved = m->pcs.count;
	m->fresh = 0;
	free_facts(&others);
	silt_cache_file_destroy(now);
	silt_writer_deinit(&key);
	silt_writer_deinit(&facts);
}

void silt_cache_save(struct silt_symbols *sy, bool final)
{
	for (size_t i = 0; i < sy->modules.count; i++) {
		struct silt_symbols_module *m = &sy->modules.items[i];

		if (m->fresh && !m->uncertain && (final || (m->fresh >= SAVE_FROM && m->fresh >= m->saved)) && open_cache(sy, true))
			save_module(sy, m);
	}
	if (sy->cache_written && sy->cache_dir >= 0)
		silt_cache_dir_trim(sy->cache_dir, silt_limit_or_default(SILT_LIMIT_CACHE_BYTES, sy->options.cache_bytes),
				    silt_limit_default(SILT_LIMIT_CACHE_FILES));
	sy->cache_written = false;
}
