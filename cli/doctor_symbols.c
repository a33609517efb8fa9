/* SPDX-License-Identifier: MIT */
/* silt doctor: settings of the lookup of names, and what they lead to. */
#include "cli/doctor_symbols.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/types.h"
#include "cli/settings.h"
#include "symbols/cache_dir.h"
#include "symbols/debuginfod.h"

static void line(const char *what, const char *value)
{
	printf("  %-22s %s\n", what, value);
}

static void show_settings(const struct silt_settings *s)
{
	struct silt_setting_line l;

	puts("settings of names (silt-config(5))");
	for (size_t i = 0; silt_settings_line(s, i, &l); i++)
		printf("  %-22s %s  (%s)\n", l.key, l.value ? l.value : "not set", l.from);
}

static void show_directories(const struct silt_symbols_options *o)
{
	static const char *const dirs[] = {"/usr/lib/debug", "/usr/lib/debug/.build-id", "/usr/lib/debug/.dwz"};

	puts("debug files are looked for in");
	for (size_t i = 0; i < o->debug_dir_count; i++)
		line(o->debug_dirs[i], access(o->debug_dirs[i], R_OK | X_OK) ? "absent or closed" : "there");
	for (size_t i = 0; i < SILT_ARRAY_LEN(dirs); i++)
		line(dirs[i], access(dirs[i], R_OK | X_OK) ? "absent (install -dbg or -dbgsym packages to fill it)" : "there");
}

static void show_cache(const struct silt_symbols_options *o)
{
	static const struct {
		const char *sub, *what;
	} parts[] = {{SILT_CACHE_ANSWERS, "names looked up before"}, {SILT_CACHE_STORE, "debug files from servers"},
		     {SILT_CACHE_MISSES, "what servers did not have"}};
	char text[PATH_MAX + 100];

	puts("cache of names");
	line("directory", o->cache_dir ? o->cache_dir : "none: neither HOME nor XDG_CACHE_HOME nor cache-dir names one");
	for (size_t i = 0; i < SILT_ARRAY_LEN(parts) && o->cache_dir; i++) {
		struct silt_error err;
		int fd = silt_cache_dir_open(o->cache_dir, parts[i].sub, false, &err);
		struct silt_cache_usage usage = {0};

		if (fd < 0 && fd != SILT_E_NOT_FOUND) {
			line(parts[i].sub, err.msg);
			continue;
		}
		if (fd >= 0) {
			usage = silt_cache_dir_usage(fd);
			close(fd);
		}
		snprintf(text, sizeof(text), "%llu files, %llu bytes (%s)", (unsigned long long)usage.files,
			 (unsigned long long)usage.bytes, parts[i].what);
		line(parts[i].sub, text);
	}
}

/* Whether servers are asked, which, and whether they can be. None is asked for this. */
static void show_servers(const struct silt_symbols_options *o)
{
	char text[PATH_MAX + 100];
	const char *why, *there = silt_debuginfod_is_there(&why) ? "there" : NULL;

	puts("debuginfod");
	snprintf(text, sizeof(text), "absent (%s): install libdebuginfod1 to ask servers", why ? why : "");
	line("libdebuginfod.so.1", there ? there : text);
	line("asked", o->server_count ? "yes, for what is missing here" : o->servers_wanted ?
	     "no: no server is named (DEBUGINFOD_URLS, debuginfod-urls, srv*URL)" :
	     "no: neither --debuginfod, nor the setting debuginfod, nor srv*URL in the symbol path asks for it");
	for (size_t i = 0; i < o->server_count; i++) {
		if (o->servers[i].store)
			snprintf(text, sizeof(text), "%s, files in %s", o->servers[i].url, o->servers[i].store);
		else if (o->cache_dir)
			snprintf(text, sizeof(text), "%s, files in %s/%s", o->servers[i].url, o->cache_dir, SILT_CACHE_STORE);
		else
			snprintf(text, sizeof(text), "%s, but no directory for files", o->servers[i].url);
		line("server", text);
	}
}

void silt_doctor_symbols(void)
{
	struct silt_symbols_options options;
	struct silt_settings *s;
	struct silt_error err;

	if (silt_settings_create(&s, &err)) {
		puts("settings of names (silt-config(5))");
		line("unusable", err.msg);
		return;
	}
	show_settings(s);
	if (silt_settings_options(s, &options, &err)) {
		line("unusable", err.msg);
	} else {
		show_directories(&options);
		show_cache(&options);
		show_servers(&options);
	}
	silt_settings_destroy(s);
}
