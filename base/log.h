/* SPDX-License-Identifier: MIT */
/**
 * Logging through a context: no global state. A NULL context, or one without a sink, logs nothing.
 *
 *   silt_log(log, SILT_LOG_WARN, "%s: %u blocks were lost", name, n);
 */
#ifndef SILT_BASE_LOG_H
#define SILT_BASE_LOG_H

enum silt_log_level { SILT_LOG_ERROR, SILT_LOG_WARN, SILT_LOG_INFO, SILT_LOG_DEBUG };

struct silt_log {
	enum silt_log_level level; /* messages above it are dropped before they are formatted */
	/* text is one line without newline, valid during the call */
	void (*sink)(void *data, enum silt_log_level level, const char *text);
	void *data;
};

/** The arguments are evaluated only when the message will be seen. */
#define silt_log(log, lvl, ...)                                                                  \
	do {                                                                                     \
		const struct silt_log *silt_log_ctx_ = (log);                                    \
		if (silt_log_ctx_ && silt_log_ctx_->sink && (lvl) <= silt_log_ctx_->level)       \
			silt_log_write(silt_log_ctx_, (lvl), __VA_ARGS__);                       \
	} while (0)

/** Behind silt_log. errno is preserved. */
void silt_log_write(const struct silt_log *log, enum silt_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** "error", "warning", "info", "debug". */
const char *silt_log_level_name(enum silt_log_level level);
/** A sink that prints "silt: warning: text" to the FILE * given as data. */
void silt_log_to_file(void *data, enum silt_log_level level, const char *text);

#endif
