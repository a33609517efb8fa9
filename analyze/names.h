/* SPDX-License-Identifier: MIT */
/** What the symbols room says about the catalog's locations, asked for only where it is needed. */
#ifndef SILT_ANALYZE_NAMES_H
#define SILT_ANALYZE_NAMES_H

#include "analyze/catalog.h"
#include "base/error.h"
#include "symbols/symbols.h"

struct silt_names {
	const struct silt_catalog *catalog;
	struct silt_symbols *symbols;
	int *modules;         /* per catalog module: its number in symbols, or MODULE_NEW or MODULE_UNUSABLE */
	unsigned char *state; /* per location: nothing, wanted, known, or a signal trampoline */
	bool pending;         /* something was wanted since the last resolve */
};

/** The catalog must be complete and outlive the names. */
int silt_names_init(struct silt_names *n, const struct silt_catalog *c, const struct silt_symbols_options *options,
		    struct silt_error *err);
void silt_names_deinit(struct silt_names *n);

int silt_names_want(struct silt_names *n, uint32_t location, struct silt_error *err);
int silt_names_want_stack(struct silt_names *n, uint32_t stack, struct silt_error *err);
/** Also asks where the function that holds the (known) location begins. */
int silt_names_want_start(struct silt_names *n, uint32_t location, struct silt_error *err);
/** Answers everything wanted so far. */
int silt_names_resolve(struct silt_names *n, struct silt_error *err);

/** The frames of a location, innermost first, the physical one last; NULL and 0 where nothing is known. */
const struct silt_symbol_frame *silt_names_frames(const struct silt_names *n, uint32_t location,
						  size_t *ret_count);
/** The line on which the location's physical function begins; 0 unknown. */
uint32_t silt_names_start_line(const struct silt_names *n, uint32_t location);
/** The path of a location's module, NULL where it lies in none. */
const char *silt_names_module_path(const struct silt_names *n, uint32_t location);

/** Where a stack begins for a reader: its first frame that belongs neither to an allocator nor to silt. */
struct silt_stack_start {
	uint32_t location; /* index into the stack's locations */
	size_t frame;      /* index into that location's frames */
};
/** With all_frames, or when every frame would be hidden, the start is the innermost frame. */
struct silt_stack_start silt_names_stack_start(const struct silt_names *n, uint32_t stack, bool all_frames);
/** Wants frames from the innermost outwards until the start of the stack is known. *ret_settled: it is. */
int silt_names_want_stack_start(struct silt_names *n, uint32_t stack, bool all_frames, bool *ret_settled,
				struct silt_error *err);

/** True for functions that only hand out memory for their caller (malloc, operator new …). module may be NULL. */
bool silt_frame_is_allocator(const char *module, const struct silt_symbol_frame *f);
/** True for libraries all of whose frames do. */
bool silt_module_is_allocator(const char *module);

#endif
