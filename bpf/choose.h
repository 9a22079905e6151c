/* SPDX-License-Identifier: MIT */
/*
 * Chooses the shard for the next connection, by arithmetic on the values of maps.h and settings.h.
 * It is a header of its own, because a test cannot run a program of type sk_reuseport: steer.c
 * includes it in the program that steers and in one that a test can run. compare.h explains why the
 * code has the shape it has.
 */
#pragma once

#include "compare.h"

/* The result of choose: bits 0 to 7 are the shard; the other bits are: */
#define CHOICE_BLEMISHES_SHIFT 8  /* bits 8 to 15: blemishes of that shard, as in a rank */
#define CHOICE_SKIPPED (1U << 16) /* a stalled shard was skipped */
#define CHOICE_REMOTE (1U << 17)  /* policy cpu-local: not a shard of the CPU */
#define CHOICE_FAILED (1U << 18)  /* a map lookup failed; the shard is not valid */
#define CHOICE_BLEMISHED (0xffU << CHOICE_BLEMISHES_SHIFT)

/* Compares all shards, block by block, and stores the results in cs. */
#define COMPARE_ALL(cs, compare, size)                                                             \
	do {                                                                                       \
		(cs)->best = NO_SHARD;                                                             \
		(cs)->best_local = NO_SHARD;                                                       \
		(cs)->healthy = 0;                                                                 \
		(cs)->ramping = 0;                                                                 \
		_Pragma("clang loop unroll(full)") for (__u64 b = 0; b < SHARDS_MAX / (size); b++) \
		{                                                                                  \
			if (b * (size) >= shard_count)                                             \
				break;                                                             \
			if (compare(cs, b))                                                        \
				return CHOICE_FAILED;                                              \
		}                                                                                  \
	} while (0)

/* Returns the choice for a rank. Only a rank without blemishes may be negative. */
static ALWAYS_INLINE __u32 choice(const struct choice_state *cs, __s64 rank)
{
	__u32 shard = (__u32)(rank + cs->start) & DISTANCE_MASK;
	__u32 blemishes = not_negative(rank) >> RAMPING_BIT;

	return shard | blemishes << CHOICE_BLEMISHES_SHIFT;
}

/* Returns the first shard, when it is the only one. The asm keeps this function a call. */
NOINLINE __u32 choose_only(void)
{
	__u32 first = 0;

	asm volatile("" : "+r"(first));
	return first;
}

NOINLINE __u32 choose_least(struct choice_state *cs)
{
	if (!cs)
		return CHOICE_FAILED;
	COMPARE_ALL(cs, compare_loads, BLOCK);
	return choice(cs, cs->best);
}

NOINLINE __u32 choose_weighted(struct choice_state *cs)
{
	if (!cs)
		return CHOICE_FAILED;
	COMPARE_ALL(cs, compare_weights, BLOCK);
	return choice(cs, cs->best);
}

/* Returns the less loaded of two random shards. */
NOINLINE __u32 choose_drawn(struct choice_state *cs)
{
	if (!cs || compare_drawn(cs))
		return CHOICE_FAILED;
	return choice(cs, cs->best);
}

/*
 * Returns the least loaded of the CPU's own shards, unless it has cpu_local_bound more connections
 * than the least loaded shard of all. Shard s belongs to CPU s modulo the number of CPUs. With
 * fewer shards than CPUs, CPU c has the shard c modulo the number of shards.
 */
NOINLINE __u32 choose_local(struct choice_state *cs)
{
	__s64 bound = setting(&cpu_local_bound, CPU_LOCAL_BOUND_MAX, 0);

	if (!cs)
		return CHOICE_FAILED;
	cs->local_classes = shard_count < cpu_count ? shard_count : cpu_count;
	cs->local_class = cs->cpu % cs->local_classes;
	COMPARE_ALL(cs, compare_local, BLOCK);
	/* Compare without the distances, which only decide between equal loads. */
	if ((cs->best_local >> DISTANCE_BITS) - (cs->best >> DISTANCE_BITS) > bound)
		return choice(cs, cs->best) | CHOICE_REMOTE;
	return choice(cs, cs->best_local);
}

