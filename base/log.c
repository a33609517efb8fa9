/* SPDX-License-Identifier: MIT */
/* Logging: see log.h. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void silt_log_write(const struct silt_log *log, enum silt_log_level level, const char *fmt, ...)
{
	int saved = errno;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log->sink(log->data, level, text);
	errno = saved;
}

const char *silt_log_level_name(enum silt_log_level level)
{
	switch (level) {
	case SILT_LOG_ERROR:
		return "error";
	case SILT_LOG_WARN:
		return "warning";
	case SILT_LOG_INFO:
		return "info";
	case SILT_LOG_DEBUG:
		return "debug";
	}
	return "unknown";
}

void silt_log_to_file(void *data, enum silt_log_level level, const char *text)
{
	fprintf(data, "silt: %s: %s\n", silt_log_level_name(level), text);
}
