/* SPDX-License-Identifier: MIT */
/** Errors with context, in the caller's storage: no failure path allocates. */
#ifndef SILT_BASE_ERROR_H
#define SILT_BASE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

enum silt_code {
	SILT_OK = 0,
	SILT_E_NOMEM = -1,
	SILT_E_OS = -2,          /* a system call failed: errnum says how */
	SILT_E_INVAL = -3,       /* wrong argument or usage */
	SILT_E_BAD_DATA = -4,    /* a file or database does not hold what it should */
	SILT_E_LIMIT = -5,       /* a limit set by the user or by default was reached */
	SILT_E_UNSUPPORTED = -6, /* well formed, but not something silt can work with */
	SILT_E_NOT_FOUND = -7,
	SILT_E_CANCELLED = -8,
	SILT_E_INTERNAL = -9,
};

/** Written only on failure. Any function may be handed NULL for it. */
struct silt_error {
	int code;        /* enum silt_code */
	int errnum;      /* errno of the failing call, 0 where none */
	uint64_t offset; /* file offset or address, where one is meant */
	char msg[512];   /* one line for a person: what failed, on what, why, what to do */
};

/** Fills err (may be NULL) and returns code. errno is preserved. Control characters become "?"; of a text that is too long
 *  the middle is left out. */
int silt_error_set(struct silt_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** As silt_error_set with SILT_E_OS; appends ": strerror(errnum)". Returns SILT_E_OS. */
int silt_error_os(struct silt_error *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** Puts "text: " in front of the message: once per layer, outermost first. Returns err's code. */
int silt_error_prefix(struct silt_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/** Replaces line ends and other control characters, which names of files may hold, by "?". */
void silt_error_one_line(char *text);
/** True for NOMEM and CANCELLED: going on makes no sense. */
bool silt_error_is_fatal(const struct silt_error *err);

#endif
