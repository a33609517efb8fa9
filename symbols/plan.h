/* SPDX-License-Identifier: MIT */
/** The order of work on a module's addresses: unit by unit, each read once. */
#ifndef SILT_SYMBOLS_PLAN_H
#define SILT_SYMBOLS_PLAN_H

#include "symbols/dwarf_file.h"

/** A unit and the wanted addresses that lie in it. */
struct silt_plan_group {
	struct silt_unit *unit; /* NULL: no unit knows them */
	const uint64_t *pcs;    /* sorted */
	const uint32_t *indices; /* of the addresses in the list that was asked for */
	size_t n;
	/* To be set for those of which the unit knows neither function nor line: another unit is tried, and they come again,
	 * if only without a unit. NULL: there is no other, this answer is the last. */
	bool *unknown;
};

/** Calls work for all addresses (with a share, for those of units whose turn nobody took yet), each in one group or, where
 *  unknown was set, in two. False when memory is out. */
bool silt_plan_run(struct silt_dwarf *dw, const uint64_t *pcs, size_t n, struct silt_share *share,
		   void (*work)(void *data, const struct silt_plan_group *group), void *data);

#endif
