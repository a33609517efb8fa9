/* SPDX-License-Identifier: MIT */
/* Shortening C++ names as trees. */
#include "symbols/fold_tree.h"

#include <stdio.h>
#include <string.h>

enum {
	MAX_STEPS = 20000, /* substitutions make the tree a graph: what is shared is walked again */
	MAX_DEPTH = 256,
};

static struct demangle_component *fold(struct silt_fold_tree *f, struct demangle_component *c, unsigned depth);

static struct demangle_component *ellipsis(struct silt_fold_tree *f)
{
	static const char text[] = "\xe2\x80\xa6";

	f->ellipsis.type = DEMANGLE_COMPONENT_NAME;
	f->ellipsis.u.s_name.s = text;
	f->ellipsis.u.s_name.len = (int)strlen(text);
	return &f->ellipsis;
}

/* "{lambda(int)#1}" without what it takes. */
static struct demangle_component *fold_lambda(struct silt_fold_tree *f, struct demangle_component *c)
{
	struct demangle_component *name;

	if (f->lambdas == SILT_FOLD_LAMBDAS)
		return c;
	name = &f->lambda[f->lambdas];
	name->type = DEMANGLE_COMPONENT_NAME;
	name->u.s_name.s = f->text[f->lambdas];
	name->u.s_name.len = snprintf(f->text[f->lambdas], sizeof(f->text[0]), "{lambda#%d}", c->u.s_unary_num.num + 1);
	f->lambdas++;
	return name;
}

static struct demangle_component *fold_left(struct silt_fold_tree *f, struct demangle_component *c, unsigned depth)
{
	struct demangle_component *left = fold(f, c->u.s_binary.left, depth);

	if (!left)
		return NULL;
	c->u.s_binary.left = left;
	return c;
}

static struct demangle_component *fold_both(struct silt_fold_tree *f, struct demangle_component *c, unsigned depth)
{
	struct demangle_component *right;

	if (!fold_left(f, c, depth))
		return NULL;
	right = fold(f, c->u.s_binary.right, depth);
	if (!right)
		return NULL;
	c->u.s_binary.right = right;
	return c;
}

/* A list may end, and a function type may lack a result: parts that are not there stay so. */
static struct demangle_component *fold_parts(struct silt_fold_tree *f, struct demangle_component *c, unsigned depth)
{
	if (c->u.s_binary.left && !fold_left(f, c, depth))
		return NULL;
	if (c->u.s_binary.right) {
		struct demangle_component *right = fold(f, c->u.s_binary.right, depth);

		if (!right)
			return NULL;
		c->u.s_binary.right = right;
	}
	return c;
}

static struct demangle_component *fold(struct silt_fold_tree *f, struct demangle_component *c, unsigned depth)
{
	if (!c || ++f->steps > MAX_STEPS || ++depth > MAX_DEPTH)
		return NULL;
	switch (c->type) {
	case DEMANGLE_COMPONENT_TEMPLATE:
		if (c->u.s_binary.right == &f->ellipsis)
			return c;
		c->u.s_binary.right = ellipsis(f);
		return fold_left(f, c, depth);
	/* Only the name is left of these. */
	case DEMANGLE_COMPONENT_TYPED_NAME:
	case DEMANGLE_COMPONENT_RESTRICT_THIS:
	case DEMANGLE_COMPONENT_VOLATILE_THIS:
	case DEMANGLE_COMPONENT_CONST_THIS:
	case DEMANGLE_COMPONENT_REFERENCE_THIS:
	case DEMANGLE_COMPONENT_RVALUE_REFERENCE_THIS:
	case DEMANGLE_COMPONENT_TRANSACTION_SAFE:
	case DEMANGLE_COMPONENT_NOEXCEPT:
	case DEMANGLE_COMPONENT_THROW_SPEC:
		return fold(f, c->u.s_binary.left, depth);
	case DEMANGLE_COMPONENT_LAMBDA:
		return fold_lambda(f, c);
	case DEMANGLE_COMPONENT_QUAL_NAME:
	case DEMANGLE_COMPONENT_LOCAL_NAME:
	case DEMANGLE_COMPONENT_CONSTRUCTION_VTABLE:
		return fold_both(f, c, depth);
	case DEMANGLE_COMPONENT_DEFAULT_ARG:
	case DEMANGLE_COMPONENT_TAGGED_NAME:
	case DEMANGLE_COMPONENT_VTABLE:
	case DEMANGLE_COMPONENT_VTT:
	case DEMANGLE_COMPONENT_TYPEINFO:
	case DEMANGLE_COMPONENT_TYPEINFO_NAME:
	case DEMANGLE_COMPONENT_TYPEINFO_FN:
	case DEMANGLE_COMPONENT_THUNK:
	case DEMANGLE_COMPONENT_VIRTUAL_THUNK:
	case DEMANGLE_COMPONENT_COVARIANT_THUNK:
	case DEMANGLE_COMPONENT_GUARD:
	case DEMANGLE_COMPONENT_TLS_INIT:
	case DEMANGLE_COMPONENT_TLS_WRAPPER:
	case DEMANGLE_COMPONENT_REFTEMP:
	case DEMANGLE_COMPONENT_HIDDEN_ALIAS:
	case DEMANGLE_COMPONENT_TRANSACTION_CLONE:
	case DEMANGLE_COMPONENT_NONTRANSACTION_CLONE:
	case DEMANGLE_COMPONENT_CLONE:
	/* Types a conversion operator is named after. */
	case DEMANGLE_COMPONENT_CONVERSION:
	case DEMANGLE_COMPONENT_RESTRICT:
	case DEMANGLE_COMPONENT_VOLATILE:
	case DEMANGLE_COMPONENT_CONST:
	case DEMANGLE_COMPONENT_POINTER:
	case DEMANGLE_COMPONENT_REFERENCE:
	case DEMANGLE_COMPONENT_RVALUE_REFERENCE:
		return fold_left(f, c, depth);
	case DEMANGLE_COMPONENT_FUNCTION_TYPE:
	case DEMANGLE_COMPONENT_ARGLIST:
		return fold_parts(f, c, depth);
	case DEMANGLE_COMPONENT_PTRMEM_TYPE:
		return fold_both(f, c, depth);
	default: /* names, operators, literals */
		return c;
	}
}

struct demangle_component *silt_fold_tree(struct silt_fold_tree *f, struct demangle_component *root)
{
	return fold(f, root, 0);
}
