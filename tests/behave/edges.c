/* SPDX-License-Identifier: MIT */
/* Programs at the edge: small stacks, small limits, children of all kinds, libraries that go. Arguments: which, and more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIVES_SIZE 8100 /* bytes of a child's first block, by which it is known */

extern char **environ;
static char self[4096];
static const char *how;
static void *volatile kept;

static void fail(const char *what)
{
	perror(what);
	_exit(99);
}

static __attribute__((noinline)) void keep(size_t n)
{
	kept = malloc(n);
	if (!kept)
		fail("malloc");
}

static int wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- a handler on a stack of eight kilobytes that starts programs ---- */

static void start_from_handler(int sig)
{
	char *args[] = {self, "leaf", "4711", NULL};
	pid_t pid;

	(void)sig;
	if (strcmp(how, "posix_spawn") == 0) {
		if (posix_spawn(&pid, self, NULL, NULL, args, environ) != 0)
			_exit(98);
		return;
	}
	pid = fork();
	if (pid != 0)
		return;
	if (strcmp(how, "execl") == 0)
		execl(self, self, "leaf", "4711", (char *)NULL);
	else if (strcmp(how, "execlp") == 0)
		execlp(self, self, "leaf", "4711", (char *)NULL);
	else if (strcmp(how, "execle") == 0)
		execle(self, self, "leaf", "4711", (char *)NULL, environ);
	else if (strcmp(how, "execv") == 0)
		execv(self, args);
	else if (strcmp(how, "execvp") == 0)
		execvp(self, args);
	else
		execve(self, args, environ);
	_exit(97);
}

/* The stack's lower neighbour may not be touched: what does not fit must show. */
static int small_stack(void)
{
	struct sigaction action = {.sa_handler = start_from_handler, .sa_flags = SA_ONSTACK};
	char *room = mmap(NULL, 8192 + 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack = {.ss_sp = room + 65536, .ss_size = 8192};
	int status = 0;

	if (room == MAP_FAILED || mprotect(stack.ss_sp, 8192, PROT_READ | PROT_WRITE) != 0)
		fail("mmap");
	keep(100);
	if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0)
		fail("sigaltstack");
	raise(SIGUSR1);
	if (wait(&status) < 0 || !WIFEXITED(status))
		return 96;
	return WEXITSTATUS(status);
}

/* ---- children ---- */

static int in_shell(int pipe_it)
{
	char command[5000], line[200];
	FILE *f;

	keep(100);
	snprintf(command, sizeof(command), "'%s' leaf 4711; '%s' environment", self, self);
	fflush(stdout);
	if (!pipe_it)
		return WEXITSTATUS(system(command));
	f = popen(command, "r");
	while (f && fgets(line, sizeof(line), f))
		printf("from the pipe: %s", line);
	return f ? WEXITSTATUS(pclose(f)) : 95;
}

/* Under a limit of address space the program itself must get what it asks for, and a child be tracked. */
static int limited(void)
{
	struct rlimit limit = {200 << 20, 200 << 20};
	pid_t pid;

	keep(100);
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		fail("setrlimit");
	kept = malloc(50 << 20);
	printf("50 MB: %s\n", kept ? "there" : "none");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		keep(4711);
		_exit(0);
	}
	return wait_for(pid);
}

/* A library that was on a stack is gone when the child, the first to allocate again, looks for it. */
static int closed_library(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW);
	void *(*allocate)(size_t) = handle ? (void *(*)(size_t))dlsym(handle, "plug_allocate") : NULL;
	pid_t pid;

	if (!allocate)
		fail(dlerror());
	free(allocate(50));
	kept = allocate(60);
	if (dlclose(handle) != 0)
		fail("dlclose");
	pid = fork();
	if (pid == 0) {
		keep(4711);
		_exit(0);
	}
	return wait_for(pid);
}

/* Many images, one after another, so that slots are used again; each child is a fork that allocated, then another program. */
static int many_images(int count)
{
	char *args[] = {self, "leaf", "4711", NULL};

	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			keep(99);
			execv(self, args);
			_exit(97);
		}
		if (wait_for(pid) != 0)
			return 94;
	}
	return 0;
}

