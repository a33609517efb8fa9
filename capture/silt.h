/* SPDX-License-Identifier: MIT */
/**
 * silt.h: talk to silt from inside a program. Nothing to link: the functions are weak and do nothing when the program
 * is not tracked. C and C++. Copy this one file into your project.
 *
 *   silt_mark("warm-up done");          a named moment in the dump; later blocks can be told from earlier ones
 *   silt_capture("after-load");         `silt run` writes a dump of this moment (waits for it, at most five seconds)
 *   silt_alloc(p, n); silt_free(p);     blocks of your own pool, reported as kind "pool" under the caller's stack
 */
#ifndef SILT_H
#define SILT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

__attribute__((weak)) void silt_agent_mark(const char *name);
__attribute__((weak)) void silt_agent_capture(const char *name);
__attribute__((weak)) void silt_agent_alloc(void *ptr, size_t size);
__attribute__((weak)) void silt_agent_free(void *ptr);

/** Names this moment. At most 95 bytes of name are kept. Callable from any thread. */
static inline void silt_mark(const char *name)
{
	if (silt_agent_mark)
		silt_agent_mark(name);
}

/** Asks `silt run` for a dump of now; returns when it is taken, or after five seconds. */
static inline void silt_capture(const char *name)
{
	if (silt_agent_capture)
		silt_agent_capture(name);
}

/** Announces a block handed out by the program's own allocator. size in bytes. */
static inline void silt_alloc(void *ptr, size_t size)
{
	if (silt_agent_alloc)
		silt_agent_alloc(ptr, size);
}

/** Takes it back. Unknown pointers are ignored. */
static inline void silt_free(void *ptr)
{
	if (silt_agent_free)
		silt_agent_free(ptr);
}

/** True when silt tracks this process. */
static inline int silt_tracked(void)
{
	return silt_agent_mark != 0;
}

#ifdef __cplusplus
}
#endif

#endif
