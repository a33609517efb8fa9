/* SPDX-License-Identifier: MIT */
/* The agent in a process that was running already: the table of hooks for the attacher, and what it lets a thread run. */
#include "capture/agent/attach.h"

#include "capture/agent/attached.h"
#include "capture/agent/real.h"

/* Hooks by their assembler names, for their types do not matter here. */
#define C_HOOK(name, class)                                                                                 \
	extern const char hook_of_##name[] __asm__(#name);                                                  \
	ATTACH_HOOK(name, hook_of_##name, agent_real.name, class)

C_HOOK(malloc, SILT_HOOK_ALLOC)
C_HOOK(calloc, SILT_HOOK_ALLOC)
C_HOOK(realloc, SILT_HOOK_ALLOC)
C_HOOK(reallocarray, SILT_HOOK_ALLOC)
C_HOOK(free, SILT_HOOK_ALLOC)
C_HOOK(cfree, SILT_HOOK_ALLOC)
C_HOOK(free_sized, SILT_HOOK_ALLOC)
C_HOOK(free_aligned_sized, SILT_HOOK_ALLOC)
C_HOOK(memalign, SILT_HOOK_ALLOC)
C_HOOK(aligned_alloc, SILT_HOOK_ALLOC)
C_HOOK(posix_memalign, SILT_HOOK_ALLOC)
C_HOOK(valloc, SILT_HOOK_ALLOC)
C_HOOK(pvalloc, SILT_HOOK_ALLOC)
C_HOOK(strdup, SILT_HOOK_STRING)
C_HOOK(strndup, SILT_HOOK_STRING)
C_HOOK(realpath, SILT_HOOK_STRING)
C_HOOK(mmap, SILT_HOOK_MAP)
C_HOOK(munmap, SILT_HOOK_MAP)
C_HOOK(mremap, SILT_HOOK_MAP)
C_HOOK(mlockall, SILT_HOOK_PROCESS)
C_HOOK(prctl, SILT_HOOK_PROCESS)
C_HOOK(pthread_create, SILT_HOOK_PROCESS)
C_HOOK(thrd_create, SILT_HOOK_PROCESS)
#define X(name, args) C_HOOK(name, SILT_HOOK_OPERATOR)
AGENT_REAL_NEW(X)
AGENT_REAL_DELETE(X)
#undef X

extern const char hook_of_syscall[] __asm__("syscall");
extern void *agent_syscall_real __attribute__((visibility("hidden")));
ATTACH_HOOK(syscall, hook_of_syscall, agent_syscall_real, SILT_HOOK_PROCESS)

extern const struct silt_agent_hook __start_agent_hooks[], __stop_agent_hooks[] __attribute__((visibility("hidden")));
extern const char agent_attach_enter[] __attribute__((visibility("hidden")));

static struct silt_agent_module modules[SILT_AGENT_MODULES];

EXPORT struct silt_agent_attach silt_agent_attach = {
	.magic = SILT_AGENT_ATTACH_MAGIC,
	.version = SILT_AGENT_ATTACH_VERSION,
	.size = sizeof(struct silt_agent_attach),
	.hooks = __start_agent_hooks,
	.hooks_end = __stop_agent_hooks,
	.enter = agent_attach_enter,
	.modules = modules,
};

/* For attach_enter.S, which cannot ask the compiler where the field is. */
_Static_assert(__builtin_offsetof(struct silt_agent_attach, leave) == 40, "attach_enter.S knows this offset");

/* The blocks stand in the database's file, for as long as this takes. */
static int32_t enter_blocks(struct silt_agent_attach *a)
{
	uint64_t size = a->block_count * sizeof(struct silt_agent_block);
	long r = sys_mmap(NULL, size, 1 /* PROT_READ */, 0x8001 /* MAP_SHARED | MAP_POPULATE */, a->db_fd, a->blocks);
	const struct silt_agent_block *b = (const void *)r;
	uint32_t context = stack_before_attach();

	if (sys_failed(r))
		return SILT_AGENT_E_MAP;
	a->entered = live_enter_all(b, a->block_count, agent_hot.options.min_size, context);
	sys_munmap((void *)r, size);
	agent_hot.inherited = 1;
	agent_db()->attached = 2;
	return 0;
}

/* Called by attach_enter.S on a stack of the agent's, with signals blocked and all registers kept. */
__attribute__((visibility("hidden"), used)) void agent_attach_run(void)
{
	struct silt_agent_attach *a = &silt_agent_attach;

	if (a->operation == SILT_AGENT_START)
		a->result = agent_start_attached(a);
	else if (a->operation == SILT_AGENT_BLOCKS && agent_hot.base)
		a->result = enter_blocks(a);
}
