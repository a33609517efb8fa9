/* SPDX-License-Identifier: MIT */
/* Files of processes that are still there: deleted and replaced programs, other roots, the vdso; and paths below roots. */
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "symbols/elf_reader.h"
#include "symbols/links.h"
#include "symbols/rooted.h"
#include "symbols/symbols.h"

static char dir[64];

__attribute__((noinline)) static int landmark(int x)
{
	return x * 7 + getpid();
}

/* Where landmark is in the file: the address minus what the first mapping of this program is moved by. */
static uint64_t landmark_offset(void)
{
	extern const char __executable_start;

	return (uint64_t)(uintptr_t)landmark - (uint64_t)(uintptr_t)&__executable_start;
}

static void copy_self(const char *to)
{
	uint8_t *bytes;
	size_t size;
	int fd;

	assert_int_equal(silt_read_file("/proc/self/exe", 1 << 30, &bytes, &size, NULL), SILT_OK);
	fd = open(to, O_WRONLY | O_CREAT | O_EXCL, 0700);
	assert_true(fd >= 0);
	assert_int_equal(silt_write_all(fd, to, bytes, size, NULL), SILT_OK);
	close(fd);
	free(bytes);
}

/* The name silt finds for landmark in a module of that path and this program's build-id; "" for none. */
static const char *ask(const char *path, unsigned pid, int64_t captured, bool with_id, char name[256])
{
	struct silt_symbols *sy = silt_symbols_create(NULL);
	struct silt_elf_info self;
	const struct silt_symbol_frame *frames;
	size_t count;
	int m;

	assert_int_equal(silt_elf_identify("/proc/self/exe", &self, NULL), SILT_OK);
	assert_true(self.build_id_len);
	m = silt_symbols_add_module(sy, path, self.build_id, with_id ? self.build_id_len : 0, NULL);
	if (pid || captured)
		assert_int_equal(silt_symbols_add_process(sy, pid, captured, NULL), SILT_OK);
	assert_int_equal(silt_symbols_request(sy, m, landmark_offset(), true, NULL), SILT_OK);
	assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
	frames = silt_symbols_lookup(sy, m, landmark_offset(), true, &count);
	snprintf(name, 256, "%s", count && frames[count - 1].function ? frames[count - 1].function : "");
	silt_symbols_destroy(sy);
	return name;
}

