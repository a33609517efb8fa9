/* SPDX-License-Identifier: MIT */
/* Demangling through libiberty, and folding of long names. */
#include "symbols/demangle.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <demangle.h>

enum {
	MAX_MANGLED = 1 << 16,  /* longer ones are the work of generators: nobody reads them */
	MAX_READABLE = 1 << 16, /* substitutions let short names grow without bound */
};

char *silt_demangle(const char *mangled, enum silt_demangle how)
{
	int options = DMGL_PARAMS | DMGL_ANSI;
	char *full, *folded;

	if (how == SILT_DEMANGLE_OFF || mangled[0] != '_' || strnlen(mangled, MAX_MANGLED) == MAX_MANGLED)
		return NULL;
	if (mangled[1] == 'D' && isdigit((unsigned char)mangled[2]))
		options |= DMGL_DLANG;
	else if (mangled[1] == 'Z' || mangled[1] == 'R' || mangled[1] == '_')
		options |= DMGL_AUTO;
	else
		return NULL;
	full = cplus_demangle(mangled, options);
	if (!full || strnlen(full, MAX_READABLE) == MAX_READABLE) {
		free(full);
		return NULL;
	}
	if (how == SILT_DEMANGLE_FULL)
		return full;
	folded = silt_demangle_fold(full);
	free(full);
	return folded;
}

struct fold {
	const char *in;
	const char *start;
	char *out;
};

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static void put(struct fold *f, const char *text, size_t n)
{
	memcpy(f->out, text, n);
	f->out += n;
}

/* Copies "operator<<" and the like, whose characters are no brackets. */
static bool copy_operator(struct fold *f)
{
	static const char *const symbols[] = {"()", "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<", ">"};

	if (strncmp(f->in, "operator", 8) != 0 || (f->in > f->start && is_word(f->in[-1])))
		return false;
	put(f, f->in, 8);
	f->in += 8;
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		size_t n = strlen(symbols[i]);

		if (strncmp(f->in, symbols[i], n) == 0) {
			put(f, f->in, n);
			f->in += n;
			break;
		}
	}
	return true;
}

/* Moves behind the bracket that closes the one at f->in. Arrows and nested brackets of both kinds are counted. */
static void skip_bracket(struct fold *f)
{
	char opening = *f->in, closing = opening == '<' ? '>' : ')';
	size_t depth = 0;

	for (; *f->in; f->in++) {
		if (strncmp(f->in, "->", 2) == 0) {
			f->in++;
		} else if (strncmp(f->in, "operator<", 9) == 0 || strncmp(f->in, "operator>", 9) == 0 ||
			   strncmp(f->in, "operator(", 9) == 0) {
			f->in += 8;
			while (f->in[1] && strchr("<>=()-", f->in[1]))
				f->in++;
		} else if (*f->in == opening) {
			depth++;
		} else if (*f->in == closing && --depth == 0) {
			f->in++;
			return;
		}
	}
}

static bool is_kept_group(const char *p)
{
	return strncmp(p, "(anonymous namespace)", 21) == 0;
}

char *silt_demangle_fold(const char *name)
{
	/* "<…>" is five bytes where "<>" was two. */
	char *result = malloc(strlen(name) * 3 + 1);
	struct fold f = {name, name, result};

	if (!result)
		return NULL;
	while (*f.in) {
		if (copy_operator(&f))
			continue;
		if (*f.in == '<' && (f.in == name || !strchr(" (&*<,", f.in[-1]) || f.in[-1] == ' ')) {
			/* "<T as Trait>::f" of Rust starts a path: its inside is the name. */
			if (f.in == name) {
				put(&f, f.in++, 1);
				continue;
			}
			skip_bracket(&f);
			put(&f, "<\xe2\x80\xa6>", 5);
		} else if (*f.in == '(' && !is_kept_group(f.in)) {
			skip_bracket(&f);
			if (strncmp(f.in, " const", 6) == 0 && !is_word(f.in[6]))
				f.in += 6;
		} else if (*f.in == '(') {
			put(&f, f.in, 21);
			f.in += 21;
		} else {
			put(&f, f.in++, 1);
		}
	}
	*f.out = '\0';
	return result;
}
