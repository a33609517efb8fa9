/* SPDX-License-Identifier: MIT */
/* Starts a program with a library preloaded in front of silt's agent: oracle_exec LIBRARY PROGRAM ARGS…
 * Done with the raw system call and the environment as the kernel has it, as the agent keeps its own variables out of the
 * program's sight and puts itself in front in execve(). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char text[1 << 20], preload[1 << 16];

int main(int argc, char **argv)
{
	char *env[4096];
	size_t n = 0, length = 0;
	int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
	ssize_t r;
	int agent = 0;

	if (argc < 3 || fd < 0)
		return 98;
	while ((r = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)r;
	for (char *p = text; p < text + length && n < 4094; p += strlen(p) + 1) {
		env[n] = p;
		if (strncmp(p, "LD_PRELOAD=", 11) == 0) {
			snprintf(preload, sizeof(preload), "LD_PRELOAD=%s:%s", argv[1], p + 11);
			env[n] = preload;
			agent = 1;
		}
		n++;
	}
	env[n] = NULL;
	if (!agent) {
		fprintf(stderr, "oracle_exec: no LD_PRELOAD: not started by silt run?\n");
		return 97;
	}
	syscall(SYS_execve, argv[2], argv + 2, env);
	perror(argv[2]);
	return 96;
}
