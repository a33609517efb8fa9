/* SPDX-License-Identifier: MIT */
/* silt doctor: settings of the lookup of names, and what they lead to. */
#include "cli/doctor_symbols.h"

#include <stdio.h>
#include <unistd.h>

#include "base/types.h"
#include "cli/settings.h"

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
	if (silt_settings_options(s, &options, &err))
		line("unusable", err.msg);
	else
		show_directories(&options);
	silt_settings_destroy(s);
}
