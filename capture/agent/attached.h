/* SPDX-License-Identifier: MIT */
/** The agent's own side of being attached: how a hook is entered in the attacher's table, and what starts it. */
#ifndef SILT_CAPTURE_AGENT_ATTACHED_H
#define SILT_CAPTURE_AGENT_ATTACHED_H

#include "capture/agent/attach.h"

/* Puts a hook into the table. real: the variable that the hook calls through. */
#define ATTACH_HOOK(id, function, real_variable, hook_class)                                                 \
	__attribute__((section("agent_hooks"), used, aligned(8))) static const struct silt_agent_hook        \
		attach_##id = { #id, (const void *)(function), (void **)(void *)&(real_variable), hook_class };

extern struct silt_agent_attach silt_agent_attach;

/** Maps the database that a->db_fd leads to, claims a slot, begins to record. 0 or SILT_AGENT_E_*. */
int32_t agent_start_attached(const struct silt_agent_attach *a);

#endif
