/* SPDX-License-Identifier: MIT */
/** Places where a test lets silt die: every step after which something in the target has changed. */
#ifndef SILT_CAPTURE_ATTACH_FAULT_H
#define SILT_CAPTURE_ATTACH_FAULT_H

/** Counts the places passed; at the one whose number SILT_FAULT names this process kills itself. */
void silt_fault_point(void);

#endif
