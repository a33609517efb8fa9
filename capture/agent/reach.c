/* SPDX-License-Identifier: MIT */
/* The way from a process to its run: see reach.h. */
#include "capture/agent/reach.h"

static uint64_t field(const char **p, unsigned base)
{
	uint64_t v = str_number(p, base);

	if (**p == ':')
		(*p)++;
	return v;
}

static char *number_put(char *out, uint64_t v)
{
	char digits[24];
	int n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*out++ = digits[--n];
	return out;
}

static char *text_put(char *out, const char *text)
{
	while (*text)
		*out++ = *text++;
	return out;
}

/* "PID:FD:INODE:RUNID" leads to /proc/PID/fd/FD. */
static bool memfd_open(int *ret_fd, uint64_t *ret_run_id)
{
	char path[64], *out = path;
	const char *p = agent_env_line + sizeof(SILT_DB_ENV);
	uint64_t pid = field(&p, 10), number = field(&p, 10), inode = field(&p, 10), found = 0;

	*ret_run_id = field(&p, 16);
	out = number_put(text_put(out, "/proc/"), pid);
	out = number_put(text_put(out, "/fd/"), number);
	*out = 0;
	*ret_fd = (int)sys_open(path, 02 | 02000000 /* O_RDWR | O_CLOEXEC */, 0);
	if (*ret_fd < 0)
		return false;
	if (!sys_failed(sys_fstat_inode(*ret_fd, &found)) && found == inode)
		return true;
	sys_close(*ret_fd);
	return false;
}

static void run_unmap(void)
{
	sys_munmap(agent_run, SILT_DB_RUN_SIZE);
	agent_run = NULL;
}

bool reach_map(int fd)
{
	long r = sys_mmap(NULL, SILT_DB_RUN_SIZE, 3, 1 /* MAP_SHARED */, fd, 0);

	if (sys_failed(r))
		return false;
	agent_run = (void *)r;
	sys_madvise(agent_run, SILT_DB_RUN_SIZE, 16 /* MADV_DONTDUMP */);
	if (agent_run->magic == SILT_DB_RUN_MAGIC && agent_run->version == SILT_DB_VERSION)
		return true;
	run_unmap();
	return false;
}

bool reach_open(int *ret_fd)
{
	uint64_t run_id;

	if (!memfd_open(ret_fd, &run_id))
		return false;
	if (reach_map(*ret_fd)) {
		if (agent_run->run_id == run_id)
			return true;
		run_unmap();
	}
	sys_close(*ret_fd);
	return false;
}

