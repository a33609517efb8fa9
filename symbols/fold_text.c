/* SPDX-License-Identifier: MIT */
/* Shortening readable names as text: Rust, D, and C++ names that came readable or have no tree. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "symbols/demangle.h"

#define ELLIPSIS "\xe2\x80\xa6"

struct fold {
	const char *in;
	const char *start;
	char *out;
};

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static bool starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void put(struct fold *f, const char *text, size_t n)
{
	memcpy(f->out, text, n);
	f->out += n;
}

static void copy(struct fold *f, size_t n)
{
	put(f, f->in, n);
	f->in += n;
}

/* ---- C++ ---- */

/* Bytes of "operator<<", "operator()", "operator->" and the like at p; 0 where there is none. first: p begins the text. */
static size_t operator_length(const char *p, bool first)
{
	static const char *const symbols[] = {"()", "[]", "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<", ">"};

	if (!starts(p, "operator") || (!first && is_word(p[-1])))
		return 0;
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++)
		if (starts(p + 8, symbols[i]))
			return 8 + strlen(symbols[i]);
	return is_word(p[8]) ? 0 : 8;
}

/* Behind the parenthesis that closes the one at p. Inside, "<" and ">" may be operators of an expression: they count for
 * nothing, and parentheses always pair. */
static const char *skip_parentheses(const char *p)
{
	size_t depth = 0;

	for (; *p; p++) {
		if (*p == '(')
			depth++;
		else if (*p == ')' && --depth == 0)
			return p + 1;
	}
	return p;
}

/* Behind the angle bracket that closes the one at p. */
static const char *skip_angles(const char *p)
{
	size_t depth = 0;

	while (*p) {
		size_t n = operator_length(p, false);

		if (n) {
			p += n;
		} else if (starts(p, "->")) {
			p += 2;
		} else if (*p == '(') {
			p = skip_parentheses(p);
		} else if (*p == '<') {
			depth++;
			p++;
		} else if (*p++ == '>' && --depth == 0) {
			return p;
		}
	}
	return p;
}

/* What may stand behind parameters and says nothing of the name. */
static void skip_qualifiers(struct fold *f)
{
	static const char *const words[] = {" const", " volatile", " noexcept", " &&", " &"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (starts(f->in, words[i]) && !is_word(f->in[strlen(words[i])])) {
			f->in += strlen(words[i]);
			i = (size_t)-1;
		}
	}
}

static void fold_cxx(struct fold *f)
{
	static const char anonymous[] = "(anonymous namespace)", lambda[] = "{lambda(";

	while (*f->in) {
		size_t n = operator_length(f->in, f->in == f->start);

		if (n) {
			copy(f, n);
			/* "operator< <int>": the blank keeps the two apart. */
			if (starts(f->in, " <"))
				copy(f, 1);
		} else if (starts(f->in, anonymous)) {
			copy(f, sizeof(anonymous) - 1);
		} else if (starts(f->in, lambda)) {
			copy(f, sizeof(lambda) - 2);
			f->in = skip_parentheses(f->in);
		} else if (*f->in == '<' && f->in != f->start && !strchr(" (&*,<", f->in[-1])) {
			f->in = skip_angles(f->in);
			put(f, "<" ELLIPSIS ">", 5);
		} else if (*f->in == '<' && f->in - f->start >= 2 && f->in[-1] == ' ' && strchr("<>", f->in[-2])) {
			f->in = skip_angles(f->in);
			put(f, "<" ELLIPSIS ">", 5);
		} else if (*f->in == '(') {
			f->in = skip_parentheses(f->in);
			skip_qualifiers(f);
		} else {
			copy(f, 1);
		}
	}
}

/* ---- Rust ---- */

/* "core::ptr::drop_in_place<…>", but "<Vec<…> as Drop>::drop": an angle bracket behind a name or "::" opens arguments, any
 * other one a path. Functions have no parameters here; parentheses are tuples. */
static void fold_rust(struct fold *f)
{
	while (*f->in) {
		char before = f->in == f->start ? ' ' : f->in[-1];

		if (starts(f->in, "->")) {
			copy(f, 2);
		} else if (*f->in == '<' && (is_word(before) || before == ':' || before == '}')) {
			f->in = skip_angles(f->in);
			put(f, "<" ELLIPSIS ">", 5);
		} else {
			copy(f, 1);
		}
	}
}

/* ---- D ---- */

/* Whether the quote at p ends a string: quotes inside of it are not marked as such, so what follows must tell. */
static bool ends_string(const char *p)
{
	if (p[1] == 'w' || p[1] == 'd')
		p++;
	return p[1] == ')' || p[1] == ',' || !p[1];
}

/* Behind the parenthesis that closes the one at p; strings among the arguments may hold others. */
static const char *skip_d_parentheses(const char *p)
{
	bool quoted = false;
	size_t depth = 0;

	for (; *p; p++) {
		if (*p == '"')
			quoted = quoted ? !ends_string(p) : true;
		else if (!quoted && *p == '(')
			depth++;
		else if (!quoted && *p == ')' && --depth == 0)
			return p + 1;
	}
	return p;
}

static void fold_d(struct fold *f)
{
	while (*f->in) {
		if (starts(f->in, "!(")) {
			put(f, "!(" ELLIPSIS ")", 6);
			f->in = skip_d_parentheses(f->in + 1);
		} else if (*f->in == '(') {
			f->in = skip_d_parentheses(f->in);
			/* Qualifiers of the function follow its parameters: "f() const". */
			while (*f->in == ' ' || isalpha((unsigned char)*f->in))
				f->in++;
		} else {
			copy(f, 1);
		}
	}
}

char *silt_demangle_fold(const char *name, enum silt_demangle_language language)
{
	/* "<…>" is five bytes where "<>" was two. */
	char *result = malloc(strlen(name) * 3 + 1);
	struct fold f = {name, name, result};

	if (!result)
		return NULL;
	if (language == SILT_NAME_RUST)
		fold_rust(&f);
	else if (language == SILT_NAME_D)
		fold_d(&f);
	else
		fold_cxx(&f);
	*f.out = '\0';
	return result;
}