/* Reads the settings by which all shards are judged. Before that, no shard has a blemish. */
NOINLINE int read_bounds(struct choice_state *cs)
{
	__u32 bound = setting(&stall_bound, STALL_BOUND_MAX, 0);
	__u32 pending = setting(&pending_max, PENDING_MAX_MAX, 0);

	if (!cs)
		return 1;
	cs->stall_bound = bound ? (__s64)bound * 1000000 : 1LL << 62;
	cs->pending_max = pending ? pending : 1LL << 62;
	cs->ramp = (__s64)setting(&ramp, RAMP_MAX, 0) * 1000000;
	return 0;
}

/*
 * Draws at random how long ago a stall must have ended for a shard to compete for this connection.
 * During the ramp, the share of connections for which a ramping shard competes thus grows linearly
 * from 0 to twice an even share. But the shards that do not ramp must get at most twice an even
 * share: if most shards ramp, these compete for more connections from the start.
 */
static ALWAYS_INLINE void draw_ramp(struct choice_state *cs)
{
	__u64 shards = cs->healthy + cs->ramping, lot = cs->random & 0xffff;
	__u64 out = (cs->ramp >> 16) * shards * lot / (2 * cs->ramping);

	if (lot * shards + (2 * cs->healthy << 16) < shards << 16)
		out = 0;
	if (out < (__u64)cs->ramp)
		cs->ramp = out;
}

/* Returns the shard with the fewest blemishes, and among equals the least loaded one. */
NOINLINE __u32 choose_judged(struct choice_state *cs)
{
	if (!cs || read_bounds(cs))
		return CHOICE_FAILED;
	COMPARE_ALL(cs, compare_judged_loads, JUDGED_BLOCK);
	if (cs->ramping) {
		draw_ramp(cs);
		COMPARE_ALL(cs, compare_judged_loads, JUDGED_BLOCK);
	}
	return choice(cs, cs->best);
}

/* The same, but among equals the one with the least load for its weight. */
NOINLINE __u32 choose_judged_weighted(struct choice_state *cs)
{
	if (!cs || read_bounds(cs))
		return CHOICE_FAILED;
	COMPARE_ALL(cs, compare_judged_weights, JUDGED_BLOCK);
	if (cs->ramping) {
		draw_ramp(cs);
		COMPARE_ALL(cs, compare_judged_weights, JUDGED_BLOCK);
	}
	return choice(cs, cs->best);
}

/*
 * Returns the blemishes of one shard, as in a rank, or -1 if a map lookup failed, which does not
 * happen. Usually the shard is waiting, has not stalled and has no pending connections. Then it
 * needs no settings, each of which is in a cache line of its own.
 */
NOINLINE __s64 judge_one(struct choice_state *cs, __u64 shard)
{
	__u32 key = shard & DISTANCE_MASK, *drains = bpf_map_lookup_elem(&drain, &key);
	const struct slot_table *s = slot_table();
	const struct slot *slot;
	__s64 load;

	if (!s || !cs || !drains)
		return -1;
	slot = &s->shard[shard & DISTANCE_MASK];
	load = s->tally[shard & DISTANCE_MASK].load;
	if (slot->busy_since | slot->stalled_until | pending_of(slot, load))
		read_bounds(cs);
	return blemishes_of(slot, load, cs, READ_ONCE(*drains));
}

/*
 * Returns the shard for a new connection, by any policy except hash. If the shard that the policy
 * chooses has a blemish, all shards are compared again, including their blemishes.
 */
static ALWAYS_INLINE __u32 choose(struct choice_state *cs)
{
	__s64 blemishes;
	__u32 c;

	if (shard_count == 1)
		c = choose_only();
	else if (cs->policy == POLICY_LEAST_LOADED)
		c = choose_least(cs);
	else if (cs->policy == POLICY_WEIGHTED)
		c = choose_weighted(cs);
	else if (cs->policy == POLICY_P2C)
		c = choose_drawn(cs);
	else
		c = choose_local(cs);
	if (c & CHOICE_FAILED)
		return c;
	blemishes = judge_one(cs, c & DISTANCE_MASK);
	if (blemishes < 0)
		return CHOICE_FAILED;
	if (!blemishes && !(c & CHOICE_BLEMISHED))
		return c;
	c = cs->policy == POLICY_WEIGHTED ? choose_judged_weighted(cs) : choose_judged(cs);
	if (blemishes & ~((__s64)c << (RAMPING_BIT - CHOICE_BLEMISHES_SHIFT)) & 1LL << STALLED_BIT)
		c |= CHOICE_SKIPPED;
	return c | CHOICE_REMOTE;
}
