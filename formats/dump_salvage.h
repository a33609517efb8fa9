/* SPDX-License-Identifier: MIT */
/* Making a snapshot with missing parts whole again: safe to use, and saying what is missing. */
#ifndef SILT_FORMATS_DUMP_SALVAGE_H
#define SILT_FORMATS_DUMP_SALVAGE_H

#include "formats/dump_scan.h"

struct dump_losses {
	uint64_t records[DUMP_SECTIONS]; /* missing, by section */
	uint64_t dangling;               /* references to records that are missing */
	bool exact;                      /* counted with the index; else only what gaps show */
	struct silt_error other;         /* what a strict reader would have said of the index */
};

/** Takes out lost list entries and leads every dangling reference to a placeholder. The arrays of frames, stacks and
 *  contexts must have room for one more. Returns how many there were. */
uint64_t dump_salvage_references(struct silt_snapshot *s);
/** Leads blocks whose context is SILT_NONE to a placeholder context, appended when needed. Returns how many. */
uint64_t dump_salvage_contexts(struct silt_snapshot *s);
/** Notes for people: where the file is damaged and what that cost. */
int dump_salvage_notes(struct silt_snapshot *s, const struct dump_source *src, const struct dump_scan *sc,
		       const struct dump_losses *l, struct silt_error *err);

#endif
