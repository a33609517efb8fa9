/* SPDX-License-Identifier: MIT */
/* Which functions are hooked, and the code that takes the place of their first instructions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture/attach/attach_internal.h"

#define NEAR (1500ull << 20) /* functions this near to malloc are served by one island */

static bool in_variant(const char *name)
{
	return !strncmp(name, "mi_", 3) || !strncmp(name, "tc_", 3);
}

static bool wanted(const struct silt_attach *a, const char *name, enum silt_hook_class class,
		   const struct silt_survey_symbol *found, bool operators)
{
	const struct silt_survey *s = &a->survey;
	bool own_allocator = a->malloc.module != s->libc || s->statically_linked;

	if (!found->addr)
		return false;
	switch (class) {
	case SILT_HOOK_ALLOC:
		return found->module == a->malloc.module || found->module == s->libc || in_variant(name);
	case SILT_HOOK_OPERATOR:
		return operators && found->module == a->malloc.module;
	case SILT_HOOK_STRING:
		return own_allocator && !s->statically_linked && found->module == a->malloc.module;
	case SILT_HOOK_MAP:
		return found->module == s->libc && !s->statically_linked;
	case SILT_HOOK_PROCESS:
		return true;
	default:
		return false;
	}
}

/* Of a function's names the one that everybody knows: its hook knows best what it does. */
static bool is_alias(const char *name)
{
	return in_variant(name) || !strncmp(name, "__", 2);
}

static bool is_needed(const char *name)
{
	return !strcmp(name, "malloc") || !strcmp(name, "free") || !strcmp(name, "calloc") || !strcmp(name, "realloc");
}

static uint64_t distance(silt_addr x, silt_addr y)
{
	return x > y ? x - y : y - x;
}

/* The island that serves an address: the one beside the agent, which will be near malloc, or one of its own. */
static uint32_t island_for(struct silt_attach *a, silt_addr addr)
{
	for (uint32_t i = 0; i < a->island_count; i++)
		if (distance(a->island_near[i], addr) < NEAR)
			return i;
	if (a->island_count == SILT_HEAD_ISLANDS)
		return SILT_NONE;
	a->island_near[a->island_count] = addr;
	return a->island_count++;
}

static int add_plan(struct silt_attach *a, uint32_t hook, const char *name, const struct silt_survey_symbol *found,
		    struct silt_error *err)
{
	struct silt_plan *p = &a->plans[a->plan_count];
	uint32_t want = found->size && found->size < SILT_CODE_MAX ? (uint32_t)found->size : found->size ? SILT_CODE_MAX : 64;

	for (uint32_t i = 0; i < a->plan_count; i++)
		if (a->plans[i].addr == found->addr) /* another name of the same function */
			return 0;
	if (a->plan_count == SILT_HEAD_SITES)
		return silt_error_set(err, SILT_E_INTERNAL, "too many functions to hook");
	if (want < 64)
		want = 64; /* a jump may need the alignment behind a short function */
	p->code = malloc(want);
	if (!p->code)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	while (want >= 32 && !silt_survey_read(&a->survey, found->addr, p->code, want))
		want /= 2; /* the end of the module's code */
	p->have = want;
	p->hook = hook;
	p->addr = found->addr;
	p->size = found->size;
	p->needed = is_needed(name);
	p->island = island_for(a, found->addr);
	if (p->island == SILT_NONE || want < 32) {
		free(p->code);
		return 0;
	}
	a->island_size[p->island] += SILT_ISLAND_SLOT;
	a->plan_count++;
	return 0;
}

static void add_skip(struct silt_agent_attach *t, silt_addr lo, uint64_t size)
{
	if (t->skip_count < SILT_AGENT_SKIPS)
		t->skips[t->skip_count++] = (struct silt_agent_skip){ lo, size };
}

