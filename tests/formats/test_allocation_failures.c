/* SPDX-License-Identifier: MIT */
/* Every allocation of base/ and formats/ fails in turn: an error each time, nothing leaked, nothing touched. Linked with
 * malloc, calloc and realloc wrapped. */
#include "samples.h"

#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static long countdown = -1; /* allocations until one fails; below 0: none does */

static int fails(void)
{
	return countdown >= 0 && countdown-- == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

static void write_sweep(void **state)
{
	struct sample_shape shape = {3, 12, 8, 6, 9, 3, 5, 2, 70000, HEAP_GLIBC};
	struct silt_snapshot *s = sample_snapshot(3, &shape);
	struct silt_write_options o = {1, 1};
	struct sample_file f;
	struct silt_error e;
	long n;
	int ret = -1;

	(void)state;
	sample_file_open(&f);
	for (n = 0; ret; n++) {
		memset(&e, 0, sizeof(e));
		countdown = n;
		ret = silt_dump_write_fd(f.fd, "f", s, &o, &e);
		countdown = -1;
		if (ret) {
			assert_int_equal(ret, SILT_E_NOMEM);
			assert_int_equal(e.code, SILT_E_NOMEM);
		}
		assert_true(n < 1000);
	}
	assert_true(n > 5);
	sample_file_close(&f);
	silt_snapshot_destroy(s);
}

static void read_sweep(const struct sample_file *f, unsigned flags)
{
	struct silt_read_options o = {flags, 0};
	struct silt_snapshot *r = NULL;
	struct silt_error e;
	long n;
	int ret = -1;

	for (n = 0; ret; n++) {
		memset(&e, 0, sizeof(e));
		r = NULL;
		countdown = n;
		ret = silt_dump_read(f->path, &o, &r, &e);
		countdown = -1;
		if (ret) {
			assert_true(ret == SILT_E_NOMEM || ret == SILT_E_LIMIT);
			assert_null(r);
			assert_true(e.msg[0]);
		}
		assert_true(n < 1000);
	}
	assert_true(n > 5);
	silt_snapshot_destroy(r);
}

static void read_sweeps(void **state)
{
	struct sample_shape shape = {3, 3000, 3000, 6, 9, 3, 500, 2, 70000, HEAP_WILD};
	struct silt_snapshot *s = sample_snapshot(3, &shape);
	struct sample_file f;
	uint8_t *data;
	size_t size;

	(void)state;
	sample_file_open(&f);
	sample_file_dump(&f, s, 1, 1);
	read_sweep(&f, SILT_READ_BLOCKS);
	read_sweep(&f, SILT_READ_BLOCKS | SILT_READ_SALVAGE);
	data = sample_file_get(&f, &size);
	data[size / 2] ^= 1;
	data[200] ^= 1;
	sample_file_set(&f, data, size);
	free(data);
	read_sweep(&f, SILT_READ_BLOCKS | SILT_READ_SALVAGE);
	sample_file_close(&f);
	silt_snapshot_destroy(s);
}

static void create_sweep(void **state)
{
	struct silt_snapshot *s = NULL;
	long n;

	(void)state;
	for (n = 0; !s; n++) {
		countdown = n;
		s = silt_snapshot_create();
		countdown = -1;
	}
	assert_int_equal(n, 3);
	countdown = 0;
	assert_null(silt_snapshot_array(s, 100000, 8));
	countdown = 0;
	assert_int_equal(silt_snapshot_note(s, NULL, "x"), SILT_E_NOMEM);
	countdown = 0;
	assert_int_equal(silt_snapshot_counter(s, "x", 1, NULL), SILT_E_NOMEM);
	countdown = -1;
	assert_int_equal(s->note_count + s->counter_count, 0);
	silt_snapshot_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create_sweep),
		cmocka_unit_test(write_sweep),
		cmocka_unit_test(read_sweeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
