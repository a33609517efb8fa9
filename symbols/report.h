/* SPDX-License-Identifier: MIT */
/** A child's answers on their way into the pipe (wire.h): strings once, everything in bounded buffers. */
#ifndef SILT_SYMBOLS_REPORT_H
#define SILT_SYMBOLS_REPORT_H

#include "base/hash.h"
#include "base/writer.h"
#include "symbols/depend.h"
#include "symbols/wire.h"

struct silt_report {
	int fd;
	bool failed; /* the parent is gone, or memory is out */
	struct silt_writer out;
	struct silt_intern *strings;
};

/** Frames of one answer, as string numbers of silt_report_string. */
struct silt_report_frame {
	uint32_t function, linkage, file; /* 0: none */
	uint32_t line, column;
	uint32_t discriminator;
	uint64_t start;
};

bool silt_report_init(struct silt_report *r, int fd);
void silt_report_deinit(struct silt_report *r);
/** The number of a string, sent when it is new. 0 for NULL, too long ones, and out of memory. */
uint32_t silt_report_string(struct silt_report *r, const char *text);
void silt_report_answer(struct silt_report *r, size_t index, const struct silt_report_frame *frames, size_t count);
/** A record that is just text. */
void silt_report_text(struct silt_report *r, enum silt_wire_type type, const char *text);
/** Which file gave names of what kind. */
void silt_report_source(struct silt_report *r, unsigned kind, const char *path);
/** A file that is missing. */
void silt_report_wanted(struct silt_report *r, bool is_alt, const uint8_t *id, size_t id_len);
/** A record without a payload. */
void silt_report_mark(struct silt_report *r, enum silt_wire_type type);
/** A file that answers depend on. */
void silt_report_dependency(struct silt_report *r, const struct silt_dependency *d);
/** Sends the end mark and everything before it. False when something was lost. */
bool silt_report_end(struct silt_report *r);

#endif
