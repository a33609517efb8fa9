/* SPDX-License-Identifier: MIT */
/* silt run: start a program under tracking. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "capture/attach_process.h"
#include "capture/program.h"
#include "capture/start.h"
#include "cli/commands.h"
#include "cli/quantity.h"
#include "cli/supervise.h"
#include "cli/values.h"

static const char usage[] =
	"usage: silt run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
	"Runs PROGRAM under tracking from its first allocation and writes a dump when it ends.\n"
	"\n"
	"  -o, --output FILE     the last state goes to FILE (default: silt.PROGRAM.PID.silt)\n"
	"      --every TIME      a numbered dump every TIME: 500ms, 30s, 5m, 1h\n"
	"      --db-size MB      limit of the stack database of a process (default: 256)\n"
	"      --depth N         frames kept of a call stack, 1 to 512 (default: 128)\n"
	"      --min-size BYTES  leave smaller allocations out\n"
	"      --sample BYTES    sample: on average one allocation in BYTES bytes; figures are estimates\n"
	"      --threads         keep apart what each thread allocated\n"
	"      --mmap-min BYTES  track anonymous mappings from this size on (default: 64K)\n"
	"      --follow          track child processes too (default)\n"
	"      --no-follow       track PROGRAM alone\n"
	"      --attach          attach to PROGRAM at its start instead of loading the agent: sees libraries loaded with\n"
	"                        RTLD_DEEPBIND, too; does not track programs run by exec\n"
	"      --inherit WHEN    forked children know their parent's blocks: auto (unless they are very many; default),\n"
	"                        always or never\n"
	"  -q, --quiet           do not print the names of the dumps\n"
	"  -h, --help            print this\n";

struct settings {
	struct silt_launch launch;
	struct silt_db_options db;
	bool attach;
};

enum long_option {
	OPT_EVERY = 256,
	OPT_DB_SIZE,
	OPT_DEPTH,
	OPT_MIN_SIZE,
	OPT_SAMPLE,
	OPT_THREADS,
	OPT_MMAP_MIN,
	OPT_FOLLOW,
	OPT_NO_FOLLOW,
	OPT_INHERIT,
	OPT_ATTACH,
};

static const struct option options[] = {
	{ "output", required_argument, NULL, 'o' },
	{ "every", required_argument, NULL, OPT_EVERY },
	{ "db-size", required_argument, NULL, OPT_DB_SIZE },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "min-size", required_argument, NULL, OPT_MIN_SIZE },
	{ "sample", required_argument, NULL, OPT_SAMPLE },
	{ "threads", no_argument, NULL, OPT_THREADS },
	{ "mmap-min", required_argument, NULL, OPT_MMAP_MIN },
	{ "follow", no_argument, NULL, OPT_FOLLOW },
	{ "no-follow", no_argument, NULL, OPT_NO_FOLLOW },
	{ "inherit", required_argument, NULL, OPT_INHERIT },
	{ "attach", no_argument, NULL, OPT_ATTACH },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* Takes one option; false when its argument makes no sense. */
static bool take_option(struct settings *s, int option, const char *arg)
{
	uint64_t n = 0;
	bool ok = true;

	switch (option) {
	case 'o':
		s->launch.output = arg;
		return *arg && strcmp(arg, "-") != 0; /* standard output belongs to the program */
	case 'q':
		s->launch.quiet = true;
		return true;
	case OPT_EVERY:
		return silt_quantity_time(arg, &s->launch.every_ns);
	case OPT_DB_SIZE:
		ok = silt_quantity_range(arg, 1, 12288, &n);
		s->db.db_limit = n << 20;
		return ok;
	case OPT_DEPTH:
		ok = silt_quantity_range(arg, 1, SILT_DB_MAX_DEPTH, &n);
		s->db.max_depth = (uint32_t)n;
		return ok;
	case OPT_MIN_SIZE:
		return silt_quantity_size(arg, &s->db.min_size);
	case OPT_SAMPLE:
		return silt_quantity_range(arg, 0, 1ull << 40, &s->db.sample_bytes);
	case OPT_MMAP_MIN:
		return silt_quantity_size(arg, &s->db.mmap_min);
	case OPT_THREADS:
		s->db.flags |= SILT_DB_THREADS;
		return true;
	case OPT_FOLLOW:
		s->db.flags &= ~(uint32_t)SILT_DB_NO_FOLLOW;
		return true;
	case OPT_NO_FOLLOW:
		s->db.flags |= SILT_DB_NO_FOLLOW;
		return true;
	case OPT_ATTACH:
		s->attach = true;
		return true;
	case OPT_INHERIT:
		return silt_value_inherit(arg, &s->db.flags);
	}
	return false;
}

