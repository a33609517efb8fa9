/* SPDX-License-Identifier: MIT */
/* silt capture: a dump of a running process. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture/capture.h"
#include "cli/commands.h"
#include "formats/dump.h"

static const char usage[] =
	"usage: silt capture PID [-o FILE]\n"
	"Writes a dump of a running process. The process stands still while its trace database is copied.\n"
	"\n"
	"  -o, --output FILE   where to (default: silt.PID.silt; - is standard output)\n"
	"  -q, --quiet         say nothing when all went well\n"
	"  -h, --help          print this\n";

struct settings {
	pid_t pid;
	const char *output;
	bool quiet;
};

static int wrong_usage(const char *text, const char *what)
{
	fprintf(stderr, "silt capture: %s%s (see `silt capture --help`)\n", text, what);
	return SILT_EXIT_USAGE;
}

/* Returns -1 to go on, else the exit status. Options may stand before or after the pid. */
static int parse_arguments(struct settings *s, int argc, char **argv)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;
	char *end;
	long pid;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":o:qh", options, NULL)) != -1) {
		switch (option) {
		case 'o':
			s->output = optarg;
			break;
		case 'q':
			s->quiet = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return SILT_EXIT_OK;
		default:
			return wrong_usage(option == ':' ? "an argument is missing after " : "no option of this command: ",
					   argv[optind - 1]);
		}
	}
	if (optind + 1 != argc)
		return wrong_usage("one process is wanted: silt capture PID -o FILE", "");
	errno = 0;
	pid = strtol(argv[optind], &end, 10);
	if (errno || *end || end == argv[optind] || pid <= 0 || pid > INT_MAX)
		return wrong_usage("no process number: ", argv[optind]);
	s->pid = (pid_t)pid;
	return -1;
}

static void say_result(const struct settings *s, const struct silt_snapshot *snap, const char *output,
		       const struct silt_stop_report *report)
{
	const struct silt_process *p = &snap->process;

	for (uint32_t i = 0; i < snap->note_count; i++)
		fprintf(stderr, "silt: warning: %s\n", snap->notes[i]);
	if (s->quiet)
		return;
	fprintf(stderr, "silt: wrote %s: %llu bytes in %llu blocks", output, (unsigned long long)snap->total_bytes,
		(unsigned long long)snap->total_count);
	if (report->stopped)
		fprintf(stderr, "; process %u stood still for %.1f ms", p->pid, (double)report->pause_ns / 1e6);
	fputc('\n', stderr);
}

int silt_cmd_capture(int argc, char **argv)
{
	struct settings s = { 0 };
	struct silt_snapshot *snap = NULL;
	struct silt_stop_report report = { 0 };
	struct silt_error err = { 0 };
	char name[64];
	int rc = parse_arguments(&s, argc, argv);

	if (rc >= 0)
		return rc;
	snprintf(name, sizeof(name), "silt.%d.silt", s.pid);
	if (!s.output)
		s.output = name;
	rc = silt_capture_process(s.pid, &snap, &report, &err);
	if (!rc)
		rc = silt_dump_write(s.output, snap, NULL, &err);
	if (rc)
		fprintf(stderr, "silt: %s\n", err.msg);
	else
		say_result(&s, snap, s.output, &report);
	silt_snapshot_destroy(snap);
	return rc ? SILT_EXIT_UNUSABLE : SILT_EXIT_OK;
}
