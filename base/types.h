/* SPDX-License-Identifier: MIT */
/** Types every room shares. */
#ifndef SILT_BASE_TYPES_H
#define SILT_BASE_TYPES_H

#include <stdint.h>

/** An address in a target: never a pointer of ours. */
typedef uint64_t silt_addr;

#define SILT_VERSION "0.1.0"
#define SILT_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
