/* SPDX-License-Identifier: MIT */
/* Settings of the lookup of names: four places, one table. */
#include "cli/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/types.h"
#include "base/vec.h"
#include "cli/values.h"
#include "symbols/search_path.h"

enum { MAX_CONFIG = 1 << 20 }; /* bytes of a configuration file */

enum level { COMMAND_LINE, ENVIRONMENT, USER_CONFIG, SYSTEM_CONFIG, LEVELS };

enum kind { DIRECTORY, LIST, BOOL, SIZE, SECONDS, DEMANGLE, URLS };

enum key {
	DEBUG_DIR,
	SYMBOL_PATH,
	SYSROOT,
	INLINES,
	DEMANGLE_HOW,
	DEBUGINFOD,
	DEBUGINFOD_URLS,
	DEBUGINFOD_MAX_SIZE,
	DEBUGINFOD_MAX_TIME,
	DEBUGINFOD_IDLE_TIME,
	DEBUGINFOD_MISS_TIME,
	CACHE,
	CACHE_DIR,
	CACHE_SIZE,
	KEYS,
};

static const struct row {
	const char *key, *environment;
	enum kind kind;
	const char *fallback; /* the default as a user would write it, NULL: nothing */
} ROWS[KEYS] = {
	[DEBUG_DIR] = {"debug-dir", "SILT_DEBUG_DIR", LIST, NULL},
	[SYMBOL_PATH] = {"symbol-path", "SILT_SYMBOL_PATH", LIST, NULL},
	[SYSROOT] = {"sysroot", "SILT_SYSROOT", DIRECTORY, NULL},
	[INLINES] = {"inlines", "SILT_INLINES", BOOL, "yes"},
	[DEMANGLE_HOW] = {"demangle", "SILT_DEMANGLE", DEMANGLE, "full"},
	[DEBUGINFOD] = {"debuginfod", "SILT_DEBUGINFOD", BOOL, NULL},
	[DEBUGINFOD_URLS] = {"debuginfod-urls", "DEBUGINFOD_URLS", URLS, NULL},
	[DEBUGINFOD_MAX_SIZE] = {"debuginfod-max-size", "SILT_DEBUGINFOD_MAX_SIZE", SIZE, "2G"},
	[DEBUGINFOD_MAX_TIME] = {"debuginfod-max-time", "SILT_DEBUGINFOD_MAX_TIME", SECONDS, "10m"},
	[DEBUGINFOD_IDLE_TIME] = {"debuginfod-idle-time", "SILT_DEBUGINFOD_IDLE_TIME", SECONDS, "30s"},
	[DEBUGINFOD_MISS_TIME] = {"debuginfod-miss-time", "SILT_DEBUGINFOD_MISS_TIME", SECONDS, "1d"},
	[CACHE] = {"cache", "SILT_CACHE", BOOL, "yes"},
	[CACHE_DIR] = {"cache-dir", "SILT_CACHE_DIR", DIRECTORY, NULL},
	[CACHE_SIZE] = {"cache-size", "SILT_CACHE_SIZE", SIZE, "512M"},
};

struct entry {
	const char *value, *from;
};
typedef SILT_VEC(struct entry) entries;

struct silt_settings {
	struct silt_arena *arena;
	const char *home; /* NULL: unknown */
	entries found[KEYS][LEVELS];
	struct silt_search_path path; /* what silt_settings_options made of debug-dir and symbol-path */
	SILT_VEC(struct silt_server) servers;
};

static int no_memory(struct silt_error *err)
{
	return silt_error_set(err, SILT_E_NOMEM, "out of memory while reading settings");
}

/* ---- values ---- */

static bool are_urls(const char *text)
{
	char *copy = strdup(text), *rest;
	bool good = copy;

	for (char *url = copy ? strtok_r(copy, " \t", &rest) : NULL; url; url = strtok_r(NULL, " \t", &rest))
		good = good && silt_is_server_url(url);
	free(copy);
	return good;
}

