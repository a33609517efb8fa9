/* SPDX-License-Identifier: MIT */
/*
 * Hooks of operator new and delete. libstdc++'s operators call malloc and free and are seen there: then these functions
 * only jump on and leave no frame. Where the allocator brings its own operators they record.
 *
 * An exception of a throwing operator passes this frame: it has call frame information and nothing to clean up. Where the agent
 * was attached, nobody knows of that information. There the nothrow form is tried first; when that fails, the frame is left and
 * the real one asked: the new-handler is called once more than without silt, and a block that only came to be by way of it is not
 * seen.
 */
#include "capture/agent/real.h"

#define NOTHROW ((const void *)"")

/* A program may ask for operators by weak references, which without the agent would stay empty: those it has got must work. */
#define ALONE hook_record(agent_real.malloc(n), n, FRAME)
#define ALONE_ALIGNED hook_record(agent_real.memalign(al, n), n, FRAME)

#define NEW_HOOKS(name, nothrow, params, args, nothrow_args, alone)                 \
	EXPORT void *name params                                                    \
	{                                                                           \
		void *p;                                                            \
                                                                                    \
		if (!REAL(name))                                                    \
			return alone;                                               \
		if (!agent_real.operators_allocate)                                 \
			return agent_real.name args;                                \
		if (LIKELY(!agent_attached))                                        \
			return hook_record(agent_real.name args, n, FRAME);         \
		p = agent_real.nothrow ? agent_real.nothrow nothrow_args : NULL;    \
		if (UNLIKELY(!p))                                                   \
			return agent_real.name args;                                \
		return hook_record(p, n, FRAME);                                    \
	}

#define NEW_NOTHROW(name, params, args, alone)                                      \
	EXPORT void *name params                                                    \
	{                                                                           \
		if (!REAL(name))                                                    \
			return alone;                                               \
		if (!agent_real.operators_allocate)                                 \
			return agent_real.name args;                                \
		return hook_record(agent_real.name args, n, FRAME);                 \
	}

NEW_HOOKS(_Znwm, _ZnwmRKSt9nothrow_t, (size_t n), (n), (n, NOTHROW), ALONE)
NEW_HOOKS(_Znam, _ZnamRKSt9nothrow_t, (size_t n), (n), (n, NOTHROW), ALONE)
NEW_HOOKS(_ZnwmSt11align_val_t, _ZnwmSt11align_val_tRKSt9nothrow_t, (size_t n, size_t al), (n, al), (n, al, NOTHROW), ALONE_ALIGNED)
NEW_HOOKS(_ZnamSt11align_val_t, _ZnamSt11align_val_tRKSt9nothrow_t, (size_t n, size_t al), (n, al), (n, al, NOTHROW), ALONE_ALIGNED)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t, (size_t n, const void *t), (n, t), ALONE)
NEW_NOTHROW(_ZnamRKSt9nothrow_t, (size_t n, const void *t), (n, t), ALONE)
NEW_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t n, size_t al, const void *t), (n, al, t), ALONE_ALIGNED)
NEW_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t n, size_t al, const void *t), (n, al, t), ALONE_ALIGNED)

#define DELETE_HOOK(name, params, args)                                             \
	EXPORT void name params                                                     \
	{                                                                           \
		if (!REAL(name)) {                                                  \
			hook_forget(p, CALLER);                                      \
			agent_real.free(p);                                         \
			return;                                                     \
		}                                                                   \
		if (agent_real.operators_allocate)                                  \
			hook_forget(p, CALLER);                                      \
		agent_real.name args;                                               \
	}

DELETE_HOOK(_ZdlPv, (void *p), (p))
DELETE_HOOK(_ZdaPv, (void *p), (p))
DELETE_HOOK(_ZdlPvRKSt9nothrow_t, (void *p, const void *t), (p, t))
DELETE_HOOK(_ZdaPvRKSt9nothrow_t, (void *p, const void *t), (p, t))
DELETE_HOOK(_ZdlPvm, (void *p, size_t n), (p, n))
DELETE_HOOK(_ZdaPvm, (void *p, size_t n), (p, n))
DELETE_HOOK(_ZdlPvSt11align_val_t, (void *p, size_t al), (p, al))
DELETE_HOOK(_ZdaPvSt11align_val_t, (void *p, size_t al), (p, al))
DELETE_HOOK(_ZdlPvmSt11align_val_t, (void *p, size_t n, size_t al), (p, n, al))
DELETE_HOOK(_ZdaPvmSt11align_val_t, (void *p, size_t n, size_t al), (p, n, al))
DELETE_HOOK(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t al, const void *t), (p, al, t))
DELETE_HOOK(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t al, const void *t), (p, al, t))
