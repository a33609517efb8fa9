/* SPDX-License-Identifier: MIT */
/* Which functions and libraries are the allocator itself, and so never the answer to "who allocated this?". */
#include "analyze/names.h"

#include <string.h>

/* Functions of these names are allocators in any module: programs link allocators statically, too. */
static const char *const FUNCTIONS[] = {
	"malloc",
	"calloc",
	"realloc",
	"reallocarray",
	"aligned_alloc",
	"memalign",
	"posix_memalign",
	"valloc",
	"pvalloc",
	"cfree",
	"free",
	/* inside glibc */
	"__libc_malloc",
	"__libc_calloc",
	"__libc_realloc",
	"__libc_memalign",
	"__libc_valloc",
	"__libc_pvalloc",
	"__libc_reallocarray",
	"__posix_memalign",
	"__GI___libc_malloc",
	"_mid_memalign",
	"_int_malloc",
	"_int_realloc",
	"_int_memalign",
	"sysmalloc",
	"sysmalloc_mmap",
	"realloc_hook_ini",
	"malloc_hook_ini",
	/* jemalloc, tcmalloc, mimalloc by their own names */
	"mallocx",
	"rallocx",
	"xallocx",
	"nallocx",
	"tc_malloc",
	"tc_calloc",
	"tc_realloc",
	"tc_memalign",
	"tc_posix_memalign",
	"tc_valloc",
	"tc_pvalloc",
	"tc_new",
	"tc_newarray",
	"mi_malloc",
	"mi_calloc",
	"mi_zalloc",
	"mi_realloc",
	"mi_malloc_aligned",
	"mi_new",
	"mi_new_n",
	/* below Rust's alloc crate */
	"__rust_alloc",
	"__rust_alloc_zeroed",
	"__rust_realloc",
	"__rdl_alloc",
	"__rdl_alloc_zeroed",
	"__rdl_realloc",
	"__rg_alloc",
	"__rg_alloc_zeroed",
	"__rg_realloc",
	/* silt.h */
	"silt_alloc",
	"silt_agent_alloc",
};

/* These are allocators only inside the C library: programs have functions of their own called so. */
static const char *const LIBC_FUNCTIONS[] = {"mmap",          "mmap64", "__mmap",   "__mmap64",
					     "__GI___mmap64", "mremap", "__mremap", "__GI___mremap"};

/* Global operator new, new[], delete and delete[] as the Itanium C++ ABI mangles them. */
static const char *const OPERATORS[] = {"_Znw", "_Zna", "_Zdl", "_Zda"};

static const char *const LIBRARIES[] = {"libsilt-agent", "libjemalloc", "libtcmalloc", "libmimalloc"};
static const char *const C_LIBRARIES[] = {"libc.so", "libc-", "ld-linux", "ld-musl", "libc.musl"};

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static bool name_starts_with_one(const char *path, const char *const *starts, size_t count)
{
	size_t len;
	const char *name;

	if (!path)
		return false;
	name = silt_path_name(path, &len);
	for (size_t i = 0; i < count; i++)
		if (starts_with(name, starts[i]))
			return true;
	return false;
}

static bool one_of(const char *name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

bool silt_module_is_allocator(const char *module)
{
	return name_starts_with_one(module, LIBRARIES, SILT_ARRAY_LEN(LIBRARIES));
}

static bool is_operator(const struct silt_symbol_frame *f)
{
	static const char *const WORDS[] = {"operator new", "operator delete"};

	for (size_t i = 0; i < SILT_ARRAY_LEN(OPERATORS); i++) {
		if (f->linkage && starts_with(f->linkage, OPERATORS[i]))
			return true;
		if (f->function && starts_with(f->function, OPERATORS[i]))
			return true;
	}
	/* strchr also finds the terminating NUL: the bare words of short demangling. */
	for (size_t i = 0; i < SILT_ARRAY_LEN(WORDS) && f->function; i++)
		if (starts_with(f->function, WORDS[i]) && strchr("([", f->function[strlen(WORDS[i])]))
			return true;
	return false;
}

bool silt_frame_is_allocator(const char *module, const struct silt_symbol_frame *f)
{
	const char *name = f->function ? f->function : f->linkage;
	char bare[64];
	size_t len;

	if (silt_module_is_allocator(module) || is_operator(f))
		return true;
	if (!name)
		return false;
	if (strstr(name, "GlobalAlloc for std::alloc::System>"))
		return true;
	/* "malloc@plt", "malloc@@GLIBC_2.2.5" and, demangled, "__rustc::__rust_alloc" mean the same. */
	if (starts_with(name, "__rustc::"))
		name += strlen("__rustc::");
	len = strcspn(name, "@(");
	if (len >= sizeof(bare))
		return false;
	memcpy(bare, name, len);
	bare[len] = '\0';
	if (one_of(bare, FUNCTIONS, SILT_ARRAY_LEN(FUNCTIONS)))
		return true;
	return one_of(bare, LIBC_FUNCTIONS, SILT_ARRAY_LEN(LIBC_FUNCTIONS)) &&
	       name_starts_with_one(module, C_LIBRARIES, SILT_ARRAY_LEN(C_LIBRARIES));
}
