/* SPDX-License-Identifier: MIT */
/**
 * How names are looked up, as the user wants it: from the command line, the environment, the user's configuration file and the
 * system's, the earlier ones stronger. docs/man/silt-config.5.md describes them to users.
 *
 * A setting takes its value from the strongest place that has one; directories and symbol paths add up instead, the strongest
 * first.
 */
#ifndef SILT_CLI_SETTINGS_H
#define SILT_CLI_SETTINGS_H

#include <stdio.h>

#include "base/error.h"
#include "symbols/symbols.h"

#define SILT_SYSTEM_CONFIG "/etc/silt/config"

struct silt_settings;

/** Reads configuration files and environment. SILT_E_INVAL with "file:line: …" for what makes no sense in them. */
int silt_settings_create(struct silt_settings **ret, struct silt_error *err);
void silt_settings_destroy(struct silt_settings *s);
/** A setting from the command line; option is how the user wrote it, for messages ("--debug-dir"). The value is copied. */
int silt_settings_set(struct silt_settings *s, const char *option, const char *key, const char *value, struct silt_error *err);
/** All settings as options for symbols. What they point to lives as long as s; call it again after a change. */
int silt_settings_options(struct silt_settings *s, struct silt_symbols_options *ret, struct silt_error *err);
/** One setting for `silt doctor`. */
struct silt_setting_line {
	const char *key;
	const char *value; /* NULL: nothing is set and nothing is the default */
	const char *from;  /* "SILT_CACHE", "/etc/silt/config:3", "default" */
};
/** The i-th line: every setting, lists with a line each. False after the last. */
bool silt_settings_line(const struct silt_settings *s, size_t i, struct silt_setting_line *ret);

#endif
