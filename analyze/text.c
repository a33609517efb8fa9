/* SPDX-License-Identifier: MIT */
/* Text for people: sizes, times and untrusted names. */
#include "analyze/text.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "analyze/json.h"

const char *silt_text_size(char buf[SILT_TEXT_MAX], uint64_t bytes)
{
	static const char *const UNITS[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(buf, SILT_TEXT_MAX, "%" PRIu64 " B", bytes);
		return buf;
	}
	/* 1023.95 would be printed as 1024.0 */
	while (value >= 1023.95 && unit + 1 < sizeof(UNITS) / sizeof(UNITS[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, SILT_TEXT_MAX, "%.1f %s", value, UNITS[unit]);
	return buf;
}

const char *silt_text_growth(char buf[SILT_TEXT_MAX], int64_t bytes)
{
	uint64_t size = bytes < 0 ? -(uint64_t)bytes : (uint64_t)bytes;
	char plain[SILT_TEXT_MAX];

	snprintf(buf, SILT_TEXT_MAX, "%s%.40s",
		 bytes > 0   ? "+"
		 : bytes < 0 ? "-"
			     : "",
		 silt_text_size(plain, size));
	return buf;
}

static void split_time(int64_t ns, struct tm *ret_tm, long *ret_ns)
{
	time_t seconds = ns / 1000000000;

	*ret_ns = ns % 1000000000;
	if (*ret_ns < 0) {
		*ret_ns += 1000000000;
		seconds--;
	}
	gmtime_r(&seconds, ret_tm);
}

const char *silt_text_time(char buf[SILT_TEXT_MAX], int64_t ns)
{
	struct tm tm;
	long rest;

	if (ns == 0)
		return "at an unknown time";
	split_time(ns, &tm, &rest);
	strftime(buf, SILT_TEXT_MAX, "%Y-%m-%d %H:%M:%S UTC", &tm);
	return buf;
}

const char *silt_text_iso_time(char buf[SILT_TEXT_MAX], int64_t ns)
{
	char whole[32];
	struct tm tm;
	long rest;

	if (ns == 0)
		return NULL;
	split_time(ns, &tm, &rest);
	strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf, SILT_TEXT_MAX, "%s.%09ldZ", whole, rest);
	return buf;
}

const char *silt_text_duration(char buf[SILT_TEXT_MAX], uint64_t ns)
{
	if (ns < 1000000)
		snprintf(buf, SILT_TEXT_MAX, "%" PRIu64 " us", ns / 1000);
	else if (ns < 1000000000)
		snprintf(buf, SILT_TEXT_MAX, "%.1f ms", (double)ns / 1e6);
	else
		snprintf(buf, SILT_TEXT_MAX, "%.1f s", (double)ns / 1e9);
	return buf;
}

/* Characters, a byte that belongs to none counting as one. */
static size_t count_chars(const char *text)
{
	size_t left = strlen(text), chars = 0;

	while (left > 0) {
		size_t len = silt_utf8_length(text, left);

		len = len ? len : 1;
		text += len;
		left -= len;
		chars++;
	}
	return chars;
}

static const char *skip_chars(const char *text, size_t chars)
{
	size_t left = strlen(text);

	while (chars-- > 0 && left > 0) {
		size_t len = silt_utf8_length(text, left);

		len = len ? len : 1;
		text += len;
		left -= len;
	}
	return text;
}

/* C0 and C1 control characters can drive a terminal: names in a dump must not. */
static bool is_control(const char *p, size_t len)
{
	unsigned char c = (unsigned char)p[0];

	return len == 1 ? c < 0x20 || c == 0x7f : len == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0;
}

static void print_chars(FILE *out, const char *text, size_t chars)
{
	size_t left = strlen(text);

	while (chars-- > 0 && left > 0) {
		size_t len = silt_utf8_length(text, left);

		if (len == 0 || is_control(text, len))
			fputc('?', out);
		else
			fwrite(text, 1, len, out);
		len = len ? len : 1;
		text += len;
		left -= len;
	}
}

size_t silt_text_columns(const char *text, size_t max)
{
	size_t chars = count_chars(text);

	return max > 0 && chars > max ? max : chars;
}

size_t silt_text_print(FILE *out, const char *text, size_t max, bool keep_end)
{
	static const char DOTS[] = "...";
	const size_t dots = sizeof(DOTS) - 1;
	size_t chars = count_chars(text);

	if (max == 0 || chars <= max) {
		print_chars(out, text, chars);
		return chars;
	}
	if (max <= dots) {
		print_chars(out, text, max);
	} else if (keep_end) {
		fputs(DOTS, out);
		print_chars(out, skip_chars(text, chars - (max - dots)), max - dots);
	} else {
		print_chars(out, text, max - dots);
		fputs(DOTS, out);
	}
	return max;
}
