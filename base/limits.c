/* SPDX-License-Identifier: MIT */
/* The table of limits: see limits.h. */
#include "base/limits.h"

static const struct silt_limit_info limits[SILT_LIMIT_COUNT] = {
	[SILT_LIMIT_SNAPSHOT_BYTES] = {"snapshot-bytes", 16ull << 30, "bytes",
				       "memory one snapshot read from a file may take"},
	[SILT_LIMIT_CHUNK_BYTES] = {"chunk-bytes", 4ull << 20, "bytes", "uncompressed size of one chunk of a dump"},
	[SILT_LIMIT_CHUNK_RATIO] = {"chunk-ratio", 1100, "",
				    "compression ratio above which a chunk of a dump is refused"},
	[SILT_LIMIT_STRING_BYTES] = {"string-bytes", 1ull << 20, "bytes", "longest string in a dump"},
	[SILT_LIMIT_SALVAGE_NOTES] = {"salvage-notes", 16, "", "damaged places a salvage names one by one"},
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
