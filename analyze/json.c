/* SPDX-License-Identifier: MIT */
/* A streaming JSON writer (RFC 8259). */
#include "analyze/json.h"

#include <assert.h>
#include <string.h>

void silt_json_init(struct silt_json *j, FILE *out)
{
	memset(j, 0, sizeof(*j));
	j->out = out;
}

/* The unlocked calls: a report of hundreds of megabytes is written in small pieces, by one thread. */
static void put(FILE *out, const char *text, size_t size)
{
	fwrite_unlocked(text, 1, size, out);
}

/* The comma and the line break before a value or key. One row of a report is one line. */
static void separate(struct silt_json *j)
{
	if (j->after_key) {
		j->after_key = false;
		return;
	}
	if (j->depth == 0)
		return;
	if (j->has_items[j->depth - 1])
		put(j->out, ",", 1);
	j->has_items[j->depth - 1] = true;
	if (!j->one_line && (j->depth == 1 || (j->depth == 2 && j->in_array[1])))
		put(j->out, "\n  ", 1 + j->depth);
}

static void open_level(struct silt_json *j, bool array)
{
	assert(j->depth < SILT_JSON_DEPTH);
	separate(j);
	put(j->out, array ? "[" : "{", 1);
	j->in_array[j->depth] = array;
	j->has_items[j->depth] = false;
	j->depth++;
}

void silt_json_object(struct silt_json *j)
{
	open_level(j, false);
}

void silt_json_array(struct silt_json *j)
{
	open_level(j, true);
}

void silt_json_end(struct silt_json *j)
{
	assert(j->depth > 0);
	j->depth--;
	put(j->out, j->in_array[j->depth] ? "]" : "}", 1);
	if (j->depth == 0)
		put(j->out, "\n", 1);
}

size_t silt_utf8_length(const char *p, size_t size)
{
	const unsigned char *u = (const unsigned char *)p;
	/* Smallest value a sequence of that length may hold: anything below is an overlong form. */
	static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len;
	uint32_t value;

	if (size == 0)
		return 0;
	if (u[0] < 0x80)
		return 1;
	if (u[0] >= 0xc2 && u[0] < 0xe0)
		len = 2;
	else if (u[0] >= 0xe0 && u[0] < 0xf0)
		len = 3;
	else if (u[0] >= 0xf0 && u[0] < 0xf5)
		len = 4;
	else
		return 0;
	if (len > size)
		return 0;
	value = u[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (u[i] & 0x3f);
	}
	if (value < LEAST[len] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
		return 0;
	return len;
}

static void write_number(FILE *out, uint64_t value, unsigned base)
{
	static const char DIGITS[] = "0123456789abcdef";
	char digits[24], *p = digits + sizeof(digits);

	do
		*--p = DIGITS[value % base];
	while (value /= base);
	put(out, p, (size_t)(digits + sizeof(digits) - p));
}

static bool is_plain(char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void write_char(FILE *out, unsigned char c)
{
	switch (c) {
	case '"':
		fputs("\\\"", out);
		break;
	case '\\':
		fputs("\\\\", out);
		break;
	case '\n':
		fputs("\\n", out);
		break;
	case '\t':
		fputs("\\t", out);
		break;
	default:
		if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
}

static void write_text(FILE *out, const char *text)
{
	size_t left = strlen(text);

	put(out, "\"", 1);
	while (left > 0) {
		size_t len = 0;

		while (len < left && is_plain(text[len]))
			len++;
		if (len > 0) {
			put(out, text, len);
		} else {
			len = silt_utf8_length(text, left);
			if (len == 0)
				put(out, "\xef\xbf\xbd", 3); /* U+FFFD for one byte that belongs to no character */
			else if (len == 1)
				write_char(out, (unsigned char)*text);
			else
				put(out, text, len);
			len = len ? len : 1;
		}
		text += len;
		left -= len;
	}
	put(out, "\"", 1);
}

void silt_json_key(struct silt_json *j, const char *key)
{
	separate(j);
	write_text(j->out, key);
	put(j->out, ":", 1);
	j->after_key = true;
}

void silt_json_string(struct silt_json *j, const char *text)
{
	if (!text) {
		silt_json_null(j);
		return;
	}
	separate(j);
	write_text(j->out, text);
}

void silt_json_unsigned(struct silt_json *j, uint64_t value)
{
	separate(j);
	write_number(j->out, value, 10);
}

void silt_json_signed(struct silt_json *j, int64_t value)
{
	separate(j);
	if (value < 0)
		put(j->out, "-", 1);
	write_number(j->out, value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
}

void silt_json_address(struct silt_json *j, uint64_t value)
{
	separate(j);
	put(j->out, "\"0x", 3);
	write_number(j->out, value, 16);
	put(j->out, "\"", 1);
}

void silt_json_hex(struct silt_json *j, const uint8_t *bytes, size_t count)
{
	separate(j);
	put(j->out, "\"", 1);
	for (size_t i = 0; i < count; i++) {
		write_number(j->out, bytes[i] >> 4, 16);
		write_number(j->out, bytes[i] & 15, 16);
	}
	put(j->out, "\"", 1);
}

void silt_json_bool(struct silt_json *j, bool value)
{
	separate(j);
	fputs(value ? "true" : "false", j->out);
}

void silt_json_null(struct silt_json *j)
{
	separate(j);
	fputs("null", j->out);
}