/* What is wrong with a value, NULL: nothing. */
static const char *complaint(enum kind kind, const char *value)
{
	static const char *const HOW[] = {"full", "short", "off"};
	uint64_t number;
	bool flag;
	int word;

	switch (kind) {
	case DIRECTORY:
	case LIST:
		return *value ? NULL : "is empty";
	case BOOL:
		return silt_value_bool(value, &flag) ? NULL : "is neither yes nor no";
	case SIZE:
		return silt_value_size(value, &number) ? NULL : "is no size (such as 512M)";
	case SECONDS:
		return silt_value_seconds(value, &number) ? NULL : "is no time (such as 90s or 10m)";
	case DEMANGLE:
		return silt_value_word(value, HOW, SILT_ARRAY_LEN(HOW), &word) ? NULL : "is not full, short or off";
	case URLS:
		return are_urls(value) ? NULL : "is no list of http, https or file URLs with blanks between them";
	}
	return NULL;
}

/* Symbol paths are checked as a whole: what is wrong with one comes in err. */
static int check(const struct silt_settings *s, enum key key, const char *value, struct silt_error *err)
{
	const char *wrong = complaint(ROWS[key].kind, value);
	struct silt_search_path path = {0};
	int r = SILT_OK;

	if (wrong)
		return silt_error_set(err, SILT_E_INVAL, "'%s' %s", value, wrong);
	if (key == SYMBOL_PATH)
		r = silt_search_path_add(&path, value, s->arena, err);
	silt_search_path_deinit(&path);
	return r;
}

static int add(struct silt_settings *s, enum level level, enum key key, const char *value, const char *from,
	       struct silt_error *err)
{
	entries *list = &s->found[key][level];
	struct entry e = {silt_arena_strdup(s->arena, value), silt_arena_strdup(s->arena, from)};
	/* DEBUGINFOD_URLS of the environment is other programs', too: words that are no URLs ("ima:enforcing") are for them. */
	int r = key == DEBUGINFOD_URLS && level == ENVIRONMENT ? SILT_OK : check(s, key, value, err);

	if (r)
		return r;
	if (ROWS[key].kind != LIST)
		list->count = 0; /* in one place the last word counts */
	return e.value && e.from && silt_vec_push(list, e) ? SILT_OK : no_memory(err);
}

static enum key find_key(const char *name)
{
	int key = 0;

	while (key < KEYS && strcmp(ROWS[key].key, name) != 0)
		key++;
	return (enum key)key;
}

/* ---- configuration files ---- */

static char *trim(char *text)
{
	size_t n;

	text += strspn(text, " \t\r");
	n = strlen(text);
	while (n && strchr(" \t\r", text[n - 1]))
		n--;
	text[n] = '\0';
	return text;
}

static int read_line(struct silt_settings *s, enum level level, char *line, const char *from, struct silt_error *err)
{
	char *text = trim(line), *equals = strchr(text, '='), *value;
	enum key key;
	int r;

	if (!*text || *text == '#')
		return SILT_OK;
	if (!equals)
		return silt_error_set(err, SILT_E_INVAL, "%s: '%s' is not of the form key = value", from, text);
	*equals = '\0';
	text = trim(text);
	value = trim(equals + 1);
	key = find_key(text);
	if (key == KEYS)
		return silt_error_set(err, SILT_E_INVAL, "%s: there is no setting '%s'; `silt doctor` lists them", from, text);
	r = add(s, level, key, value, from, err);
	return r ? silt_error_prefix(err, "%s: %s", from, text) : SILT_OK;
}

