/* SPDX-License-Identifier: MIT */
/* The table of limits: see limits.h. */
#include "base/limits.h"

static const struct silt_limit_info limits[SILT_LIMIT_COUNT] = {
	[SILT_LIMIT_SNAPSHOT_BYTES] = {"snapshot-bytes", 16ull << 30, "bytes",
				       "memory one snapshot read from a file may take"},
	[SILT_LIMIT_SNAPSHOT_BASE] = {"snapshot-base", 1ull << 30, "bytes",
				      "memory a snapshot from a file of any size may take"},
	[SILT_LIMIT_SNAPSHOT_RATIO] = {"snapshot-ratio", 64, "bytes",
				       "memory a snapshot may take beyond that for each byte of its file"},
	[SILT_LIMIT_INPUT_BYTES] = {"input-bytes", 1ull << 30, "bytes", "bytes of a pipe that are held in memory"},
	[SILT_LIMIT_CHUNK_BYTES] = {"chunk-bytes", 4ull << 20, "bytes", "size of one chunk of a dump"},
	[SILT_LIMIT_STRING_BYTES] = {"string-bytes", 1ull << 20, "bytes", "longest string in a dump"},
	[SILT_LIMIT_SALVAGE_NOTES] = {"salvage-notes", 16, "", "damaged places a salvage names one by one"},
	[SILT_LIMIT_SECTION_BASE] = {"section-base", 64ull << 20, "bytes", "a compressed debug section of any size may hold"},
	[SILT_LIMIT_SECTION_RATIO] = {"section-ratio", 128, "bytes",
				      "a debug section may hold beyond that for each compressed byte"},
	[SILT_LIMIT_DEBUGDATA_BYTES] = {"debugdata-bytes", 256ull << 20, "bytes", "a .gnu_debugdata section may hold"},
	[SILT_LIMIT_PARSER_MEMORY] = {"parser-memory", 2ull << 30, "bytes", "memory of a process that reads debug files"},
	[SILT_LIMIT_PARSER_SECONDS] = {"parser-seconds", 60, "seconds", "time of a process that reads debug files"},
	[SILT_LIMIT_CACHE_BYTES] = {"cache-bytes", 512ull << 20, "bytes", "answers kept on disk (setting cache-size)"},
	[SILT_LIMIT_CACHE_FILE_BYTES] = {"cache-file-bytes", 64ull << 20, "bytes", "answers kept on disk of one module"},
	[SILT_LIMIT_CACHE_FILES] = {"cache-files", 20000, "", "files that answers are kept in"},
	[SILT_LIMIT_DOWNLOAD_BYTES] = {"download-bytes", 2ull << 30, "bytes", "a debug file from a server (setting debuginfod-max-size)"},
	[SILT_LIMIT_DOWNLOAD_SECONDS] = {"download-seconds", 600, "seconds", "it may take (setting debuginfod-max-time)"},
	[SILT_LIMIT_DOWNLOAD_IDLE] = {"download-idle", 30, "seconds", "nothing may come of it (setting debuginfod-idle-time)"},
	[SILT_LIMIT_DOWNLOAD_MISS] = {"download-miss", 86400, "seconds",
				      "a server is not asked again for what it did not have (setting debuginfod-miss-time)"},
	[SILT_LIMIT_DOWNLOAD_STORE] = {"download-store", 16ull << 30, "bytes", "debug files from servers in the cache"},
	[SILT_LIMIT_WRITE_THREADS] = {"write-threads", 4, "", "threads that compress a dump"},
};

const struct silt_limit_info *silt_limit_info(enum silt_limit limit)
{
	return &limits[limit];
}

uint64_t silt_limit_default(enum silt_limit limit)
{
	return limits[limit].value;
}

uint64_t silt_limit_or_default(enum silt_limit limit, uint64_t given)
{
	return given ? given : limits[limit].value;
}
