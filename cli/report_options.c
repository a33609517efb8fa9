/* SPDX-License-Identifier: MIT */
/* The table of reporting options, and a parser that takes no abbreviations: those become an interface. */
#include "cli/report_options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/values.h"
#include "formats/dump.h"

enum { SHOW = SILT_COMMAND_SHOW, DIFF = SILT_COMMAND_DIFF, BOTH = SHOW | DIFF }; /* short, for the tables */

struct parser {
	struct silt_report_cli *cli;
	enum silt_report_command command;
	const char *color; /* "auto", "always" or "never" */
	struct silt_error err; /* why a setting makes no sense; empty: the value says it all */
};

struct option_row {
	const char *name;
	const char *arg; /* NULL: takes none */
	unsigned commands;
	bool (*set)(struct parser *p, const char *value); /* false: value makes no sense */
	const char *help;
};

/* ---- values ---- */

static bool set_json(struct parser *p, const char *value)
{
	(void)value;
	return p->cli->report.json = true;
}

static bool set_top(struct parser *p, const char *value)
{
	uint64_t top;

	if (!silt_value_count(value, &top) || top > INT64_MAX)
		return false;
	p->cli->report.top = (int64_t)top;
	return true;
}

static bool set_sort(struct parser *p, const char *value)
{
	static const char *const WORDS[] = {"bytes", "count", "allocated-bytes", "allocated-count"};
	int sort;

	if (!silt_value_word(value, WORDS, SILT_ARRAY_LEN(WORDS), &sort))
		return false;
	p->cli->report.sort = (enum silt_sort)sort;
	return true;
}

static bool set_by(struct parser *p, const char *value)
{
	static const char *const WORDS[] = {"stack", "function", "file", "module", "size", "thread", "type"};
	int by;

	if (!silt_value_word(value, WORDS, SILT_ARRAY_LEN(WORDS), &by))
		return false;
	p->cli->report.by = (enum silt_by)by;
	return true;
}

static bool set_focus(struct parser *p, const char *value)
{
	p->cli->report.focus = value;
	return true;
}

static bool set_ignore(struct parser *p, const char *value)
{
	p->cli->report.ignore = value;
	return true;
}

static bool set_min_bytes(struct parser *p, const char *value)
{
	return silt_value_size(value, &p->cli->report.min_bytes);
}

static bool set_min_count(struct parser *p, const char *value)
{
	return silt_value_count(value, &p->cli->report.min_count);
}

static bool set_new(struct parser *p, const char *value)
{
	(void)value;
	return p->cli->report.only_new = true;
}

static bool set_all_frames(struct parser *p, const char *value)
{
	(void)value;
	return p->cli->report.all_frames = true;
}

static bool set_symbols(struct parser *p, const char *option, const char *key, const char *value)
{
	return silt_settings_set(p->cli->settings, option, key, value, &p->err) == SILT_OK;
}

static bool set_debug_dir(struct parser *p, const char *value)
{
	return set_symbols(p, "--debug-dir", "debug-dir", value);
}

static bool set_debuginfod(struct parser *p, const char *value)
{
	(void)value;
	return set_symbols(p, "--debuginfod", "debuginfod", "yes");
}

static bool set_symbol_path(struct parser *p, const char *value)
{
	return set_symbols(p, "--symbol-path", "symbol-path", value);
}

static bool set_sysroot(struct parser *p, const char *value)
{
	return set_symbols(p, "--sysroot", "sysroot", value);
}

static bool set_no_inlines(struct parser *p, const char *value)
{
	(void)value;
	return set_symbols(p, "--no-inlines", "inlines", "no");
}

static bool set_demangle(struct parser *p, const char *value)
{
	return set_symbols(p, "--demangle", "demangle", value);
}

static bool set_no_cache(struct parser *p, const char *value)
{
	(void)value;
	return set_symbols(p, "--no-cache", "cache", "no");
}

static bool set_color(struct parser *p, const char *value)
{
	static const char *const WORDS[] = {"auto", "always", "never"};
	int when;

	p->color = value;
	return silt_value_word(value, WORDS, SILT_ARRAY_LEN(WORDS), &when);
}

static bool set_salvage(struct parser *p, const char *value)
{
	(void)value;
	return p->cli->salvage = true;
}

