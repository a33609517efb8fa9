/* SPDX-License-Identifier: MIT */
/** Letting threads that were stopped inside the allocator run out of it. Internal to capture/. */
#ifndef SILT_CAPTURE_SETTLE_H
#define SILT_CAPTURE_SETTLE_H

#include "capture/heap/heap.h"
#include "capture/target/stop.h"

/**
 * Lets each stopped thread that stands in the allocator run for an instant and stops it again, until none is inside, while
 * all others stand still. Bounded to some milliseconds. threads gets the new program counters. Signals that arrive
 * meanwhile are delivered when the threads are let go. Returns true when nobody is inside and no lock is held.
 *
 * Not by single steps: they would be exact, but a tracer that is killed between two of them leaves a SIGTRAP behind.
 */
bool silt_settle(struct silt_stop *stop, struct silt_heap *heap, struct silt_heap_thread *threads);

/**
 * Is one of these stopped threads in what the allocator called without a lock: for memory, or to copy a block? A block may be neither in
 * the heap nor with the program there: malloc maps a large one before it writes the header; or twice in the heap: realloc gives the old
 * one back last. What silt_heap_busy sees need not be seen here.
 */
bool silt_settle_needed(pid_t pid, const struct silt_heap *heap, const struct silt_heap_thread *threads, uint32_t count);

#endif
