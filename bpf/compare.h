/* SPDX-License-Identifier: MIT */
/*
 * Compares shards, for choose.h.
 *
 * The verifier determines the shape of the code. It follows both sides of every branch, so shards
 * are compared without branches. For a process that has CAP_BPF but not CAP_PERFMON, it also
 * follows what a processor may do speculatively, such as one more round of a loop, and then refuses
 * a pointer beyond a value. So there are no loops either, but functions that compare BLOCK shards
 * and are called as often as needed. They are not static, so that the verifier checks each of them
 * once, on its own.
 */
#pragma once

#include "maps.h"
#include "settings.h"

/* Constants that wsd sets before it loads the program, so that the verifier knows all bounds. */
const volatile __u32 shard_count = 1; /* 1 to SHARDS_MAX */
const volatile __u32 other_count = 1; /* shard_count - 1, but 1 if that is 0 */
const volatile __u32 cpu_count = 1;   /* at least 1 */

/*
 * A rank combines blemishes, load and position of a shard in one signed number. The shard with the
 * smallest rank is the choice. The load is in bits 8 to 55. The blemishes are above it, so that a
 * shard without a blemish comes before all others. If all shards have one, their order decides
 * (docs/steering-reference.md): a ramping shard comes before a full one, a stalled one and a
 * draining one. Below the load is the distance of the shard from `start`. It differs for every
 * shard and so decides between equal loads.
 */
#define DISTANCE_BITS 8
#define DISTANCE_MASK (SHARDS_MAX - 1)
#define RAMPING_BIT 56 /* the lowest of the blemishes */
#define FULL_BIT 57
#define STALLED_BIT 58
#define DRAINING_BIT 59
#define ABSENT_BIT 60
#define NO_SHARD (1LL << 61) /* larger than any rank; the difference of two ranks still fits */

_Static_assert(SHARDS_MAX == 1 << DISTANCE_BITS, "a distance must have room for every shard");

/*
 * Number of shards that one function compares, without and with their blemishes. Larger blocks mean
 * fewer calls and more code. A function always compares the whole block, including absent shards.
 */
#define BLOCK 16
#define JUDGED_BLOCK 4

/* State of one choice. */
struct choice_state {
	/* Input: what all shards are judged by. */
	__s64 now;	   /* CLOCK_MONOTONIC ns */
	__s64 stall_bound; /* ns */
	__s64 ramp;	   /* ns after a stall during which a shard does not compete */
	__s64 pending_max;
	__u64 start; /* < shard_count; the first shard among equals */
	__u64 random;
	__u64 cpu;
	__u64 policy;
	__u64 local_classes; /* cpu-local: shard s belongs to CPU s modulo this */
	__u64 local_class;   /* cpu-local: class of the current CPU */

	/* Result of the blocks compared so far. */
	__u64 healthy;	  /* shards without a blemish */
	__u64 ramping;	  /* shards whose only blemish is that they ramp */
	__s64 best;	  /* smallest rank */
	__s64 best_local; /* smallest rank of the CPU's own shards */
};

/*
 * Returns 1 for a negative number, else 0. The empty asm hides the value from the compiler, which
 * would otherwise create a branch. The verifier might do so, too: recent ones follow two paths when
 * a number that is -1 or 0 is combined with a constant by & or |. So the result is a bit that can
 * be shifted.
 */
static ALWAYS_INLINE __s64 negative(__s64 value)
{
	__u64 bit = value;

	asm volatile("" : "+r"(bit));
	bit >>= 63;
	asm volatile("" : "+r"(bit));
	return (__s64)bit;
}

/* Returns all bits set for a negative number, else 0: a mask for values that are not constant. */
static ALWAYS_INLINE __s64 if_negative(__s64 value)
{
	asm volatile("" : "+r"(value));
	value >>= 63;
	asm volatile("" : "+r"(value));
	return value;
}

static ALWAYS_INLINE __s64 lesser(__s64 a, __s64 b)
{
	return a + ((b - a) & if_negative(b - a));
}

