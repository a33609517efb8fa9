/* SPDX-License-Identifier: MIT */
/* silt diff: growth between two dumps. */
#include <signal.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/report_options.h"

static int read_both(const struct silt_report_cli *c, struct silt_snapshot *ret[2], struct silt_error *err)
{
	int rc;

	if (strcmp(c->operands[0], "-") == 0 && strcmp(c->operands[1], "-") == 0)
		return silt_error_set(err, SILT_E_INVAL, "only one of the two dumps can come from standard input");
	rc = silt_report_read(c, c->operands[0], &ret[0], err);
	return rc < 0 ? rc : silt_report_read(c, c->operands[1], &ret[1], err);
}

int silt_cmd_diff(int argc, char **argv)
{
	struct silt_report_cli c;
	struct silt_snapshot *s[2] = {NULL, NULL};
	struct silt_error err = {0};
	enum silt_parsed parsed = silt_report_options_parse(argc, argv, SILT_COMMAND_DIFF, 2, &c);
	int rc = 0;

	if (parsed == SILT_PARSED_RUN) {
		signal(SIGPIPE, SIG_IGN); /* as in show.c */
		rc = read_both(&c, s, &err);
		if (rc == 0)
			rc = silt_report_diff(s[0], s[1], &c.report, stdout, &err);
	}
	silt_snapshot_destroy(s[0]);
	silt_snapshot_destroy(s[1]);
	silt_report_options_free(&c);
	return parsed == SILT_PARSED_WRONG ? SILT_EXIT_USAGE : silt_report_status(rc, &err);
}
