/* SPDX-License-Identifier: MIT */
/**
 * One numbering of modules, code locations and stacks over one or two snapshots, by identity: equal numbers mean the
 * same code, whatever the addresses, paths and processes.
 *
 * A module is its build-id; without one, its path, and across snapshots the last part of the path. A location is
 * (module, offset, whether interrupted); a stack is its locations and its flags.
 */
#ifndef SILT_ANALYZE_CATALOG_H
#define SILT_ANALYZE_CATALOG_H

#include "analyze/keys.h"
#include "base/error.h"
#include "formats/snapshot.h"

enum { SILT_BEFORE = 0, SILT_AFTER = 1, SILT_SIDES = 2 };

struct silt_catalog_module {
	const char *path; /* as the last snapshot added names it; borrowed from that snapshot */
	const uint8_t *build_id;
	uint32_t build_id_len;
	unsigned sides; /* bit SILT_BEFORE, bit SILT_AFTER: where it was seen */
	uint32_t twin;  /* another build of the same file, seen only on the other side; or SILT_NONE */
};

struct silt_location {
	uint32_t module; /* SILT_NONE: offset is a raw address */
	uint32_t flags;  /* SILT_FRAME_* */
	uint64_t offset;
};

struct silt_catalog {
	struct silt_catalog_module *modules;
	uint32_t module_room;
	struct silt_intern *module_keys; /* "b" build-id, or "p" path */
	struct silt_intern *locations;   /* struct silt_location */
	struct silt_intern *stacks;      /* uint32_t flags, then location numbers, innermost first */
};

int silt_catalog_init(struct silt_catalog *c, struct silt_error *err);
/** A zeroed catalog is fine, too. */
void silt_catalog_deinit(struct silt_catalog *c);

/**
 * Adds a snapshot, which must outlive the catalog. merge_anonymous: code outside any module (JIT) counts as one
 * location, for snapshots of different runs, where its raw addresses mean nothing to each other.
 * *ret_stacks maps the snapshot's stacks to the catalog's; the caller frees it.
 */
int silt_catalog_add(struct silt_catalog *c, const struct silt_snapshot *s, unsigned side, bool merge_anonymous,
		     uint32_t **ret_stacks, struct silt_error *err);

/** Finds twins: modules seen on one side only that another build on the other side replaces. The programs themselves
 *  are twins of each other even when their names differ. */
int silt_catalog_pair(struct silt_catalog *c, const char *exe_before, const char *exe_after,
		      struct silt_error *err);

uint32_t silt_catalog_module_count(const struct silt_catalog *c);
uint32_t silt_catalog_location_count(const struct silt_catalog *c);
uint32_t silt_catalog_stack_count(const struct silt_catalog *c);
const struct silt_location *silt_catalog_location(const struct silt_catalog *c, uint32_t number);
/** A stack's locations, innermost first. ret_flags (SILT_STACK_*) may be NULL. */
const uint32_t *silt_catalog_stack(const struct silt_catalog *c, uint32_t number, uint32_t *ret_count,
				   uint32_t *ret_flags);
/** The last part of a path, without what the kernel appends to deleted files. *ret_len gets its length. */
const char *silt_path_name(const char *path, size_t *ret_len);

#endif
