/* SPDX-License-Identifier: MIT */
/* Unpacking .gnu_debugdata. */
#include "symbols/debugdata.h"

#include <limits.h>
#include <stdio.h>

#include "base/limits.h"
#include "symbols/decompress.h"

int silt_debugdata_open(struct silt_object *object, struct silt_object **ret, struct silt_error *err)
{
	size_t size, capacity, max = silt_limit_default(SILT_LIMIT_DEBUGDATA_BYTES);
	struct silt_bytes packed;
	char name[PATH_MAX + 32];
	uint8_t *image;
	int r = silt_object_section(object, ".gnu_debugdata", &packed, err);

	if (r)
		return r;
	snprintf(name, sizeof(name), "%s (.gnu_debugdata)", silt_object_path(object));
	r = silt_unxz(packed.data, packed.size, max, name, &image, &size, &capacity, err);
	return r ? r : silt_object_create_memory(name, image, size, capacity, ret, err);
}
