/* SPDX-License-Identifier: MIT */
/* silt detach: leave a process as it was before silt attach. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/attach_process.h"
#include "cli/commands.h"

static const char usage[] =
	"usage: silt detach PID\n"
	"Leaves a process that silt attach tracks as it was before: its functions get their instructions back, and what was\n"
	"mapped into it is unmapped. Also clears what an attach or detach that was killed left behind.\n"
	"\n"
	"  -q, --quiet   say nothing when all went well\n"
	"  -h, --help    print this\n";

static int wrong_usage(const char *text, const char *what)
{
	fprintf(stderr, "silt detach: %s%s (see `silt detach --help`)\n", text, what);
	return SILT_EXIT_USAGE;
}

int silt_cmd_detach(int argc, char **argv)
{
	static const struct option options[] = {
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct silt_error err = { 0 };
	bool quiet = false;
	uint64_t stop_ns;
	int option, rc;
	char *end;
	long pid;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":qh", options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return SILT_EXIT_OK;
		}
		if (option != 'q')
			return wrong_usage("no option of this command: ", argv[optind - 1]);
		quiet = true;
	}
	if (optind + 1 != argc)
		return wrong_usage("one process is wanted: silt detach PID", "");
	errno = 0;
	pid = strtol(argv[optind], &end, 10);
	if (errno || *end || end == argv[optind] || pid <= 0 || pid > INT_MAX)
		return wrong_usage("no process number: ", argv[optind]);
	rc = silt_detach_process((pid_t)pid, &stop_ns, &err);
	if (rc) {
		fprintf(stderr, "silt: %s\n", err.msg);
		return SILT_EXIT_UNUSABLE;
	}
	if (!quiet)
		fprintf(stderr, "silt: detached from process %ld; it stood still for %.1f ms\n", pid, (double)stop_ns / 1e6);
	return SILT_EXIT_OK;
}
