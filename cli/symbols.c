/* SPDX-License-Identifier: MIT */
/* silt symbols: functions, files and lines of addresses in one file; its options and operands. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "cli/commands.h"
#include "cli/symbols_command.h"
#include "symbols/cache_dir.h"

static void print_help(void)
{
	puts("usage: silt symbols [OPTIONS] FILE [ADDRESS…]\n"
	     "       silt symbols --list [OPTIONS] DUMP|FILE\n"
	     "       silt symbols --clear-cache\n"
	     "\n"
	     "Prints the function, file and line of link-time addresses (hexadecimal) in an ELF file, inlined calls\n"
	     "innermost first. Without ADDRESS they are read from standard input and answered as they come. Addresses\n"
	     "are exact: give a return address minus one.\n"
	     "\n"
	     "options:\n"
	     "  -a, --addresses       print each address before its answer\n"
	     "      --clear-cache     remove all answers and files that are kept, and end\n"
	     "      --debug-dir DIR   look for debug files here first; may be repeated\n"
	     "      --debuginfod      ask debuginfod servers for debug files that are not here\n"
	     "      --demangle HOW    full (default), short (no arguments) or off\n"
	     "  -h, --help            this text\n"
	     "      --json            one JSON object a line and address\n"
	     "      --list            what was found for each module of a dump, and what was tried\n"
	     "      --no-cache        look all names up again, and keep none\n"
	     "      --no-inlines      physical functions only\n"
	     "      --symbol-path PATH  as SILT_SYMBOL_PATH: directories, a cache and servers\n"
	     "      --sysroot DIR     FILE and its debug files lie below DIR\n"
	     "  -v, --verbose         say on standard error which files were tried\n"
	     "\n"
	     "as addr2line; any of these makes the output addr2line's, which holds only what is asked for:\n"
	     "  -e, --exe FILE        the file; all operands are addresses\n"
	     "  -f, --functions       names of functions\n"
	     "  -i, --inlines         inlined calls, too\n"
	     "  -C                    demangle names\n"
	     "  -p, --pretty-print    each frame in one line\n"
	     "  -s, --basenames       files without directories\n"
	     "\n"
	     "exit status: 0 fine, 2 wrong usage, 3 FILE is unusable. Unknown names are ??.");
}

static int usage(const char *fmt, const char *what)
{
	fputs("silt symbols: ", stderr);
	fprintf(stderr, fmt, what);
	fputs("; 'silt symbols --help' tells more\n", stderr);
	return SILT_EXIT_USAGE;
}

int silt_symbols_no_memory(void)
{
	fputs("silt symbols: out of memory\n", stderr);
	return SILT_EXIT_UNUSABLE;
}

bool silt_symbols_parse_address(const char *text, uint64_t *ret)
{
	char *end;
	uint64_t value;

	if (strspn(text, "0123456789abcdefABCDEFxX") != strlen(text) || !*text)
		return false;
	errno = 0;
	value = strtoull(text, &end, 16);
	if (errno || *end)
		return false;
	*ret = value;
	return true;
}

/* The word of the option that getopt has just taken: the last one, or the one before its value. */
static bool is_abbreviated(int argc, char **argv, const struct option *o)
{
	size_t n = strlen(o->name);

	for (int at = optind - 1; at > 0 && at >= optind - 2 && at < argc; at--)
		if (strncmp(argv[at], "--", 2) == 0 && strncmp(argv[at] + 2, o->name, n) == 0 &&
		    (argv[at][2 + n] == '\0' || argv[at][2 + n] == '='))
			return false;
	return true;
}

static int set(struct silt_symbols_request *q, const char *option, const char *key, const char *value)
{
	struct silt_error err;
	int r = silt_settings_set(q->settings, option, key, value, &err);

	return r ? usage("%s", err.msg) : -1;
}

enum { CLEAR_CACHE = 256, DEBUG_DIR, DEBUGINFOD, DEMANGLE, JSON, LIST, NO_CACHE, NO_INLINES, SYMBOL_PATH, SYSROOT };

static int take_option(struct silt_symbols_request *q, int c)
{
	switch (c) {
	case 'a':
		q->show_addresses = true;
		return -1;
	case 'C':
		return q->classic = q->demangle = true, -1;
	case 'e':
		q->file = optarg;
		return q->classic = true, -1;
	case 'f':
		return q->classic = q->functions = true, -1;
	case 'i':
		return q->classic = q->inlines = true, -1;
	case 'p':
		return q->classic = q->pretty = true, -1;
	case 's':
		return q->classic = q->base_names = true, -1;
	case 'h':
		print_help();
		return SILT_EXIT_OK;
	case 'v':
		return q->verbose = true, -1;
	case JSON:
		return q->json = true, -1;
	case LIST:
		return q->list = true, -1;
	case CLEAR_CACHE:
		return q->clear_cache = true, -1;
	case NO_CACHE:
		return set(q, "--no-cache", "cache", "no");
	case DEBUGINFOD:
		return set(q, "--debuginfod", "debuginfod", "yes");
	case DEBUG_DIR:
		return set(q, "--debug-dir", "debug-dir", optarg);
	case DEMANGLE:
		q->how = optarg;
		return set(q, "--demangle", "demangle", optarg);
	case NO_INLINES:
		return set(q, "--no-inlines", "inlines", "no");
	case SYMBOL_PATH:
		return set(q, "--symbol-path", "symbol-path", optarg);
	case SYSROOT:
		return set(q, "--sysroot", "sysroot", optarg);
	default: /* getopt said what */
		return SILT_EXIT_USAGE;
	}
}

