/* SPDX-License-Identifier: MIT */
/* From a raw copy to a snapshot: the head of the database, process, threads, marks, counters and notes. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "capture/decode_internal.h"

/* Fixed-size text of the database, which may lack its end. */
static const char *db_string(struct silt_snapshot *s, const char *text, size_t size)
{
	char buf[1100];

	snprintf(buf, sizeof(buf), "%.*s", (int)size, text);
	return buf[0] ? silt_snapshot_string(s, buf) : NULL;
}

/* Program and arguments: what /proc said when it was asked, or what the agent wrote down at the start. */
static void decode_program(struct silt_decode *d, struct silt_process *p)
{
	const struct silt_copy *c = d->copy;

	if (c->exe[0])
		p->exe = silt_snapshot_string(d->s, c->exe);
	else if (d->db)
		p->exe = db_string(d->s, d->db->exe, sizeof(d->db->exe));
	if (c->argv) {
		p->argv = silt_snapshot_string(d->s, c->argv);
	} else if (d->db) {
		char text[sizeof(d->db->argv)];
		size_t n = d->db->argv_size < sizeof(text) ? d->db->argv_size : sizeof(text);

		memcpy(text, d->db->argv, sizeof(text));
		while (n && !text[n - 1])
			n--;
		for (size_t i = 0; i < n; i++)
			if (!text[i])
				text[i] = ' ';
		p->argv = db_string(d->s, text, n);
	}
	if (!p->exe)
		p->exe = silt_snapshot_string(d->s, "");
	if (!p->argv)
		p->argv = silt_snapshot_string(d->s, "");
}

static int decode_process(struct silt_decode *d, struct silt_error *err)
{
	const struct silt_copy *c = d->copy;
	struct silt_process *p = &d->s->process;
	struct utsname un;
	char text[512];

	p->pid = d->db ? d->db->pid : c->status.pid;
	p->parent_pid = c->status.parent_pid ? c->status.parent_pid : d->db ? d->db->parent_pid : 0;
	decode_program(d, p);
	if (!uname(&un)) {
		snprintf(text, sizeof(text), "%s %s %s", un.sysname, un.release, un.machine);
		p->host = silt_snapshot_string(d->s, un.nodename);
		p->kernel = silt_snapshot_string(d->s, text);
	}
	p->method = silt_snapshot_string(d->s, c->method);
	p->ending = c->ending[0] ? silt_snapshot_string(d->s, c->ending) : NULL;
	p->capture_ns = c->capture_ns;
	p->start_ns = c->start_ns;
	p->pause_ns = c->pause_ns;
	if (d->db) {
		p->libc = db_string(d->s, d->db->libc, sizeof(d->db->libc));
		p->allocator = db_string(d->s, d->db->allocator, sizeof(d->db->allocator));
		p->start_ns = d->db->start_ns;
		p->session[0] = d->db->session[0];
		p->session[1] = d->db->session[1];
		p->epoch = d->db->epoch;
		p->sample_bytes = d->options.sample_bytes;
		p->min_size = d->options.min_size;
		p->max_depth = d->options.max_depth;
		p->with_threads = d->options.flags & SILT_DB_THREADS;
	}
	if (!p->exe || !p->argv || !p->method)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	return 0;
}

static int decode_regions(struct silt_decode *d, struct silt_error *err)
{
	const struct silt_maps *maps = &d->copy->maps;
	const char *last = NULL, *last_copy = NULL;

	d->s->regions = silt_snapshot_array(d->s, maps->count, sizeof(*d->s->regions));
	if (!d->s->regions)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the memory map");
	for (uint32_t i = 0; i < maps->count; i++) {
		struct silt_region *r = &d->s->regions[i];

		*r = maps->regions[i];
		if (r->name && (!last || strcmp(r->name, last))) {
			last = r->name;
			last_copy = silt_snapshot_string(d->s, last);
			if (!last_copy)
				return silt_error_set(err, SILT_E_NOMEM, "out of memory for the memory map");
		}
		if (r->name)
			r->name = last_copy;
	}
	d->s->region_count = maps->count;
	return 0;
}

