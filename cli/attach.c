/* SPDX-License-Identifier: MIT */
/* silt attach: track a process that is running already. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/attach_process.h"
#include "capture/target/process.h"
#include "cli/attach.h"
#include "cli/commands.h"
#include "cli/quantity.h"
#include "cli/values.h"

static const char usage[] =
	"usage: silt attach [OPTION]... PID\n"
	"       silt attach [OPTION]... --name NAME\n"
	"Tracks a running process from now on: silt capture, show and diff work as for silt run. It stands still for some\n"
	"milliseconds, is not restarted, and none of its code is run. silt detach ends it.\n"
	"\n"
	"  -n, --name NAME         the one process whose program is called NAME\n"
	"  -o, --output FILE       when it ends or is detached from, its last state goes to FILE\n"
	"      --duration TIME     detach after TIME: 500ms, 30s, 5m, 1h\n"
	"      --until-bytes N     detach when N bytes have been allocated since (K, M, G)\n"
	"      --db-size MB        limit of the stack database (default: 256)\n"
	"      --depth N           frames kept of a call stack, 1 to 512 (default: 128)\n"
	"      --min-size BYTES    leave smaller allocations out\n"
	"      --sample BYTES      sample: on average one allocation in BYTES bytes; figures are estimates\n"
	"      --threads           keep apart what each thread allocated\n"
	"      --mmap-min BYTES    track anonymous mappings from this size on (default: 64K)\n"
	"      --follow            track the children that it forks from now on too (default)\n"
	"      --no-follow         track the process alone\n"
	"      --inherit WHEN      these children know their parent's blocks: auto (unless they are very many; default),\n"
	"                          always or never\n"
	"  -q, --quiet             say nothing when all went well\n"
	"  -h, --help              print this\n";

struct settings {
	struct silt_hold hold;
	struct silt_db_options db;
	const char *name;
};

enum long_option {
	OPT_DURATION = 256,
	OPT_UNTIL_BYTES,
	OPT_DB_SIZE,
	OPT_DEPTH,
	OPT_MIN_SIZE,
	OPT_SAMPLE,
	OPT_THREADS,
	OPT_MMAP_MIN,
	OPT_FOLLOW,
	OPT_NO_FOLLOW,
	OPT_INHERIT,
};

static const struct option options[] = {
	{ "name", required_argument, NULL, 'n' },
	{ "output", required_argument, NULL, 'o' },
	{ "duration", required_argument, NULL, OPT_DURATION },
	{ "until-bytes", required_argument, NULL, OPT_UNTIL_BYTES },
	{ "db-size", required_argument, NULL, OPT_DB_SIZE },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "min-size", required_argument, NULL, OPT_MIN_SIZE },
	{ "sample", required_argument, NULL, OPT_SAMPLE },
	{ "threads", no_argument, NULL, OPT_THREADS },
	{ "mmap-min", required_argument, NULL, OPT_MMAP_MIN },
	{ "follow", no_argument, NULL, OPT_FOLLOW },
	{ "no-follow", no_argument, NULL, OPT_NO_FOLLOW },
	{ "inherit", required_argument, NULL, OPT_INHERIT },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int wrong_usage(const char *text, const char *what)
{
	fprintf(stderr, "silt attach: %s%s (see `silt attach --help`)\n", text, what);
	return SILT_EXIT_USAGE;
}

/* Takes one option; false when its argument makes no sense. */
static bool take_option(struct settings *s, int option, const char *arg)
{
	uint64_t n = 0;
	bool ok = true;

	switch (option) {
	case 'n':
		s->name = arg;
		return *arg;
	case 'o':
		s->hold.output = arg;
		return *arg && strcmp(arg, "-") != 0;
	case 'q':
		s->hold.quiet = true;
		return true;
	case OPT_DURATION:
		return silt_quantity_time(arg, &s->hold.duration_ns);
	case OPT_UNTIL_BYTES:
		return silt_quantity_range(arg, 1, UINT64_MAX, &s->hold.until_bytes);
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
	case OPT_INHERIT:
		return silt_value_inherit(arg, &s->db.flags);
	}
	return false;
}

/* Returns -1 to go on, else the exit status. Options may stand before or after the pid. */
static int parse_arguments(struct settings *s, int argc, char **argv)
{
	int option, index = 0;
	char *end;
	long pid;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":n:o:qh", options, &index)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return SILT_EXIT_OK;
		}
		if (option == '?' || option == ':')
			return wrong_usage(option == ':' ? "an argument is missing after " : "no option of this command: ",
					   argv[optind - 1]);
		if (!take_option(s, option, optarg)) {
			fprintf(stderr, "silt attach: \"%s\" is no possible value for --%s (see `silt attach --help`)\n", optarg,
				option == 'n' ? "name" : option == 'o' ? "output" : options[index].name);
			return SILT_EXIT_USAGE;
		}
	}
	if (s->name)
		return optind == argc ? -1 : wrong_usage("a name and a process number are one too many: ", argv[optind]);
	if (optind + 1 != argc)
		return wrong_usage("one process is wanted: silt attach PID", "");
	errno = 0;
	pid = strtol(argv[optind], &end, 10);
	if (errno || *end || end == argv[optind] || pid <= 0 || pid > INT_MAX)
		return wrong_usage("no process number: ", argv[optind]);
	s->hold.pid = (pid_t)pid;
	return -1;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The program's file, or what it calls itself. */
