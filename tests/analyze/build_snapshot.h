/* SPDX-License-Identifier: MIT */
/** Snapshots built in memory for tests. Out of memory ends the test. */
#ifndef SILT_TESTS_ANALYZE_BUILD_SNAPSHOT_H
#define SILT_TESTS_ANALYZE_BUILD_SNAPSHOT_H

#include "formats/snapshot.h"

/** A snapshot of pid 100 with a session; room for 4096 of everything. */
struct silt_snapshot *build_snapshot(void);
/** build: first byte of a 20-byte build-id; 0: none. Returns its index. */
uint32_t build_module(struct silt_snapshot *s, const char *path, uint8_t build);
uint32_t build_frame(struct silt_snapshot *s, uint32_t module, uint64_t offset);
uint32_t build_stack(struct silt_snapshot *s, uint32_t flags, const uint32_t *frames, uint32_t count);
/** alloc_* are live plus what was freed (freed_bytes in freed_count blocks). */
uint32_t build_context(struct silt_snapshot *s, uint32_t stack, uint64_t live_bytes, uint64_t live_count,
		       uint64_t freed_bytes, uint64_t freed_count);
uint32_t build_thread(struct silt_snapshot *s, uint32_t tid, const char *name);
void build_block(struct silt_snapshot *s, uint64_t addr, uint64_t size, uint32_t context);

#endif
