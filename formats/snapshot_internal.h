/* SPDX-License-Identifier: MIT */
/* What formats/ alone needs of the snapshot model. */
#ifndef SILT_FORMATS_SNAPSHOT_INTERNAL_H
#define SILT_FORMATS_SNAPSHOT_INTERNAL_H

#include "formats/snapshot.h"

/* Checks the promises of snapshot.h for everything but the blocks: indices in range, ranges in order. The error
 * (SILT_E_BAD_DATA) names the first broken one; who is told where the snapshot came from. */
int silt_snapshot_check(const struct silt_snapshot *s, const char *who, struct silt_error *err);

#endif
