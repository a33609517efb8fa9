/* SPDX-License-Identifier: MIT */
/** A parsing child's work: the addresses of one module, or, with others, those of units whose turn it takes. */
#ifndef SILT_SYMBOLS_WORKER_H
#define SILT_SYMBOLS_WORKER_H

#include "symbols/debug_files.h"
#include "symbols/symbols.h"

struct silt_job {
	struct silt_file_query query;
	const uint64_t *pcs; /* sorted, distinct */
	size_t count;
	struct silt_share *share; /* with the other children of this module; NULL: there is none */
	unsigned member;     /* which of them this one is, from 0 on */
	bool no_inlines;
	bool no_dwarf;       /* symbol tables only: the DWARF killed a child before */
	bool locate;         /* say what files there are, and nothing else */
	bool seek;           /* say what files are missing, and nothing else */
	bool attempts;       /* report the search for files */
	bool bare_names;
	enum silt_demangle demangle;
};

/** Answers to fd in the form of wire.h. Returns false when it could not say all (memory, pipe). */
bool silt_worker_run(const struct silt_job *job, int fd);

#endif
