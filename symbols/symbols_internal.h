/* SPDX-License-Identifier: MIT */
/** What struct silt_symbols holds, for symbols.c (the interface) and pool.c (the children). */
#ifndef SILT_SYMBOLS_SYMBOLS_INTERNAL_H
#define SILT_SYMBOLS_SYMBOLS_INTERNAL_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/vec.h"
#include "symbols/depend.h"
#include "symbols/symbols.h"

struct silt_answer {
	const struct silt_symbol_frame *frames;
	size_t count;
};

/* A file that no search here found, to ask servers for. */
struct silt_wanted {
	uint8_t id[64];
	size_t id_len;
	bool is_alt; /* a dwz file */
};
enum { SILT_MAX_WANTED = 2, SILT_MIN_BUILD_ID = 2 };

struct silt_symbols_module {
	const char *path;
	uint8_t build_id[64];
	size_t build_id_len;
	SILT_VEC(uint64_t) pending;    /* asked since the last resolve, unsorted */
	SILT_VEC(uint64_t) pcs;        /* resolved, sorted */
	SILT_VEC(struct silt_answer) answers; /* beside pcs */
	unsigned sources;
	const char *dwarf_path;
	SILT_VEC(const char *) attempts;
	SILT_VEC(struct silt_symbols_found) found;
	bool failed; /* a child died of it, or the files were not found: there is a warning already */
	/* For servers (servers.c). */
	SILT_VEC(struct silt_wanted) wanted;
	SILT_VEC(struct silt_wanted) asked_for;   /* in this run */
	SILT_VEC(const char *) server_attempts;   /* not among attempts yet */
	size_t server_attempt_count;              /* the last ones of attempts, which are no answers of the cache */
	bool asked;                               /* nothing more to ask for in this run */
	/* For the cache (cache.c). */
	SILT_VEC(const char *) notes;             /* warnings of this module's children */
	SILT_VEC(struct silt_dependency) dependencies;
	struct silt_map dependency_map;           /* hash of root and path -> index */
	struct silt_cache_file *cache;            /* what was kept of it; NULL: nothing that holds */
	bool cache_sought;
	bool uncertain; /* a child died, or a file changed meanwhile: nothing of this run is kept */
	size_t fresh;   /* answers that are not kept yet */
	size_t saved;   /* answers there were when they were kept last */
};

struct silt_symbols {
	struct silt_symbols_options options; /* strings are copies */
	struct silt_arena *arena;
	struct silt_intern *strings;
	struct silt_intern *module_keys; /* path, NUL, build-id */
	SILT_VEC(struct silt_symbols_module) modules;
	SILT_VEC(const char *) warnings;
	SILT_VEC(unsigned) processes; /* silt_symbols_add_process */
	int64_t captured;             /* the earliest of theirs; 0: none is known */
	int cache_dir;                /* of answers; negative: not open */
	bool cache_written;           /* since it was trimmed last */
	bool *silent;                 /* by server: it did not answer, and is not asked again */
	bool no_servers;              /* none can be asked */
};

/** Adds a warning unless it is there already. */
int silt_symbols_warn(struct silt_symbols *sy, struct silt_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** Addresses of one module, sorted and distinct, and where their answers go. */
struct silt_pool_work {
	uint32_t module;
	const uint64_t *pcs;
	struct silt_answer *answers;
	size_t count;
	bool locate; /* no addresses: say what files there are */
	bool seek;   /* no addresses: say what files are missing that a server may have */
};
/** Runs children over all work (pool.c). */
int silt_pool_run(struct silt_symbols *sy, const struct silt_pool_work *work, size_t count, struct silt_error *err);

#endif