/* More processes at one time than there are slots. */
static int many_processes(int count)
{
	int hold[2], ready[2], bad = 0;
	char byte;

	keep(100);
	if (pipe(hold) != 0 || pipe(ready) != 0)
		fail("pipe");
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (pid == 0) {
			close(hold[1]);
			keep(4711);
			free(kept);
			keep(4712);
			if (write(ready[1], "", 1) != 1 || read(hold[0], &byte, 1) != 0)
				_exit(93);
			_exit(0);
		}
	}
	for (int i = 0; i < count; i++)
		if (read(ready[0], &byte, 1) != 1)
			return 92;
	close(hold[1]);
	for (int i = 0, status; i < count; i++)
		bad += wait(&status) < 0 || status != 0;
	return bad ? 91 : 0;
}

/* A child that frees one of so many blocks and makes one, and then a raw clone that does. */
static int heirs(int count)
{
	void **all = calloc((size_t)count, sizeof(*all));
	pid_t pid;

	for (int i = 0; all && i < count; i++)
		all[i] = malloc(20);
	pid = fork();
	if (pid == 0) {
		free(all[0]);
		keep(30);
		_exit(0);
	}
	if (wait_for(pid) != 0)
		return 88;
	free(all[1]); /* nobody waits any more: silt's agent sees that now */
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		free(all[0]);
		keep(30);
		_exit(0);
	}
	return wait_for(pid);
}

/* Allocates and stays until the file is gone. */
static int hold(const char *path)
{
	FILE *f = fopen(path, "w");

	keep(4711);
	if (!f || fprintf(f, "%d\n", getpid()) < 0 || fclose(f) != 0)
		fail(path);
	while (access(path, F_OK) == 0)
		usleep(10000);
	return 0;
}

