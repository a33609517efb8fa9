/* SPDX-License-Identifier: MIT */
/* C++ types of blocks: see types.h. */
#include "capture/heap/types.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "capture/heap/heap_internal.h"

#define NAME_MAX_BYTES 1024u
#define WORDS_MAX (1u << 20) /* different words that are remembered; later ones have no type */
#define FILTER_BITS 4096u
#define FILTER_SHIFT 21      /* two megabytes: the usual distance of modules */

struct span {
	silt_addr start, end;
	uint32_t module;
	bool code;
};

struct silt_heap_types {
	struct silt_heap_memory mem;
	const struct silt_target_modules *modules;
	SILT_VEC(struct span) spans; /* sorted */
	uint64_t filter[FILTER_BITS / 64]; /* which stretches of memory hold modules' data */
	struct silt_map seen;        /* word -> type + 1 */
	SILT_VEC(struct silt_heap_type) types;
};

static unsigned filter_bit(uint64_t word)
{
	return (unsigned)((word >> FILTER_SHIFT) * 0x9e3779b97f4a7c15ull >> 52) % FILTER_BITS;
}

static int compare_spans(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static bool add_spans(struct silt_heap_types *t, const struct silt_maps *maps)
{
	for (uint32_t i = 0; i < t->modules->count; i++) {
		const struct silt_target_module *m = &t->modules->list[i];

		for (uint32_t k = m->region_first; k < m->region_first + m->region_count && k < maps->count; k++) {
			const struct silt_region *r = &maps->regions[k];
			struct span s = { r->start, r->end, i, r->prot & PROT_EXEC };

			if (!(r->prot & PROT_READ) || !silt_modules_same_file(r, &maps->regions[m->region_first]))
				continue;
			if (!silt_vec_push(&t->spans, s))
				return false;
			for (silt_addr at = r->start >> FILTER_SHIFT; !s.code && at <= (r->end - 1) >> FILTER_SHIFT; at++)
				t->filter[filter_bit(at << FILTER_SHIFT) / 64] |=
					1ull << filter_bit(at << FILTER_SHIFT) % 64;
		}
	}
	if (t->spans.count)
		qsort(t->spans.items, t->spans.count, sizeof(*t->spans.items), compare_spans);
	return true;
}

struct silt_heap_types *silt_heap_types_create(const struct silt_heap_reader *reader, const struct silt_maps *maps,
					       const struct silt_target_modules *modules)
{
	struct silt_heap_types *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->modules = modules;
	if (!silt_heap_memory_init(&t->mem, reader) || !add_spans(t, maps)) {
		silt_heap_types_destroy(t);
		return NULL;
	}
	return t;
}

void silt_heap_types_destroy(struct silt_heap_types *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->types.count; i++)
		free((char *)t->types.items[i].name);
	silt_vec_free(&t->types);
	silt_vec_free(&t->spans);
	silt_map_deinit(&t->seen);
	silt_heap_memory_deinit(&t->mem);
	free(t);
}

static const struct span *span_of(const struct silt_heap_types *t, silt_addr addr)
{
	size_t low = 0, high = t->spans.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (t->spans.items[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < t->spans.count && t->spans.items[low].start <= addr ? &t->spans.items[low] : NULL;
}

static bool in_data(const struct silt_heap_types *t, silt_addr addr)
{
	const struct span *s = addr % 8 ? NULL : span_of(t, addr);

	return s && !s->code;
}

/* The text at addr, when it may be a mangled type name; the caller frees it. Names of types that are local to a file begin
 * with a star. */
static char *read_name(struct silt_heap_types *t, silt_addr addr)
{
	char text[NAME_MAX_BYTES];
	size_t n = 0;

	if (silt_heap_memory_read(&t->mem, addr, text, 1) && text[0] == '*')
		addr++;
	for (;; n++) {
		if (n == sizeof(text) || !silt_heap_memory_read(&t->mem, addr + n, &text[n], 1))
			return NULL;
		if (!text[n])
			break;
		if ((unsigned char)text[n] <= ' ' || (unsigned char)text[n] > '~')
			return NULL;
	}
	if (n < 2 || !((text[0] >= '0' && text[0] <= '9') || (text[0] >= 'A' && text[0] <= 'Z')))
		return NULL;
	return strdup(text);
}

/* std::type_info: its own vtable, whose type_info lies in a module again, and the name. */
static char *type_info_name(struct silt_heap_types *t, silt_addr info)
{
	uint64_t table, name, up;

	if (!in_data(t, info) || !silt_heap_memory_u64(&t->mem, info, &table) || !in_data(t, table) ||
	    !silt_heap_memory_u64(&t->mem, info + 8, &name) || !span_of(t, name) ||
	    !silt_heap_memory_u64(&t->mem, table - 8, &up) || (up && !in_data(t, up)))
		return NULL;
	return read_name(t, name);
}

static bool is_vtable(struct silt_heap_types *t, silt_addr table, char **ret_name)
{
	uint64_t words[3]; /* offset to top, type_info, first function */
	const struct span *code;

	*ret_name = NULL;
	if (!in_data(t, table) || !silt_heap_memory_read(&t->mem, table - 16, words, sizeof(words)) || words[0])
		return false;
	code = span_of(t, words[2]);
	if (words[2] && (!code || !code->code))
		return false;
	if (!words[1])
		return words[2] != 0;
	*ret_name = type_info_name(t, words[1]);
	return *ret_name;
}

static uint32_t add_type(struct silt_heap_types *t, silt_addr table, char *name)
{
	const struct span *s = span_of(t, table);
	struct silt_heap_type type = { .module = s->module,
				       .offset = table - t->modules->list[s->module].bias,
				       .name = name };

	if (!silt_vec_push(&t->types, type)) {
		free(name);
		return 0;
	}
	return (uint32_t)t->types.count;
}

uint32_t silt_heap_type_of(struct silt_heap_types *t, uint64_t first_word)
{
	unsigned bit = filter_bit(first_word);
	uint32_t type = 0;
	char *name;

	if (!(t->filter[bit / 64] >> bit % 64 & 1) || !in_data(t, first_word))
		return 0;
	if (silt_map_get(&t->seen, first_word, &type) || t->seen.count >= WORDS_MAX)
		return type;
	if (is_vtable(t, first_word, &name))
		type = add_type(t, first_word, name);
	silt_map_put(&t->seen, first_word, type);
	return type;
}

uint32_t silt_heap_types_count(const struct silt_heap_types *t)
{
	return (uint32_t)t->types.count;
}

const struct silt_heap_type *silt_heap_type_get(const struct silt_heap_types *t, uint32_t i)
{
	return i < t->types.count ? &t->types.items[i] : NULL;
}
