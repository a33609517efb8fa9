/* SPDX-License-Identifier: MIT */
/** The functions behind the hooks. */
#ifndef SILT_CAPTURE_AGENT_REAL_H
#define SILT_CAPTURE_AGENT_REAL_H

#include "capture/agent/agent.h"
#include "capture/agent/fast.h"

/* name, return type, parameters. Found by name; NULL where the process has none. */
#define AGENT_REAL_C(X)                                                                     \
	X(malloc, void *, (size_t))                                                         \
	X(calloc, void *, (size_t, size_t))                                                 \
	X(realloc, void *, (void *, size_t))                                                \
	X(reallocarray, void *, (void *, size_t, size_t))                                   \
	X(free, void, (void *))                                                             \
	X(cfree, void, (void *))                                                            \
	X(free_sized, void, (void *, size_t))                                               \
	X(free_aligned_sized, void, (void *, size_t, size_t))                               \
	X(memalign, void *, (size_t, size_t))                                               \
	X(aligned_alloc, void *, (size_t, size_t))                                          \
	X(posix_memalign, int, (void **, size_t, size_t))                                   \
	X(valloc, void *, (size_t))                                                         \
	X(pvalloc, void *, (size_t))                                                        \
	X(strdup, char *, (const char *))                                                   \
	X(strndup, char *, (const char *, size_t))                                          \
	X(realpath, char *, (const char *, char *))                                         \
	X(mmap, void *, (void *, size_t, int, int, int, long))                              \
	X(munmap, int, (void *, size_t))                                                    \
	X(mremap, void *, (void *, size_t, size_t, int, void *))                            \
	X(mlockall, int, (int))                                                             \
	X(prctl, int, (int, unsigned long, unsigned long, unsigned long, unsigned long))    \
	X(pthread_create, int, (void *, const void *, void *, void *))                      \
	X(thrd_create, int, (void *, void *, void *))                                       \
	X(fork, int, (void))                                                                \
	X(_Fork, int, (void))                                                               \
	X(daemon, int, (int, int))                                                          \
	X(forkpty, int, (int *, char *, const void *, const void *))                        \
	X(execve, int, (const char *, char *const *, char *const *))                        \
	X(execvpe, int, (const char *, char *const *, char *const *))                       \
	X(fexecve, int, (int, char *const *, char *const *))                                \
	X(execveat, int, (int, const char *, char *const *, char *const *, int))            \
	X(system, int, (const char *))                                                      \
	X(popen, void *, (const char *, const char *))                                      \
	X(posix_spawn, int, (void *, const char *, const void *, const void *, char *const *, char *const *))  \
	X(posix_spawnp, int, (void *, const char *, const void *, const void *, char *const *, char *const *))

/* operator new and delete (Itanium C++ ABI names). */
#define AGENT_REAL_NEW(X)                                                             \
	X(_Znwm, (size_t))                                                            \
	X(_Znam, (size_t))                                                            \
	X(_ZnwmRKSt9nothrow_t, (size_t, const void *))                                \
	X(_ZnamRKSt9nothrow_t, (size_t, const void *))                                \
	X(_ZnwmSt11align_val_t, (size_t, size_t))                                     \
	X(_ZnamSt11align_val_t, (size_t, size_t))                                     \
	X(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t, size_t, const void *))         \
	X(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t, size_t, const void *))
#define AGENT_REAL_DELETE(X)                                                          \
	X(_ZdlPv, (void *))                                                           \
	X(_ZdaPv, (void *))                                                           \
	X(_ZdlPvRKSt9nothrow_t, (void *, const void *))                               \
	X(_ZdaPvRKSt9nothrow_t, (void *, const void *))                               \
	X(_ZdlPvm, (void *, size_t))                                                  \
	X(_ZdaPvm, (void *, size_t))                                                  \
	X(_ZdlPvSt11align_val_t, (void *, size_t))                                    \
	X(_ZdaPvSt11align_val_t, (void *, size_t))                                    \
	X(_ZdlPvmSt11align_val_t, (void *, size_t, size_t))                           \
	X(_ZdaPvmSt11align_val_t, (void *, size_t, size_t))                           \
	X(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *, size_t, const void *))        \
	X(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *, size_t, const void *))

struct agent_real {
	uint32_t resolved;
	uint32_t operators_allocate; /* operator new belongs to the allocator's own module: it does not call malloc */
	uint32_t strdup_allocates;   /* so does strdup */
	void *environ_address;       /* char *** */
#define X(name, ret, args) ret(*name) args;
	AGENT_REAL_C(X)
#undef X
#define X(name, args) void *(*name) args;
	AGENT_REAL_NEW(X)
#undef X
#define X(name, args) void(*name) args;
	AGENT_REAL_DELETE(X)
#undef X
};
extern struct agent_real agent_real;
/** Takes a name of the agent's own out of the loader's sight: what is loaded or looked up from now on binds as if the agent did
 *  not have it (resolve.c). */
void agent_withdraw(const char *name);

/* The function behind a hook, resolved at the first call of any. */
#define REAL(name) (LIKELY(agent_real.resolved) ? agent_real.name : (agent_resolve(), agent_real.name))
/* The same of a function that every process has. */
#define REAL_ALWAYS(name) (LIKELY(agent_real.name) ? agent_real.name : (agent_resolve(), agent_real.name))
#define CALLER ((uint64_t)__builtin_return_address(0))
/* The hook's own frame: [0] the caller's rbp, [1] the return address. The agent is built with frame pointers. */
#define FRAME ((const uint64_t *)__builtin_frame_address(0))

/** Records the result of an allocating hook, when there is one. */
static ALWAYS_INLINE void *hook_record(void *p, size_t size, const uint64_t *fp)
{
	if (LIKELY(p != NULL))
		agent_record((uint64_t)p, size, fp);
	return p;
}

/** Takes the record out before the real free: another thread may get the address at once. */
void hook_forget_slow(void *p);
static ALWAYS_INLINE void hook_forget(void *p, uint64_t caller)
{
	if (LIKELY(p != NULL) && agent_ready()) {
		if (UNLIKELY(caller - agent_ranges.ldso_lo < agent_ranges.ldso_size))
			__atomic_fetch_or(&agent_hot.attention, AGENT_MODULES_CHANGED, __ATOMIC_RELAXED);
		if (UNLIKELY(!live_remove_fast((uint64_t)p)))
			hook_forget_slow(p);
	}
}

/* A block between the old and the new place of a realloc: out of the table, but shown to the reader as live. */
struct hook_aside {
	struct agent_thread *thread;
	uint64_t addr, size;
	uint32_t context;
};
void hook_set_aside(struct hook_aside *a, void *old);
/** p: what the real function gave; size: what was asked for. gone: NULL means freed, not failed. */
void *hook_settle(struct hook_aside *a, void *p, size_t size, bool gone, const uint64_t *fp);

#endif
