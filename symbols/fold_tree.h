/* SPDX-License-Identifier: MIT */
/** Shortening of a C++ name as libiberty's tree, where what belongs to what is certain. Inside of demangle.c only. */
#ifndef SILT_SYMBOLS_FOLD_TREE_H
#define SILT_SYMBOLS_FOLD_TREE_H

#include <demangle.h>

enum { SILT_FOLD_LAMBDAS = 32 };

/** Nodes that stand in for folded parts; lives as long as the tree. Start with all zero. */
struct silt_fold_tree {
	unsigned steps;
	unsigned lambdas;
	struct demangle_component ellipsis;
	struct demangle_component lambda[SILT_FOLD_LAMBDAS];
	char text[SILT_FOLD_LAMBDAS][32];
};

/** Changes the tree in place: template arguments to "…", no parameters, return types or qualifiers of functions. Returns its
 *  new root, or NULL when it is too large or too deep for a name that people wrote. */
struct demangle_component *silt_fold_tree(struct silt_fold_tree *f, struct demangle_component *root);

#endif