/* The process by the numbers of whoever mounted /proc; 0 without it. */
static uint32_t number_in_proc(void)
{
	char text[24];
	const char *p = text;
	long n = sys_readlink("/proc/self", text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return (uint32_t)str_number(&p, 10);
}

/* The number of the pid namespace that this process is in, the same whoever mounted /proc; 0 without /proc. */
static uint64_t own_namespace(void)
{
	static const char before[] = "pid:[";
	char text[40];
	const char *p = text + sizeof(before) - 1;
	long n = sys_readlink("/proc/self/ns/pid", text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return str_prefix(text, before) ? str_number(&p, 10) : 0;
}

static uint64_t home; /* the namespace of the last of this process and its ancestors that was numbered */
static bool foreign;  /* home is not the launcher's */

uint32_t reach_own_number(bool reached)
{
	uint32_t own = (uint32_t)sys_getpid(), seen;
	uint64_t here = own_namespace(), run_id;
	int fd;

	if (!reached) {
		/* Without /proc a child that cannot see its parent, at least, is known to have left its namespace. */
		if (!foreign && (here ? here == home : sys_getppid() != 0))
			return own;
		/* Only where /proc shows the launcher under the launcher's number, it shows this process under the number it has there. */
		if (!memfd_open(&fd, &run_id)) {
			foreign = true;
			return 0;
		}
		sys_close(fd);
	}
	seen = number_in_proc();
	foreign = seen != own;
	home = here;
	return seen;
}

void reach_know_home(void)
{
	home = own_namespace();
}

uint32_t reach_parent_number(void)
{
	return foreign ? 0 : (uint32_t)sys_getppid();
}

/* The launcher puts the agent first. */
static void own_path_cut(void)
{
	for (char *p = agent_own_path; *p; p++)
		if (*p == ':' || *p == ' ')
			*p = 0;
}

bool reach_environment(void)
{
	static char buffer[65536 + 1];
	int fd = (int)sys_open("/proc/self/environ", 02000000, 0);
	long have = 0, n;
	bool found = false;

	if (fd < 0)
		return false;
	do {
		long keep = 0, start = 0;

		n = sys_read(fd, buffer + have, sizeof(buffer) - 1 - (size_t)have);
		if (n > 0)
			have += n;
		buffer[have] = 0;
		for (long i = 0; i < have; i++) {
			const char *entry = buffer + start;

			if (buffer[i])
				continue;
			if (str_prefix(entry, SILT_DB_ENV "="))
				found = str_copy(agent_env_line, sizeof(agent_env_line), entry);
			else if (str_prefix(entry, "LD_PRELOAD="))
				str_copy(agent_own_path, sizeof(agent_own_path), entry + 11);
			start = i + 1;
		}
		for (long i = start; i < have; i++)
			buffer[keep++] = buffer[i];
		have = keep < (long)sizeof(buffer) - 1 ? keep : 0; /* an entry longer than the buffer is none of ours */
	} while (n > 0);
	sys_close(fd);
	own_path_cut();
	return found;
}

/* Where /proc does not tell, main's environment does: the programs that this one executes may have a /proc again. */
static void learn_environment(char **envp)
{
	for (char **e = envp; *e; e++) {
		if (str_prefix(*e, SILT_DB_ENV "="))
			str_copy(agent_env_line, sizeof(agent_env_line), *e);
		else if (str_prefix(*e, "LD_PRELOAD="))
			str_copy(agent_own_path, sizeof(agent_own_path), *e + 11);
	}
	own_path_cut();
}

/* Takes silt's option out of ASAN_OPTIONS=…, see SILT_DB_ASAN. False: nothing else is left of the entry. */
static bool asan_hide(char *e)
{
	uint64_t n = str_length(e), name = sizeof(SILT_DB_ASAN) - 1, own = sizeof(SILT_DB_ASAN_OPTION) - 1;

	if (n < name + own || !str_equal(e + n - own, SILT_DB_ASAN_OPTION))
		return true;
	if (n == name + own)
		return false;
	if (e[n - own - 1] == ':')
		e[n - own - 1] = 0;
	return true;
}

/* Takes silt's words out of an entry. False: nothing else is left of it. */
static bool entry_hide(char *e)
{
	uint64_t own = str_length(agent_own_path);

	if (str_prefix(e, SILT_DB_ENV "="))
		return false;
	if (str_prefix(e, SILT_DB_ASAN))
		return asan_hide(e);
	if (!own || !str_prefix(e, "LD_PRELOAD=") || !str_prefix(e + 11, agent_own_path))
		return true;
	if (e[11 + own] == ':' || e[11 + own] == ' ')
		memmove(e + 11, e + 12 + own, str_length(e + 12 + own) + 1);
	else if (!e[11 + own])
		return false;
	return true;
}

/* The program shall see its environment as it would be without silt; the exec hooks put the entries back.
 *
 * The entries that stay move up, not down: behind the last one lies the auxiliary vector, and who looks for it there (Go's run-time
 * does) must find it. Who counts from argv meets empty strings in front; all others start from `environ`. Where that is not set
 * yet, the entries move down. */
void reach_hide_environment(char **envp, char ***environ_place)
{
	char **end = envp, **out;
	bool ours = false;

	for (; *end; end++)
		ours |= str_prefix(*end, SILT_DB_ENV "=");
	if (!ours)
		return;
	if (!agent_own_path[0])
		learn_environment(envp);
	out = end;
	for (char **in = end; in > envp;)
		if (entry_hide(*--in))
			*--out = *in;
	if (environ_place) {
		*environ_place = out;
		while (out > envp)
			*--out = (char *)"";
	} else {
		memmove(envp, out, (size_t)(end - out + 1) * sizeof(*envp));
	}
}
