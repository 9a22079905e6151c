/* SPDX-License-Identifier: MIT */
/*
 * Which shard takes the next connection. Only arithmetic on the values of maps.h and settings.h, in
 * a header of its own, because a program of type sk_reuseport cannot be run by a test: steer.c
 * includes it in the program that steers and in one that a test can run. compare.h says what shapes
 * the code.
 */
#pragma once

#include "compare.h"

/* What choose tells: bits 0 to 7 are the shard, and: */
#define CHOICE_BLEMISHES_SHIFT 8  /* bits 8 to 15: blemishes of that shard, as in a rank */
#define CHOICE_SKIPPED (1U << 16) /* a stalled shard was passed over */
#define CHOICE_REMOTE (1U << 17)  /* not a shard of the CPU: for the policy cpu-local */
#define CHOICE_FAILED (1U << 18)  /* a map gave no entry; the shard means nothing */
#define CHOICE_BLEMISHED (0xffU << CHOICE_BLEMISHES_SHIFT)

/* Compares all shards, block by block. */
#define COMPARE_ALL(m, compare, size)                                                              \
	do {                                                                                       \
		(m)->best = NO_SHARD;                                                              \
		(m)->best_local = NO_SHARD;                                                        \
		(m)->healthy = 0;                                                                  \
		(m)->ramping = 0;                                                                  \
		_Pragma("clang loop unroll(full)") for (__u64 b = 0; b < SHARDS_MAX / (size); b++) \
		{                                                                                  \
			if (b * (size) >= shard_count)                                             \
				break;                                                             \
			if (compare(m, b))                                                         \
				return CHOICE_FAILED;                                              \
		}                                                                                  \
	} while (0)

/* The choice that a rank stands for, which may be below 0 only without blemishes. */
static ALWAYS_INLINE __u32 choice(const struct moment *m, __s64 rank)
{
	__u32 shard = (__u32)(rank + m->start) & DISTANCE_MASK;
	__u32 blemishes = not_negative(rank) >> RAMPING_BIT;

	return shard | blemishes << CHOICE_BLEMISHES_SHIFT;
}

/* The first shard: what there is to choose when it is the only one. The asm keeps it a call. */
NOINLINE __u32 choose_only(void)
{
	__u32 first = 0;

	asm volatile("" : "+r"(first));
	return first;
}

NOINLINE __u32 choose_least(struct moment *m)
{
	if (!m)
		return CHOICE_FAILED;
	COMPARE_ALL(m, compare_loads, BLOCK);
	return choice(m, m->best);
}

NOINLINE __u32 choose_weighted(struct moment *m)
{
	if (!m)
		return CHOICE_FAILED;
	COMPARE_ALL(m, compare_weights, BLOCK);
	return choice(m, m->best);
}

/* The less loaded of two shards drawn by lot. */
NOINLINE __u32 choose_drawn(struct moment *m)
{
	if (!m || compare_drawn(m))
		return CHOICE_FAILED;
	return choice(m, m->best);
}

/*
 * The least loaded of the CPU's own shards, unless it has cpu_local_bound more than the least
 * loaded of all. Shard s is of CPU s modulo the number of CPUs; with fewer shards than CPUs, CPU c
 * has the shard c modulo the number of shards.
 */
NOINLINE __u32 choose_local(struct moment *m)
{
	__s64 bound = setting(&cpu_local_bound, CPU_LOCAL_BOUND_MAX, 0);

	if (!m)
		return CHOICE_FAILED;
	m->local_classes = shard_count < cpu_count ? shard_count : cpu_count;
	m->local_class = m->cpu % m->local_classes;
	COMPARE_ALL(m, compare_local, BLOCK);
	/* Without the distances, which only decide between equals. */
	if ((m->best_local >> DISTANCE_BITS) - (m->best >> DISTANCE_BITS) > bound)
		return choice(m, m->best) | CHOICE_REMOTE;
	return choice(m, m->best_local);
}

/* Fills in by what the settings say all shards are judged: until then nothing speaks against any.
 */
