/* SPDX-License-Identifier: MIT */
/* Bytes of a dump: from a regular file by offset, from a pipe front to back, or from memory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "formats/dump_scan.h"

int dump_source_open(struct dump_source *src, const char *path, uint64_t in_memory, struct silt_error *err)
{
	struct stat st;
	size_t size;
	off_t at;
	int ret;

	memset(src, 0, sizeof(*src));
	src->name = path;
	src->fd = STDIN_FILENO;
	if (strcmp(path, "-")) {
		src->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (src->fd < 0)
			return silt_error_os(err, errno, "%s: cannot open", path);
		src->close_fd = true;
	} else {
		src->name = "standard input";
	}
	if (fstat(src->fd, &st)) {
		ret = silt_error_os(err, errno, "%s: cannot read", src->name);
		dump_source_close(src);
		return ret;
	}
	if (S_ISDIR(st.st_mode)) {
		dump_source_close(src);
		return silt_error_os(err, EISDIR, "%s: cannot read a dump", path);
	}
	at = lseek(src->fd, 0, SEEK_CUR);
	if (S_ISREG(st.st_mode) && at >= 0) {
		src->seekable = true;
		src->base = (uint64_t)at;
		src->size = st.st_size > at ? (uint64_t)(st.st_size - at) : 0;
		return 0;
	}
	if (!in_memory)
		return 0;
	ret = silt_read_all_fd(src->fd, src->name, in_memory, &src->mem, &size, err);
	if (ret) {
		dump_source_close(src);
		return ret;
	}
	src->size = size;
	return 0;
}

void dump_source_close(struct dump_source *src)
{
	if (src->close_fd)
		close(src->fd);
	src->close_fd = false;
	free(src->mem);
	src->mem = NULL;
}

/* Reads on from where a pipe stands; bytes before offset are dropped. */
static int pipe_get(struct dump_source *src, uint64_t offset, void *out, size_t size, size_t *ret_got,
		    struct silt_error *err)
{
	char drop[16384];
	ssize_t n;

	while (src->size < offset && !src->at_end) {
		size_t step = offset - src->size < sizeof(drop) ? (size_t)(offset - src->size) : sizeof(drop);

		n = silt_read_full(src->fd, drop, step);
		if (n < 0)
			return silt_error_os(err, errno, "%s: cannot read", src->name);
		src->size += (uint64_t)n;
		src->at_end = (size_t)n < step;
	}
	*ret_got = 0;
	if (src->at_end)
		return 0;
	n = silt_read_full(src->fd, out, size);
	if (n < 0)
		return silt_error_os(err, errno, "%s: cannot read", src->name);
	src->size += (uint64_t)n;
	src->at_end = (size_t)n < size;
	*ret_got = (size_t)n;
	return 0;
}

int dump_source_get(struct dump_source *src, uint64_t offset, void *out, size_t size, size_t *ret_got,
		    struct silt_error *err)
{
	ssize_t n;

	if (!src->mem && !src->seekable)
		return pipe_get(src, offset, out, size, ret_got, err);
	if (offset >= src->size)
		size = 0;
	else if (size > src->size - offset)
		size = (size_t)(src->size - offset);
	*ret_got = size;
	if (!size)
		return 0;
	if (src->mem) {
		memcpy(out, src->mem + offset, size);
		return 0;
	}
	n = silt_pread_full(src->fd, out, size, src->base + offset);
	if (n < 0)
		return silt_error_os(err, errno, "%s: cannot read", src->name);
	*ret_got = (size_t)n; /* less than asked for: the file was cut while it was read */
	return 0;
}

int dump_source_bad(const struct dump_source *src, uint64_t offset, struct silt_error *err, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	silt_error_set(err, SILT_E_BAD_DATA, "%s: +0x%" PRIx64 ": %s", src->name, offset, text);
	if (err)
		err->offset = offset;
	return SILT_E_BAD_DATA;
}