/* A child that sleeps, in another root if one is given, and maps file. */
static pid_t sleeper(const char *root, const char *file)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd = open(file, O_RDONLY);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
			_exit(1);
		if (root && (chroot(root) || chdir("/")))
			_exit(2);
		if (write(ready[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(3);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void finds_deleted_files_in_mappings(void **state)
{
	char path[PATH_MAX], name[256], maps[64];
	pid_t pid;

	(void)state;
	snprintf(path, sizeof(path), "%s/new\nline", dir);
	copy_self(path);
	pid = sleeper(NULL, path);
	assert_true(pid > 0);
	assert_int_equal(unlink(path), 0);
	snprintf(maps, sizeof(maps), "/proc/%d/map_files", pid);
	if (geteuid() != 0 || access(maps, R_OK)) {
		print_message("skip: /proc/PID/map_files needs more rights\n");
		end(pid);
		skip();
	}
	assert_string_equal(ask(path, (unsigned)pid, 0, true, name), "landmark");
	assert_string_equal(ask(path, 0, 0, true, name), "");
	/* Without a build-id nothing tells that the process is the same. */
	assert_string_equal(ask(path, (unsigned)pid, 0, false, name), "");
	end(pid);
}

static void finds_files_in_another_root(void **state)
{
	char root[PATH_MAX], path[PATH_MAX], inside[PATH_MAX], name[256];
	pid_t pid;

	(void)state;
	snprintf(root, sizeof(root), "%s/root", dir);
	snprintf(path, sizeof(path), "%s/root/real", dir);
	assert_int_equal(mkdir(root, 0700), 0);
	copy_self(path);
	snprintf(inside, sizeof(inside), "%s/root/linked", dir);
	assert_int_equal(symlink("/real", inside), 0);
	pid = sleeper(root, "/proc/self/exe");
	if (pid < 0) {
		print_message("skip: chroot needs more rights\n");
		skip();
	}
	assert_string_equal(ask("/linked", (unsigned)pid, 0, true, name), "landmark");
	assert_string_equal(ask("/linked", 0, 0, true, name), "");
	assert_string_equal(ask("/linked", (unsigned)pid, 0, false, name), "");
	end(pid);
	assert_string_equal(ask("/linked", (unsigned)pid, 0, true, name), "");
}

static void believes_no_file_newer_than_the_capture(void **state)
{
	char path[PATH_MAX], name[256];
	struct stat st;
	int64_t changed;

	(void)state;
	snprintf(path, sizeof(path), "%s/program", dir);
	copy_self(path);
	assert_int_equal(stat(path, &st), 0);
	changed = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
	assert_string_equal(ask(path, 0, changed - 1, false, name), "");
	assert_string_equal(ask(path, 0, changed, false, name), "landmark");
	assert_string_equal(ask(path, 0, 0, false, name), "landmark");
	/* With a build-id the time does not matter. */
	assert_string_equal(ask(path, 0, 1, true, name), "landmark");
}

static void names_the_vdso_of_the_running_kernel(void **state)
{
	const uint8_t *image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	struct silt_elf_info info;
	const struct silt_symbol_frame *frames;
	bool found = false;
	size_t count;

	(void)state;
	if (!image || silt_elf_inspect_memory(image, 4096, "vdso", &info, NULL) || !info.build_id_len) {
		print_message("skip: no vdso, or one without build-id\n");
		skip();
	}
	for (int right = 1; right >= 0; right--) {
		struct silt_symbols *sy = silt_symbols_create(NULL);
		int m;

		info.build_id[0] ^= !right;
		m = silt_symbols_add_module(sy, "[vdso]", info.build_id, info.build_id_len, NULL);
		for (uint64_t at = 0; at < 8192; at += 16)
			assert_int_equal(silt_symbols_request(sy, m, at, true, NULL), SILT_OK);
		assert_int_equal(silt_symbols_resolve(sy, NULL), SILT_OK);
		for (uint64_t at = 0; at < 8192; at += 16) {
			frames = silt_symbols_lookup(sy, m, at, true, &count);
			found |= right && count && frames[0].function && strstr(frames[0].function, "clock_gettime");
			if (!right)
				assert_int_equal(count, 0);
		}
		assert_true(found);
		assert_int_equal(silt_symbols_warning_count(sy), 0);
		silt_symbols_destroy(sy);
	}
}

static void resolves_links_inside_a_root(void **state)
{
	char root[80], path[PATH_MAX], want[PATH_MAX], got[PATH_MAX];
	static const char *const links[][2] = {{"abs", "/target"}, {"up", "../../../target"}, {"loop", "/loop"}, {"to-abs", "abs"}};
	static const char *const same[] = {"/abs", "abs", "/up", "/to-abs", "/../abs", "/./abs/", "/dir/../abs", "//target"};

	(void)state;
	snprintf(root, sizeof(root), "%s/links", dir);
	assert_int_equal(mkdir(root, 0700), 0);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		snprintf(want, sizeof(want), "%s/%s", root, links[i][0]);
		assert_int_equal(symlink(links[i][1], want), 0);
	}
	snprintf(want, sizeof(want), "%s/target", root);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_true(silt_rooted_path(root, same[i], got));
		assert_string_equal(got, want);
	}
	assert_false(silt_rooted_path(root, "/loop", got));
	assert_true(silt_rooted_path("", "/any/../thing", got));
	assert_string_equal(got, "/any/../thing");
	assert_true(silt_rooted_path("/", "/nothing/here", got));
	assert_string_equal(got, "/nothing/here");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_false(silt_rooted_path("/tmp", path, got));
}

static void reads_links_between_files(void **state)
{
	static const uint8_t link[] = {'a', '.', 'd', 0, 4, 3, 2, 1}, alt[] = {'/', 'x', 0, 0xab, 0xcd},
			     sup[] = {5, 0, 0, 'n', 0, 2, 0xab, 0xcd}, own[] = {5, 0, 1, 0, 2, 0xab, 0xcd};
	struct silt_debuglink d;
	struct silt_altlink a;
	bool is_alt;

	(void)state;
	assert_true(silt_debuglink_parse((struct silt_bytes){link, sizeof(link)}, &d));
	assert_string_equal(d.name, "a.d");
	assert_int_equal(d.crc, 0x01020304);
	for (size_t cut = 0; cut < sizeof(link); cut++)
		assert_false(silt_debuglink_parse((struct silt_bytes){link, cut}, &d));
	assert_true(silt_altlink_parse((struct silt_bytes){alt, sizeof(alt)}, &a));
	assert_string_equal(a.name, "/x");
	assert_int_equal(a.id_len, 2);
	for (size_t cut = 0; cut < sizeof(alt); cut++)
		assert_false(silt_altlink_parse((struct silt_bytes){alt, cut}, &a));
	assert_true(silt_debug_sup_parse((struct silt_bytes){sup, sizeof(sup)}, &a, &is_alt));
	assert_false(is_alt);
	assert_string_equal(a.name, "n");
	assert_memory_equal(a.id, "\xab\xcd", 2);
	for (size_t cut = 0; cut < sizeof(sup); cut++)
		assert_false(silt_debug_sup_parse((struct silt_bytes){sup, cut}, &a, &is_alt));
	assert_true(silt_debug_sup_parse((struct silt_bytes){own, sizeof(own)}, &a, &is_alt));
	assert_true(is_alt);
}

static int make_directory(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/silt-files-XXXXXX");
	return !mkdtemp(dir);
}

static int remove_directory(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_deleted_files_in_mappings),
		cmocka_unit_test(finds_files_in_another_root),
		cmocka_unit_test(believes_no_file_newer_than_the_capture),
		cmocka_unit_test(names_the_vdso_of_the_running_kernel),
		cmocka_unit_test(resolves_links_inside_a_root),
		cmocka_unit_test(reads_links_between_files),
	};

	return landmark(1) < 0 || cmocka_run_group_tests(tests, make_directory, remove_directory);
}