/* The database's threads, then those that never allocated. A thread is the process's own number for it. */
int silt_decode_threads(struct silt_decode *d, struct silt_error *err)
{
	const struct silt_copy *c = d->copy;
	const struct silt_db_thread *table = NULL;
	struct silt_map number = SILT_MAP_INIT; /* tid -> thread */
	struct silt_snapshot *s = d->s;
	bool fresh;
	uint32_t *slot;

	if (d->db && d->db->thread_ref && d->thread_count)
		table = silt_decode_at(d, d->db->thread_ref, d->thread_count * sizeof(*table));
	s->threads = silt_snapshot_array(s, (uint64_t)d->thread_count + c->thread_count, sizeof(*s->threads));
	d->thread_out = calloc((size_t)d->thread_count + 1, sizeof(*d->thread_out));
	if (!s->threads || !d->thread_out)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the threads");
	for (uint32_t i = 0; i < d->thread_count; i++) {
		d->thread_out[i] = SILT_NONE;
		if (!table || !table[i].tid)
			continue;
		slot = silt_map_slot(&number, table[i].tid, s->thread_count, &fresh);
		if (!slot)
			goto no_memory;
		d->thread_out[i] = *slot;
		if (fresh)
			s->threads[s->thread_count++] = (struct silt_thread){ .tid = table[i].tid, .exited = true };
	}
	for (uint32_t i = 0; i < c->thread_count; i++) {
		struct silt_thread *t;

		slot = silt_map_slot(&number, c->threads[i].ns_tid, s->thread_count, &fresh);
		if (!slot)
			goto no_memory;
		t = &s->threads[*slot];
		if (fresh)
			s->thread_count++;
		t->tid = c->threads[i].ns_tid;
		t->exited = false;
		t->name = c->threads[i].name[0] ? silt_snapshot_string(s, c->threads[i].name) : NULL;
	}
	silt_map_deinit(&number);
	return 0;
no_memory:
	silt_map_deinit(&number);
	return silt_error_set(err, SILT_E_NOMEM, "out of memory for the threads");
}

static int decode_marks(struct silt_decode *d, const struct silt_db_run *run, struct silt_error *err)
{
	struct silt_snapshot *s = d->s;

	if (!run || !d->db)
		return 0;
	s->marks = silt_snapshot_array(s, SILT_DB_RUN_MARKS, sizeof(*s->marks));
	if (!s->marks)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory for the marks");
	for (uint32_t i = 0; i < SILT_DB_RUN_MARKS; i++) {
		/* The ring's oldest entry first. */
		const struct silt_db_mark *m = &run->marks[(run->mark_next + i) % SILT_DB_RUN_MARKS];

		if (m->state != 2 || m->slot != d->copy->slot || m->time_ns < d->db->start_ns)
			continue;
		s->marks[s->mark_count].name = db_string(s, m->name, sizeof(m->name));
		s->marks[s->mark_count].time_ns = m->time_ns;
		s->marks[s->mark_count].epoch = m->epoch;
		s->marks[s->mark_count].tid = m->tid;
		if (!s->marks[s->mark_count].name)
			s->marks[s->mark_count].name = "";
		s->mark_count++;
	}
	return 0;
}