/* Bytes of a file that only root or its user may have written. */
static int read_own_file(const char *path, uint8_t **ret_data, size_t *ret_size, struct silt_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r;
	struct stat st;

	if (fd < 0)
		return silt_error_os(err, errno, "cannot open %s", path);
	if (fstat(fd, &st))
		r = silt_error_os(err, errno, "cannot read %s", path);
	else if ((st.st_uid != 0 && st.st_uid != geteuid()) || (S_ISREG(st.st_mode) && st.st_mode & S_IWOTH))
		r = silt_error_set(err, SILT_E_INVAL, "%s: others may have written it (owner %u, mode %03o): it is not used", path,
				   (unsigned)st.st_uid, (unsigned)st.st_mode & 0777);
	else if (S_ISDIR(st.st_mode))
		r = silt_error_os(err, EISDIR, "cannot read %s", path);
	else
		r = silt_read_all_fd(fd, path, MAX_CONFIG, ret_data, ret_size, err);
	close(fd);
	return r;
}

static int read_config(struct silt_settings *s, enum level level, const char *path, bool must_exist, struct silt_error *err)
{
	struct silt_error local = {0};
	uint8_t *data = NULL;
	size_t size = 0, number = 0;
	int r = read_own_file(path, &data, &size, &local);
	char *text = (char *)data, *end;

	if (r) {
		/* ENOTDIR: a file in place of ~/.config. EACCES: HOME is another user's, as under sudo -u. */
		if (!must_exist && (local.errnum == ENOENT || local.errnum == ENOTDIR || local.errnum == EACCES))
			return SILT_OK;
		return silt_error_set(err, local.code, "%s", local.msg);
	}
	for (; text && text < (char *)data + size && !r; text = end + 1) {
		char from[4096 + 32];

		number++;
		end = memchr(text, '\n', size - (size_t)(text - (char *)data));
		if (!end)
			end = (char *)data + size; /* a NUL follows the bytes */
		*end = '\0';
		snprintf(from, sizeof(from), "%s:%zu", path, number);
		if (strlen(text) < (size_t)(end - text))
			r = silt_error_set(err, SILT_E_INVAL, "%s: a NUL byte in the line", from);
		else
			r = read_line(s, level, text, from, err);
	}
	free(data);
	return r;
}

/* ~/x or $XDG_…/x. NULL: there is no home directory, or memory is out. */
static char *user_path(struct silt_settings *s, const char *variable, const char *below_home, const char *rest)
{
	const char *base = getenv(variable);
	char *path;
	size_t size;

	if (!base || base[0] != '/') { /* the specification: relative ones are invalid and ignored */
		base = s->home;
		if (!base)
			return NULL;
	} else {
		below_home = "";
	}
	size = strlen(base) + strlen(below_home) + strlen(rest) + 1;
	path = silt_arena_alloc(s->arena, size);
	if (path)
		snprintf(path, size, "%s%s%s", base, below_home, rest);
	return path;
}

static int read_places(struct silt_settings *s, struct silt_error *err)
{
	const char *chosen = getenv("SILT_CONFIG"), *value;
	char *own = chosen ? NULL : user_path(s, "XDG_CONFIG_HOME", "/.config", "/silt/config");
	int r = read_config(s, SYSTEM_CONFIG, SILT_SYSTEM_CONFIG, false, err);

	if (!r && chosen && *chosen)
		r = read_config(s, USER_CONFIG, chosen, true, err);
	else if (!r && own)
		r = read_config(s, USER_CONFIG, own, false, err);
	for (int key = 0; key < KEYS && !r; key++) {
		value = getenv(ROWS[key].environment);
		if (!value || !*value)
			continue;
		r = add(s, ENVIRONMENT, (enum key)key, value, ROWS[key].environment, err);
		if (r)
			silt_error_prefix(err, "%s", ROWS[key].environment);
	}
	return r;
}