/* glibc's allocator is one source file, so its functions stand together, static ones between them. */
static bool glibc_range(const struct silt_survey *s, silt_addr *ret_lo, uint64_t *ret_size)
{
	static const char *const names[] = { "malloc",	      "free",	     "calloc",	     "realloc",	   "memalign",
					     "aligned_alloc", "posix_memalign", "valloc",	     "pvalloc",	   "malloc_usable_size",
					     "malloc_trim",   "mallinfo",	     "mallinfo2",      "malloc_stats", "malloc_info",
					     "mallopt" };
	struct silt_survey_symbol found[SILT_ARRAY_LEN(names)];
	silt_addr lo = UINT64_MAX, hi = 0;

	if (strcmp(s->libc_name, "glibc") || silt_survey_find_all(s, names, SILT_ARRAY_LEN(names), found, NULL))
		return false;
	for (size_t i = 0; i < SILT_ARRAY_LEN(names); i++) {
		if (!found[i].addr || found[i].module != s->libc)
			continue;
		if (found[i].addr < lo)
			lo = found[i].addr;
		if (found[i].addr + found[i].size > hi)
			hi = found[i].addr + found[i].size;
	}
	*ret_lo = lo;
	*ret_size = hi - lo;
	return hi > lo && hi - lo < 131072;
}

/* Calls that come from inside the allocator are its own. */
static void plan_skips(struct silt_attach *a, struct silt_agent_attach *t)
{
	const struct silt_survey *s = &a->survey;
	silt_addr lo = 0;
	uint64_t size = 0;

	t->linked_in = a->malloc.module == s->exe && a->malloc.module != s->libc;
	if (t->linked_in) {
		/* The program's calls come from the same module: of the allocator only the hooked functions are known. */
	} else if (a->malloc.module != s->libc) {
		t->skip_lo = s->modules[a->malloc.module].start;
		t->skip_size = s->modules[a->malloc.module].end - t->skip_lo;
	} else if (glibc_range(s, &lo, &size)) {
		add_skip(t, lo, size);
	}
	for (uint32_t i = 0; i < a->plan_count; i++) {
		const struct silt_plan *p = &a->plans[i];
		const struct silt_agent_hook *h = silt_image_at(&a->image, (silt_addr)(uintptr_t)(t->hooks + p->hook), sizeof(*h));
		bool inside = p->addr - lo < size || p->addr - t->skip_lo < t->skip_size;

		if (h && p->size && !inside && (h->class == SILT_HOOK_ALLOC || h->class == SILT_HOOK_OPERATOR))
			add_skip(t, p->addr, p->size);
	}
}

static int no_malloc(const struct silt_survey *s, struct silt_error *err)
{
	if (s->statically_linked && !s->modules[s->exe].view.full.count)
		return silt_error_set(err, SILT_E_UNSUPPORTED,
				      "process %d (%s) runs a statically linked program without a symbol table, so its malloc cannot be "
				      "found: build it without -s and strip",
				      s->pid, s->status.name);
	return silt_error_set(err, SILT_E_UNSUPPORTED,
			      "process %d (%s) has no malloc and free that can be found: its allocator is its own", s->pid,
			      s->status.name);
}

static void note_private(struct silt_attach *a)
{
	const char *name = silt_elf_view_private_malloc(&a->survey.modules[a->survey.exe].view);

	if (name)
		snprintf(a->note, sizeof(a->note),
			 "an allocator is linked into the program under a name of its own (%s): what it allocates with that is not seen",
			 name);
}

int silt_plan_make(struct silt_attach *a, struct silt_error *err)
{
	struct silt_agent_attach *t = silt_image_attach(&a->image);
	uint32_t count = (uint32_t)(t->hooks_end - t->hooks);
	struct silt_survey_symbol operators;
	uint32_t needed = 0;
	const char **names = calloc((size_t)count + 1, sizeof(*names));
	int rc = 0;

	a->found = calloc((size_t)count + 1, sizeof(*a->found));
	if (!names || !a->found)
		rc = silt_error_set(err, SILT_E_NOMEM, "out of memory");
	for (uint32_t i = 0; !rc && i < count; i++) {
		names[i] = silt_image_hook_name(&a->image, i);
		if (!names[i])
			rc = silt_error_set(err, SILT_E_BAD_DATA, "the agent's table of hooks is damaged");
	}
	if (!rc)
		rc = silt_survey_find_all(&a->survey, names, count, a->found, err);
	t->operators_allocate = a->malloc.module != a->survey.libc || *a->variant;
	if (!silt_survey_find(&a->survey, "_Znwm", &operators) || operators.module != a->malloc.module)
		t->operators_allocate = 0;
	t->strdup_allocates = a->malloc.module != a->survey.libc;
	island_for(a, a->malloc.addr);
	for (uint32_t k = 0; !rc && k < 2 * count; k++) {
		uint32_t i = k % count;
		const struct silt_agent_hook *h = silt_image_at(&a->image, (silt_addr)(uintptr_t)(t->hooks + i), sizeof(*h));

		if (is_alias(names[i]) == (k >= count) &&
		    wanted(a, names[i], (enum silt_hook_class)h->class, &a->found[i], t->operators_allocate))
			rc = add_plan(a, i, names[i], &a->found[i], err);
	}
	free(names);
	for (uint32_t i = 0; i < a->plan_count; i++)
		needed += a->plans[i].needed;
	if (!rc && needed < 2)
		rc = no_malloc(&a->survey, err);
	if (!rc)
		plan_skips(a, t);
	if (!rc && a->malloc.module != a->survey.exe && a->survey.exe != SILT_NONE)
		note_private(a);
	return rc;
}

