/* SPDX-License-Identifier: MIT */
/* Reading and parsing /proc/PID/maps. */
#include "capture/target/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A maps text of this size has about ten million mappings: more is not a process anyone can look at. */
#define PROC_TEXT_MAX (1ull << 30)

int silt_proc_read(const char *path, char **ret_text, size_t *ret_size, struct silt_error *err)
{
	size_t capacity = 65536, size = 0;
	char *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return silt_error_os(err, errno, "cannot open %s", path);
	text = malloc(capacity);
	while (text) {
		ssize_t n = read(fd, text + size, capacity - size - 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int e = errno;

			free(text);
			close(fd);
			return silt_error_os(err, e, "cannot read %s", path);
		}
		if (n == 0)
			break;
		size += (size_t)n;
		if (capacity - size < 4096) {
			char *more = capacity < PROC_TEXT_MAX ? realloc(text, capacity * 2) : NULL;

			if (!more)
				free(text);
			text = more;
			capacity *= 2;
		}
	}
	close(fd);
	if (!text)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory reading %s", path);
	text[size] = '\0';
	*ret_text = text;
	if (ret_size)
		*ret_size = size;
	return 0;
}

static const char *parse_hex(const char *p, uint64_t *ret)
{
	uint64_t v = 0;
	const char *start = p;

	for (;; p++) {
		unsigned c = (unsigned char)*p, digit;

		if (c - '0' < 10)
			digit = c - '0';
		else if ((c | 0x20) - 'a' < 6)
			digit = (c | 0x20) - 'a' + 10;
		else
			break;
		v = v << 4 | digit;
	}
	*ret = v;
	return p == start ? NULL : p;
}

/* The kernel writes a newline in a path as \012; nothing else is escaped. */
static void unescape(char *name)
{
	char *in = name, *out = name;

	while (*in) {
		if (!memcmp(in, "\\012", 4)) {
			*out++ = '\n';
			in += 4;
		} else {
			*out++ = *in++;
		}
	}
	*out = '\0';
}

/* "start-end perms offset major:minor inode   name" */
static bool parse_line(char *line, struct silt_region *r)
{
	const char *p;
	uint64_t major, minor;
	char *end;

	memset(r, 0, sizeof(*r));
	if (!(p = parse_hex(line, &r->start)) || *p++ != '-')
		return false;
	if (!(p = parse_hex(p, &r->end)) || *p++ != ' ' || r->end <= r->start)
		return false;
	if (strlen(p) < 5 || p[4] != ' ')
		return false;
	r->prot = (p[0] == 'r' ? PROT_READ : 0) | (p[1] == 'w' ? PROT_WRITE : 0) | (p[2] == 'x' ? PROT_EXEC : 0);
	r->shared = p[3] == 's';
	if (!(p = parse_hex(p + 5, &r->file_offset)) || *p++ != ' ')
		return false;
	if (!(p = parse_hex(p, &major)) || *p++ != ':' || !(p = parse_hex(p, &minor)) || *p++ != ' ')
		return false;
	r->dev_major = (uint32_t)major;
	r->dev_minor = (uint32_t)minor;
	r->inode = strtoull(p, &end, 10);
	while (*end == ' ')
		end++;
	if (*end) {
		unescape(end);
		r->name = end;
	}
	return true;
}

int silt_maps_parse(char *text, struct silt_maps *ret, struct silt_error *err)
{
	struct silt_maps m = { .text = text };
	uint64_t lines = 0;

	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	m.regions = calloc(lines + 1, sizeof(*m.regions));
	if (!m.regions || lines >= SILT_NONE) {
		silt_maps_deinit(&m);
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for a memory map of %llu regions",
				      (unsigned long long)lines);
	}
	for (char *line = text, *next; *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		if (m.count <= lines && parse_line(line, &m.regions[m.count]))
			m.count++;
	}
	*ret = m;
	return 0;
}

int silt_maps_read(pid_t pid, struct silt_maps *ret, struct silt_error *err)
{
	char path[64], *text;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	rc = silt_proc_read(path, &text, NULL, err);
	return rc ? rc : silt_maps_parse(text, ret, err);
}

void silt_maps_deinit(struct silt_maps *m)
{
	free(m->regions);
	free(m->text);
	memset(m, 0, sizeof(*m));
}
