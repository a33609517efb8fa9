/* SPDX-License-Identifier: MIT */
/** How far the addresses in a debug file are from those of the module: prelink moves a program after its debug file was
 *  split off, and neither build-id nor debug file change. */
#ifndef SILT_SYMBOLS_SHIFT_H
#define SILT_SYMBOLS_SHIFT_H

#include "symbols/object.h"

/** What to add (modulo 2^64) to a module's link-time address to get the debug file's: 0 nearly always. False when the
 *  code of the two is laid out differently, so that no shift is right. */
bool silt_shift_find(const struct silt_object *module, const struct silt_object *debug, uint64_t *ret);
/** Shifts n sorted addresses into ret (room for n). Those that would wrap around, at either end, are left out: returns how
 *  many are not, and in *ret_first which is the first. */
size_t silt_shift_apply(const uint64_t *pcs, size_t n, uint64_t shift, uint64_t *ret, size_t *ret_first);

#endif
