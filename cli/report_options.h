/* SPDX-License-Identifier: MIT */
/** The options that every reporting command shares: one table for parsing, help and man pages' tests. */
#ifndef SILT_CLI_REPORT_OPTIONS_H
#define SILT_CLI_REPORT_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "analyze/analyze.h"
#include "cli/settings.h"

enum silt_report_command { SILT_COMMAND_SHOW = 1, SILT_COMMAND_DIFF = 2 }; /* bits */

struct silt_report_cli {
	struct silt_report_options report;
	bool salvage;
	const char *operands[2];
	unsigned operand_count;
	struct silt_settings *settings; /* owned; report.symbols points into it */
};

enum silt_parsed {
	SILT_PARSED_RUN,   /* go on */
	SILT_PARSED_HELP,  /* help was printed: end with status 0 */
	SILT_PARSED_WRONG, /* said so on stderr: end with status 2 */
};

/** operands: how many the command takes. Whatever comes back, silt_report_options_free must follow. */
enum silt_parsed silt_report_options_parse(int argc, char **argv, enum silt_report_command command,
					   unsigned operands, struct silt_report_cli *ret);
void silt_report_options_free(struct silt_report_cli *c);
/** "usage: silt show …", the summary and the options to out. */
void silt_report_options_help(FILE *out, enum silt_report_command command);

/** Reads the dump an operand names, as the options ask. */
int silt_report_read(const struct silt_report_cli *c, const char *path, struct silt_snapshot **ret,
		     struct silt_error *err);
/** Says what went wrong, and the exit status it means. Nothing is said when the reader of a pipe has gone. */
int silt_report_status(int rc, const struct silt_error *err);

#endif
