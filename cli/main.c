/* SPDX-License-Identifier: MIT */
/* The command table: finds the command, leaves everything else to it. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "base/pages.h"
#include "cli/commands.h"

struct command {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
};

static int help(int argc, char **argv);

static const struct command COMMANDS[] = {
	{"run", "run a program under tracking and keep its last state", silt_cmd_run},
	{"attach", "track a process that is running already", silt_cmd_attach},
	{"detach", "leave a process that was attached to as it was before", silt_cmd_detach},
	{"capture", "write a dump of a tracked process", silt_cmd_capture},
	{"show", "who holds memory: totals and the heaviest stacks of a dump or process", silt_cmd_show},
	{"diff", "what grew between two dumps, stack by stack", silt_cmd_diff},
	{"symbols", "names, files and lines of addresses in a file", silt_cmd_symbols},
	{"doctor", "what works here, what does not, and why", silt_cmd_doctor},
	{"help", "this list, or the help of one command", help},
};

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < SILT_ARRAY_LEN(COMMANDS); i++)
		if (strcmp(COMMANDS[i].name, name) == 0)
			return &COMMANDS[i];
	return NULL;
}

static int finish_stdout(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return SILT_EXIT_OK;
	perror("silt: writing to standard output");
	return SILT_EXIT_UNUSABLE;
}

static int unknown(const char *name)
{
	fprintf(stderr, "silt: '%s' is no command of silt; 'silt help' lists them\n", name);
	return SILT_EXIT_USAGE;
}

static int help(int argc, char **argv)
{
	const struct command *c;

	if (argc > 1 && argv[1][0] != '-') {
		char option[] = "--help";
		char *arguments[] = {argv[1], option, NULL};

		c = find(argv[1]);
		if (!c)
			return unknown(argv[1]);
		if (c->run != help)
			return c->run(2, arguments);
	}
	puts("usage: silt COMMAND [OPTIONS] [ARGUMENTS]\n"
	     "\n"
	     "silt shows what settles in a process's memory: who allocated it, and what has grown.\n"
	     "\n"
	     "commands:");
	for (size_t i = 0; i < SILT_ARRAY_LEN(COMMANDS); i++)
		printf("  %-9s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
	puts("\n"
	     "options:\n"
	     "  -h, --help     this text; after a command, its own\n"
	     "  -V, --version  silt's version\n"
	     "\n"
	     "examples:\n"
	     "  silt run -o app.silt -- ./app      track a program; its last state is kept, however it ends\n"
	     "  silt capture 1234 -o before.silt   meanwhile, in another terminal, as often as wanted\n"
	     "  silt diff before.silt app.silt     growth per call stack, largest first\n"
	     "\n"
	     "'silt help COMMAND' says more. Exit status: 0 fine, 1 a check failed, 2 wrong usage, 3 input "
	     "unusable.");
	return finish_stdout();
}

static int version(void)
{
	puts("silt " SILT_VERSION);
	return finish_stdout();
}

static bool is_one_of(const char *text, const char *a, const char *b)
{
	return strcmp(text, a) == 0 || strcmp(text, b) == 0;
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		fputs("silt: which command? 'silt help' lists them\n", stderr);
		return SILT_EXIT_USAGE;
	}
	if (is_one_of(argv[1], "-h", "--help"))
		return help(argc - 1, argv + 1);
	if (is_one_of(argv[1], "-V", "--version") || strcmp(argv[1], "version") == 0)
		return version();
	if (argv[1][0] == '-') {
		fprintf(stderr, "silt: unknown option '%s'; options follow the command: see 'silt help'\n",
			argv[1]);
		return SILT_EXIT_USAGE;
	}
	c = find(argv[1]);
	silt_pages_setup();
	return c ? c->run(argc - 1, argv + 1) : unknown(argv[1]);
}
