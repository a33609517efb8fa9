/* SPDX-License-Identifier: MIT */
/* The entry points: a report prepared, then printed. */
#include "analyze/analysis.h"

bool silt_report_needs_blocks(const struct silt_report_options *o)
{
	return o->by == SILT_BY_SIZE;
}

static int report(const struct silt_snapshot *before, const struct silt_snapshot *after,
		  const struct silt_report_options *o, FILE *out, struct silt_error *err)
{
	struct silt_analysis r;
	int rc = silt_analysis_prepare(&r, before, after, o, err);

	if (rc == 0)
		rc = o->json ? silt_analysis_json(&r, out, err) : silt_analysis_text(&r, out, err);
	silt_analysis_deinit(&r);
	return rc;
}

int silt_report_show(const struct silt_snapshot *s, const struct silt_report_options *o, FILE *out,
		     struct silt_error *err)
{
	return report(NULL, s, o, out, err);
}

int silt_report_diff(const struct silt_snapshot *before, const struct silt_snapshot *after,
		     const struct silt_report_options *o, FILE *out, struct silt_error *err)
{
	return report(before, after, o, out, err);
}
