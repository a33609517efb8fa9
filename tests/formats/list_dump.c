/* SPDX-License-Identifier: MIT */
/* For format_reader.py: writes a made-up dump and prints what silt's reader finds in it, one fact a line.
 * usage: list_dump SEED HEAP FILE */
#include "samples.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_text(const char *text)
{
	if (!text) {
		printf(" -");
		return;
	}
	printf(" =");
	for (; *text; text++)
		printf("%02x", (unsigned char)*text);
}

static void list_process(const struct silt_process *p)
{
	printf("process %" PRIu32 " %" PRIu32, p->pid, p->parent_pid);
	put_text(p->exe);
	put_text(p->argv);
	put_text(p->host);
	put_text(p->kernel);
	put_text(p->libc);
	put_text(p->allocator);
	put_text(p->method);
	put_text(p->ending);
	printf(" %" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32, p->start_ns, p->capture_ns,
	       p->pause_ns, p->session[0], p->session[1], p->epoch);
	printf(" %" PRIu64 " %" PRIu64 " %" PRIu32 " %d\n", p->sample_bytes, p->min_size, p->max_depth, p->with_threads);
}

static void list_code(const struct silt_snapshot *s)
{
	uint32_t i, k;

	for (i = 0; i < s->module_count; i++) {
		const struct silt_module *m = &s->modules[i];

		printf("module");
		put_text(m->path);
		printf(" =");
		for (k = 0; k < m->build_id_len; k++)
			printf("%02x", m->build_id[k]);
		printf(" %" PRIu64 " %" PRIu32 " %d", m->bias, m->generation, m->unloaded);
		for (k = 0; k < m->range_count; k++) {
			const struct silt_range *r = &s->ranges[m->range_first + k];

			printf(" %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32, r->start, r->end, r->file_offset, r->prot);
		}
		printf("\n");
	}
	for (i = 0; i < s->frame_count; i++)
		printf("frame %" PRIu32 " %" PRIu32 " %" PRIu64 "\n", s->frames[i].module, s->frames[i].flags,
		       s->frames[i].offset);
	for (i = 0; i < s->stack_count; i++) {
		printf("stack %" PRIu32, s->stacks[i].flags);
		for (k = 0; k < s->stacks[i].frame_count; k++)
			printf(" %" PRIu32, s->stack_frames[s->stacks[i].frame_first + k]);
		printf("\n");
	}
}

static void list_contexts(const struct silt_snapshot *s)
{
	uint32_t i;

	for (i = 0; i < s->thread_count; i++) {
		printf("thread %" PRIu32, s->threads[i].tid);
		put_text(s->threads[i].name);
		printf(" %d\n", s->threads[i].exited);
	}
	for (i = 0; i < s->context_count; i++) {
		const struct silt_context *c = &s->contexts[i];

		printf("context %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
		       "\n",
		       c->stack, c->epoch, c->thread, c->kind, c->live_count, c->live_bytes, c->alloc_count, c->alloc_bytes);
	}
}

static void list_rest(const struct silt_snapshot *s)
{
	uint32_t i;
	uint64_t n;

	for (i = 0; i < s->region_count; i++) {
		const struct silt_region *r = &s->regions[i];

		printf("region %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32 " %d %" PRIu32 " %" PRIu32 " %" PRIu64, r->start,
		       r->end, r->file_offset, r->prot, r->shared, r->dev_major, r->dev_minor, r->inode);
		put_text(r->name);
		printf("\n");
	}
	for (i = 0; i < s->mark_count; i++) {
		printf("mark");
		put_text(s->marks[i].name);
		printf(" %" PRId64 " %" PRIu32 " %" PRIu32 "\n", s->marks[i].time_ns, s->marks[i].epoch, s->marks[i].tid);
	}
	for (i = 0; i < s->counter_count; i++) {
		printf("counter");
		put_text(s->counters[i].name);
		printf(" %" PRIu64 "\n", s->counters[i].value);
	}
	for (i = 0; i < s->note_count; i++) {
		printf("note");
		put_text(s->notes[i]);
		printf("\n");
	}
	for (i = 0; i < s->type_count; i++) {
		printf("type %" PRIu32 " %" PRIu32 " %" PRIu64, s->types[i].context, s->types[i].module, s->types[i].offset);
		put_text(s->types[i].name);
		printf("\n");
	}
	for (n = 0; n < s->blocks.count; n++)
		printf("block %" PRIu64 " %" PRIu64 " %" PRIu32 "\n", s->blocks.addr[n], s->blocks.size[n],
		       s->blocks.context[n]);
}

int main(int argc, char **argv)
{
	struct sample_shape shape = {9, 300, 200, 30, 400, 5, 40, 6, 70000, 0};
	struct silt_read_options o = {SILT_READ_BLOCKS, 0};
	struct silt_snapshot *s, *r;
	struct silt_error e;

	if (argc != 4) {
		fprintf(stderr, "usage: list_dump SEED HEAP FILE\n");
		return 2;
	}
	shape.heap = atoi(argv[2]);
	s = sample_snapshot(strtoull(argv[1], NULL, 10), &shape);
	if (silt_dump_write(argv[3], s, NULL, &e) || silt_dump_read(argv[3], &o, &r, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	list_process(&r->process);
	list_code(r);
	list_contexts(r);
	list_rest(r);
	silt_snapshot_destroy(r);
	silt_snapshot_destroy(s);
	return 0;
}
