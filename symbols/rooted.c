/* SPDX-License-Identifier: MIT */
/* Resolving links inside a root, component by component. */
#include "symbols/rooted.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LINKS = 40 }; /* what the kernel follows in one path */

struct walk {
	char *out; /* PATH_MAX bytes: what is resolved so far, without a slash at its end */
	size_t len, root_len;
	char rest[PATH_MAX]; /* what is still to come */
	unsigned links;
};

static void go_up(struct walk *w)
{
	while (w->len > w->root_len && w->out[w->len - 1] != '/')
		w->len--;
	if (w->len > w->root_len)
		w->len--;
	w->out[w->len] = '\0';
}

/* The target of a link in front of what is left of the path. */
static bool follow(struct walk *w, const char *target)
{
	char joined[PATH_MAX];
	int n = snprintf(joined, sizeof(joined), "%s/%s", target, w->rest);

	if (n < 0 || (size_t)n >= sizeof(joined) || ++w->links > MAX_LINKS)
		return false;
	memcpy(w->rest, joined, (size_t)n + 1);
	if (target[0] == '/')
		w->len = w->root_len;
	else
		go_up(w);
	w->out[w->len] = '\0';
	return true;
}

static bool go_down(struct walk *w, const char *name, size_t name_len)
{
	char target[PATH_MAX];
	ssize_t n;

	if (w->len + 1 + name_len >= PATH_MAX)
		return false;
	w->out[w->len++] = '/';
	memcpy(w->out + w->len, name, name_len);
	w->len += name_len;
	w->out[w->len] = '\0';
	n = readlink(w->out, target, sizeof(target) - 1);
	if (n < 0)
		return true; /* no link, or nothing there */
	target[n] = '\0';
	return follow(w, target);
}

bool silt_rooted_path(const char *root, const char *path, char ret[PATH_MAX])
{
	struct walk w = {.out = ret, .len = strlen(root)};
	char name[NAME_MAX + 1];

	if (!*root)
		return snprintf(ret, PATH_MAX, "%s", path) < PATH_MAX;
	while (w.len && root[w.len - 1] == '/')
		w.len--;
	if (w.len >= PATH_MAX || strlen(path) >= sizeof(w.rest))
		return false;
	memcpy(ret, root, w.len);
	ret[w.len] = '\0';
	w.root_len = w.len;
	strcpy(w.rest, path);
	for (;;) {
		const char *start = w.rest + strspn(w.rest, "/");
		size_t n = strcspn(start, "/");

		if (!n)
			break;
		if (n > NAME_MAX)
			return false;
		memcpy(name, start, n);
		name[n] = '\0';
		memmove(w.rest, start + n, strlen(start + n) + 1);
		if (strcmp(name, "..") == 0)
			go_up(&w);
		else if (strcmp(name, ".") != 0 && !go_down(&w, name, n))
			return false;
	}
	if (!w.len)
		strcpy(ret, "/");
	return true;
}
