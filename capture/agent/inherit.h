/* SPDX-License-Identifier: MIT */
/** A forked child's database begins as a copy of its parent's: blocks, and what they refer to. See undo.h for what makes it exact. */
#ifndef SILT_CAPTURE_AGENT_INHERIT_H
#define SILT_CAPTURE_AGENT_INHERIT_H

#include "capture/agent/agent.h"

/** Whether a child forked now shall not know this process's blocks, and why (enum silt_db_inherit); 0: it shall. */
uint32_t inherit_refused(void);
/** In a forked child whose own database is set up but empty and not yet shown to anybody: fills it. parent: where the parent's is
 *  mapped, at least so many bytes of it. The caller sees to it that no signal handler runs. False: it could not be had, and what was
 *  begun is to be thrown away. In any case inherit_done must be called. */
bool inherit(const uint8_t *parent, uint64_t size);
/** The module table is made by the caller out of this, the parent's (NULL: not to be had), which can be read until inherit_done. */
const struct silt_db_module *inherit_modules(void);
/** Once more looks whether all that was read was still the parent's, and lets it go. False: nothing is inherited. */
bool inherit_done(void);

#endif