/* A leaf in a pid namespace of its own, whose parent there had no time to be tracked. */
static int nested(void)
{
	int status = 0;
	pid_t pid;

	keep(100);
	if (unshare(CLONE_NEWPID) != 0)
		fail("unshare");
	pid = fork();
	if (pid == 0) {
		pid = fork();
		if (pid == 0) {
			keep(4711);
			_exit(getpid() == 2 && getppid() == 1 ? 0 : 92);
		}
		_exit(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 93);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		fail("fork");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 94;
}

/* ---- threads, one after another, which the C library gives the same memory ---- */

static void *one_thread(void *arg)
{
	size_t n = (size_t)arg;

	for (size_t i = 0; i < n % 10; i++)
		keep(n);
	printf("%ld %zu\n", syscall(SYS_gettid), n);
	return (void *)pthread_self();
}

static int threads_in_turn(void)
{
	void *first = NULL, *place = NULL;
	static char line[4096]; /* so that the first to print allocates no buffer */
	pthread_t thread;
	int reused = 0;

	setvbuf(stdout, line, _IOLBF, sizeof(line));
	for (size_t i = 1; i <= 6; i++) {
		if (pthread_create(&thread, NULL, one_thread, (void *)(30000 + i)) != 0 || pthread_join(thread, &place) != 0)
			fail("pthread_create");
		reused += place == first;
		first = place;
	}
	return reused ? 0 : 90; /* else this shows nothing */
}

/* ---- libraries whose calls go past the hooks ---- */

static int deep_library(const char *path)
{
	void *h = strcmp(how, "dlmopen") == 0 ? dlmopen(LM_ID_NEWLM, path, RTLD_NOW) :
						dlopen(path, strcmp(how, "deepbind") == 0 ? RTLD_NOW | RTLD_DEEPBIND : RTLD_NOW);
	pid_t pid;

	if (!h)
		fail(dlerror());
	pid = fork();
	if (pid == 0) {
		keep(4711);
		_exit(0);
	}
	return wait_for(pid);
}

/* ---- more stacks than the database has room for ---- */

static size_t stacks_live, stacks_bytes;

static __attribute__((noinline)) void stack_end(unsigned path)
{
	keep(path % 100 + 1);
	if (path % 3 == 0) {
		free(kept);
		return;
	}
	stacks_live++;
	stacks_bytes += path % 100 + 1;
}

/* One of four functions a level, by two bits of the path. The sums keep the functions apart, and the calls no sibling calls. */
static unsigned stack_sums[4];
#define STACK_LEVEL(k)                                                              \
	static __attribute__((noinline)) void stack_level_##k(unsigned path, int depth) \
	{                                                                           \
		if (depth)                                                          \
			stack_levels[path >> 2 * (depth - 1) & 3](path, depth - 1); \
		else                                                                \
			stack_end(path);                                            \
		stack_sums[k] += path;                                              \
	}
static void (*const stack_levels[4])(unsigned, int);
STACK_LEVEL(0)
STACK_LEVEL(1)
STACK_LEVEL(2)
STACK_LEVEL(3)
static void (*const stack_levels[4])(unsigned, int) = { stack_level_0, stack_level_1, stack_level_2, stack_level_3 };

static int many_stacks(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		stack_level_0(i * 2654435761u, 12);
	printf("%zu %zu %u\n", stacks_live, stacks_bytes, n);
	return 0;
}

/* ---- the auxiliary vector, looked for behind the environment as Go's run-time does ---- */

static int vector(char **argv)
{
	char **p = argv;
	int entries = 0, found = 0;

	while (*p)
		p++;
	for (p++; *p; p++)
		entries++;
	for (const unsigned long *v = (const unsigned long *)(p + 1); v[0]; v += 2)
		found += (v[0] == AT_PAGESZ || v[0] == AT_PHDR || v[0] == AT_ENTRY || v[0] == AT_RANDOM) && v[1] == getauxval(v[0]);
	for (char **e = environ; *e; e++)
		printf("%s\n", *e);
	return found == 4 && entries > 0 ? 0 : 1;
}

/* More threads, one after the other, than are told apart; then a child, which has all of them from us. */
static void *short_life(void *arg)
{
	keep(10);
	free(kept);
	return arg;
}

static int many_lives(int count)
{
	pid_t pid;

	for (int i = 0; i < count; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, short_life, NULL) != 0)
			fail("pthread_create");
		pthread_join(thread, NULL);
	}
	pid = fork();
	if (pid == 0) {
		for (size_t i = 0; i < 10; i++)
			keep(LIVES_SIZE + i);
		_exit(7);
	}
	return wait_for(pid);
}

int main(int argc, char **argv)
{
	const char *which = argc > 1 ? argv[1] : "leaf";
	const char *arg = argc > 2 ? argv[2] : "100";

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		snprintf(self, sizeof(self), "%s", argv[0]);
	how = arg;
	if (strcmp(which, "leaf") == 0)
		keep((size_t)atoi(arg));
	else if (strcmp(which, "environment") == 0)
		printf("LD_PRELOAD=%s SILT_AGENT=%s\n", getenv("LD_PRELOAD"), getenv("SILT_AGENT"));
	else if (strcmp(which, "deep-library") == 0)
		return deep_library(argv[3]);
	else if (strcmp(which, "lives") == 0)
		return many_lives(atoi(arg));
	else if (strcmp(which, "stacks") == 0)
		return many_stacks((unsigned)atoi(arg));
	else if (strcmp(which, "vector") == 0)
		return vector(argv);
	else if (strcmp(which, "small-stack") == 0)
		return small_stack();
	else if (strcmp(which, "system") == 0 || strcmp(which, "popen") == 0)
		return in_shell(which[0] == 'p');
	else if (strcmp(which, "limited") == 0)
		return limited();
	else if (strcmp(which, "dlclose") == 0)
		return closed_library(arg);
	else if (strcmp(which, "images") == 0)
		return many_images(atoi(arg));
	else if (strcmp(which, "heirs") == 0)
		return heirs(atoi(arg));
	else if (strcmp(which, "processes") == 0)
		return many_processes(atoi(arg));
	else if (strcmp(which, "hold") == 0)
		return hold(arg);
	else if (strcmp(which, "nested") == 0)
		return nested();
	else if (strcmp(which, "threads") == 0)
		return threads_in_turn();
	else
		return 89;
	return 0;
}
