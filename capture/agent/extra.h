/* SPDX-License-Identifier: MIT */
/** How the allocators' own entry points are hooked: one line each. The function behind is looked up at its first call. */
#ifndef SILT_CAPTURE_AGENT_EXTRA_H
#define SILT_CAPTURE_AGENT_EXTRA_H

#include "capture/agent/attached.h"
#include "capture/agent/real.h"

/* The next definition of name, kept where an attacher can set it. The agent's variant is only used where there is one. */
#define EXTRA_DECLARE(name, ret, params)                                            \
	EXPORT ret name params;                                                     \
	static ret(*real_##name) params;                                            \
	ATTACH_HOOK(name, name, real_##name, SILT_HOOK_ALLOC)

/* Declares `real` in a hook. */
#define EXTRA_REAL(name, ret, params)                                               \
	ret(*real) params;                                                          \
                                                                                    \
	if (UNLIKELY(!real_##name)) {                                               \
		agent_resolve();                                                    \
		real_##name = (ret(*) params)agent_next(#name, NULL);               \
	}                                                                           \
	real = real_##name;

/** Returns a new block of `size` bytes. */
#define EXTRA_ALLOC(name, params, args, size)                                       \
	EXTRA_DECLARE(name, void *, params)                                                \
	EXPORT void *name params                                                    \
	{                                                                           \
		EXTRA_REAL(name, void *, params)                                    \
		return hook_record(real args, size, FRAME);                         \
	}

/** Returns a new string. */
#define EXTRA_STRING(name, params, args)                                            \
	EXTRA_DECLARE(name, char *, params)                                                \
	EXPORT char *name params                                                    \
	{                                                                           \
		EXTRA_REAL(name, char *, params)                                    \
		char *p = real args;                                                \
                                                                                    \
		return hook_record(p, p ? str_length(p) + 1 : 0, FRAME);            \
	}

/** Moves or resizes `old`. gone_if: NULL then means it was freed. */
#define EXTRA_RESIZE(name, params, args, old, size, gone_if)                        \
	EXTRA_DECLARE(name, void *, params)                                                \
	EXPORT void *name params                                                    \
	{                                                                           \
		EXTRA_REAL(name, void *, params)                                    \
		struct hook_aside aside;                                            \
                                                                                    \
		if (!(old))                                                         \
			return hook_record(real args, size, FRAME);                 \
		if (!agent_ready())                                                 \
			return real args;                                           \
		hook_set_aside(&aside, old);                                        \
		return hook_settle(&aside, real args, size, gone_if, FRAME);        \
	}

/** Gives p back. */
#define EXTRA_FREE(name, params, args)                                              \
	EXTRA_DECLARE(name, void, params)                                                  \
	EXPORT void name params                                                     \
	{                                                                           \
		EXTRA_REAL(name, void, params)                                      \
		hook_forget(p, CALLER);                                              \
		real args;                                                          \
	}

/** As posix_memalign: the block goes into *p, 0 is success. */
#define EXTRA_POSIX(name)                                                           \
	EXTRA_DECLARE(name, int, (void **, size_t, size_t))                                \
	EXPORT int name(void **p, size_t al, size_t n)                              \
	{                                                                           \
		EXTRA_REAL(name, int, (void **, size_t, size_t))                    \
		int r = real(p, al, n);                                             \
                                                                                    \
		if (r == 0)                                                         \
			hook_record(*p, n, FRAME);                                  \
		return r;                                                           \
	}

#endif
