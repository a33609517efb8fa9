/* SPDX-License-Identifier: MIT */
/** Finding room in a process's address space within reach of its code. */
#ifndef SILT_CAPTURE_ATTACH_PLACE_H
#define SILT_CAPTURE_ATTACH_PLACE_H

#include "base/types.h"
#include "capture/target/maps.h"

/**
 * An address for size bytes such that all of them are within jumping distance (two gigabytes) of near; 0: there is none.
 * skip: so many of the best places are passed over, for others may have been taken meanwhile. Not where the heap or a stack grows.
 */
silt_addr silt_place_near(const struct silt_maps *maps, silt_addr near, uint64_t size, unsigned skip);

#endif
