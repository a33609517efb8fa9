/* SPDX-License-Identifier: MIT */
/* Errors: see error.h. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int silt_error_set(struct silt_error *err, int code, const char *fmt, ...)
{
	int saved = errno;

	if (err) {
		va_list ap;

		err->code = code;
		err->errnum = 0;
		err->offset = 0;
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
	}
	errno = saved;
	return code;
}

int silt_error_os(struct silt_error *err, int errnum, const char *fmt, ...)
{
	int saved = errno;

	if (err) {
		va_list ap;
		size_t used;

		err->code = SILT_E_OS;
		err->errnum = errnum;
		err->offset = 0;
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		used = strlen(err->msg);
		snprintf(err->msg + used, sizeof(err->msg) - used, ": %s", strerror(errnum));
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