/* Returns the pending connections of the shard. */
static ALWAYS_INLINE __s64 pending_of(const struct slot *slot, __s64 load)
{
	return load + slot->closed - slot->accepted;
}

/* Returns the blemishes of the shard, as in a rank; drain is the operator's setting. */
static ALWAYS_INLINE __s64 blemishes_of(const struct slot *slot, __s64 load,
					const struct choice_state *cs, __u64 drain)
{
	__s64 since = slot->busy_since, draining = slot->draining;
	__s64 busy = (cs->now - since) & if_negative(-since); /* 0 while the shard waits */
	__s64 until = slot->stalled_until, after = cs->now - until;

	return negative(after - cs->ramp) * negative(-until) << RAMPING_BIT |
	       negative(cs->pending_max - pending_of(slot, load)) << FULL_BIT |
	       negative(cs->stall_bound - busy) << STALLED_BIT |
	       negative(-draining - (__s64)drain) << DRAINING_BIT |
	       negative(DRAINING_WSD - draining) << ABSENT_BIT;
}

static ALWAYS_INLINE __s64 distance(const struct choice_state *cs, __u64 shard)
{
	return (shard - cs->start) & DISTANCE_MASK;
}

/* Returns the rank of a shard without a blemish. */
static ALWAYS_INLINE __s64 rank_of(__s64 load, const struct choice_state *cs, __u64 shard)
{
	return load << DISTANCE_BITS | distance(cs, shard);
}

/* Returns 0 for a negative load, which can occur while figures change. A rank with blemishes must
 * not be negative. */
static ALWAYS_INLINE __s64 not_negative(__s64 load)
{
	return load & ~if_negative(load);
}

static ALWAYS_INLINE const struct slot_table *slot_table(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&slots_v2, &zero);
}

/* Returns the first shard of a block of that size. It is in range for any block number. */
static ALWAYS_INLINE __u64 first_of(__u64 block, __u64 size)
{
	return block % (SHARDS_MAX / size) * size;
}

/* Returns the entry of drain or weight for a shard, or for the last shard if it does not exist. */
static ALWAYS_INLINE __u32 *entry(void *map, __u64 shard)
{
	__s64 beyond = (__s64)shard_count - 1 - (__s64)shard;
	__u32 key = shard + (beyond & if_negative(beyond));

	return bpf_map_lookup_elem(map, &key);
}

/* Counts a shard by its blemishes, and returns them. */
static ALWAYS_INLINE __s64 judged(struct choice_state *cs, __s64 blemishes)
{
	cs->healthy += negative(blemishes - 1);
	cs->ramping += negative((blemishes ^ 1LL << RAMPING_BIT) - 1);
	return blemishes;
}

/*
 * Each compare function compares one block and keeps the best shard in cs. It returns 0, or 1 if a
 * map lookup failed, which does not happen. Blemishes take longer to find than loads, and usually
 * there are none, so one variant looks for blemishes and one does not.
 */
static ALWAYS_INLINE int compare_by_load(struct choice_state *cs, __u64 block, int judge)
{
	const struct slot_table *s = slot_table();
	__u64 size = judge ? JUDGED_BLOCK : BLOCK, first = first_of(block, size);
	const struct slot *slot;
	const struct tally *tally;
	__s64 best;

	if (!s || !cs)
		return 1;
	tally = &s->tally[first];
	slot = &s->shard[first];
	best = cs->best;
#pragma clang loop unroll(full)
	for (__u64 i = 0; i < size; i++) {
		__s64 rank = rank_of(tally[i].load, cs, first + i);

		if (judge) {
			__u32 *drains = entry(&drain, first + i);

			if (!drains)
				return 1;
			rank = judged(
				cs, blemishes_of(&slot[i], tally[i].load, cs, READ_ONCE(*drains)));
			rank |= rank_of(not_negative(tally[i].load), cs, first + i);
		}
		best = lesser(best, rank);
	}
	cs->best = best;
	return 0;
}