/* Returns an exit status, or -1 to go on. */
static int parse_options(int argc, char **argv, struct silt_symbols_request *q)
{
	static const struct option options[] = {
		{"addresses", no_argument, NULL, 'a'},
		{"basenames", no_argument, NULL, 's'},
		{"clear-cache", no_argument, NULL, CLEAR_CACHE},
		{"debug-dir", required_argument, NULL, DEBUG_DIR},
		{"debuginfod", no_argument, NULL, DEBUGINFOD},
		{"demangle", required_argument, NULL, DEMANGLE},
		{"exe", required_argument, NULL, 'e'},
		{"functions", no_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'},
		{"inlines", no_argument, NULL, 'i'},
		{"json", no_argument, NULL, JSON},
		{"list", no_argument, NULL, LIST},
		{"no-cache", no_argument, NULL, NO_CACHE},
		{"no-inlines", no_argument, NULL, NO_INLINES},
		{"pretty-print", no_argument, NULL, 'p'},
		{"symbol-path", required_argument, NULL, SYMBOL_PATH},
		{"sysroot", required_argument, NULL, SYSROOT},
		{"verbose", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0}};
	static char name[] = "silt symbols"; /* how getopt begins its messages */
	int c, status = -1, which = -1;

	argv[0] = name;
	optind = 0; /* a full restart: main may have parsed options of its own */
	while (status < 0 && (c = getopt_long(argc, argv, "aCe:fhipsv", options, &which)) != -1) {
		if (which >= 0 && c != '?' && is_abbreviated(argc, argv, &options[which]))
			return usage("options cannot be abbreviated: --%s", options[which].name);
		which = -1;
		status = take_option(q, c);
	}
	return status;
}

static int parse_operands(int argc, char **argv, struct silt_symbols_request *q)
{
	uint64_t address;

	if (q->clear_cache)
		return q->file || optind < argc ? usage("%s takes no operands", "--clear-cache") : -1;
	if (!q->file) {
		if (optind == argc)
			return usage("%s is missing", "FILE");
		q->file = argv[optind++];
	}
	if (q->list && (q->classic || optind < argc))
		return usage("%s takes one dump or file and no addresses", "--list");
	if (q->json && q->classic)
		return usage("%s and addr2line's options exclude each other", "--json");
	for (; optind < argc; optind++) {
		if (!silt_symbols_parse_address(argv[optind], &address))
			return usage("'%s' is no hexadecimal address", argv[optind]);
		if (!silt_vec_push(&q->addresses, address))
			return silt_symbols_no_memory();
	}
	return -1;
}

/* Settings as options for the lookup. addr2line's form has its own way to ask for inlined calls and readable names. */
static int make_options(struct silt_symbols_request *q)
{
	struct silt_error err;

	if (silt_settings_options(q->settings, &q->options, &err))
		return usage("%s", err.msg);
	q->options.bare_names = q->classic;
	q->options.no_linkage = true; /* nothing prints them */
	if (q->classic && !q->how)
		q->options.demangle = q->demangle ? SILT_DEMANGLE_FULL : SILT_DEMANGLE_OFF;
	return -1;
}

static int clear_cache(const struct silt_symbols_request *q)
{
	struct silt_error err;
	int64_t freed;

	if (!q->options.cache_dir) {
		fputs("silt symbols: there is no cache: neither HOME nor XDG_CACHE_HOME nor the setting cache-dir names a place\n", stderr);
		return SILT_EXIT_UNUSABLE;
	}
	freed = silt_cache_clear(q->options.cache_dir, &err);
	if (freed < 0) {
		fprintf(stderr, "silt symbols: %s\n", err.msg);
		return SILT_EXIT_UNUSABLE;
	}
	printf("%s: %lld bytes freed\n", q->options.cache_dir, (long long)freed);
	return SILT_EXIT_OK;
}

static bool asks_for_help(int argc, char **argv)
{
	return argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0);
}

int silt_cmd_symbols(int argc, char **argv)
{
	struct silt_symbols_request q = {0};
	struct silt_error err;
	int status;

	if (asks_for_help(argc, argv)) { /* which helps with broken settings, too */
		print_help();
		return SILT_EXIT_OK;
	}
	if (silt_settings_create(&q.settings, &err))
		return usage("%s", err.msg);
	status = parse_options(argc, argv, &q);
	if (status < 0)
		status = parse_operands(argc, argv, &q);
	if (status < 0)
		status = make_options(&q);
	if (status < 0)
		status = q.clear_cache ? clear_cache(&q) : q.list ? silt_symbols_list(&q) : silt_symbols_answer(&q);
	silt_vec_free(&q.addresses);
	silt_settings_destroy(q.settings);
	return status;
}
