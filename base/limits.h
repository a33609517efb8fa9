/* SPDX-License-Identifier: MIT */
/**
 * Every limit silt keeps to by default, once, in one table (`silt doctor` prints it). Functions take limits as
 * parameters or options; 0 there means the default from here.
 */
#ifndef SILT_BASE_LIMITS_H
#define SILT_BASE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

enum silt_limit {
	SILT_LIMIT_SNAPSHOT_BYTES, /* memory one snapshot read from a file may take, at most */
	SILT_LIMIT_SNAPSHOT_BASE,  /* … but no more than this … */
	SILT_LIMIT_SNAPSHOT_RATIO, /* … plus this many bytes for each byte of the file */
	SILT_LIMIT_INPUT_BYTES,    /* bytes of a pipe that are held in memory */
	SILT_LIMIT_CHUNK_BYTES,    /* bytes of one chunk of a dump, stored and uncompressed */
	SILT_LIMIT_STRING_BYTES,   /* longest string in a dump */
	SILT_LIMIT_SALVAGE_NOTES,  /* damage notes one salvage writes before it only counts */
	SILT_LIMIT_SECTION_BASE,   /* bytes a compressed section of a debug file may always hold … */
	SILT_LIMIT_SECTION_RATIO,  /* … and this many more for each compressed byte */
	SILT_LIMIT_DEBUGDATA_BYTES, /* bytes of a decompressed .gnu_debugdata */
	SILT_LIMIT_PARSER_MEMORY,  /* bytes a process that parses debug files may use */
	SILT_LIMIT_PARSER_SECONDS, /* … and how long it may take */
	SILT_LIMIT_CACHE_BYTES,      /* bytes of all answers that are kept on disk … */
	SILT_LIMIT_CACHE_FILE_BYTES, /* … of those of one module … */
	SILT_LIMIT_CACHE_FILES,      /* … and how many files they are in */
	SILT_LIMIT_DOWNLOAD_BYTES,   /* bytes of one file from a server … */
	SILT_LIMIT_DOWNLOAD_SECONDS, /* … how long it may take … */
	SILT_LIMIT_DOWNLOAD_IDLE,    /* … and how long nothing may come */
	SILT_LIMIT_DOWNLOAD_MISS,    /* seconds a server is not asked again for what it did not have */
	SILT_LIMIT_DOWNLOAD_STORE,   /* bytes of all files from servers in silt's own cache */
	SILT_LIMIT_WRITE_THREADS,  /* compressing threads of a dump writer */
	SILT_LIMIT_COUNT,
};

struct silt_limit_info {
	const char *name; /* "snapshot-bytes" */
	uint64_t value;
	const char *unit; /* "bytes", "" */
	const char *help; /* for people */
};

/** The table's row; limit must be below SILT_LIMIT_COUNT. */
const struct silt_limit_info *silt_limit_info(enum silt_limit limit);
/** The default value. */
uint64_t silt_limit_default(enum silt_limit limit);
/** given when it is not 0, else the default. */
uint64_t silt_limit_or_default(enum silt_limit limit, uint64_t given);

#endif
