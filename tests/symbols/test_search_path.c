/* SPDX-License-Identifier: MIT */
/* SILT_SYMBOL_PATH: elements, separators, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "symbols/search_path.h"

/* "DIR|DIR|… servers URL@STORE|… cache X" of what a path means, or the error. */
static const char *read_path(const char *text, char *out, size_t size)
{
	struct silt_search_path p = {.home = "/home/me"};
	struct silt_arena *arena = silt_arena_create();
	struct silt_error err = {0};
	size_t n = 0;

	out[0] = '\0';
	if (silt_search_path_add(&p, text, arena, &err)) {
		snprintf(out, size, "error %d: %s", err.code, err.msg);
	} else {
		for (size_t i = 0; i < p.dirs.count; i++)
			n += (size_t)snprintf(out + n, size - n, "%s|", p.dirs.items[i]);
		for (size_t i = 0; i < p.servers.count; i++)
			n += (size_t)snprintf(out + n, size - n, " %s@%s", p.servers.items[i].url ? p.servers.items[i].url : "-",
					      p.servers.items[i].store ? p.servers.items[i].store : "-");
		if (p.cache || p.default_cache)
			snprintf(out + n, size - n, " cache %s", p.cache ? p.cache : "-");
	}
	silt_search_path_deinit(&p);
	silt_arena_destroy(arena);
	return out;
}

static void reads_elements(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"", ""},
		{"/a", "/a|"},
		{"/a:/b", "/a|/b|"},
		{"/a;/b", "/a|/b|"},
		{";;/a::/b;:", "/a|/b|"},
		{" /a ; /b b ", "/a|/b b|"},
		{"rel/a:.", "rel/a|.|"},
		{"~/sym:~", "/home/me/sym|~|"},
		{"srv*https://x.org", " https://x.org@-"},
		{"srv*https://x.org:8002/sub/", " https://x.org:8002/sub/@-"},
		{"srv*/store*http://x:1;/b", "/store|/b| http://x:1@/store"},
		{"/a:srv*/s*http://x:1/:2;/b:/c", "/a|/s|/b|/c| http://x:1/:2@/s"},
		{"srv**https://x", " https://x@-"},
		{"srv*~/s*https://x", "/home/me/s| https://x@/home/me/s"},
		{"srv*/s1*/s2*https://x", "/s1|/s2| https://x@/s1"},
		{"SRV*/s*HTTPS://x", "/s| HTTPS://x@/s"},
		{"srv*", " -@-"},
		{"srv*/s*", "/s| -@/s"},
		{"srv*/dir", "/dir|"}, /* a server that is a directory, as on Windows */
		{"srv*file:///s", " file:///s@-"},
		{"srv*http://a;srv*http://b", " http://a@- http://b@-"},
		{"cache*/c;/a", "/a| cache /c"},
		{"cache*~/c", " cache /home/me/c"},
		{"cache*", " cache -"},
		{"cache*/c;cache*", " cache -"},
		{"/a*b", "error -3: '/a*b' in the symbol path is no directory, no cache*… and no srv*…"},
		{"symsrv*x*y", "error -3: 'symsrv*x*y' in the symbol path is no directory, no cache*… and no srv*…"},
		{"cache*/a*/b", "error -3: 'cache*/a*/b' in the symbol path: cache* takes one directory"},
		{"srv*ftp://x", "error -3: 'ftp://x' in the symbol path is no http, https or file URL"},
		{"srv*http://x*/store", "error -3: 'http://x' in the symbol path is followed by a '*': the server comes last"},
		{"srv*http://", "error -3: 'http://' in the symbol path is no http, https or file URL"},
		{"srv*http://a b", "error -3: 'http://a b' in the symbol path is no http, https or file URL"},
	};
	char out[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(read_path(cases[i].text, out, sizeof(out)), cases[i].want);
}

static void bounds_elements(void **state)
{
	char text[4 * SILT_SEARCH_PATH_MAX + 8] = "", out[4096];

	(void)state;
	for (int i = 0; i <= SILT_SEARCH_PATH_MAX; i++)
		strcpy(text + 3 * i, "/a:");
	assert_string_equal(read_path(text, out, sizeof(out)), "error -5: the symbol path has more than 1024 elements");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(reads_elements), cmocka_unit_test(bounds_elements)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