static bool reaches(silt_addr from, silt_addr to, int32_t *ret)
{
	int64_t rel = (int64_t)(to - (from + SILT_JUMP_SIZE));

	*ret = (int32_t)rel;
	return rel == *ret;
}

/* One function's trampoline and, where the hook is far, its bridge: jmp *0(%rip) and the address. */
static int build_site(struct silt_attach *a, const struct silt_plan *p, uint8_t *slot, silt_addr slot_addr, struct silt_error *err)
{
	struct silt_agent_attach *t = silt_image_attach(&a->image);
	const struct silt_agent_hook *h = silt_image_at(&a->image, (silt_addr)(uintptr_t)(t->hooks + p->hook), sizeof(*h));
	struct silt_site *site = &a->head.sites[a->head.site_count];
	uint64_t *real = silt_image_at(&a->image, (silt_addr)(uintptr_t)h->real, sizeof(*real));
	uint32_t skipped;
	int32_t rel;
	int rc;

	memset(site, 0, sizeof(*site));
	site->hook = (silt_addr)(uintptr_t)h->hook;
	site->bridge = slot_addr;
	site->trampoline = slot_addr + 16;
	memcpy(slot, "\xff\x25\0\0\0\0", 6);
	memcpy(slot + 6, &site->hook, 8);
	rc = silt_relocate(p->code, p->have, p->size, p->addr, site->trampoline, slot + 16, &site->moved, err);
	if (rc)
		return rc;
	skipped = (uint32_t)(site->moved.at - p->addr);
	memcpy(site->original, p->code + skipped, SILT_JUMP_SIZE);
	site->patched[0] = 0xe9;
	if (reaches(site->moved.at, site->hook, &rel))
		site->bridge = 0;
	else if (!reaches(site->moved.at, site->bridge, &rel))
		return silt_error_set(err, SILT_E_UNSUPPORTED, "no memory within its reach is free");
	memcpy(site->patched + 1, &rel, 4);
	*real = site->trampoline;
	a->head.site_count++;
	return 0;
}

int silt_plan_build(struct silt_attach *a, uint8_t *const islands[SILT_HEAD_ISLANDS], struct silt_error *err)
{
	struct silt_agent_attach *t = silt_image_attach(&a->image);
	uint32_t count = (uint32_t)(t->hooks_end - t->hooks);
	uint64_t used[SILT_HEAD_ISLANDS] = { 0 };
	struct silt_error why;

	for (uint32_t i = 0; i < a->plan_count; i++) {
		const struct silt_plan *p = &a->plans[i];
		uint64_t at = used[p->island];
		const char *name = silt_image_hook_name(&a->image, p->hook);

		if (!build_site(a, p, islands[p->island] + at, a->head.islands[p->island].addr + at, &why)) {
			used[p->island] += SILT_ISLAND_SLOT;
			continue;
		}
		if (p->needed)
			return silt_error_set(err, SILT_E_UNSUPPORTED, "the function %s of process %d (%s) cannot be hooked: %.200s", name,
					      a->survey.pid, a->survey.status.name, why.msg);
		snprintf(a->note, sizeof(a->note), "%s is not hooked: %.200s", name, why.msg);
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct silt_agent_hook *h = silt_image_at(&a->image, (silt_addr)(uintptr_t)(t->hooks + i), sizeof(*h));
		uint64_t *real = silt_image_at(&a->image, (silt_addr)(uintptr_t)h->real, sizeof(*real));

		if (h->class == SILT_HOOK_LOOKUP && a->found[i].addr)
			*real = a->found[i].addr;
	}
	return 0;
}
