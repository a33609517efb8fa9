/* SPDX-License-Identifier: MIT */
/* Hooks of what changes the process: threads, sandboxes, exec. */
#include "capture/agent/forks.h"
#include "capture/agent/real.h"
#include "capture/agent/undo.h"

#include <stdarg.h>

#define PR_SET_SECCOMP 22

static void thread_born(void)
{
	thread_many();
	ATOMIC_ADD(&agent_hot.births, 1);
}

EXPORT int pthread_create(void *thread, const void *attr, void *start, void *arg)
{
	if (agent_ready())
		thread_born();
	return REAL(pthread_create)(thread, attr, start, arg);
}

EXPORT int thrd_create(void *thread, void *start, void *arg)
{
	if (agent_ready())
		thread_born();
	return REAL(thrd_create)(thread, start, arg);
}

/* A filter may be about to forbid system calls: take room for what is to come, then do without any. */
__attribute__((visibility("hidden"), used)) void agent_before_seccomp(void)
{
	if (!agent_ready())
		return;
	undo_end();
	db_reserve(2ull << 30);
	agent_no_syscalls = 1;
}

EXPORT int prctl(int option, ...)
{
	unsigned long a[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (option == PR_SET_SECCOMP && (a[0] == 1 || (a[0] == 2 && a[1]))) /* not a mere question whether it could be done */
		agent_before_seccomp();
	return REAL(prctl)(option, a[0], a[1], a[2], a[3]);
}

EXPORT int fork(void)
{
	return fork_with(REAL(fork), FRAME);
}

EXPORT int _Fork(void)
{
	return fork_with(REAL(_Fork), FRAME);
}

EXPORT int daemon(int nochdir, int noclose)
{
	fork_hidden_before(FRAME);
	return REAL(daemon)(nochdir, noclose);
}

EXPORT int forkpty(int *terminal, char *name, const void *attributes, const void *size)
{
	fork_hidden_before(FRAME);
	return REAL(forkpty)(terminal, name, attributes, size);
}

/* ---- exec: put the agent back into the environment ---- */

/* The program's environment with the agent's entries. Its room is on the hook's own stack, no more than is needed: crash
 * handlers call exec on alternate stacks of a few kilobytes. */
struct exec_env {
	char **envp;
	size_t mapped; /* bytes, when it was too much for a stack */
};
#define ROOM_ON_STACK 16384

static size_t env_count(char *const *envp)
{
	size_t n = 0;

	while (envp && envp[n])
		n++;
	return n;
}

static const char *env_value(char *const *envp, const char *name)
{
	for (; envp && *envp; envp++)
		if (str_prefix(*envp, name))
			return *envp + str_length(name);
	return NULL;
}

static const char *env_preload(char *const *envp)
{
	return env_value(envp, "LD_PRELOAD=");
}

/* False when the entry has it already, as a program that copied its first environment may. */
static bool needs_asan_option(const char *old)
{
	size_t n = old ? str_length(old) : 0, own = sizeof(SILT_DB_ASAN_OPTION) - 1;

	return n < own || !str_equal(old + n - own, SILT_DB_ASAN_OPTION);
}

/* Bytes for the new environment; 0: nothing is to be added. */
static size_t env_room(char *const *envp)
{
	const char *old, *asan;

	/* From a process that found no slot, too: what it executes may find one. A sandbox may kill for the attempt. A forked child that
	 * had no use for a slot needs none for this. */
	if (agent_asleep() ? agent_no_syscalls : !agent_ready() && agent_no_syscalls)
		return 0;
	if (!agent_env_line[0] || !agent_own_path[0])
		return 0;
	old = env_preload(envp);
	asan = env_value(envp, SILT_DB_ASAN);
	return (env_count(envp) + 4) * sizeof(char *) + str_length(agent_own_path) + (old ? str_length(old) : 0) +
	       (asan ? str_length(asan) : 0) + sizeof(SILT_DB_ASAN SILT_DB_ASAN_OPTION) + 32;
}

/* True when the entry already names the agent, as a program that copied its first environment may have it. */
static bool names_agent(const char *list)
{
	size_t own = str_length(agent_own_path);

	for (const char *p = list; *p; p++)
		if (str_prefix(p, agent_own_path) && (!p[own] || p[own] == ':' || p[own] == ' '))
			return true;
	return false;
}

static char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	return to;
}

static void env_build(struct exec_env *x, char *const *envp, void *room, size_t size)
{
	const char *old = env_preload(envp), *asan = env_value(envp, SILT_DB_ASAN);
	bool add_preload = !old || !names_agent(old), add_asan = needs_asan_option(asan);
	char **out, *text;

	x->envp = (char **)envp;
	x->mapped = 0;
	if (!size)
		return;
	if (!room) {
		long r = sys_mmap(NULL, size, 3, 0x22 /* PRIVATE | ANONYMOUS */, -1, 0);

		if (sys_failed(r))
			return;
		room = (void *)r;
		x->mapped = size;
	}
	out = room;
	text = (char *)room + (env_count(envp) + 4) * sizeof(char *);
	x->envp = out;
	for (; envp && *envp; envp++)
		if (!str_prefix(*envp, SILT_DB_ENV "=") && !(add_preload && str_prefix(*envp, "LD_PRELOAD=")) &&
		    !(add_asan && str_prefix(*envp, SILT_DB_ASAN)))
			*out++ = *envp;
	*out++ = agent_env_line;
	if (add_preload) {
		*out++ = text;
		text = append(append(text, "LD_PRELOAD="), agent_own_path);
		if (old && *old)
			text = append(append(text, ":"), old);
		*text++ = 0;
	}
	if (add_asan) {
		*out++ = text;
		text = append(text, SILT_DB_ASAN);
		if (asan)
			text = append(append(text, asan), ":");
		text = append(text, SILT_DB_ASAN_OPTION);
		*text = 0;
	}
	*out = NULL;
}

