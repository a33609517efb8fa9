/* SPDX-License-Identifier: MIT */
/* silt symbols: addresses in, answers out, in batches as large as the input allows without making a reader wait. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyze/json.h"
#include "cli/commands.h"
#include "cli/symbols_command.h"
#include "symbols/elf_reader.h"
#include "symbols/rooted.h"

enum {
	INPUT_BYTES = 1 << 16,
	OUTPUT_BYTES = 1 << 18,
	BATCH_ADDRESSES = 1 << 16,
	MAX_KNOWN = 1 << 20, /* answers held in memory; beyond, they are forgotten and looked up again */
};

struct session {
	const struct silt_symbols_request *q;
	struct silt_symbols *symbols;
	struct silt_elf_info file;
	int module;
	size_t known; /* addresses asked since symbols was made */
	SILT_VEC(uint64_t) batch;
	size_t warnings_told;
	char input[INPUT_BYTES + 1];
	size_t used, line;
	bool cut; /* the rest of a line that was too long is skipped */
};

/* ---- printing ---- */

static void print_json(const struct session *s, uint64_t address, const struct silt_symbol_frame *frames, size_t count)
{
	struct silt_json j;

	silt_json_init(&j, stdout);
	j.one_line = true;
	silt_json_object(&j);
	silt_json_key(&j, "address");
	silt_json_address(&j, address);
	silt_json_key(&j, "frames");
	silt_json_array(&j);
	for (size_t i = 0; i < count; i++) {
		silt_json_object(&j);
		silt_json_key(&j, "function");
		silt_json_string(&j, frames[i].function);
		silt_json_key(&j, "file");
		silt_json_string(&j, frames[i].file);
		silt_json_key(&j, "line");
		if (frames[i].line)
			silt_json_unsigned(&j, frames[i].line);
		else
			silt_json_null(&j);
		silt_json_key(&j, "module");
		silt_json_string(&j, s->q->file);
		silt_json_key(&j, "build_id");
		if (s->file.build_id_len)
			silt_json_hex(&j, s->file.build_id, s->file.build_id_len);
		else
			silt_json_null(&j);
		silt_json_key(&j, "offset");
		silt_json_address(&j, address);
		silt_json_key(&j, "inlined");
		silt_json_bool(&j, frames[i].inlined);
		silt_json_end(&j);
	}
	silt_json_end(&j);
	silt_json_end(&j);
}

/* The unlocked calls: answers are megabytes in small pieces, written by one thread. */
static void put(const char *text)
{
	fputs_unlocked(text, stdout);
}

static void put_number(uint64_t value)
{
	char digits[24], *p = digits + sizeof(digits) - 1;

	*p = '\0';
	do
		*--p = (char)('0' + value % 10);
	while (value /= 10);
	put(p);
}

static const char *or_unknown(const char *text)
{
	return text ? text : "??";
}

static void print_text(const struct session *s, uint64_t address, const struct silt_symbol_frame *frames, size_t count)
{
	if (s->q->show_addresses)
		printf("0x%" PRIx64 "\n", address);
	if (!count)
		put("??\n??:0\n");
	for (size_t i = 0; i < count; i++) {
		put(or_unknown(frames[i].function));
		put("\n");
		put(or_unknown(frames[i].file));
		put(":");
		put_number(frames[i].line);
		put(frames[i].inlined ? " (inlined)\n" : "\n");
	}
}

static void print_place(const struct session *s, const struct silt_symbol_frame *f, uint32_t discriminator)
{
	const char *slash = f->file && s->q->base_names ? strrchr(f->file, '/') : NULL;

	put(slash ? slash + 1 : or_unknown(f->file));
	put(":");
	if (!f->line) {
		put("?\n");
		return;
	}
	put_number(f->line);
	if (discriminator) {
		put(" (discriminator ");
		put_number(discriminator);
		put(")");
	}
	put("\n");
}

/* As addr2line of binutils 2.40 prints it, byte for byte: the discriminator of the address is that of all its frames. */
static void print_classic(const struct session *s, uint64_t address, const struct silt_symbol_frame *frames, size_t count)
{
	const struct silt_symbols_request *q = s->q;

	if (q->show_addresses)
		printf("0x%0*" PRIx64 "%s", s->file.elf_class == 64 ? 16 : 8, address, q->pretty ? ": " : "\n");
	if (!count) {
		put(!q->functions ? "" : q->pretty ? "?? " : "??\n");
		put("??:0\n");
	}
	for (size_t i = 0; i < count && (i == 0 || q->inlines); i++) {
		if (i && q->pretty)
			put(" (inlined by) ");
		if (q->functions) {
			put(or_unknown(frames[i].function));
			put(q->pretty ? " at " : "\n");
		}
		print_place(s, &frames[i], frames[0].discriminator);
	}
}

static void print_answer(const struct session *s, uint64_t address)
{
	const struct silt_symbol_frame *frames;
	size_t count;

	frames = silt_symbols_lookup(s->symbols, s->module, address, true, &count);
	if (s->q->json)
		print_json(s, address, frames, count);
	else if (s->q->classic)
		print_classic(s, address, frames, count);
	else
		print_text(s, address, frames, count);
}

static void print_notes(struct session *s)
{
	struct silt_symbols_module_info info;

	if (s->q->verbose && s->known && silt_symbols_module_info(s->symbols, s->module, &info) == SILT_OK)
		for (size_t i = 0; i < info.attempt_count; i++)
			fprintf(stderr, "silt: %s\n", info.attempts[i]);
	for (; s->warnings_told < silt_symbols_warning_count(s->symbols); s->warnings_told++)
		fprintf(stderr, "silt: warning: %s\n", silt_symbols_warning(s->symbols, s->warnings_told));
}

/* ---- answering ---- */