/* Returns -1 to go on, else the exit status. */
static int parse_arguments(struct settings *s, int argc, char **argv)
{
	int option, index = 0;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, "+:o:qh", options, &index)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (option == '?' || option == ':') {
			fprintf(stderr, "silt run: %s %s (see `silt run --help`)\n",
				option == ':' ? "an argument is missing after" : "no option of this command:",
				argv[optind - 1]);
			return 2;
		}
		if (!take_option(s, option, optarg)) {
			fprintf(stderr, "silt run: \"%s\" is no possible value for %s%s (see `silt run --help`)\n", optarg,
				option < 256 ? "-" : "--", option == 'o' ? "o" : options[index].name);
			return 2;
		}
	}
	if (optind >= argc) {
		fputs("silt run: which program? (silt run [OPTION]... -- PROGRAM [ARGUMENT]...)\n", stderr);
		return 2;
	}
	s->launch.argv = argv + optind;
	return -1;
}

/* Finds out before the program starts whether its dump can be written at all. */
static int check_output(const char *path, struct silt_error *err)
{
	struct silt_temp temp;
	struct stat st;
	int rc;

	if (path && !stat(path, &st) && S_ISDIR(st.st_mode))
		return silt_error_set(err, SILT_E_INVAL, "cannot write the dump: %s is a directory", path);
	rc = silt_temp_create(path ? path : "silt.silt", &temp, err);
	if (rc)
		return silt_error_prefix(err, "cannot write the dump");
	silt_temp_discard(&temp);
	return 0;
}

static int set_environment(const struct silt_launch *launch, struct silt_error *err)
{
	static char agent[128], preload[16384], asan[4096];
	int rc = silt_run_environment(launch->run, launch->agent, getenv("LD_PRELOAD"), agent, sizeof(agent), preload,
				      sizeof(preload), err);

	if (!rc && silt_run_asan_environment(getenv("ASAN_OPTIONS"), asan, sizeof(asan)) && putenv(asan))
		rc = silt_error_set(err, SILT_E_NOMEM, "out of memory");
	if (!rc && (putenv(agent) || putenv(preload)))
		rc = silt_error_set(err, SILT_E_NOMEM, "out of memory");
	return rc;
}

/* The agent in the environment, for the program and what it runs. */
static int prepare_loaded(struct settings *s, const char *variant, char *agent, size_t size, struct silt_error *err)
{
	int rc = silt_agent_find(variant, agent, size, err);

	if (!rc)
		rc = silt_run_create(&s->db, &s->launch.run, err);
	return rc ? rc : set_environment(&s->launch, err);
}

/* The program is started here, and attached to before it does anything. False: it is gone again, and had done nothing; err says why. */
static bool prepare_hooked(struct settings *s, struct silt_error *err)
{
	struct silt_attach_report report;

	if (silt_start_stopped(s->launch.program, s->launch.argv, &s->launch.started, err))
		return false;
	if (silt_attach_process(s->launch.started, &s->db, &s->launch.run, &report, err)) {
		/* Who traces its own child has reaped it when it ended meanwhile: then its number may be another's by now. */
		if (waitpid(s->launch.started, NULL, WNOHANG) == 0) {
			kill(s->launch.started, SIGKILL);
			waitpid(s->launch.started, NULL, 0);
		}
		s->launch.started = 0;
		return false;
	}
	silt_run_from_start(s->launch.run);
	if (report.note[0])
		fprintf(stderr, "silt: warning: %s\n", report.note);
	return true;
}

int silt_cmd_run(int argc, char **argv)
{
	static char program[4096], agent[4096];
	struct settings s = { .db = SILT_TRACK_DEFAULTS };
	struct silt_error err = { 0 };
	enum silt_program_way way;
	char variant[32];
	int rc = parse_arguments(&s, argc, argv);

	if (rc >= 0)
		return rc;
	rc = silt_program_find(s.launch.argv[0], program, sizeof(program), &err);
	if (rc) {
		fprintf(stderr, "silt: %s\n", err.msg);
		return err.errnum == EACCES ? 126 : 127;
	}
	s.launch.program = program;
	s.launch.agent = agent;
	rc = silt_program_check(program, getenv("LD_PRELOAD"), variant, sizeof(variant), &way, &err);
	if (!rc)
		rc = check_output(s.launch.output, &err);
	if (!rc && (way == SILT_PROGRAM_HOOKED || s.attach) && !prepare_hooked(&s, &err)) {
		if (s.attach)
			rc = silt_error_prefix(&err, "cannot attach to the program at its start (see --attach)");
		else
			fprintf(stderr, "silt: warning: the allocator that is linked into %s cannot be hooked: %s\n", program, err.msg);
	}
	if (!rc && way == SILT_PROGRAM_PRIVATE)
		fprintf(stderr,
			"silt: warning: an allocator is linked into %s under names of its own (like je_malloc): what it allocates with "
			"that is not seen\n",
			program);
	if (!rc && !s.launch.started)
		rc = prepare_loaded(&s, variant, agent, sizeof(agent), &err);
	if (!rc)
		rc = silt_supervise(&s.launch);
	else
		fprintf(stderr, "silt: %s\n", err.msg);
	silt_run_destroy(s.launch.run);
	return rc < 0 ? 3 : rc;
}