static const struct option_row OPTIONS[] = {
	{"json", NULL, BOTH, set_json, "JSON instead of text"},
	{"top", "N", BOTH, set_top, "at most N rows; 0: all (default: 20, in JSON all)"},
	{"sort", "KEY", BOTH, set_sort, "bytes, count, allocated-bytes or allocated-count (default: bytes)"},
	{"by", "WHAT", BOTH, set_by, "rows by stack, function, file, module, size, thread or type (default: stack)"},
	{"focus", "REGEX", BOTH, set_focus, "only stacks with a matching function, file or module"},
	{"ignore", "REGEX", BOTH, set_ignore, "no stacks with a matching function, file or module"},
	{"min-bytes", "SIZE", SHOW, set_min_bytes, "only rows of at least SIZE bytes; K, M and G are understood"},
	{"min-bytes", "SIZE", DIFF, set_min_bytes,
	 "only rows that changed by at least SIZE bytes; K, M and G are understood"},
	{"min-count", "N", SHOW, set_min_count, "only rows of at least N blocks"},
	{"min-count", "N", DIFF, set_min_count, "only rows that changed by at least N blocks"},
	{"new", NULL, DIFF, set_new,
	 "only blocks allocated after BEFORE was captured and live in AFTER (one run)"},
	{"all-frames", NULL, BOTH, set_all_frames, "show the frames of the allocator, too"},
	{"debug-dir", "DIR", BOTH, set_debug_dir, "look for debug files here first; may be repeated"},
	{"debuginfod", NULL, BOTH, set_debuginfod, "ask debuginfod servers for debug files that are not here"},
	{"symbol-path", "PATH", BOTH, set_symbol_path, "as SILT_SYMBOL_PATH: directories, a cache and servers"},
	{"sysroot", "DIR", BOTH, set_sysroot, "put DIR in front of the paths of modules"},
	{"no-inlines", NULL, BOTH, set_no_inlines, "leave inlined functions out"},
	{"demangle", "HOW", BOTH, set_demangle, "C++, Rust and D names: full, short (no arguments) or off"},
	{"no-cache", NULL, BOTH, set_no_cache, "look all names up again, and keep none"},
	{"color", "WHEN", BOTH, set_color, "auto, always or never (default: auto)"},
	{"salvage", NULL, BOTH, set_salvage, "take what is intact from a damaged dump"},
};

static const struct {
	const char *name, *operands, *summary;
} COMMANDS[] = {
	{"show", "FILE|PID",
	 "Prints the live memory of a dump, or of a tracked process: totals, then the heaviest call stacks."},
	{"diff", "BEFORE AFTER",
	 "Prints what grew and what shrank between two dumps, call stack by call stack, largest growth first."},
};

/* Into COMMANDS. */
static size_t command_row(enum silt_report_command command)
{
	return command == SILT_COMMAND_DIFF;
}

void silt_report_options_help(FILE *out, enum silt_report_command command)
{
	size_t row = command_row(command);

	fprintf(out, "usage: silt %s [OPTIONS] %s\n\n%s\n\noptions:\n", COMMANDS[row].name, COMMANDS[row].operands,
		COMMANDS[row].summary);
	for (size_t i = 0; i < SILT_ARRAY_LEN(OPTIONS); i++) {
		const struct option_row *o = &OPTIONS[i];
		char left[64];

		if (!(o->commands & command))
			continue;
		snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		fprintf(out, "  %-18s %s\n", left, o->help);
	}
	fprintf(out, "  %-18s %s\n", "-h, --help", "this text");
	fputs("\nExit status: 0 fine, 2 wrong usage, 3 a dump or process cannot be used.\n", out);
}

/* ---- parsing ---- */

