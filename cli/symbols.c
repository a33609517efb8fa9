/* SPDX-License-Identifier: MIT */
/* silt symbols: functions, files and lines of addresses in one file. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyze/json.h"
#include "base/types.h"
#include "base/vec.h"
#include "cli/commands.h"
#include "symbols/elf_reader.h"
#include "symbols/rooted.h"
#include "symbols/symbols.h"

struct request {
	struct silt_symbols_options options;
	SILT_VEC(const char *) debug_dirs;
	SILT_VEC(uint64_t) addresses;
	const char *file;
	bool json, show_addresses, verbose;
	uint8_t build_id[64];
	size_t build_id_len;
};

static void print_help(void)
{
	puts("usage: silt symbols [OPTIONS] FILE [ADDRESS…]\n"
	     "\n"
	     "Prints the function, file and line of link-time addresses (hexadecimal) in an ELF file, inlined calls\n"
	     "innermost first. Without ADDRESS they are read from standard input. Addresses are exact: give a return\n"
	     "address minus one.\n"
	     "\n"
	     "options:\n"
	     "  -a, --addresses      print each address before its answer\n"
	     "      --debug-dir DIR  look for debug files here first; may be repeated\n"
	     "      --demangle HOW   full (default), short (no arguments) or off\n"
	     "  -h, --help           this text\n"
	     "      --json           one JSON object a line and address\n"
	     "      --no-inlines     physical functions only\n"
	     "      --sysroot DIR    FILE and its debug files lie below DIR\n"
	     "  -v, --verbose        say on standard error which files were tried\n"
	     "\n"
	     "exit status: 0 fine, 2 wrong usage, 3 FILE is unusable. Unknown names are ??.");
}

static bool parse_address(const char *text, uint64_t *ret)
{
	char *end;

	if (strspn(text, "0123456789abcdefABCDEFxX") != strlen(text) || !*text)
		return false;
	errno = 0;
	*ret = strtoull(text, &end, 16);
	return !errno && !*end;
}

static bool parse_demangle(const char *text, enum silt_demangle *ret)
{
	static const char *const names[] = {
		[SILT_DEMANGLE_FULL] = "full", [SILT_DEMANGLE_SHORT] = "short", [SILT_DEMANGLE_OFF] = "off"};

	for (unsigned i = 0; i < SILT_ARRAY_LEN(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret = (enum silt_demangle)i;
			return true;
		}
	}
	return false;
}

static int usage(const char *fmt, const char *what)
{
	fputs("silt symbols: ", stderr);
	fprintf(stderr, fmt, what);
	fputs("; 'silt symbols --help' tells more\n", stderr);
	return SILT_EXIT_USAGE;
}

static int no_memory(void)
{
	fputs("silt symbols: out of memory\n", stderr);
	return SILT_EXIT_UNUSABLE;
}

/* Returns an exit status, or -1 to go on. */
static int parse_options(int argc, char **argv, struct request *q)
{
	enum { DEBUG_DIR = 256, DEMANGLE, JSON, NO_INLINES, SYSROOT };
	static const struct option options[] = {
		{"addresses", no_argument, NULL, 'a'},	{"debug-dir", required_argument, NULL, DEBUG_DIR},
		{"demangle", required_argument, NULL, DEMANGLE}, {"help", no_argument, NULL, 'h'},
		{"json", no_argument, NULL, JSON},	{"no-inlines", no_argument, NULL, NO_INLINES},
		{"sysroot", required_argument, NULL, SYSROOT},	{"verbose", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0}};
	int c;

	optind = 0; /* a full restart: main may have parsed options of its own */
	while ((c = getopt_long(argc, argv, "ahv", options, NULL)) != -1) {
		switch (c) {
		case 'a':
			q->show_addresses = true;
			break;
		case DEBUG_DIR:
			if (!silt_vec_push(&q->debug_dirs, (const char *)optarg))
				return no_memory();
			break;
		case DEMANGLE:
			if (!parse_demangle(optarg, &q->options.demangle))
				return usage("--demangle %s: it is full, short or off", optarg);
			break;
		case 'h':
			print_help();
			return SILT_EXIT_OK;
		case JSON:
			q->json = true;
			break;
		case NO_INLINES:
			q->options.no_inlines = true;
			break;
		case SYSROOT:
			q->options.sysroot = optarg;
			break;
		case 'v':
			q->verbose = true;
			break;
		default: /* getopt said what */
			return SILT_EXIT_USAGE;
		}
	}
	return -1;
}

static int parse_operands(int argc, char **argv, struct request *q)
{
	uint64_t address;

	if (optind == argc)
		return usage("%s is missing", "FILE");
	q->file = argv[optind++];
	for (; optind < argc; optind++) {
		if (!parse_address(argv[optind], &address))
			return usage("'%s' is no hexadecimal address", argv[optind]);
		if (!silt_vec_push(&q->addresses, address))
			return no_memory();
	}
	return -1;
}

