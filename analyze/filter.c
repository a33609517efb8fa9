/* SPDX-License-Identifier: MIT */
/* --focus and --ignore: regular expressions over what a reader sees of a stack: functions, files and modules. */
#include "analyze/analysis.h"

#include <stdlib.h>

static int compile(regex_t *re, const char *text, const char *option, struct silt_error *err)
{
	int rc = regcomp(re, text, REG_EXTENDED | REG_NOSUB);
	char why[128];

	if (rc == 0)
		return 0;
	regerror(rc, re, why, sizeof(why));
	return silt_error_set(err, SILT_E_INVAL, "%s: '%s' is no regular expression: %s", option, text, why);
}

int silt_filter_init(struct silt_analysis *r, struct silt_error *err)
{
	int rc = 0;

	if (r->options->focus) {
		rc = compile(&r->focus, r->options->focus, "--focus", err);
		r->has_focus = rc == 0;
	}
	if (rc == 0 && r->options->ignore) {
		rc = compile(&r->ignore, r->options->ignore, "--ignore", err);
		r->has_ignore = rc == 0;
	}
	return rc;
}

void silt_filter_deinit(struct silt_analysis *r)
{
	if (r->has_focus)
		regfree(&r->focus);
	if (r->has_ignore)
		regfree(&r->ignore);
	r->has_focus = r->has_ignore = false;
}

static bool matches(const regex_t *re, const char *text)
{
	return text && regexec(re, text, 0, NULL, 0) == 0;
}

static bool frames_match(const struct silt_analysis *r, const regex_t *re, uint32_t location, size_t from)
{
	size_t count;
	const struct silt_symbol_frame *frames = silt_names_frames(&r->names, location, &count);

	if (matches(re, silt_names_module_path(&r->names, location)))
		return true;
	for (size_t i = from; i < count; i++)
		if (matches(re, frames[i].function) || matches(re, frames[i].file))
			return true;
	return false;
}

/* Answers per location, since stacks share most of theirs. */
struct answers {
	const struct silt_analysis *report;
	const regex_t *re;
	unsigned char *known; /* per location: 0 not asked, 1 no, 2 yes */
};

static bool stack_matches(struct answers *a, uint32_t stack)
{
	const struct silt_analysis *r = a->report;
	struct silt_stack_start start = silt_names_stack_start(&r->names, stack, r->options->all_frames);
	uint32_t count;
	const uint32_t *locations = silt_catalog_stack(&r->catalog, stack, &count, NULL);

	for (uint32_t i = start.location; i < count; i++) {
		unsigned char *known = &a->known[locations[i]];

		if (i == start.location &&
		    start.frame > 0) { /* part of it is hidden: an answer for this stack only */
			if (frames_match(r, a->re, locations[i], start.frame))
				return true;
			continue;
		}
		if (*known == 0)
			*known = frames_match(r, a->re, locations[i], 0) ? 2 : 1;
		if (*known == 2)
			return true;
	}
	return false;
}

static int apply(struct silt_analysis *r, const regex_t *re, bool keep_matching, const uint32_t *stacks,
		 size_t count, bool *keep, struct silt_error *err)
{
	struct answers a = {.report = r, .re = re};

	a.known = calloc((size_t)silt_catalog_location_count(&r->catalog) + 1, sizeof(*a.known));
	if (!a.known)
		return silt_error_set(err, SILT_E_NOMEM, "not enough memory to filter stacks");
	for (size_t i = 0; i < count; i++)
		if (keep[stacks[i]] && stack_matches(&a, stacks[i]) != keep_matching)
			keep[stacks[i]] = false;
	free(a.known);
	return 0;
}

int silt_filter_stacks(struct silt_analysis *r, const uint32_t *stacks, size_t count, bool *keep,
		       struct silt_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		rc = silt_names_want_stack(&r->names, stacks[i], err);
		keep[stacks[i]] = true;
	}
	if (rc == 0)
		rc = silt_names_resolve(&r->names, err);
	if (rc == 0 && r->has_ignore)
		rc = apply(r, &r->ignore, false, stacks, count, keep, err);
	if (rc == 0 && r->has_focus)
		rc = apply(r, &r->focus, true, stacks, count, keep, err);
	return rc;
}
