/* SPDX-License-Identifier: MIT */
/* Hooks of what changes the process: threads, sandboxes, exec. */
#include "capture/agent/real.h"

#include <stdarg.h>

#define PR_SET_SECCOMP 22
#define EXEC_ARGS_MAX 4096

EXPORT int pthread_create(void *thread, const void *attr, void *start, void *arg)
{
	if (agent_ready())
		thread_many();
	return REAL(pthread_create)(thread, attr, start, arg);
}

EXPORT int thrd_create(void *thread, void *start, void *arg)
{
	if (agent_ready())
		thread_many();
	return REAL(thrd_create)(thread, start, arg);
}

/* A filter may be about to forbid system calls: take room for what is to come, then do without any. */
__attribute__((visibility("hidden"), used)) void agent_before_seccomp(void)
{
	if (!agent_ready())
		return;
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
	if (option == PR_SET_SECCOMP)
		agent_before_seccomp();
	return REAL(prctl)(option, a[0], a[1], a[2], a[3]);
}

/* ---- exec: put the agent back into the environment ---- */

#define ENV_SMALL 1024

struct exec_env {
	char **envp;
	char *preload;
	size_t mapped;
	char *small[ENV_SMALL];
	char text[2048];
};

static size_t env_count(char *const *envp)
{
	size_t n = 0;

	while (envp && envp[n])
		n++;
	return n;
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

/* Builds envp with the agent's two entries. Falls back to the program's own when it is absurdly large. */
static void env_build(struct exec_env *x, char *const *envp)
{
	size_t n = env_count(envp), out = 0;
	const char *old = NULL;
	char *p = x->text, *end = x->text + sizeof(x->text) - 1;

	x->envp = (char **)envp;
	x->mapped = 0;
	if (!agent_ready() || !agent_env_line[0] || !agent_own_path[0])
		return;
	for (size_t i = 0; i < n; i++)
		if (str_prefix(envp[i], "LD_PRELOAD="))
			old = envp[i] + 11;
	if (old && names_agent(old)) {
		x->preload = NULL;
	} else {
		const char *parts[] = { "LD_PRELOAD=", agent_own_path, old && *old ? ":" : "", old ? old : "" };

		x->preload = x->text;
		for (int k = 0; k < 4; k++)
			for (const char *q = parts[k]; *q; q++)
				if (p < end)
					*p++ = *q;
		if (p == end)
			return;
		*p = 0;
	}
	if (n + 3 > ENV_SMALL) {
		size_t bytes = ((n + 3) * sizeof(char *) + 4095) & ~(size_t)4095;
		long r = sys_mmap(NULL, bytes, 3, 0x22, -1, 0);

		if (sys_failed(r))
			return;
		x->envp = (char **)r;
		x->mapped = bytes;
	} else {
		x->envp = x->small;
	}
	for (size_t i = 0; i < n; i++)
		if (!str_prefix(envp[i], SILT_DB_ENV "=") && !(x->preload && str_prefix(envp[i], "LD_PRELOAD=")))
			x->envp[out++] = envp[i];
	x->envp[out++] = agent_env_line;
	if (x->preload)
		x->envp[out++] = x->preload;
	x->envp[out] = NULL;
}

static int env_done(struct exec_env *x, int result)
{
	if (x->mapped)
		sys_munmap(x->envp, x->mapped);
	return result;
}

static char **environment(void)
{
	(void)REAL(execve);
	return agent_real.environ_address ? *(char ***)agent_real.environ_address : NULL;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	struct exec_env x;

	env_build(&x, envp);
	return env_done(&x, REAL(execve)(path, argv, x.envp));
}

EXPORT int execv(const char *path, char *const argv[])
{
	struct exec_env x;

	env_build(&x, environment());
	return env_done(&x, REAL(execve)(path, argv, x.envp));
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	struct exec_env x;

	env_build(&x, envp);
	return env_done(&x, REAL(execvpe)(file, argv, x.envp));
}

EXPORT int execvp(const char *file, char *const argv[])
{
	struct exec_env x;

	env_build(&x, environment());
	return env_done(&x, REAL(execvpe)(file, argv, x.envp));
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	struct exec_env x;

	env_build(&x, envp);
	return env_done(&x, REAL(fexecve)(fd, argv, x.envp));
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	struct exec_env x;

	env_build(&x, envp);
	return env_done(&x, REAL(execveat)(dir, path, argv, x.envp, flags));
}

/* The arguments of execl and its like, up to the closing NULL; what follows is left in ap. False: too many. */
static bool list_collect(char **argv, const char *first, va_list *ap)
{
	size_t n = 0;

	argv[n++] = (char *)first;
	while (argv[n - 1]) {
		if (n == EXEC_ARGS_MAX)
			return false;
		argv[n++] = va_arg(*ap, char *);
	}
	return true;
}

#define EXEC_LIST(name, take_env, call)                                             \
	EXPORT int name(const char *path, const char *arg, ...)                     \
	{                                                                           \
		char *argv[EXEC_ARGS_MAX];                                          \
		struct exec_env x;                                                  \
		va_list ap;                                                         \
		bool ok;                                                            \
                                                                                    \
		va_start(ap, arg);                                                  \
		ok = list_collect(argv, arg, &ap);                                  \
		env_build(&x, take_env);                                            \
		va_end(ap);                                                         \
		return env_done(&x, ok ? REAL(call)(path, argv, x.envp) : -1);      \
	}
EXEC_LIST(execl, environment(), execve)
EXEC_LIST(execlp, environment(), execvpe)
EXEC_LIST(execle, va_arg(ap, char *const *), execve)

EXPORT int posix_spawn(void *pid, const char *path, const void *actions, const void *attr, char *const argv[],
		       char *const envp[])
{
	struct exec_env x;

	env_build(&x, envp);
	return env_done(&x, REAL(posix_spawn)(pid, path, actions, attr, argv, x.envp));
}

EXPORT int posix_spawnp(void *pid, const char *file, const void *actions, const void *attr, char *const argv[],
			char *const envp[])
{
	struct exec_env x;

	env_build(&x, envp);
	return env_done(&x, REAL(posix_spawnp)(pid, file, actions, attr, argv, x.envp));
}
