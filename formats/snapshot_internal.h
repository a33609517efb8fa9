/* SPDX-License-Identifier: MIT */
/* What formats/ alone needs of the snapshot model. */
#ifndef SILT_FORMATS_SNAPSHOT_INTERNAL_H
#define SILT_FORMATS_SNAPSHOT_INTERNAL_H

#include "formats/snapshot.h"

/* Frames of one stack: far beyond any depth limit, low enough that stacks cannot be made to take gigabytes. */
#define SILT_STACK_FRAMES_MAX (1u << 20)

#define SILT_BUILD_ID_MAX 64u /* usual are 16 or 20 bytes; the agent keeps up to 64 */

/* Checks the promises of snapshot.h for everything but the blocks: indices in range, ranges in order. The error
 * (SILT_E_BAD_DATA) names the first broken one; who is told where the snapshot came from. */
int silt_snapshot_check(const struct silt_snapshot *s, const char *who, struct silt_error *err);

#endif
