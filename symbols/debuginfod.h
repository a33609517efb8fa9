/* SPDX-License-Identifier: MIT */
/**
 * One file from one debuginfod server, by libdebuginfod in a process of its own: what the library and libcurl do with what a
 * server sends cannot harm us, and the limits hold whatever they do. The library is loaded there, on demand.
 */
#ifndef SILT_SYMBOLS_DEBUGINFOD_H
#define SILT_SYMBOLS_DEBUGINFOD_H

#include <limits.h>
#include <stdbool.h>

#include "symbols/symbols.h"

enum silt_download_outcome {
	SILT_DOWNLOAD_DONE,
	SILT_DOWNLOAD_UNKNOWN,     /* the server does not have it */
	SILT_DOWNLOAD_UNREACHABLE, /* no connection */
	SILT_DOWNLOAD_REFUSED,     /* the server answered with an error of its own: detail is its HTTP status */
	SILT_DOWNLOAD_BROKEN,      /* the connection ended too early, or the answer made no sense */
	SILT_DOWNLOAD_TOO_LARGE,
	SILT_DOWNLOAD_TOO_LONG,
	SILT_DOWNLOAD_IDLE,        /* nothing came for too long */
	SILT_DOWNLOAD_NO_LIBRARY,
	SILT_DOWNLOAD_FAILED,      /* here: no process, no pipe; detail is an errno */
	SILT_DOWNLOAD_CANCELLED,   /* a signal waits for us */
};

struct silt_download {
	const char *url;   /* of the server */
	const uint8_t *id; /* build-id */
	size_t id_len;
	const char *dir;   /* private and empty: everything is written below it. The caller removes it, whatever comes of it */
	const char *what;  /* for the progress shown: a module's name */
	struct silt_download_limits limits; /* none 0 */
	int signals;       /* readable when the download is to end; -1: nothing ends it */
};

/** Downloads into d->dir. SILT_DOWNLOAD_DONE: ret_path is a regular file there. *ret_detail is set for every outcome. */
enum silt_download_outcome silt_download_run(const struct silt_download *d, char ret_path[PATH_MAX], int *ret_detail);

/** True when libdebuginfod can be loaded; else *ret_why (static) tells why not. For `silt doctor`: loads it into this process. */
bool silt_debuginfod_is_there(const char **ret_why);

#endif
