/* SPDX-License-Identifier: MIT */
/** The commands: each in a file of its own, called with argv[0] the command's name. They return the exit status. */
#ifndef SILT_CLI_COMMANDS_H
#define SILT_CLI_COMMANDS_H

enum silt_exit { /* a contract with scripts: DESIGN.md and every man page */
		 SILT_EXIT_OK = 0,
		 SILT_EXIT_FAILED = 1,   /* a check failed, or leaks were found where asked to fail */
		 SILT_EXIT_USAGE = 2,    /* wrong usage */
		 SILT_EXIT_UNUSABLE = 3, /* input or target unusable */
};

int silt_cmd_run(int argc, char **argv);
int silt_cmd_attach(int argc, char **argv);
int silt_cmd_detach(int argc, char **argv);
int silt_cmd_capture(int argc, char **argv);
int silt_cmd_show(int argc, char **argv);
int silt_cmd_diff(int argc, char **argv);
int silt_cmd_symbols(int argc, char **argv);
int silt_cmd_doctor(int argc, char **argv);

#endif
