/* SPDX-License-Identifier: MIT */
/* Status, arguments and threads of a process from /proc. */
#include "capture/target/process.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "capture/target/maps.h"

/* The rest of the line "Key:\t…" or NULL. */
static const char *status_field(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		if (*p == '\n')
			p++;
		if (!strncmp(p, key, n) && p[n] == ':') {
			p += n + 1;
			return p + strspn(p, " \t");
		}
	}
	return NULL;
}

static uint64_t status_number(const char *text, const char *key)
{
	const char *p = status_field(text, key);

	return p ? strtoull(p, NULL, 10) : 0;
}

/* NSpid lists the pid from our namespace to the innermost one. */
static uint32_t status_ns_pid(const char *text, uint32_t fallback)
{
	const char *p = status_field(text, "NSpid");
	uint32_t last = fallback;
	char *end;

	while (p && *p && *p != '\n') {
		last = (uint32_t)strtoul(p, &end, 10);
		if (end == p)
			break;
		p = end + strspn(end, " \t");
	}
	return last;
}

int silt_target_status(pid_t pid, struct silt_target_status *ret, struct silt_error *err)
{
	char path[64], *text;
	const char *p;
	struct silt_error e;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (silt_proc_read(path, &text, NULL, &e)) {
		if (e.errnum == ENOENT || e.errnum == ESRCH)
			return silt_error_set(err, SILT_E_NOT_FOUND, "there is no process %d", pid);
		return silt_error_os(err, e.errnum, "cannot read %s", path);
	}
	memset(ret, 0, sizeof(*ret));
	if ((p = status_field(text, "Name")))
		snprintf(ret->name, sizeof(ret->name), "%.*s", (int)strcspn(p, "\n"), p);
	if ((p = status_field(text, "State")))
		ret->state = *p;
	if ((p = status_field(text, "Uid"))) {
		p += strcspn(p, " \t\n");
		ret->uid = (uint32_t)strtoul(p, NULL, 10);
	}
	ret->pid = (uint32_t)status_number(text, "Tgid");
	ret->parent_pid = (uint32_t)status_number(text, "PPid");
	ret->tracer_pid = (uint32_t)status_number(text, "TracerPid");
	ret->threads = (uint32_t)status_number(text, "Threads");
	ret->seccomp = (uint32_t)status_number(text, "Seccomp");
	ret->rss_kb = status_number(text, "VmRSS");
	ret->ns_pid = status_ns_pid(text, ret->pid);
	free(text);
	return 0;
}

void silt_target_exe(pid_t pid, char *buf, size_t size)
{
	static const char deleted[] = " (deleted)";
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n = readlink(path, buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	if (n > (ssize_t)sizeof(deleted) && !strcmp(buf + n - (sizeof(deleted) - 1), deleted))
		buf[n - (ssize_t)(sizeof(deleted) - 1)] = '\0';
}

char *silt_target_argv(pid_t pid)
{
	char path[64], *text;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if (silt_proc_read(path, &text, &size, NULL))
		return NULL;
	while (size && !text[size - 1])
		size--;
	for (size_t i = 0; i < size; i++)
		if (!text[i])
			text[i] = ' ';
	text[size] = '\0';
	return text;
}

int64_t silt_target_start_ns(pid_t pid)
{
	char path[64], *text, *p;
	struct timespec now, up;
	unsigned long long ticks = 0;
	long hz = sysconf(_SC_CLK_TCK);

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (silt_proc_read(path, &text, NULL, NULL))
		return 0;
	/* Field 22 is the start in ticks since boot; the name in field 2 may hold anything, so count from its end. */
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		ticks = strtoull(p, NULL, 10);
	free(text);
	if (!ticks || hz <= 0)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	return (now.tv_sec - up.tv_sec) * 1000000000ll + (now.tv_nsec - up.tv_nsec) +
	       (int64_t)(ticks * (1000000000ull / (unsigned long long)hz));
}

static void thread_name(pid_t pid, uint32_t tid, char *name, size_t size)
{
	char path[80];
	FILE *f;

	name[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/task/%u/comm", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(name, (int)size, f))
		name[strcspn(name, "\n")] = '\0';
	fclose(f);
}

static uint32_t thread_ns_tid(pid_t pid, uint32_t tid)
{
	char path[80], *text;
	uint32_t ns_tid;

	snprintf(path, sizeof(path), "/proc/%d/task/%u/status", pid, tid);
	if (silt_proc_read(path, &text, NULL, NULL))
		return tid;
	ns_tid = status_ns_pid(text, tid);
	free(text);
	return ns_tid;
}

int silt_target_threads(pid_t pid, bool names, struct silt_target_thread **ret, uint32_t *ret_count,
			struct silt_error *err)
{
	struct silt_target_thread *list = NULL;
	struct silt_target_status st;
	uint32_t count = 0, capacity = 0;
	char path[64];
	struct dirent *de;
	DIR *dir;
	int rc = silt_target_status(pid, &st, err);

	if (rc)
		return rc;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return silt_error_os(err, errno, "cannot list %s", path);
	while ((de = readdir(dir))) {
		uint32_t tid = (uint32_t)strtoul(de->d_name, NULL, 10);

		if (!tid)
			continue;
		if (count == capacity) {
			struct silt_target_thread *more;

			capacity = capacity ? capacity * 2 : 64;
			more = realloc(list, capacity * sizeof(*list));
			if (!more) {
				free(list);
				closedir(dir);
				return silt_error_set(err, SILT_E_NOMEM, "out of memory for the thread list");
			}
			list = more;
		}
		list[count].tid = tid;
		list[count].ns_tid = st.ns_pid != st.pid ? thread_ns_tid(pid, tid) : tid;
		list[count].name[0] = '\0';
		if (names)
			thread_name(pid, tid, list[count].name, sizeof(list[count].name));
		count++;
	}
	closedir(dir);
	*ret = list;
	*ret_count = count;
	return 0;
}
