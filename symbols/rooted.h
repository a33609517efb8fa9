/* SPDX-License-Identifier: MIT */
/** Paths below another root: a sysroot, or the root of a container. */
#ifndef SILT_SYMBOLS_ROOTED_H
#define SILT_SYMBOLS_ROOTED_H

#include <limits.h>
#include <stdbool.h>

/**
 * Writes where path lies below root, with every symbolic link on the way resolved as a process in that root would see it:
 * absolute links start at root, and ".." does not leave it. A relative path counts from root. root "" is our own root: path
 * is copied. False when the result is too long or links run in circles. What does not exist yields a path all the same.
 */
bool silt_rooted_path(const char *root, const char *path, char ret[PATH_MAX]);

#endif
