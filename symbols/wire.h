/* SPDX-License-Identifier: MIT */
/**
 * What a parsing child says to its parent: records of a 4-byte length, a type byte and a payload of varints.
 * The parent believes nothing of it: a hostile file may have taken the child over.
 */
#ifndef SILT_SYMBOLS_WIRE_H
#define SILT_SYMBOLS_WIRE_H

#include <stdint.h>

enum silt_wire_type {
	SILT_WIRE_STRING = 1, /* bytes; strings are numbered 1, 2, 3 … as they come, 0 is none */
	SILT_WIRE_ANSWER,     /* index of the address, frames, per frame: function, linkage, file, line, column,
				 discriminator, start */
	SILT_WIRE_WARNING,    /* text for people */
	SILT_WIRE_ATTEMPT,    /* "path: what came of it" */
	SILT_WIRE_SOURCE,     /* 1 byte enum silt_symbols_source, then the path of the file that gave it */
	SILT_WIRE_DEPENDS,    /* a file: its identity (struct silt_identity), fresh, root and path as varint length + bytes */
	SILT_WIRE_UNCERTAIN,  /* answers are incomplete by chance (memory): not to be kept */
	SILT_WIRE_WANTED,     /* a debug file that is not here: 1 byte (a dwz file), its build-id */
	SILT_WIRE_END,        /* nothing is missing */
};

enum {
	SILT_WIRE_MAX_RECORD = 1 << 20,
	SILT_WIRE_MAX_FRAMES = 512,     /* of one answer: inlining is never that deep */
	SILT_WIRE_MAX_STRING = 1 << 17,
};

#endif
