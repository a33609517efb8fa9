/* SPDX-License-Identifier: MIT */
/** Blocks of a process that is not tracked, by walking its heap from outside. Internal to capture/. */
#ifndef SILT_CAPTURE_UNTRACKED_H
#define SILT_CAPTURE_UNTRACKED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/vec.h"
#include "capture/capture.h"
#include "capture/heap/heap.h"
#include "capture/target/maps.h"
#include "capture/target/stop.h"

/** Blocks as columns, ascending addresses. Each array is from malloc and may be taken over by setting it to NULL. */
struct silt_walked {
	silt_addr *addr;
	uint64_t *size; /* usable bytes */
	uint32_t *type; /* 0: none, else into types, + 1 */
	uint64_t count, room;
	uint64_t typed; /* what stands behind has no type */
	bool walked; /* there was an allocator to walk */
	struct silt_walked_type {
		silt_addr vtable; /* run-time address of its first function */
		char *name;       /* mangled, or NULL */
	} *types;
	uint32_t type_count;
	SILT_VEC(char *) notes;
	char allocator[300];
	char libc[32];
	uint64_t free_bytes, cached_bytes, own_bytes, unknown_bytes, system_bytes;
};

void silt_walked_deinit(struct silt_walked *w);

/**
 * Stops every thread of pid, walks the heap, lets go. maps is what the memory map was during the stop. When it must not be
 * stopped (the kernel refuses, something else traces it), walks while it runs and says so in a note: `ret_stopped`.
 * Runs in a thread of its own, so that the target is let go whatever happens to the caller.
 */
int silt_untracked_walk(pid_t pid, struct silt_walked *ret, struct silt_maps *ret_maps, struct silt_stop_report *ret_report,
			int64_t *ret_capture_ns, struct silt_error *err);

/** Thread pointers and program counters of stopped threads; those that cannot be read stay 0. NULL when out of memory. */
struct silt_heap_thread *silt_untracked_threads(const struct silt_stop *stop);

#endif
