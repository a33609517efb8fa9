/* SPDX-License-Identifier: MIT */
/* Finding and checking the program that `silt run` is to start. */
#include "capture/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/types.h"
#include "capture/target/elf_view.h"
#include "capture/library_search.h"
#include "symbols/elf_reader.h"

#define AGENT_NAME "libsilt-agent"
/* Libraries looked at: real programs stay below a few hundred. */
#define CLOSURE_MAX 512
/* execve follows scripts whose interpreter is a script four times. */
#define SCRIPT_DEPTH 4
#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#else
#define OUR_MACHINE EM_AARCH64
#endif

static const char *const variants[] = { "jemalloc", "tcmalloc", "mimalloc" };

static bool is_program(const char *path, int *ret_errno)
{
	struct stat st;

	if (stat(path, &st)) {
		*ret_errno = errno == EACCES ? EACCES : *ret_errno;
		return false;
	}
	if (S_ISREG(st.st_mode) && !access(path, X_OK))
		return true;
	*ret_errno = EACCES;
	return false;
}

int silt_program_find(const char *name, char *ret_path, size_t size, struct silt_error *err)
{
	const char *path = getenv("PATH");
	int why = ENOENT, rc;

	if (strchr(name, '/')) {
		if (snprintf(ret_path, size, "%s", name) < (int)size && is_program(name, &why))
			return 0;
		path = "";
	} else if (!path) {
		path = "/bin:/usr/bin"; /* what execvp takes */
	}
	while (*path && *name) {
		size_t n = strcspn(path, ":");
		int written = snprintf(ret_path, size, "%.*s%s%s", (int)n, path, n ? "/" : "", name);

		if (written > 0 && (size_t)written < size && is_program(ret_path, &why))
			return 0;
		path += n + !!path[n];
	}
	rc = silt_error_set(err, SILT_E_NOT_FOUND, "cannot run %s: %s", name,
			    why == EACCES ? "permission denied" : "no such program");
	if (err)
		err->errnum = why;
	return rc;
}

/* "#! interpreter argument": the interpreter, or false when it is no script. */
static bool script_interpreter(const char *path, char *ret, size_t size)
{
	char head[258];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof(head) - 1);
	size_t start;

	if (fd >= 0)
		close(fd);
	if (n < 3 || head[0] != '#' || head[1] != '!')
		return false;
	head[n] = '\0';
	start = 2 + strspn(head + 2, " \t");
	snprintf(ret, size, "%.*s", (int)strcspn(head + start, " \t\n"), head + start);
	return ret[0] != '\0';
}

static bool is_elf(const char *path)
{
	char magic[SELFMAG];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bool yes = fd >= 0 && read(fd, magic, SELFMAG) == SELFMAG && !memcmp(magic, ELFMAG, SELFMAG);

	if (fd >= 0)
		close(fd);
	return yes;
}

static const char *variant_of(const char *name)
{
	const char *base = strrchr(name, '/');

	base = base ? base + 1 : name;
	for (size_t i = 0; i < SILT_ARRAY_LEN(variants); i++) {
		size_t n = strlen(variants[i]);

		if (!strncmp(base, "lib", 3) && !strncmp(base + 3, variants[i], n))
			return variants[i];
	}
	return NULL;
}

struct closure {
	char (*names)[64];
	size_t count;
	const char *variant;
};

static void closure_add(struct closure *c, const char *name)
{
	if (!c->variant)
		c->variant = variant_of(name);
	for (size_t i = 0; i < c->count; i++)
		if (!strcmp(c->names[i], name))
			return;
	if (c->count < CLOSURE_MAX)
		snprintf(c->names[c->count++], sizeof(c->names[0]), "%s", name);
}

/* Breadth first over DT_NEEDED, as the loader does it. A library that is not found is the loader's to complain about. */
static const char *closure_variant(const struct silt_elf_info *program, const char *path)
{
	struct closure c = { .names = calloc(CLOSURE_MAX, sizeof(*c.names)) };
	struct silt_elf_info *info = malloc(sizeof(*info));
	struct silt_library_search search;
	char *dir = strdup(path), file[4200];

	if (c.names && info && dir) {
		silt_library_search_init(&search, getenv("LD_LIBRARY_PATH"), dirname(dir));
		for (size_t i = 0; i < program->needed_count; i++)
			closure_add(&c, program->needed[i]);
		for (size_t i = 0; i < c.count && !c.variant; i++) {
			if (!silt_library_search_find(&search, c.names[i], file, sizeof(file)) ||
			    silt_elf_inspect(file, info, NULL))
				continue;
			for (size_t j = 0; j < info->needed_count; j++)
				closure_add(&c, info->needed[j]);
		}
		silt_library_search_deinit(&search);
	}
	free(dir);
	free(info);
	free(c.names);
	return c.variant;
}

