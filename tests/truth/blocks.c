/* SPDX-License-Identifier: MIT */
/* Prints everything a dump holds, one record a line, for the drivers of the truth tests. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/dump.h"

static void print_process(const struct silt_process *p)
{
	printf("process pid=%u epoch=%u depth=%u sample=%" PRIu64 " min=%" PRIu64 " start=%" PRId64 " method=%s ending=%s\n",
	       p->pid, p->epoch, p->max_depth, p->sample_bytes, p->min_size, p->start_ns, p->method ? p->method : "-",
	       p->ending ? p->ending : "-");
}

static void print_modules(const struct silt_snapshot *s)
{
	for (uint32_t i = 0; i < s->module_count; i++) {
		const struct silt_module *m = &s->modules[i];

		printf("module %u 0x%" PRIx64 " %u %d ", i, m->bias, m->generation, m->unloaded);
		if (m->build_id_len == 0)
			putchar('-');
		for (uint32_t b = 0; b < m->build_id_len; b++)
			printf("%02x", m->build_id[b]);
		printf(" %s\n", m->path);
	}
}

static void print_stacks(const struct silt_snapshot *s)
{
	for (uint32_t i = 0; i < s->stack_count; i++) {
		const struct silt_stack *k = &s->stacks[i];

		printf("stack %u %u", i, k->flags);
		for (uint32_t n = 0; n < k->frame_count; n++) {
			const struct silt_frame *f = &s->frames[s->stack_frames[k->frame_first + n]];

			if (f->module == SILT_NONE)
				printf(" ?+0x%" PRIx64, f->offset);
			else
				printf(" %u+0x%" PRIx64, f->module, f->offset);
			if (f->flags & SILT_FRAME_INTERRUPTED)
				putchar('!');
		}
		putchar('\n');
	}
}

static void print_contexts(const struct silt_snapshot *s)
{
	for (uint32_t i = 0; i < s->context_count; i++) {
		const struct silt_context *c = &s->contexts[i];
		long tid = c->thread == SILT_NONE ? -1 : (long)s->threads[c->thread].tid;

		printf("context %u %u %u %ld %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i, c->stack,
		       c->epoch, tid, c->kind, c->live_count, c->live_bytes, c->alloc_count, c->alloc_bytes);
	}
}

int main(int argc, char **argv)
{
	struct silt_read_options options = {.flags = SILT_READ_BLOCKS};
	struct silt_snapshot *s;
	struct silt_error err;

	if (argc == 3 && strcmp(argv[1], "--salvage") == 0) {
		options.flags |= SILT_READ_SALVAGE;
		argv++;
		argc--;
	}
	if (argc != 2) {
		fprintf(stderr, "usage: blocks [--salvage] DUMP\n");
		return 2;
	}
	if (silt_dump_read(argv[1], &options, &s, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 3;
	}
	print_process(&s->process);
	print_modules(s);
	print_stacks(s);
	print_contexts(s);
	for (uint64_t i = 0; i < s->blocks.count; i++)
		printf("block 0x%" PRIx64 " %" PRIu64 " %u\n", s->blocks.addr[i], s->blocks.size[i],
		       s->blocks.context[i]);
	for (uint32_t i = 0; i < s->counter_count; i++)
		printf("counter %s %" PRIu64 "\n", s->counters[i].name, s->counters[i].value);
	for (uint32_t i = 0; i < s->mark_count; i++)
		printf("mark %u %u %s\n", s->marks[i].epoch, s->marks[i].tid, s->marks[i].name);
	for (uint32_t i = 0; i < s->note_count; i++)
		printf("note %s\n", s->notes[i]);
	printf("total %" PRIu64 " %" PRIu64 "\n", s->total_count, s->total_bytes);
	silt_snapshot_destroy(s);
	return 0;
}
