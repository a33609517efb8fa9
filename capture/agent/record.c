/* SPDX-License-Identifier: MIT */
/* Recording one allocation: filter, stack, count, live table. */
#include "capture/agent/agent.h"
#include "capture/agent/fast.h"
#include "capture/agent/forks.h"
#include "capture/agent/recover.h"

#define KIND_MMAP 1u /* enum silt_kind */

/* Natural logarithm of u in (0, 1], good to about 1e-7: exponent, then atanh's series for the mantissa. */
static double logarithm(double u)
{
	union {
		double d;
		uint64_t u;
	} v = { u };
	int exponent = (int)(v.u >> 52 & 0x7ff) - 1023;
	double z, z2;

	v.u = (v.u & 0xfffffffffffffull) | 1023ull << 52;
	if (v.d > 1.4142135623730951) {
		v.d *= 0.5;
		exponent++;
	}
	z = (v.d - 1) / (v.d + 1);
	z2 = z * z;
	return 2 * z * (1 + z2 * (1.0 / 3 + z2 * (1.0 / 5 + z2 * (1.0 / 7 + z2 * (1.0 / 9))))) +
	       exponent * 0.69314718055994531;
}

/* 1 - exp(-x) for x >= 0. */
static double one_minus_exp(double x)
{
	double half, sum = 0, term = 1;
	int halvings = 0;

	if (x > 40)
		return 1;
	for (half = x; half > 0.25; half *= 0.5)
		halvings++;
	for (int i = 1; i < 12; i++) { /* expm1(-half), negated */
		term *= -half / i;
		sum -= term;
	}
	while (halvings--) /* 1 - e^-2h = (1 - e^-h)(1 + e^-h) */
		sum = sum * (2 - sum);
	return sum;
}

static uint64_t random_next(struct agent_thread *t)
{
	uint64_t x = t->random; /* xorshift64* */

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	t->random = x ? x : 1;
	return x * 0x2545f4914f6cdd1dull;
}

/* Bytes to the next sample, drawn anew: rounded up, for a block of size s must be taken exactly when the distance is at most s. */
static int64_t sample_distance(struct agent_thread *t)
{
	double u = ((double)(random_next(t) >> 11) + 1) / 9007199254740992.0; /* in (0, 1] */

	return (int64_t)(-(double)agent_hot.options.sample_bytes * logarithm(u)) + 1;
}

/* What a block that was sampled with this chance stands for; counts are in 1/256. */
static void sample_weigh(double chance, uint64_t size, uint64_t *ret_count, uint64_t *ret_bytes)
{
	*ret_count = (uint64_t)(256.0 / chance + 0.5);
	*ret_bytes = (uint64_t)((double)size / chance + 0.5);
}

static double sample_chance(uint64_t size)
{
	return one_minus_exp((double)(size ? size : 1) / (double)agent_hot.options.sample_bytes);
}

void sample_weight(uint64_t size, uint64_t *ret_count, uint64_t *ret_bytes)
{
	sample_weigh(sample_chance(size), size, ret_count, ret_bytes);
}

/* Poisson sampling by bytes: the distance between samples is exponential with the mean asked for. A block of size s is then taken
 * with probability 1 - exp(-s / mean), and stands for 1 / that many. Mappings are left out of it: they are few, and what is left
 * of one that was cut would not tell by which chance it was taken. */
static COLD bool sample_take(struct agent_thread *t, uint64_t size, uint64_t *ret_count, uint64_t *ret_bytes)
{
	if (!t->sample_started) {
		t->sample_started = 1;
		t->sample_left = sample_distance(t);
	}
	t->sample_left -= (int64_t)(size ? size : 1);
	if (LIKELY(t->sample_left > 0))
		return false;
	t->sample_left = sample_distance(t);
	sample_weigh(sample_chance(size), size, ret_count, ret_bytes);
	return true;
}