static int env_done(struct exec_env *x, int result)
{
	if (x->mapped)
		sys_munmap(x->envp, x->mapped);
	return result;
}

/* What tells a reader that this database shows the state before an exec. A child made by vfork shares it, and is not meant. */
static void note_exec(bool begins)
{
	struct silt_db *db = agent_hot.base ? agent_db() : NULL;

	if (db && db->own_pid && !agent_no_syscalls && db->own_pid == (uint32_t)sys_getpid())
		ATOMIC_RELEASE(&db->exec_pid, begins ? db->own_pid : 0);
}

/* A forked child that becomes another program, or fails to. */
static void exec_before(void)
{
	if (agent_asleep())
		undo_leave();
	else
		note_exec(true);
}

static int exec_failed(struct exec_env *x, int result)
{
	if (agent_asleep())
		undo_stay();
	else
		note_exec(false);
	return env_done(x, result);
}
#define EXEC(x, name, ...) (exec_before(), exec_failed(&(x), REAL(name)(__VA_ARGS__)))

/* Declares x, the environment for an image started from here. */
#define WITH_ENV(x, env)                                                                         \
	struct exec_env x;                                                                       \
	char *const *given_env = (env);                                                          \
	size_t room_size = env_room(given_env);                                                  \
	void *room = room_size && room_size <= ROOM_ON_STACK ? __builtin_alloca(room_size) : NULL; \
                                                                                                 \
	env_build(&x, given_env, room, room_size);

static char ***environment_place(void)
{
	(void)REAL(execve);
	return agent_real.environ_address;
}

static char **environment(void)
{
	return environment_place() ? *environment_place() : NULL;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	WITH_ENV(x, envp)
	return EXEC(x, execve, path, argv, x.envp);
}

EXPORT int execv(const char *path, char *const argv[])
{
	WITH_ENV(x, environment())
	return EXEC(x, execve, path, argv, x.envp);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	WITH_ENV(x, envp)
	return EXEC(x, execvpe, file, argv, x.envp);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	WITH_ENV(x, environment())
	return EXEC(x, execvpe, file, argv, x.envp);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	WITH_ENV(x, envp)
	return EXEC(x, fexecve, fd, argv, x.envp);
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	WITH_ENV(x, envp)
	return EXEC(x, execveat, dir, path, argv, x.envp, flags);
}

/* execl and its like: the arguments end with NULL, execle's environment follows. */
#define EXEC_LIST(name, take_env, call)                                                          \
	EXPORT int name(const char *path, const char *arg, ...)                                  \
	{                                                                                        \
		size_t n = 1;                                                                    \
		char **argv;                                                                     \
		va_list ap;                                                                      \
                                                                                                 \
		va_start(ap, arg);                                                               \
		if (arg)                                                                         \
			while (va_arg(ap, char *))                                               \
				n++;                                                             \
		va_end(ap);                                                                      \
		argv = __builtin_alloca((n + 1) * sizeof(*argv));                                \
		va_start(ap, arg);                                                               \
		argv[0] = (char *)arg;                                                           \
		for (size_t i = 1; arg && i <= n; i++)                                           \
			argv[i] = va_arg(ap, char *);                                            \
		char *const *env = (take_env);                                                   \
		va_end(ap);                                                                      \
		WITH_ENV(x, env)                                                                 \
		return EXEC(x, call, path, argv, x.envp);                             \
	}
EXEC_LIST(execl, environment(), execve)
EXEC_LIST(execlp, environment(), execvpe)
EXEC_LIST(execle, va_arg(ap, char *const *), execve)

EXPORT int posix_spawn(void *pid, const char *path, const void *actions, const void *attr, char *const argv[],
		       char *const envp[])
{
	WITH_ENV(x, envp)
	return env_done(&x, REAL(posix_spawn)(pid, path, actions, attr, argv, x.envp));
}

EXPORT int posix_spawnp(void *pid, const char *file, const void *actions, const void *attr, char *const argv[],
			char *const envp[])
{
	WITH_ENV(x, envp)
	return env_done(&x, REAL(posix_spawnp)(pid, file, actions, attr, argv, x.envp));
}

/* system and popen start a shell with `environ` from inside libc, past the hooks above: for that moment it has the entries. Where
 * the program changed it meanwhile, it is left as it is. */
static void environ_leave(struct exec_env *x, char **was)
{
	char ***place = environment_place();

	if (place && *place == x->envp)
		*place = was;
	env_done(x, 0);
}

EXPORT int system(const char *command)
{
	char **was = environment();
	int r;

	if (!command || !was)
		return REAL(system)(command);
	{
		WITH_ENV(x, was)
		*environment_place() = x.envp;
		r = REAL(system)(command);
		environ_leave(&x, was);
	}
	return r;
}

EXPORT void *popen(const char *command, const char *mode)
{
	char **was = environment();
	void *r;

	if (!was)
		return REAL(popen)(command, mode);
	{
		WITH_ENV(x, was)
		*environment_place() = x.envp;
		r = REAL(popen)(command, mode);
		environ_leave(&x, was);
	}
	return r;
}
