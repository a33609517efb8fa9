/* SPDX-License-Identifier: MIT */
/* silt show: the live memory of a dump, or of a tracked process captured on the spot. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture/capture.h"
#include "cli/commands.h"
#include "cli/report_options.h"

/* A number is a process, unless a file has that name. 0: no number. */
static pid_t operand_pid(const char *text)
{
	char *end;
	long pid;

	if (*text < '1' || *text > '9' || access(text, F_OK) == 0)
		return 0;
	errno = 0;
	pid = strtol(text, &end, 10);
	return errno == 0 && *end == '\0' && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static int read_snapshot(const struct silt_report_cli *c, struct silt_snapshot **ret, struct silt_error *err)
{
	struct silt_stop_report report;
	pid_t pid = operand_pid(c->operands[0]);

	if (pid == 0)
		return silt_report_read(c, c->operands[0], ret, err);
	if (kill(pid, 0) != 0 && errno == ESRCH)
		return silt_error_set(err, SILT_E_NOT_FOUND,
				      "%s: no process of this number and no file of this name", c->operands[0]);
	return silt_capture_process(pid, ret, &report, err);
}

int silt_cmd_show(int argc, char **argv)
{
	struct silt_report_cli c;
	struct silt_snapshot *s = NULL;
	struct silt_error err = {0};
	enum silt_parsed parsed = silt_report_options_parse(argc, argv, SILT_COMMAND_SHOW, 1, &c);
	int rc = 0;

	if (parsed == SILT_PARSED_RUN) {
		/* A reader that closes the pipe is told of by EPIPE, which is no reason to complain. */
		signal(SIGPIPE, SIG_IGN);
		rc = read_snapshot(&c, &s, &err);
		if (rc == 0)
			rc = silt_report_show(s, &c.report, stdout, &err);
	}
	silt_snapshot_destroy(s);
	silt_report_options_free(&c);
	return parsed == SILT_PARSED_WRONG ? SILT_EXIT_USAGE : silt_report_status(rc, &err);
}
