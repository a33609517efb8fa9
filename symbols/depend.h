/* SPDX-License-Identifier: MIT */
/** Files that an answer depends on, the missing ones among them: while they are what they were, a cached answer holds. */
#ifndef SILT_SYMBOLS_DEPEND_H
#define SILT_SYMBOLS_DEPEND_H

#include <stdbool.h>
#include <stdint.h>

/** What stat() says of a file; all zero for one that is not there. Times are nanoseconds since 1970. */
struct silt_identity {
	uint64_t inode, size;
	int64_t modified, changed;
};

/** A path below a root, as silt_rooted_path takes them: links are followed anew each time. Strings are borrowed. */
struct silt_dependency {
	const char *root, *path;
	struct silt_identity identity;
	bool fresh; /* changed so short a time before it was looked at that another change may not show */
};

/** Looks at the file that d names and fills in the rest. */
void silt_dependency_look(struct silt_dependency *d);
/** True while the file is what it was when it was looked at. */
bool silt_dependency_holds(const struct silt_dependency *d);
bool silt_identity_equal(const struct silt_identity *a, const struct silt_identity *b);

#endif