static const char *preload_variant(const char *preload)
{
	while (preload && *preload) {
		size_t n = strcspn(preload, " :");
		char name[4200];
		const char *variant;

		snprintf(name, sizeof(name), "%.*s", (int)n, preload);
		variant = variant_of(name);
		if (variant)
			return variant;
		preload += n + !!preload[n];
	}
	return NULL;
}

static int check_elf(const char *path, const struct silt_elf_info *info, struct silt_error *err)
{
	if (info->elf_class != 64 || info->machine != OUR_MACHINE)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "%s is a %u-bit program for another architecture (ELF machine %u): this silt tracks "
				      "64-bit programs of its own architecture only",
				      path, info->elf_class, info->machine);
	if (!info->has_interp)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "%s is statically linked, so nothing can be loaded into it at its start: link it "
				      "dynamically to track it, or start it and use `silt attach`",
				      path);
	if (strstr(info->interp, "/ld-musl"))
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "%s uses musl, and silt run tracks programs on glibc only: start it and use `silt attach`", path);
	return 0;
}

static bool defines(const struct silt_elf_table *t, const char *name)
{
	struct silt_elf_symbol symbol;

	return silt_elf_view_find(t, name, &symbol);
}

/* Sanitizers bring an allocator of their own, which passes the calls on. */
static bool is_sanitized(const struct silt_elf_table *t)
{
	static const char *const names[] = { "__asan_init", "__hwasan_init", "__lsan_init", "__msan_init", "__tsan_init" };

	for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++)
		if (defines(t, names[i]))
			return true;
	return false;
}

/* The kernel gives no rights to a set-user-ID program that is traced. */
static bool is_set_id(const char *path)
{
	struct stat st;

	return !stat(path, &st) && (st.st_mode & (S_ISUID | S_ISGID)) && geteuid() != 0;
}

static int choose_way(const char *path, const struct silt_elf_info *info, enum silt_program_way *ret, struct silt_error *err)
{
	struct silt_elf_view view;
	int fd, rc;

	*ret = SILT_PROGRAM_LOADED;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return silt_error_os(err, errno, "cannot open %s", path);
	rc = silt_elf_view_open(fd, path, &view, err);
	close(fd);
	if (rc)
		return rc;
	if (silt_elf_view_private_malloc(&view))
		*ret = SILT_PROGRAM_PRIVATE;
	if (info->exports_malloc && !is_set_id(path) && defines(&view.dynamic, "malloc") && defines(&view.dynamic, "free") &&
	    !is_sanitized(&view.dynamic))
		*ret = SILT_PROGRAM_HOOKED;
	silt_elf_view_close(&view);
	return 0;
}

int silt_program_check(const char *path, const char *preload, char *ret_variant, size_t size, enum silt_program_way *ret_way,
		       struct silt_error *err)
{
	struct silt_elf_info *info;
	char program[4200];
	const char *variant;
	int rc;

	ret_variant[0] = '\0';
	*ret_way = SILT_PROGRAM_LOADED;
	snprintf(program, sizeof(program), "%s", path);
	for (int i = 0; i < SCRIPT_DEPTH; i++)
		if (!script_interpreter(program, program, sizeof(program)))
			break;
	if (!is_elf(program))
		return 0;
	info = malloc(sizeof(*info));
	if (!info)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	rc = silt_elf_inspect(program, info, err);
	if (!rc)
		rc = check_elf(program, info, err);
	if (!rc)
		rc = choose_way(program, info, ret_way, err);
	if (!rc) {
		variant = preload_variant(preload);
		if (!variant)
			variant = closure_variant(info, program);
		snprintf(ret_variant, size, "%s", variant ? variant : "");
	}
	free(info);
	return rc;
}

int silt_agent_find(const char *variant, char *ret_path, size_t size, struct silt_error *err)
{
	static const char *const places[] = { "", "/../lib/silt" };
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return silt_error_os(err, errno, "cannot read /proc/self/exe");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	for (int special = variant && *variant ? 1 : 0; special >= 0; special--) {
		for (size_t i = 0; i < SILT_ARRAY_LEN(places); i++) {
			int len = snprintf(ret_path, size, "%s%s/" AGENT_NAME "%s%s.so", self, places[i],
					   special ? "-" : "", special ? variant : "");

			if (len > 0 && (size_t)len < size && !access(ret_path, R_OK))
				return 0;
		}
	}
	return silt_error_set(err, SILT_E_NOT_FOUND,
			      "the agent " AGENT_NAME ".so is neither in %s nor in %s/../lib/silt: silt is not installed "
			      "completely",
			      self, self);
}
