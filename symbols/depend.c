/* SPDX-License-Identifier: MIT */
/* Looking at files that answers depend on. */
#include "symbols/depend.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "symbols/rooted.h"

/* Time stamps advance by timer ticks, of 10 ms at most; on file systems without nanoseconds by seconds. */
#define TICK_NS 20000000ll
#define COARSE_NS 2000000000ll

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void silt_dependency_look(struct silt_dependency *d)
{
	char path[PATH_MAX];
	struct timespec now;
	struct stat st;
	int64_t newest;

	d->identity = (struct silt_identity){0};
	d->fresh = false;
	if (!silt_rooted_path(d->root, d->path, path) || stat(path, &st))
		return;
	/* The inode of a file that is there is never 0. */
	d->identity = (struct silt_identity){(uint64_t)st.st_ino, (uint64_t)st.st_size, nanoseconds(st.st_mtim),
					     nanoseconds(st.st_ctim)};
	clock_gettime(CLOCK_REALTIME, &now);
	newest = d->identity.modified > d->identity.changed ? d->identity.modified : d->identity.changed;
	d->fresh = nanoseconds(now) - newest < (newest % 1000000000 ? TICK_NS : COARSE_NS);
}

bool silt_identity_equal(const struct silt_identity *a, const struct silt_identity *b)
{
	return a->inode == b->inode && a->size == b->size && a->modified == b->modified && a->changed == b->changed;
}

bool silt_dependency_holds(const struct silt_dependency *d)
{
	struct silt_dependency now = {.root = d->root, .path = d->path};

	silt_dependency_look(&now);
	return silt_identity_equal(&d->identity, &now.identity);
}
