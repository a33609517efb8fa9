/* SPDX-License-Identifier: MIT */
/* Parsing SILT_SYMBOL_PATH. */
#include "symbols/search_path.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct parser {
	struct silt_search_path *path;
	struct silt_arena *arena;
	struct silt_error *err;
};

bool silt_is_server_url(const char *text)
{
	static const char *const schemes[] = {"http://", "https://", "file://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t n = strlen(schemes[i]);

		if (strncasecmp(text, schemes[i], n) == 0 && text[n] && !strpbrk(text, " \t\r\n"))
			return true;
	}
	return false;
}

static int no_memory(const struct parser *p)
{
	return silt_error_set(p->err, SILT_E_NOMEM, "out of memory while reading the symbol path");
}

/* "~/x" with the home directory in front; NULL: out of memory. */
static const char *expand_home(const struct parser *p, const char *dir)
{
	size_t size;
	char *path;

	if (!p->path->home || strncmp(dir, "~/", 2) != 0)
		return dir;
	size = strlen(p->path->home) + strlen(dir);
	path = silt_arena_alloc(p->arena, size);
	if (path)
		snprintf(path, size, "%s%s", p->path->home, dir + 1);
	return path;
}

static int add_dir(const struct parser *p, const char *dir)
{
	if (!dir)
		return no_memory(p);
	if (p->path->dirs.count >= SILT_SEARCH_PATH_MAX)
		return silt_error_set(p->err, SILT_E_LIMIT, "the symbol path has more than %d elements", SILT_SEARCH_PATH_MAX);
	return silt_vec_push(&p->path->dirs, dir) ? SILT_OK : no_memory(p);
}

/* "srv*[DIRECTORY*]…[URL]" behind "srv*"; text is ours to cut. */
static int add_server(const struct parser *p, char *text)
{
	struct silt_server server = {0};
	char *part = text, *star;
	int r = SILT_OK;

	for (; !r && (star = strchr(part, '*')); part = star + 1) {
		*star = '\0';
		if (silt_is_server_url(part))
			return silt_error_set(p->err, SILT_E_INVAL, "'%s' in the symbol path is followed by a '*': the server comes last",
					      part);
		if (!*part)
			continue;
		r = add_dir(p, expand_home(p, part));
		if (!r && !server.store)
			server.store = p->path->dirs.items[p->path->dirs.count - 1];
	}
	if (r)
		return r;
	if (*part && !silt_is_server_url(part)) {
		/* "srv*DIRECTORY": as on Windows, a server that is a directory. */
		if (strstr(part, "://"))
			return silt_error_set(p->err, SILT_E_INVAL, "'%s' in the symbol path is no http, https or file URL", part);
		return add_dir(p, expand_home(p, part));
	}
	server.url = *part ? part : NULL;
	if (p->path->servers.count >= SILT_SEARCH_PATH_MAX)
		return silt_error_set(p->err, SILT_E_LIMIT, "the symbol path has more than %d servers", SILT_SEARCH_PATH_MAX);
	return silt_vec_push(&p->path->servers, server) ? SILT_OK : no_memory(p);
}

static bool begins(const char *text, const char *word)
{
	return strncasecmp(text, word, strlen(word)) == 0;
}

/* One element; text is ours to cut. */
static int add_element(const struct parser *p, char *text)
{
	if (begins(text, "srv*"))
		return add_server(p, text + 4);
	if (begins(text, "cache*")) {
		if (strchr(text + 6, '*'))
			return silt_error_set(p->err, SILT_E_INVAL, "'%s' in the symbol path: cache* takes one directory", text);
		p->path->default_cache = !text[6];
		p->path->cache = text[6] ? expand_home(p, text + 6) : NULL;
		return p->path->cache || !text[6] ? SILT_OK : no_memory(p);
	}
	if (strchr(text, '*'))
		return silt_error_set(p->err, SILT_E_INVAL, "'%s' in the symbol path is no directory, no cache*… and no srv*…", text);
	return add_dir(p, expand_home(p, text));
}

int silt_search_path_add(struct silt_search_path *path, const char *text, struct silt_arena *arena, struct silt_error *err)
{
	struct parser p = {path, arena, err};

	while (*text) {
		size_t n, length;
		char *element;
		int r;

		text += strspn(text, " \t");
		n = length = strcspn(text, begins(text, "srv*") || begins(text, "cache*") ? ";" : ";:");
		while (length && strchr(" \t", text[length - 1]))
			length--;
		if (length) {
			element = silt_arena_strndup(arena, text, length);
			r = element ? add_element(&p, element) : no_memory(&p);
			if (r)
				return r;
		}
		text += n + (text[n] != '\0');
	}
	return SILT_OK;
}

void silt_search_path_deinit(struct silt_search_path *p)
{
	silt_vec_free(&p->dirs);
	silt_vec_free(&p->servers);
}
