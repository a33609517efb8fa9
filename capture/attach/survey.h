/* SPDX-License-Identifier: MIT */
/** What must be known of a process before it is touched: its modules in the loader's order, its C library, its allocator. */
#ifndef SILT_CAPTURE_ATTACH_SURVEY_H
#define SILT_CAPTURE_ATTACH_SURVEY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "capture/target/elf_view.h"
#include "capture/target/maps.h"
#include "capture/target/modules.h"
#include "capture/target/process.h"

struct silt_survey_module {
	const struct silt_target_module *mapped;
	silt_addr bias, start, end;
	silt_addr eh_frame_hdr; /* 0: none */
	silt_addr eh_frame;	/* where there is no header: the table itself, 0: none */
	struct silt_elf_view view;
	bool readable; /* view is open */
};

struct silt_survey {
	pid_t pid;
	int mem; /* /proc/PID/mem */
	struct silt_target_status status;
	struct silt_maps maps;
	struct silt_target_modules mapped;
	struct silt_survey_module *modules; /* in the order symbols are searched: program, preloaded, needed … */
	uint32_t count;
	uint32_t exe, libc, ldso; /* into modules; SILT_NONE: has none. Statically linked: libc is exe */
	bool statically_linked;
	char libc_name[32]; /* "glibc", "musl", "" */
};

/** Looks at pid, stopping nothing. Refuses what cannot be attached to, with the reason. */
int silt_survey_open(pid_t pid, struct silt_survey *ret, struct silt_error *err);
void silt_survey_close(struct silt_survey *s);

struct silt_survey_symbol {
	uint32_t module;
	silt_addr addr;
	uint64_t size;
};
/** The definition that name is bound to. */
bool silt_survey_find(const struct silt_survey *s, const char *name, struct silt_survey_symbol *ret);
/** The same for count names in one pass; ret[i].addr is 0 where there is none. */
int silt_survey_find_all(const struct silt_survey *s, const char *const *names, uint32_t count,
			 struct silt_survey_symbol *ret, struct silt_error *err);
/* A header that leads to a table without an index (LSB Core, "Exception Frames"): version, encodings, its address. */
#define SILT_EH_HDR_SIZE 16u
void silt_survey_eh_hdr(silt_addr eh_frame, uint8_t ret[SILT_EH_HDR_SIZE]);
/** Bytes of the target's memory; false when not all are readable. */
bool silt_survey_read(const struct silt_survey *s, silt_addr addr, void *buf, size_t size);
/** Bytes of the file that is mapped at addr, of a module's code or behind it in its last page; zero where the file ends. */
void silt_survey_file_bytes(const struct silt_survey *s, silt_addr addr, uint8_t *buf, size_t size);
/** Room for a stub: size unused bytes behind the code of a module's last executable page. 0: none. */
silt_addr silt_survey_slack(const struct silt_survey *s, uint32_t size);

#endif
