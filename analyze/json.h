/* SPDX-License-Identifier: MIT */
/** A streaming JSON writer: values go to a FILE as they come, commas and line breaks by themselves. */
#ifndef SILT_ANALYZE_JSON_H
#define SILT_ANALYZE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SILT_JSON_DEPTH = 16 };

/** Write errors stay in the FILE: check ferror() at the end. Nesting deeper than SILT_JSON_DEPTH is a bug. */
struct silt_json {
	FILE *out;
	unsigned depth;
	bool in_array[SILT_JSON_DEPTH];
	bool has_items[SILT_JSON_DEPTH];
	bool after_key;
	bool one_line; /* set after init: no line breaks inside, for streams of objects */
};

void silt_json_init(struct silt_json *j, FILE *out);
void silt_json_object(struct silt_json *j);
void silt_json_array(struct silt_json *j);
/** Closes the innermost object or array. */
void silt_json_end(struct silt_json *j);
void silt_json_key(struct silt_json *j, const char *key);
/** Bytes that are no UTF-8 become U+FFFD. NULL becomes null. */
void silt_json_string(struct silt_json *j, const char *text);
void silt_json_unsigned(struct silt_json *j, uint64_t value);
void silt_json_signed(struct silt_json *j, int64_t value);
void silt_json_address(struct silt_json *j, uint64_t value); /* "0x…" */
void silt_json_hex(struct silt_json *j, const uint8_t *bytes, size_t count);
void silt_json_bool(struct silt_json *j, bool value);
void silt_json_null(struct silt_json *j);

/** The length of the UTF-8 sequence at p (at most size bytes); 0 where there is none. */
size_t silt_utf8_length(const char *p, size_t size);

#endif