int silt_settings_create(struct silt_settings **ret, struct silt_error *err)
{
	struct silt_settings *s = calloc(1, sizeof(*s));
	const char *home = getenv("HOME");
	int r;

	if (!s || !(s->arena = silt_arena_create())) {
		free(s);
		return no_memory(err);
	}
	s->home = home && home[0] == '/' ? silt_arena_strdup(s->arena, home) : NULL;
	r = read_places(s, err);
	if (r) {
		silt_settings_destroy(s);
		return r;
	}
	*ret = s;
	return SILT_OK;
}

void silt_settings_destroy(struct silt_settings *s)
{
	if (!s)
		return;
	for (int key = 0; key < KEYS; key++)
		for (int level = 0; level < LEVELS; level++)
			silt_vec_free(&s->found[key][level]);
	silt_search_path_deinit(&s->path);
	silt_vec_free(&s->servers);
	silt_arena_destroy(s->arena);
	free(s);
}

int silt_settings_set(struct silt_settings *s, const char *option, const char *key, const char *value, struct silt_error *err)
{
	int r = add(s, COMMAND_LINE, find_key(key), value, option, err);

	return r ? silt_error_prefix(err, "%s", option) : SILT_OK;
}

/* ---- what comes of them ---- */

/* The strongest value; the default, or NULL. */
static const char *value_of(const struct silt_settings *s, enum key key, const char **ret_from)
{
	for (int level = 0; level < LEVELS; level++) {
		const entries *list = &s->found[key][level];

		if (!list->count)
			continue;
		if (ret_from)
			*ret_from = list->items[list->count - 1].from;
		return list->items[list->count - 1].value;
	}
	if (ret_from)
		*ret_from = "default";
	return ROWS[key].fallback;
}

static uint64_t size_of(const struct silt_settings *s, enum key key)
{
	uint64_t value = 0;

	silt_value_size(value_of(s, key, NULL), &value);
	return value;
}

static unsigned seconds_of(const struct silt_settings *s, enum key key)
{
	uint64_t value = 0;

	silt_value_seconds(value_of(s, key, NULL), &value);
	return value > INT32_MAX ? INT32_MAX : (unsigned)value;
}

static bool is_on(const struct silt_settings *s, enum key key)
{
	const char *value = value_of(s, key, NULL);
	bool on = false;

	if (value)
		silt_value_bool(value, &on);
	return on;
}

/* One directory; from the environment several, with colons between them. */
static int add_debug_dirs(struct silt_settings *s, enum level level, struct silt_error *err)
{
	const entries *list = &s->found[DEBUG_DIR][level];

	for (size_t i = 0; i < list->count; i++) {
		const char *text = list->items[i].value;

		while (*text) {
			size_t n = level == ENVIRONMENT ? strcspn(text, ":") : strlen(text);
			const char *dir = silt_arena_strndup(s->arena, text, n);

			if (n && level != COMMAND_LINE && s->home && strncmp(text, "~/", 2) == 0) {
				char *path = silt_arena_alloc(s->arena, strlen(s->home) + n);

				if (path)
					snprintf(path, strlen(s->home) + n, "%s%.*s", s->home, (int)n - 1, text + 1);
				dir = path;
			}
			if (!dir || (n && !silt_vec_push(&s->path.dirs, dir)))
				return no_memory(err);
			text += n + (text[n] != '\0');
		}
	}
	return SILT_OK;
}

static int add_servers(struct silt_settings *s, const char *urls, const char *store, struct silt_error *err)
{
	char *copy = silt_arena_strdup(s->arena, urls), *rest;

	if (!copy)
		return no_memory(err);
	for (char *url = strtok_r(copy, " \t", &rest); url; url = strtok_r(NULL, " \t", &rest))
		if (silt_is_server_url(url) && !silt_vec_push(&s->servers, ((struct silt_server){url, store})))
			return no_memory(err);
	return SILT_OK;
}