static int decode_counters(struct silt_decode *d, const struct silt_db_run *run, struct silt_error *err)
{
	static const struct {
		const char *name, *note;
	} lost[] = {
		[SILT_LOST_BLOCKS] = { "agent.lost_blocks",
				       "%llu allocations were not recorded: the trace database was full (see --db-size)" },
		[SILT_LOST_MAPPINGS] = { "agent.lost_mappings",
					 "%llu mappings or very large blocks were not recorded: the side table was full" },
		[SILT_LOST_CONTEXTS] = { "agent.lost_contexts",
					 "%llu allocations were counted without their call stack: the stack database was "
					 "full (raise --db-size)" },
		[SILT_LOST_MODULES] = { "agent.lost_modules",
					"%llu loaded modules did not fit the module table: their frames are shown by address" },
		[SILT_LOST_THREADS] = { "agent.lost_threads", NULL },
		[SILT_LOST_NESTED] = { "agent.nested", NULL },
		[SILT_LOST_LIBRARIES] = { "agent.deep_libraries",
					  "libraries were loaded with RTLD_DEEPBIND or dlmopen (%llu times): what they allocate and "
					  "free is not seen (`silt run --attach` sees those of the first kind)" },
	};
	const struct {
		const char *name;
		uint64_t value;
	} plain[] = {
		{ "agent.db_bytes", d->db->used },
		{ "agent.meta_bytes", d->db->meta_used },
		{ "agent.nodes", d->node_count },
		{ "agent.contexts", d->context_count },
		{ "agent.threads", d->thread_count },
		{ "agent.copied_bytes", d->copy->extents.bytes },
		{ "agent.unknown_frees", d->db->unknown_frees },
		{ "agent.inherited_blocks", d->db->inherited_count },
		{ "agent.inherited_bytes", d->db->inherited_bytes },
	};
	int rc = 0;

	for (size_t i = 0; i < SILT_ARRAY_LEN(plain) && !rc; i++)
		rc = silt_snapshot_counter(d->s, plain[i].name, plain[i].value, err);
	for (size_t i = 0; i < SILT_ARRAY_LEN(lost) && !rc; i++) {
		unsigned long long n = d->db->lost[i];

		if (!n || !lost[i].name)
			continue;
		rc = silt_snapshot_counter(d->s, lost[i].name, n, err);
		if (!rc && lost[i].note) {
			char text[256];

			/* The formats are the literals above, each with one number. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			snprintf(text, sizeof(text), lost[i].note, n);
#pragma GCC diagnostic pop
			rc = silt_snapshot_note(d->s, err, "%s", text);
		}
	}
	if (!rc && run && run->untracked)
		rc = silt_snapshot_note(d->s, err,
					"%u processes of this run could not be tracked: no free slot, no memory, or a C library that is "
					"not glibc",
					run->untracked);
	return rc;
}

static int note_damage(struct silt_decode *d, struct silt_error *err)
{
	const struct {
		uint64_t count;
		const char *what;
	} damage[] = {
		{ d->bad_refs, "references to places outside the trace database" },
		{ d->bad_contexts, "blocks without a known call stack" },
		{ d->unknown_sizes, "very large blocks of unknown size" },
		{ d->cut_stacks, "call stacks that do not end" },
		{ d->cut_paths, "modules with a path too long for it, whose functions cannot be named" },
	};
	int rc = 0;

	for (size_t i = 0; i < SILT_ARRAY_LEN(damage) && !rc; i++)
		if (damage[i].count)
			rc = silt_snapshot_note(d->s, err, "the trace database held %llu %s",
						(unsigned long long)damage[i].count, damage[i].what);
	if (!rc && d->duplicates)
		rc = silt_snapshot_counter(d->s, "agent.duplicates", d->duplicates, err);
	return rc;
}

/* Blocks of its parent's that a forked child may not know, and what can be done about it. */
static int note_inheritance(struct silt_decode *d, struct silt_error *err)
{
	static const char *const why[] = {
		[SILT_INHERIT_NEVER] = "as --inherit=never asks",
		[SILT_INHERIT_LARGE] = NULL,
		[SILT_INHERIT_TOTAL] = "the children together have copied much already; --inherit=always copies on",
		[SILT_INHERIT_INSIDE] = "a signal handler forked that had interrupted silt's agent",
		[SILT_INHERIT_UNSEEN] = "it was not fork() that made it",
		[SILT_INHERIT_CHANGED] = "the parent had gone on too far when the child first allocated or freed",
		[SILT_INHERIT_GONE] = "the parent was gone when the child first allocated or freed",
		[SILT_INHERIT_MEMORY] = "there was no memory for them",
	};
	uint32_t inherit = d->db->inherit;
	char text[128];

	if (inherit == SILT_INHERIT_NONE || inherit == SILT_INHERIT_DONE)
		return 0;
	snprintf(text, sizeof(text), "%s", inherit < SILT_ARRAY_LEN(why) && why[inherit] ? why[inherit] : "for an unknown reason");
	if (inherit == SILT_INHERIT_LARGE)
		snprintf(text, sizeof(text), "the parent's tables take %llu MB; --inherit=always copies them",
			 (unsigned long long)(d->db->inherited_cost >> 20));
	return silt_snapshot_note(d->s, err, "the process began as a fork: blocks inherited from its parent are not included (%s)", text);
}

static int write_notes(struct silt_decode *d, struct silt_error *err)
{
	const struct silt_copy *c = d->copy;
	int rc = 0;

	if (c->note[0])
		rc = silt_snapshot_note(d->s, err, "%s", c->note);
	if (!d->db)
		return rc;
	if (!rc)
		rc = note_inheritance(d, err);
	if (!rc && d->db->attached && d->db->attached != SILT_DB_ATTACHED_AT_START)
		rc = silt_snapshot_note(d->s, err, "silt was attached to the running process: blocks allocated before that %s",
					d->db->attached == 1 ? "are not included" : "have no call stack");
	if (!rc && d->db->own_pid && d->db->exec_pid == d->db->own_pid)
		rc = silt_snapshot_note(d->s, err,
					"the process became another program by exec, which is not tracked: this is the state before that");
	if (!rc && d->db->own_malloc)
		rc = silt_snapshot_note(d->s, err,
					"the program has an allocator of its own linked in: what it allocates with that is "
					"not seen here; start the program itself with `silt run`, or attach to it");
	if (!rc && d->options.sample_bytes)
		rc = silt_snapshot_note(d->s, err, "figures are estimates: one allocation in about %llu bytes was sampled",
					(unsigned long long)d->options.sample_bytes);
	if (!rc && d->options.min_size)
		rc = silt_snapshot_note(d->s, err, "allocations below %llu bytes were not tracked",
					(unsigned long long)d->options.min_size);
	return rc ? rc : note_damage(d, err);
}

static int check_head(struct silt_decode *d, struct silt_error *err)
{
	const struct silt_db *db = (const struct silt_db *)d->bytes;

	if (d->size < sizeof(*db) || db->magic != SILT_DB_MAGIC)
		return silt_error_set(err, SILT_E_BAD_DATA, "this is no trace database");
	if (db->version != SILT_DB_VERSION)
		return silt_error_set(err, SILT_E_UNSUPPORTED, "the trace database has version %u, this silt reads version %u",
				      db->version, SILT_DB_VERSION);
	d->db = db;
	d->node_count = db->node_count < SILT_DB_NODE_SEG * SILT_DB_NODE_SEGS ? db->node_count :
										SILT_DB_NODE_SEG * SILT_DB_NODE_SEGS;
	/* Every node, context and thread takes room in the copy: a larger count is a lie. */
	if (d->node_count > d->size / sizeof(struct silt_db_node))
		d->node_count = (uint32_t)(d->size / sizeof(struct silt_db_node));
	d->context_count = db->context_count;
	if (d->context_count > SILT_DB_CONTEXT_SEG * SILT_DB_CONTEXT_SEGS)
		d->context_count = SILT_DB_CONTEXT_SEG * SILT_DB_CONTEXT_SEGS;
	if (d->context_count > d->size / sizeof(struct silt_db_context))
		d->context_count = (uint32_t)(d->size / sizeof(struct silt_db_context));
	if (!d->context_count)
		d->context_count = 1; /* number 0 is never used */
	d->thread_count = db->thread_count < SILT_DB_THREADS_MAX ? db->thread_count : SILT_DB_THREADS_MAX;
	/* Leaves and chunks do not overlap, so a sound table is walked within its size; a copy made without a stop may
	 * show a chunk at its old and its new place. */
	d->budget = 2 * d->size;
	return 0;
}

static int decode_database(struct silt_decode *d, const struct silt_db_run *run, bool with_blocks,
			   struct silt_error *err)
{
	int rc = silt_decode_counts(d, err);

	if (!rc)
		rc = silt_decode_blocks(d, with_blocks, err);
	if (!rc)
		rc = silt_decode_contexts(d, err);
	if (!rc)
		rc = decode_marks(d, run, err);
	if (!rc)
		rc = decode_counters(d, run, err);
	return rc;
}

static void decode_deinit(struct silt_decode *d)
{
	free(d->kinds);
	free(d->sums);
	free(d->estimates);
	free(d->context_out);
	free(d->thread_out);
	silt_vec_free(&d->ranges);
	silt_vec_free(&d->frames);
	silt_vec_free(&d->stack_frames);
	silt_vec_free(&d->stacks);
	silt_vec_free(&d->contexts);
	silt_map_deinit(&d->frame_of_pc);
}

int silt_copy_decode(const struct silt_copy *c, const struct silt_db_run *run, bool with_blocks,
		     struct silt_snapshot **ret, struct silt_error *err)
{
	struct silt_decode *d = calloc(1, sizeof(*d));
	int rc = 0;

	if (!d)
		return silt_error_set(err, SILT_E_NOMEM, "out of memory");
	d->copy = c;
	d->bytes = c->bytes;
	d->size = c->size;
	if (run)
		d->options = run->options;
	d->s = silt_snapshot_create();
	if (!d->s)
		rc = silt_error_set(err, SILT_E_NOMEM, "out of memory");
	if (!rc && d->bytes)
		rc = check_head(d, err);
	if (!rc)
		rc = decode_process(d, err);
	if (!rc)
		rc = decode_regions(d, err);
	if (!rc)
		rc = silt_decode_modules(d, err);
	if (!rc)
		rc = silt_decode_threads(d, err);
	if (!rc && c->walked)
		rc = silt_decode_walked(d, c->walked, with_blocks, err);
	if (!rc && d->db)
		rc = decode_database(d, run, with_blocks, err);
	if (!rc)
		rc = write_notes(d, err);
	if (rc) {
		silt_snapshot_destroy(d->s);
	} else {
		silt_snapshot_total(d->s);
		*ret = d->s;
	}
	decode_deinit(d);
	free(d);
	return rc;
}
