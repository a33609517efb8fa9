/* SPDX-License-Identifier: MIT */
/* silt doctor: what works on this machine, and for one process, and why not. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/types.h"
#include "capture/capture.h"
#include "capture/program.h"
#include "capture/target/maps.h"
#include "capture/target/modules.h"
#include "capture/target/process.h"
#include "cli/commands.h"
#include "cli/doctor_symbols.h"

static const char usage[] =
	"usage: silt doctor [PID]\n"
	"Says what works here and why not; with PID also what a capture of that process would contain.\n"
	"\n"
	"  -h, --help   print this\n";

#define CAP_SYS_ADMIN_BIT 21
#define CAP_SYS_PTRACE_BIT 19
#define CAP_CHECKPOINT_RESTORE_BIT 40

static void line(const char *what, const char *value)
{
	printf("  %-22s %s\n", what, value);
}

static void read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");

	buf[0] = '\0';
	if (!f)
		return;
	if (fgets(buf, (int)size, f))
		buf[strcspn(buf, "\n")] = '\0';
	fclose(f);
}

static uint64_t effective_capabilities(void)
{
	char *text, *p;
	uint64_t caps = 0;

	if (silt_proc_read("/proc/self/status", &text, NULL, NULL))
		return 0;
	p = strstr(text, "\nCapEff:");
	if (p)
		caps = strtoull(p + 8, NULL, 16);
	free(text);
	return caps;
}

static bool has_capability(int bit)
{
	return effective_capabilities() >> bit & 1;
}

/* ---- the machine ---- */

static void show_ptrace(void)
{
	static const char *const meaning[] = {
		"0: processes of the same user",
		"1: only descendants: `silt capture` asks the launcher (`silt run`) to do it",
		"2: only with CAP_SYS_PTRACE: captures need root (or: sysctl kernel.yama.ptrace_scope=1)",
		"3: nobody, until the next boot: dumps are copied without stopping the process",
	};
	char text[32];

	line("CAP_SYS_PTRACE", has_capability(CAP_SYS_PTRACE_BIT) ? "yes: processes of all users can be captured" :
								    "no: only processes of the same user");
	read_line("/proc/sys/kernel/yama/ptrace_scope", text, sizeof(text));
	if (!text[0])
		line("yama ptrace_scope", "absent: no further restriction");
	else
		line("yama ptrace_scope", text[0] >= '0' && text[0] <= '3' ? meaning[text[0] - '0'] : text);
	line("map_files",
	     has_capability(CAP_SYS_ADMIN_BIT) || has_capability(CAP_CHECKPOINT_RESTORE_BIT) ?
		     "readable: replaced and deleted files are identified too" :
		     "not readable (CAP_CHECKPOINT_RESTORE): mapped files are found by name, with the inode compared");
}

static void show_kernel_features(void)
{
	struct silt_db_options options = { .max_depth = 1 };
	struct silt_run *run;
	struct silt_error err;
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	line("pidfd", fd >= 0 ? "yes" : "no (Linux 5.3 or newer is needed): ends of child processes are seen late");
	if (fd >= 0)
		close(fd);
	if (silt_run_create(&options, &run, &err)) {
		line("trace database (memfd)", err.msg);
	} else {
		line("trace database (memfd)", "yes");
		silt_run_destroy(run);
	}
}

static void show_kernel(void)
{
	struct utsname un;
	char text[400];

	puts("system");
	if (!uname(&un)) {
		snprintf(text, sizeof(text), "%s %s %s", un.sysname, un.release, un.machine);
		line("kernel", text);
	}
	snprintf(text, sizeof(text), "%u", (unsigned)geteuid());
	line("effective uid", text);
	show_ptrace();
	show_kernel_features();
}

/* Libraries say their version in the name of the file that their soname leads to. */
static void show_library(const struct silt_maps *maps, const char *name)
{
	char path[PATH_MAX];

	for (uint32_t i = 0; i < maps->count; i++) {
		const char *base = maps->regions[i].name ? strrchr(maps->regions[i].name, '/') : NULL;

		if (!base || strncmp(base + 1, name, strlen(name)) || (base[1 + strlen(name)] != '.' &&
								       base[1 + strlen(name)] != '-'))
			continue;
		line(name, realpath(maps->regions[i].name, path) ? path : maps->regions[i].name);
		return;
	}
	line(name, "built in");
}

static void show_libraries(void)
{
	static const char *const names[] = { "libelf", "libdwarf", "libz", "libc" };
	struct silt_maps maps;

	puts("libraries");
	line("silt", SILT_VERSION);
	if (silt_maps_read(getpid(), &maps, NULL))
		return;
	for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++)
		show_library(&maps, names[i]);
	silt_maps_deinit(&maps);
}

static void show_agents(void)
{
	static const char *const variants[] = { "", "jemalloc", "tcmalloc", "mimalloc" };
	char path[4096], plain[4096] = "";
	struct silt_error err;

	puts("agent");
	for (size_t i = 0; i < SILT_ARRAY_LEN(variants); i++) {
		const char *name = variants[i][0] ? variants[i] : "standard";

		if (silt_agent_find(variants[i], path, sizeof(path), &err)) {
			line(name, err.msg);
			return;
		}
		if (!variants[i][0])
			snprintf(plain, sizeof(plain), "%s", path);
		line(name, i && !strcmp(path, plain) ? "the standard one" : path);
	}
}