__attribute__((format(printf, 2, 3))) static enum silt_parsed wrong(const struct parser *p, const char *fmt, ...)
{
	const char *name = COMMANDS[command_row(p->command)].name;
	va_list ap;

	fprintf(stderr, "silt %s: ", name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see 'silt %s --help'\n", name);
	return SILT_PARSED_WRONG;
}

static const struct option_row *find_option(const struct parser *p, const char *name, size_t len)
{
	for (size_t i = 0; i < SILT_ARRAY_LEN(OPTIONS); i++)
		if ((OPTIONS[i].commands & p->command) && strncmp(OPTIONS[i].name, name, len) == 0 &&
		    OPTIONS[i].name[len] == '\0')
			return &OPTIONS[i];
	return NULL;
}

/* "--name", "--name=value" or "--name value" at argv[*at]. */
static enum silt_parsed parse_option(struct parser *p, int argc, char **argv, int *at)
{
	const char *name = argv[*at] + 2;
	size_t len = strcspn(name, "=");
	const char *value = name[len] == '=' ? name + len + 1 : NULL;
	const struct option_row *o = find_option(p, name, len);

	if (!o)
		return wrong(p, "unknown option '--%.*s'", (int)len, name);
	if (!o->arg && value)
		return wrong(p, "--%s takes no value", o->name);
	if (o->arg && !value) {
		if (*at + 1 >= argc)
			return wrong(p, "--%s needs %s", o->name, o->arg);
		value = argv[++*at];
	}
	p->err.msg[0] = '\0';
	if (!o->set(p, value))
		return p->err.msg[0] ? wrong(p, "%s", p->err.msg) : wrong(p, "'%s' is no %s for --%s", value, o->arg, o->name);
	return SILT_PARSED_RUN;
}

static enum silt_parsed parse_arguments(struct parser *p, int argc, char **argv, unsigned operands)
{
	bool only_operands = false;
	enum silt_parsed parsed = SILT_PARSED_RUN;

	for (int i = 1; i < argc && parsed == SILT_PARSED_RUN; i++) {
		const char *a = argv[i];

		if (only_operands || a[0] != '-' || a[1] == '\0') {
			if (p->cli->operand_count == operands)
				return wrong(p, "'%s' is one argument too many", a);
			p->cli->operands[p->cli->operand_count++] = a;
		} else if (strcmp(a, "--") == 0) {
			only_operands = true;
		} else if (a[1] == '-') {
			parsed = parse_option(p, argc, argv, &i);
		} else {
			return wrong(p, "unknown option '%s'", a);
		}
	}
	return parsed;
}

static bool asks_for_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

static bool wants_color(const struct parser *p)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	if (p->cli->report.json || strcmp(p->color, "never") == 0)
		return false;
	if (strcmp(p->color, "always") == 0)
		return true;
	return isatty(STDOUT_FILENO) && (!term || strcmp(term, "dumb") != 0) && !(no_color && *no_color);
}

static unsigned terminal_width(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
		return 0;
	return size.ws_col;
}

enum silt_parsed silt_report_options_parse(int argc, char **argv, enum silt_report_command command,
					   unsigned operands, struct silt_report_cli *ret)
{
	struct parser p = {.cli = ret, .command = command, .color = "auto"};
	enum silt_parsed parsed;

	memset(ret, 0, sizeof(*ret));
	ret->report.top = -1;
	if (asks_for_help(argc, argv)) { /* which helps with broken settings, too */
		silt_report_options_help(stdout, command);
		return SILT_PARSED_HELP;
	}
	if (silt_settings_create(&ret->settings, &p.err))
		return wrong(&p, "%s", p.err.msg);
	parsed = parse_arguments(&p, argc, argv, operands);
	if (parsed == SILT_PARSED_RUN && ret->operand_count < operands)
		return wrong(&p, "%s is missing", COMMANDS[command_row(command)].operands);
	if (parsed == SILT_PARSED_RUN && silt_settings_options(ret->settings, &ret->report.symbols, &p.err))
		return wrong(&p, "%s", p.err.msg);
	ret->report.color = wants_color(&p);
	ret->report.width = terminal_width();
	return parsed;
}

void silt_report_options_free(struct silt_report_cli *c)
{
	silt_settings_destroy(c->settings);
	c->settings = NULL;
}

/* ---- what both commands do with them ---- */

int silt_report_read(const struct silt_report_cli *c, const char *path, struct silt_snapshot **ret,
		     struct silt_error *err)
{
	struct silt_read_options options = {0};

	if (silt_report_needs_blocks(&c->report))
		options.flags |= SILT_READ_BLOCKS;
	if (c->salvage)
		options.flags |= SILT_READ_SALVAGE;
	return silt_dump_read(path, &options, ret, err);
}

int silt_report_status(int rc, const struct silt_error *err)
{
	if (rc == 0 || err->errnum == EPIPE)
		return SILT_EXIT_OK;
	fprintf(stderr, "silt: %s\n", err->msg);
	return rc == SILT_E_INVAL ? SILT_EXIT_USAGE : SILT_EXIT_UNUSABLE;
}