static int read_addresses(struct request *q)
{
	size_t cap = 0, number = 0;
	char *line = NULL, *word, *rest;
	uint64_t address;
	int status = -1;

	while (status < 0 && getline(&line, &cap, stdin) >= 0) {
		number++;
		for (word = strtok_r(line, " \t\r\n", &rest); word && status < 0; word = strtok_r(NULL, " \t\r\n", &rest)) {
			if (!parse_address(word, &address)) {
				fprintf(stderr, "silt symbols: standard input, line %zu: '%.40s' is no hexadecimal address\n",
					number, word);
				status = SILT_EXIT_USAGE;
			} else if (!silt_vec_push(&q->addresses, address)) {
				status = no_memory();
			}
		}
	}
	free(line);
	return status;
}

/* The file itself must be usable; what debug files are missing is told in warnings. */
static int inspect(struct request *q)
{
	struct silt_elf_info info;
	struct silt_error err;
	char path[PATH_MAX];

	if (!silt_rooted_path(q->options.sysroot ? q->options.sysroot : "", q->file, path)) {
		fprintf(stderr, "silt symbols: %s: the name is too long, or its links run in circles\n", q->file);
		return SILT_EXIT_UNUSABLE;
	}
	if (silt_elf_identify(path, &info, &err)) {
		fprintf(stderr, "silt symbols: %s\n", err.msg);
		return SILT_EXIT_UNUSABLE;
	}
	memcpy(q->build_id, info.build_id, info.build_id_len);
	q->build_id_len = info.build_id_len;
	return -1;
}

static void print_json_string(const char *text)
{
	struct silt_json j;

	silt_json_init(&j, stdout);
	silt_json_string(&j, text);
}

static void print_json(const struct request *q, uint64_t address, const struct silt_symbol_frame *frames, size_t count)
{
	printf("{\"address\":\"0x%" PRIx64 "\",\"frames\":[", address);
	for (size_t i = 0; i < count; i++) {
		fputs(i ? ",{\"function\":" : "{\"function\":", stdout);
		print_json_string(frames[i].function);
		fputs(",\"file\":", stdout);
		print_json_string(frames[i].file);
		if (frames[i].line)
			printf(",\"line\":%" PRIu32, frames[i].line);
		else
			fputs(",\"line\":null", stdout);
		fputs(",\"module\":", stdout);
		print_json_string(q->file);
		fputs(",\"build_id\":", stdout);
		if (q->build_id_len)
			putchar('"');
		for (size_t k = 0; k < q->build_id_len; k++)
			printf("%02x", q->build_id[k]);
		fputs(q->build_id_len ? "\"" : "null", stdout);
		printf(",\"offset\":\"0x%" PRIx64 "\",\"inlined\":%s}", address, frames[i].inlined ? "true" : "false");
	}
	puts("]}");
}

static void print_text(const struct request *q, uint64_t address, const struct silt_symbol_frame *frames, size_t count)
{
	if (q->show_addresses)
		printf("0x%" PRIx64 "\n", address);
	if (!count)
		puts("??\n??:0");
	for (size_t i = 0; i < count; i++)
		printf("%s\n%s:%" PRIu32 "%s\n", frames[i].function ? frames[i].function : "??",
		       frames[i].file ? frames[i].file : "??", frames[i].line, frames[i].inlined ? " (inlined)" : "");
}

static void print_notes(const struct request *q, const struct silt_symbols *sy, int module)
{
	struct silt_symbols_module_info info;

	if (q->verbose && silt_symbols_module_info(sy, module, &info) == SILT_OK)
		for (size_t i = 0; i < info.attempt_count; i++)
			fprintf(stderr, "silt: %s\n", info.attempts[i]);
	for (size_t i = 0; i < silt_symbols_warning_count(sy); i++)
		fprintf(stderr, "silt: warning: %s\n", silt_symbols_warning(sy, i));
}

static int answer(struct request *q)
{
	struct silt_symbols *sy = silt_symbols_create(&q->options);
	struct silt_error err = {0};
	int module = sy ? silt_symbols_add_module(sy, q->file, q->build_id, q->build_id_len, &err) : 0, r;

	if (!sy)
		return no_memory();
	r = module < 0 ? module : SILT_OK;
	for (size_t i = 0; i < q->addresses.count && !r; i++)
		r = silt_symbols_request(sy, module, q->addresses.items[i], true, &err);
	if (!r)
		r = silt_symbols_resolve(sy, &err);
	for (size_t i = 0; i < q->addresses.count && !r; i++) {
		uint64_t address = q->addresses.items[i];
		const struct silt_symbol_frame *frames;
		size_t count;

		frames = silt_symbols_lookup(sy, module, address, true, &count);
		if (q->json)
			print_json(q, address, frames, count);
		else
			print_text(q, address, frames, count);
	}
	if (r)
		fprintf(stderr, "silt symbols: %s\n", err.msg);
	else
		print_notes(q, sy, module);
	silt_symbols_destroy(sy);
	return r ? SILT_EXIT_UNUSABLE : SILT_EXIT_OK;
}

int silt_cmd_symbols(int argc, char **argv)
{
	struct request q = {0};
	int status = parse_options(argc, argv, &q);

	if (status < 0)
		status = parse_operands(argc, argv, &q);
	if (status < 0)
		status = inspect(&q);
	if (status < 0 && !q.addresses.count)
		status = read_addresses(&q);
	if (status < 0) {
		q.options.debug_dirs = q.debug_dirs.items;
		q.options.debug_dir_count = q.debug_dirs.count;
		status = answer(&q);
	}
	silt_vec_free(&q.debug_dirs);
	silt_vec_free(&q.addresses);
	return status;
}