static void show_limits(void)
{
	puts("limits");
	for (int i = 0; i < SILT_LIMIT_COUNT; i++) {
		const struct silt_limit_info *l = silt_limit_info((enum silt_limit)i);
		char text[300];

		snprintf(text, sizeof(text), "%llu %s (%s)", (unsigned long long)l->value, l->unit, l->help);
		line(l->name, text);
	}
	printf("  %-22s %u (frames of a call stack, --depth; at most %u)\n", "stack-depth", SILT_DB_DEFAULT_DEPTH,
	       SILT_DB_MAX_DEPTH);
	printf("  %-22s %u (processes tracked at once by one `silt run`)\n", "slots", SILT_DB_SLOTS);
	printf("  %-22s %llu GB (trace database of one process)\n", "slot-size",
	       (unsigned long long)(SILT_DB_SLOT_SIZE >> 30));
}

/* ---- one process ---- */

static const char *state_meaning(char state)
{
	switch (state) {
	case 'T':
		return "stopped: it stays so, and can be captured";
	case 't':
		return "held by a debugger: it can only be copied without a stop of its own";
	case 'D':
		return "waiting in the kernel: it can be captured, a thread there counts as standing still";
	case 'Z':
		return "ended: nothing is left of it";
	}
	return "running: it can be captured";
}

static const char *seccomp_meaning(uint32_t mode)
{
	return mode == 0 ? "none" : mode == 1 ? "strict: tracking works only from the start" :
						"filter: tracking works from the start; captures are not affected";
}

static void show_mapping(pid_t pid)
{
	struct silt_target_modules modules;
	struct silt_maps maps;
	struct silt_error err;
	char text[200];
	uint32_t with_id = 0;

	if (silt_maps_read(pid, &maps, &err)) {
		line("memory map", err.msg);
		return;
	}
	snprintf(text, sizeof(text), "%u regions", maps.count);
	line("memory map", text);
	if (!silt_modules_collect(&maps, pid, &modules, NULL)) {
		for (uint32_t i = 0; i < modules.count; i++)
			with_id += modules.list[i].build_id_len != 0;
		snprintf(text, sizeof(text), "%u, %u of them with a build-id", modules.count, with_id);
		line("modules", text);
		silt_modules_deinit(&modules);
	}
	silt_maps_deinit(&maps);
}

static void show_tracking(pid_t pid)
{
	struct silt_error err = { 0 };
	char text[200];
	uint32_t slot;
	int fd = -1, rc = silt_target_find_db(pid, &fd, &slot, &err);

	if (rc) {
		line("tracked", rc == SILT_E_NOT_FOUND ? "no: a capture walks its heap, and has no stacks" :
							 "unknown");
		line("", err.msg);
		return;
	}
	snprintf(text, sizeof(text), "yes, slot %u: a capture holds blocks and call stacks", slot);
	line("tracked", text);
	line("database", fd >= 0 ? "can be opened" : "only readable through the process (its launcher is gone?)");
	if (fd >= 0)
		close(fd);
}

static int show_process(pid_t pid)
{
	struct silt_target_status st;
	struct silt_error err = { 0 };
	char exe[4096], text[4300];

	if (silt_target_status(pid, &st, &err)) {
		fprintf(stderr, "silt: %s\n", err.msg);
		return SILT_EXIT_UNUSABLE;
	}
	silt_target_exe(pid, exe, sizeof(exe));
	printf("process %d\n", pid);
	snprintf(text, sizeof(text), "%s (%s)", st.name, exe[0] ? exe : "unreadable: another user's, or a kernel thread");
	line("program", text);
	snprintf(text, sizeof(text), "%c: %s", st.state, state_meaning(st.state));
	line("state", text);
	snprintf(text, sizeof(text), "%u, %llu MB resident", st.threads, (unsigned long long)(st.rss_kb >> 10));
	line("threads", text);
	snprintf(text, sizeof(text), "%u%s", st.uid, st.uid != geteuid() && !has_capability(CAP_SYS_PTRACE_BIT) ?
						     ": not ours, so root is needed" : "");
	line("uid", text);
	if (st.tracer_pid)
		snprintf(text, sizeof(text), "process %u: only one debugger fits, so it is copied without a stop",
			 st.tracer_pid);
	line("traced by", st.tracer_pid ? text : "nobody");
	line("seccomp", seccomp_meaning(st.seccomp));
	show_tracking(pid);
	show_mapping(pid);
	return SILT_EXIT_OK;
}

int silt_cmd_doctor(int argc, char **argv)
{
	char *end;
	long pid = 0;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(usage, stdout);
		return SILT_EXIT_OK;
	}
	if (argc > 1) {
		errno = 0;
		pid = strtol(argv[1], &end, 10);
		if (errno || *end || pid <= 0 || pid > INT_MAX || argc > 2) {
			fprintf(stderr, "silt doctor: no process number: %s (see `silt doctor --help`)\n", argv[argc - 1]);
			return SILT_EXIT_USAGE;
		}
	}
	show_kernel();
	show_libraries();
	show_agents();
	silt_doctor_symbols();
	show_limits();
	return pid ? show_process((pid_t)pid) : SILT_EXIT_OK;
}