static bool is_called(pid_t pid, const char *name)
{
	struct silt_target_status st;
	char exe[4096];

	if (pid == getpid() || silt_target_status(pid, &st, NULL) || st.state == 'Z' || st.state == 'X')
		return false;
	silt_target_exe(pid, exe, sizeof(exe));
	return exe[0] && (!strcmp(base_name(exe), name) || !strcmp(st.name, name));
}

static int find_by_name(const char *name, pid_t *ret, struct silt_error *err)
{
	DIR *dir = opendir("/proc");
	char list[200] = "";
	unsigned count = 0;
	struct dirent *de;

	if (!dir)
		return silt_error_os(err, errno, "cannot open /proc");
	while ((de = readdir(dir))) {
		pid_t pid = isdigit((unsigned char)de->d_name[0]) ? (pid_t)strtol(de->d_name, NULL, 10) : 0;
		size_t n = strlen(list);

		if (!pid || !is_called(pid, name))
			continue;
		*ret = pid;
		count++;
		if (n < sizeof(list) - 20)
			snprintf(list + n, sizeof(list) - n, "%s%d", n ? ", " : "", pid);
	}
	closedir(dir);
	if (count == 1)
		return 0;
	if (!count)
		return silt_error_set(err, SILT_E_NOT_FOUND, "no process is called %s", name);
	return silt_error_set(err, SILT_E_INVAL, "%u processes are called %s: name one by its number: %s", count, name, list);
}

/* The process left behind has another working directory. */
static char *absolute(const char *path)
{
	char *cwd = path && *path != '/' ? getcwd(NULL, 0) : NULL, *full = NULL;

	if (!path)
		return NULL;
	if (!cwd)
		return strdup(path);
	if (asprintf(&full, "%s/%s", cwd, path) < 0)
		full = NULL;
	free(cwd);
	return full;
}

static void say_result(const struct settings *s, const struct silt_attach_report *r)
{
	if (!r->before_known)
		fprintf(stderr, "silt: warning: blocks that process %d allocated before now are not included%s%s\n", s->hold.pid,
			r->before_note[0] ? ": " : "", r->before_note);
	if (r->before_known && r->before_busy)
		fprintf(stderr,
			"silt: warning: threads were inside malloc whenever process %d was stopped: a few of the blocks allocated "
			"before now may be missing, or gone already\n",
			s->hold.pid);
	else if (r->before_known && r->before_note[0])
		fprintf(stderr, "silt: warning: not all blocks that process %d allocated before now are included: %s\n", s->hold.pid,
			r->before_note);
	if (r->note[0])
		fprintf(stderr, "silt: warning: %s\n", r->note);
	if (s->hold.quiet)
		return;
	fprintf(stderr, "silt: attached to process %d: %u functions hooked", s->hold.pid, r->functions);
	if (r->before_known)
		fprintf(stderr, ", %llu blocks there before", (unsigned long long)r->before);
	fprintf(stderr, "; %u thread%s stood still for %.1f ms\n", r->threads, r->threads == 1 ? "" : "s", (double)r->stop_ns / 1e6);
}

int silt_cmd_attach(int argc, char **argv)
{
	struct settings s = { .db = SILT_TRACK_DEFAULTS };
	struct silt_attach_report report;
	struct silt_error err = { 0 };
	char *output = NULL;
	int rc = parse_arguments(&s, argc, argv);

	if (rc >= 0)
		return rc;
	rc = s.name ? find_by_name(s.name, &s.hold.pid, &err) : 0;
	if (!rc && s.hold.output) {
		output = absolute(s.hold.output);
		s.hold.output = output;
	}
	if (!rc)
		rc = silt_attach_process(s.hold.pid, &s.db, &s.hold.run, &report, &err);
	if (!rc) {
		say_result(&s, &report);
		if (s.hold.duration_ns || s.hold.until_bytes)
			rc = silt_hold_here(&s.hold);
		else
			rc = silt_hold_behind(&s.hold, &err);
	}
	if (rc < 0)
		fprintf(stderr, "silt: %s\n", err.msg);
	silt_run_destroy(s.hold.run);
	free(output);
	return rc < 0 ? SILT_EXIT_UNUSABLE : rc;
}