NOINLINE int read_bounds(struct moment *m)
{
	__u32 bound = setting(&stall_bound, STALL_BOUND_MAX, 0);
	__u32 pending = setting(&pending_max, PENDING_MAX_MAX, 0);

	if (!m)
		return 1;
	m->stall_bound = bound ? (__s64)bound * 1000000 : 1LL << 62;
	m->pending_max = pending ? pending : 1LL << 62;
	m->ramp = (__s64)setting(&ramp, RAMP_MAX, 0) * 1000000;
	return 0;
}

/*
 * Draws by lot for how long after its stall a shard is out of this connection: so that the part of
 * connections that a ramping shard is in for grows, over the ramp, from none to twice an even
 * share. But the shards that do not ramp are to get at most twice theirs: when most ramp, that
 * leaves more for them from the start.
 */
static ALWAYS_INLINE void draw_ramp(struct moment *m)
{
	__u64 shards = m->healthy + m->ramping, lot = m->random & 0xffff;
	__u64 out = (m->ramp >> 16) * shards * lot / (2 * m->ramping);

	if (lot * shards + (2 * m->healthy << 16) < shards << 16)
		out = 0;
	if (out < (__u64)m->ramp)
		m->ramp = out;
}

/* The shard with the least against it; of equals the one with the least load. */
NOINLINE __u32 choose_judged(struct moment *m)
{
	if (!m || read_bounds(m))
		return CHOICE_FAILED;
	COMPARE_ALL(m, compare_judged_loads, JUDGED_BLOCK);
	if (m->ramping) {
		draw_ramp(m);
		COMPARE_ALL(m, compare_judged_loads, JUDGED_BLOCK);
	}
	return choice(m, m->best);
}

/* The same, but of equals the one with the least load for its weight. */
NOINLINE __u32 choose_judged_weighted(struct moment *m)
{
	if (!m || read_bounds(m))
		return CHOICE_FAILED;
	COMPARE_ALL(m, compare_judged_weights, JUDGED_BLOCK);
	if (m->ramping) {
		draw_ramp(m);
		COMPARE_ALL(m, compare_judged_weights, JUDGED_BLOCK);
	}
	return choice(m, m->best);
}

/*
 * What speaks against one shard, as in a rank; -1 when a map gave no entry, which cannot be. Mostly
 * the shard waits and has no history, and then no setting needs to be looked up, each of which is a
 * cache line of its own.
 */
NOINLINE __s64 judge_one(struct moment *m, __u64 shard)
{
	__u32 key = shard & DISTANCE_MASK, *drains = bpf_map_lookup_elem(&drain, &key);
	const struct slot_table *s = slot_table();
	const struct slot *slot;
	__s64 load;

	if (!s || !m || !drains)
		return -1;
	slot = &s->shard[shard & DISTANCE_MASK];
	load = s->tally[shard & DISTANCE_MASK].load;
	if (slot->busy_since | slot->stalled_until | pending_of(slot, load))
		read_bounds(m);
	return blemishes_of(slot, load, m, READ_ONCE(*drains));
}

/*
 * The shard for a new connection by any policy but hash. If something speaks against the one that
 * the policy alone would take, all are compared again by what does.
 */
static ALWAYS_INLINE __u32 choose(struct moment *m)
{
	__s64 blemishes;
	__u32 c;

	if (shard_count == 1)
		c = choose_only();
	else if (m->policy == POLICY_LEAST_LOADED)
		c = choose_least(m);
	else if (m->policy == POLICY_WEIGHTED)
		c = choose_weighted(m);
	else if (m->policy == POLICY_P2C)
		c = choose_drawn(m);
	else
		c = choose_local(m);
	if (c & CHOICE_FAILED)
		return c;
	blemishes = judge_one(m, c & DISTANCE_MASK);
	if (blemishes < 0)
		return CHOICE_FAILED;
	if (!blemishes && !(c & CHOICE_BLEMISHED))
		return c;
	c = m->policy == POLICY_WEIGHTED ? choose_judged_weighted(m) : choose_judged(m);
	if (blemishes & ~((__s64)c << (RAMPING_BIT - CHOICE_BLEMISHES_SHIFT)) & 1LL << STALLED_BIT)
		c |= CHOICE_SKIPPED;
	return c | CHOICE_REMOTE;
}