static int fail(const struct silt_error *err)
{
	fprintf(stderr, "silt symbols: %s\n", err->msg);
	return SILT_EXIT_UNUSABLE;
}

/* A fresh start, which forgets all answers. */
static int open_symbols(struct session *s, struct silt_error *err)
{
	silt_symbols_destroy(s->symbols);
	s->known = s->warnings_told = 0;
	s->symbols = silt_symbols_create(&s->q->options);
	if (!s->symbols)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	s->module = silt_symbols_add_module(s->symbols, s->q->file, s->file.build_id, s->file.build_id_len, err);
	return s->module < 0 ? s->module : SILT_OK;
}

/* Answers what was gathered and hands the answers on. Returns an exit status, or -1 to go on. */
static int answer_batch(struct session *s)
{
	struct silt_error err = {0};
	int r = SILT_OK;

	if (s->known + s->batch.count > MAX_KNOWN && s->known)
		r = open_symbols(s, &err);
	for (size_t i = 0; i < s->batch.count && !r; i++)
		r = silt_symbols_request(s->symbols, s->module, s->batch.items[i], true, &err);
	if (!r)
		r = silt_symbols_resolve(s->symbols, &err);
	if (r)
		return fail(&err);
	s->known += s->batch.count;
	for (size_t i = 0; i < s->batch.count; i++)
		print_answer(s, s->batch.items[i]);
	s->batch.count = 0;
	if (fflush(stdout) == 0)
		return -1;
	fprintf(stderr, "silt symbols: cannot write the answers: %s\n", strerror(errno));
	return SILT_EXIT_UNUSABLE;
}

/* ---- reading ---- */

static int add_address(struct session *s, uint64_t address)
{
	if (!silt_vec_push(&s->batch, address))
		return silt_symbols_no_memory();
	return s->batch.count < BATCH_ADDRESSES ? -1 : answer_batch(s);
}

/* addr2line takes what looks like a number at the beginning of a line, and has an answer to everything. */
static int take_line(struct session *s, char *line)
{
	char *word, *rest;
	uint64_t address;
	int status = -1;

	s->line++;
	if (s->q->classic)
		return add_address(s, strtoull(line, NULL, 16));
	for (word = strtok_r(line, " \t\r", &rest); word && status < 0; word = strtok_r(NULL, " \t\r", &rest)) {
		if (silt_symbols_parse_address(word, &address)) {
			status = add_address(s, address);
			continue;
		}
		status = answer_batch(s);
		if (status >= 0)
			break;
		fprintf(stderr, "silt symbols: standard input, line %zu: '%.40s' is no hexadecimal address\n", s->line, word);
		status = SILT_EXIT_USAGE;
	}
	return status;
}

/* The complete lines of the input buffer; at the end of the input the last one needs no newline. */
static int take_lines(struct session *s, bool at_end)
{
	char *text = s->input, *newline;
	int status = -1;

	s->input[s->used] = '\0';
	while (status < 0 && (newline = memchr(text, '\n', s->used - (size_t)(text - s->input)))) {
		*newline = '\0';
		if (!s->cut)
			status = take_line(s, text);
		s->cut = false;
		text = newline + 1;
	}
	s->used -= (size_t)(text - s->input);
	memmove(s->input, text, s->used);
	if (status < 0 && s->used && (at_end || s->used == INPUT_BYTES)) {
		s->input[s->used] = '\0';
		if (!s->cut)
			status = take_line(s, s->input);
		s->cut = !at_end;
		s->used = 0;
	}
	return status;
}

/* Whether more can be read right now: as long as it can, the batch grows. */
static bool more_is_there(void)
{
	struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

static int answer_input(struct session *s)
{
	int status = -1;

	while (status < 0) {
		ssize_t n = read(STDIN_FILENO, s->input + s->used, INPUT_BYTES - s->used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fprintf(stderr, "silt symbols: cannot read standard input: %s\n", strerror(errno));
			return SILT_EXIT_UNUSABLE;
		}
		s->used += (size_t)n;
		status = take_lines(s, n == 0);
		if (status < 0 && s->batch.count && (n == 0 || !more_is_there()))
			status = answer_batch(s);
		if (n == 0)
			break;
	}
	return status;
}

/* The file itself must be usable; what debug files are missing is told in warnings. */
static int inspect(struct session *s)
{
	const char *root = s->q->options.sysroot ? s->q->options.sysroot : "";
	struct silt_error err;
	char path[PATH_MAX];

	if (!silt_rooted_path(root, s->q->file, path)) {
		fprintf(stderr, "silt symbols: %s: the name is too long, or its links run in circles\n", s->q->file);
		return SILT_EXIT_UNUSABLE;
	}
	return silt_elf_identify(path, &s->file, &err) ? fail(&err) : -1;
}

int silt_symbols_answer(const struct silt_symbols_request *q)
{
	struct session *s = calloc(1, sizeof(*s));
	struct silt_error err = {0};
	int status;

	if (!s)
		return silt_symbols_no_memory();
	s->q = q;
	/* Batches are flushed by hand; a terminal sees lines as they come. */
	if (!isatty(STDOUT_FILENO))
		setvbuf(stdout, NULL, _IOFBF, OUTPUT_BYTES);
	status = inspect(s);
	if (status < 0 && open_symbols(s, &err))
		status = fail(&err);
	for (size_t i = 0; i < q->addresses.count && status < 0; i++)
		status = add_address(s, q->addresses.items[i]);
	if (status < 0)
		status = q->addresses.count ? answer_batch(s) : answer_input(s);
	if (s->symbols && status < 0)
		print_notes(s);
	silt_symbols_destroy(s->symbols);
	silt_vec_free(&s->batch);
	free(s);
	return status < 0 ? SILT_EXIT_OK : status;
}