NOINLINE int compare_loads(struct choice_state *cs, __u64 block)
{
	return compare_by_load(cs, block, 0);
}

NOINLINE int compare_judged_loads(struct choice_state *cs, __u64 block)
{
	return compare_by_load(cs, block, 1);
}

/*
 * Compares by (load + 1) / weight, the share of a shard with this connection, so that shares are
 * right from the first connection on. A shard with weight 0 drains. Loads have at most 31 bits, and
 * 14 more bits distinguish shares that differ by one connection at the largest weight.
 */
#define WEIGHT_BITS 14

static ALWAYS_INLINE int compare_by_weight(struct choice_state *cs, __u64 block, int judge)
{
	__u64 size = judge ? JUDGED_BLOCK : BLOCK, first = first_of(block, size);
	const struct slot_table *s = slot_table();
	const struct tally *tally;
	const struct slot *slot;
	__s64 best;

	if (!s || !cs)
		return 1;
	tally = &s->tally[first];
	slot = &s->shard[first];
	best = cs->best;
#pragma clang loop unroll(full)
	for (__u64 i = 0; i < size; i++) {
		__u32 *weighs = entry(&weight, first + i), *drains;
		__u64 w, share = (not_negative(tally[i].load) & ABSENT_LOAD) + 1;
		__s64 rank;

		if (!weighs)
			return 1;
		w = READ_ONCE(*weighs);
		w += (WEIGHT_DEFAULT - w) & if_negative(WEIGHT_MAX - w);
		rank = negative(w - 1) << DRAINING_BIT;
		w += negative(w - 1);
		if (judge) {
			drains = entry(&drain, first + i);
			if (!drains)
				return 1;
			rank |= blemishes_of(&slot[i], tally[i].load, cs, READ_ONCE(*drains));
			judged(cs, rank);
		}
		rank |= rank_of((share << WEIGHT_BITS) / w, cs, first + i);
		best = lesser(best, rank);
	}
	cs->best = best;
	return 0;
}

NOINLINE int compare_weights(struct choice_state *cs, __u64 block)
{
	return compare_by_weight(cs, block, 0);
}

NOINLINE int compare_judged_weights(struct choice_state *cs, __u64 block)
{
	return compare_by_weight(cs, block, 1);
}

/* Compares the loads of all shards, and separately those of the CPU's own shards. */
NOINLINE int compare_local(struct choice_state *cs, __u64 block)
{
	const struct slot_table *s = slot_table();
	__s64 best, best_local, class;
	__u64 first = first_of(block, BLOCK);
	const struct tally *tally;

	if (!s || !cs)
		return 1;
	tally = &s->tally[first];
	best = cs->best;
	best_local = cs->best_local;
	class = first % cs->local_classes;
#pragma clang loop unroll(full)
	for (__u64 i = 0; i < BLOCK; i++) {
		__s64 rank = rank_of(tally[i].load, cs, first + i);
		__s64 foreign = class ^ (__s64)cs->local_class;

		best = lesser(best, rank);
		best_local = lesser(best_local, rank + (negative(-foreign) << ABSENT_BIT));
		class += 1;
		class &= if_negative(class - (__s64)cs->local_classes);
	}
	cs->best = best;
	cs->best_local = best_local;
	return 0;
}

/* Compares the loads of two random shards. */
NOINLINE int compare_drawn(struct choice_state *cs)
{
	const struct slot_table *s = slot_table();
	__u64 a, b;

	if (!s || !cs)
		return 1;
	a = (cs->random & 0xffff) % shard_count;
	b = (a + 1 + (cs->random >> 16 & 0xffff) % other_count) % shard_count; /* any shard but a */
	a &= DISTANCE_MASK;
	b &= DISTANCE_MASK;
	cs->best = lesser(rank_of(s->tally[a].load, cs, a), rank_of(s->tally[b].load, cs, b));
	return 0;
}
