/* SPDX-License-Identifier: MIT */
/* Errors: see error.h. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LONG_TEXT = 8192 }; /* two paths of the longest kind and some words */

void silt_error_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = '?';
}

/* A text that is too long loses its middle: what failed stands at its start, why at its end. */
static void put_message(struct silt_error *err, char *text)
{
	static const char gap[] = " [...] ";
	size_t n = strlen(text), half = (sizeof(err->msg) - sizeof(gap)) / 2;

	silt_error_one_line(text);
	if (n < sizeof(err->msg)) {
		memcpy(err->msg, text, n + 1);
		return;
	}
	memcpy(err->msg, text, half);
	memcpy(err->msg + half, gap, sizeof(gap) - 1);
	memcpy(err->msg + half + sizeof(gap) - 1, text + n - half, half + 1);
}

int silt_error_set(struct silt_error *err, int code, const char *fmt, ...)
{
	int saved = errno;

	if (err) {
		char text[LONG_TEXT];
		va_list ap;

		err->code = code;
		err->errnum = 0;
		err->offset = 0;
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		put_message(err, text);
	}
	errno = saved;
	return code;
}

int silt_error_os(struct silt_error *err, int errnum, const char *fmt, ...)
{
	int saved = errno;

	if (err) {
		char text[LONG_TEXT];
		va_list ap;
		size_t used;

		err->code = SILT_E_OS;
		err->errnum = errnum;
		err->offset = 0;
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		used = strlen(text);
		snprintf(text + used, sizeof(text) - used, ": %s", strerror(errnum));
		put_message(err, text);
	}
	errno = saved;
	return SILT_E_OS;
}

int silt_error_prefix(struct silt_error *err, const char *fmt, ...)
{
	char text[sizeof(err->msg)];
	char old[sizeof(err->msg)];
	va_list ap;
	size_t used;

	if (!err)
		return SILT_E_INTERNAL;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(old, err->msg, sizeof(old));
	used = strlen(text);
	memcpy(err->msg, text, used + 1);
	if (snprintf(err->msg + used, sizeof(err->msg) - used, ": %s", old) < 0) /* too long is cut: fine */
		err->msg[used] = '\0';
	return err->code;
}

bool silt_error_is_fatal(const struct silt_error *err)
{
	return err && (err->code == SILT_E_NOMEM || err->code == SILT_E_CANCELLED);
}