/* Servers that the symbol path names are wanted; those of DEBUGINFOD_URLS, which whole distributions set, only when asked for. */
static int choose_servers(struct silt_settings *s, struct silt_error *err)
{
	const char *urls = value_of(s, DEBUGINFOD_URLS, NULL);
	bool decided = value_of(s, DEBUGINFOD, NULL);
	int r = SILT_OK;

	s->servers.count = 0;
	if (decided && !is_on(s, DEBUGINFOD))
		return SILT_OK;
	for (size_t i = 0; i < s->path.servers.count && !r; i++) {
		const struct silt_server *server = &s->path.servers.items[i];

		r = server->url || urls ? add_servers(s, server->url ? server->url : urls, server->store, err) : SILT_OK;
	}
	return r || s->path.servers.count || !decided || !urls ? r : add_servers(s, urls, NULL, err);
}

int silt_settings_options(struct silt_settings *s, struct silt_symbols_options *ret, struct silt_error *err)
{
	static const char *const HOW[] = {"full", "short", "off"};
	const char *cache_dir = value_of(s, CACHE_DIR, NULL), *how = value_of(s, DEMANGLE_HOW, NULL);
	struct silt_symbols_options o = {0};
	int demangle = 0, r = SILT_OK;

	silt_search_path_deinit(&s->path);
	s->path = (struct silt_search_path){.home = s->home};
	for (int level = 0; level < LEVELS && !r; level++) {
		const entries *list = &s->found[SYMBOL_PATH][level];
		const char *stronger = s->path.cache;
		bool decided = s->path.cache || s->path.default_cache;

		r = add_debug_dirs(s, (enum level)level, err);
		for (size_t i = 0; i < list->count && !r; i++)
			r = silt_search_path_add(&s->path, list->items[i].value, s->arena, err);
		if (decided) {
			s->path.cache = stronger;
			s->path.default_cache = !stronger;
		}
	}
	if (!r)
		r = choose_servers(s, err);
	if (r)
		return r;
	if (!cache_dir)
		cache_dir = s->path.cache;
	if (!cache_dir)
		cache_dir = user_path(s, "XDG_CACHE_HOME", "/.cache", "/silt");
	silt_value_word(how, HOW, SILT_ARRAY_LEN(HOW), &demangle);
	o.debug_dirs = s->path.dirs.items;
	o.debug_dir_count = s->path.dirs.count;
	o.sysroot = value_of(s, SYSROOT, NULL);
	o.no_inlines = !is_on(s, INLINES);
	o.demangle = (enum silt_demangle)demangle;
	o.cache_dir = cache_dir;
	o.no_cache = !is_on(s, CACHE);
	o.cache_bytes = size_of(s, CACHE_SIZE);
	o.servers = s->servers.items;
	o.server_count = s->servers.count;
	o.servers_wanted = is_on(s, DEBUGINFOD) || (s->path.servers.count && !value_of(s, DEBUGINFOD, NULL));
	o.download.max_bytes = size_of(s, DEBUGINFOD_MAX_SIZE);
	o.download.max_seconds = seconds_of(s, DEBUGINFOD_MAX_TIME);
	o.download.idle_seconds = seconds_of(s, DEBUGINFOD_IDLE_TIME);
	o.download.miss_seconds = seconds_of(s, DEBUGINFOD_MISS_TIME);
	*ret = o;
	return SILT_OK;
}

bool silt_settings_line(const struct silt_settings *s, size_t i, struct silt_setting_line *ret)
{
	for (int key = 0; key < KEYS; key++) {
		size_t count = 0;

		for (int level = 0; level < LEVELS && ROWS[key].kind == LIST; level++) {
			const entries *list = &s->found[key][level];

			if (i < list->count) {
				*ret = (struct silt_setting_line){ROWS[key].key, list->items[i].value, list->items[i].from};
				return true;
			}
			i -= list->count;
			count += list->count;
		}
		if (count)
			continue;
		if (i-- == 0) {
			ret->key = ROWS[key].key;
			ret->value = value_of(s, (enum key)key, &ret->from);
			return true;
		}
	}
	return false;
}