/* The same chance for one block by itself, where the thread's own state cannot be used. */
static COLD bool sample_alone(uint64_t addr, uint64_t size, uint64_t *ret_count, uint64_t *ret_bytes)
{
	double chance = sample_chance(size);
	uint64_t r = (addr ^ ATOMIC_ADD(&agent_hot.alone, RULE_MUL)) * 0x2545f4914f6cdd1dull;

	if ((double)(r >> 11) / 9007199254740992.0 >= chance)
		return false;
	sample_weigh(chance, size, ret_count, ret_bytes);
	return true;
}

static COLD void record_shared(uint32_t context, uint64_t count, uint64_t bytes)
{
	struct silt_db_context *c = stack_context(context);

	ATOMIC_ADD(&c->alloc_count, count);
	ATOMIC_ADD(&c->alloc_bytes, bytes);
}

static COLD void insert_special(uint64_t addr, uint64_t size, uint32_t context, uint32_t kind)
{
	if (kind == KIND_MMAP)
		side_insert(addr, size, context, true);
	else
		live_insert(addr, size, context);
}

/* What must be seen to before a stack is taken. Modules also for what is then left out: the loader allocates before it maps, so
 * nothing comes to lie where another was unseen. */
static COLD void attend(struct agent_thread *t, bool recorded)
{
	t->busy = 1; /* a handler may jump away from this, too */
	IN_ORDER();
	if (agent_hot.attention & AGENT_MODULES_CHANGED)
		module_refresh();
	if (recorded && (agent_hot.attention & AGENT_BY_THREAD))
		thread_identify(t);
	IN_ORDER();
	t->busy = 0;
}

NOINLINE void agent_record_slow(uint64_t addr, uint64_t size, const uint64_t *fp, uint32_t kind)
{
	uint64_t count = agent_hot.options.sample_bytes ? 256 : 1, bytes = size; /* sampled counts are in 1/256 */
	struct agent_thread *t;
	uint32_t context;

	if (!agent_ready() || agent_skips(fp[1]))
		return;
	t = thread_get(arch_thread_pointer());
	if (UNLIKELY(agent_hot.attention & AGENT_FORKED)) {
		if (!fork_settle(fp))
			return;
		t = thread_get(arch_thread_pointer());
	}
	if (UNLIKELY(!t)) /* a handler may have jumped away while the record was being made */
		t = thread_find_slow(arch_thread_pointer());
	if (UNLIKELY(t && t->busy))
		thread_recover(t, fp);
	if (t && !t->busy)
		attend(t, size >= agent_hot.options.min_size);
	if (size < agent_hot.options.min_size)
		return;
	if (agent_hot.options.sample_bytes && kind != KIND_MMAP &&
	    !(t && !t->busy ? sample_take(t, size, &count, &bytes) : sample_alone(addr, size, &count, &bytes)))
		return;
	if (!t) {
		context = SILT_DB_CONTEXT_OVERFLOW;
		record_shared(context, count, bytes);
	} else if (t->busy) {
		context = walk_interrupting(t, fp, kind);
		record_shared(context, count, bytes);
	} else {
		struct silt_db_cache_entry *e;
		struct walk_memo *m;
		struct walk_frame *stuck;
		uint64_t use;

		t->busy = 1;
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		m = walk_memo(t, fp);
		use = WALK_USE(kind, ATOMIC_LOAD(&agent_db()->epoch));
		e = walk_same(t, m, fp, use, &stuck);
		if (!e)
			e = walk_other(t, m, fp, use, stuck);
		context = e->context;
		e->alloc_count += count;
		e->alloc_bytes += bytes;
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		t->busy = 0;
	}
	insert_special(addr, size, context, kind);
}

void agent_record_kind(uint64_t addr, uint64_t size, const uint64_t *fp, uint32_t kind)
{
	agent_record_slow(addr, size, fp, kind);
}

NOINLINE void agent_record(uint64_t addr, uint64_t size, const uint64_t *fp)
{
	uint64_t tp = arch_thread_pointer();
	bool single = agent_hot.single_tp == tp;
	struct agent_thread *t = agent_hot.single_thread;

	if (!single) {
		if (!agent_ready())
			return;
		single = agent_hot.single_tp == tp;
		t = thread_get(tp);
	}
	if (LIKELY(t != NULL))
		record_in(t, single, addr, size, fp);
	else
		agent_record_slow(addr, size, fp, 0);
}
