/* SPDX-License-Identifier: MIT */
/*
 * How shards compare, in what choose.h chooses by.
 *
 * The verifier shapes the code. It walks on once for every branch, so shards are compared without
 * any. For a process that has CAP_BPF alone, without CAP_PERFMON, it also follows what a processor
 * may do by speculation, such as one more round of a loop, and then takes no pointer beyond a
 * value: so there is no loop either, but functions that look at BLOCK shards, called as often as
 * needed. That they are functions, and not static, has the verifier look at each once and apart.
 */
#pragma once

#include "maps.h"
#include "settings.h"

/* Set by wsd before load; the verifier then knows every bound. */
const volatile __u32 shard_count = 1; /* 1 to SHARDS_MAX */
const volatile __u32 other_count = 1; /* shard_count - 1, but 1 if that is 0 */
const volatile __u32 cpu_count = 1;   /* at least 1 */

/*
 * A rank is blemishes, load and place in one signed number, so that the least of them is the
 * choice: the load in bits 8 to 55, above it the blemishes, below it the shard's distance from
 * `start`, which differs for every shard and so decides between equals. So a shard without a
 * blemish comes before any that has one, and the order of these bits is the documented order of
 * preference when all have one (docs/steering.md): rather a ramping shard than a full one, than a
 * stalled one, than a draining one.
 */
#define DISTANCE_BITS 8
#define DISTANCE_MASK (SHARDS_MAX - 1)
#define RAMPING_BIT 56 /* the first of the blemishes */
#define FULL_BIT 57
#define STALLED_BIT 58
#define DRAINING_BIT 59
#define ABSENT_BIT 60
#define NO_SHARD (1LL << 61) /* worse than any; the difference of two ranks still fits */

_Static_assert(SHARDS_MAX == 1 << DISTANCE_BITS, "a distance must hold every shard");

/*
 * How many shards a function compares, judging them or not: many make few calls, and much code.
 * They are all compared, those too that there are not.
 */
#define BLOCK 16
#define JUDGED_BLOCK 4

/* One choice in the making. */
struct moment {
	/* What all shards are judged by. */
	__s64 now;	   /* CLOCK_MONOTONIC ns */
	__s64 stall_bound; /* ns */
	__s64 ramp;	   /* ns after a stall for which a shard is out */
	__s64 pending_max;
	__u64 start; /* < shard_count; the first of equals */
	__u64 random;
	__u64 cpu;
	__u64 policy;
	__u64 local_classes; /* cpu-local: shard s is of CPU s modulo this */
	__u64 local_class;   /* the CPU's own */

	/* What was found in the blocks so far. */
	__u64 healthy;	  /* shards that nothing speaks against, */
	__u64 ramping;	  /* and those that only ramp */
	__s64 best;	  /* least rank */
	__s64 best_local; /* least rank of the CPU's own shards */
};

/*
 * 1 for a number below 0, else 0. The empty asm hides where it comes from and what it is, or the
 * compiler would make a branch of it. So might the verifier: newer ones walk on twice when a number
 * that is -1 or 0 meets a constant by & or |, so this is a bit to be shifted.
 */
static ALWAYS_INLINE __s64 negative(__s64 value)
{
	__u64 bit = value;

	asm volatile("" : "+r"(bit));
	bit >>= 63;
	asm volatile("" : "+r"(bit));
	return (__s64)bit;
}

/* All bits for a number below 0, else none: a mask for what is no constant. */
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

/* Connections on their way to the shard. */
static ALWAYS_INLINE __s64 pending_of(const struct slot *slot, __s64 load)
{
	return load + slot->closed - slot->accepted;
}

/* What speaks against the shard, as in a rank; drain is the operator's setting. */
static ALWAYS_INLINE __s64 blemishes_of(const struct slot *slot, __s64 load, const struct moment *m,
					__u64 drain)
{
	__s64 since = slot->busy_since, draining = slot->draining;
	__s64 busy = (m->now - since) & if_negative(-since); /* 0 while it waits */
	__s64 until = slot->stalled_until, after = m->now - until;

	return negative(after - m->ramp) * negative(-until) << RAMPING_BIT |
	       negative(m->pending_max - pending_of(slot, load)) << FULL_BIT |
	       negative(m->stall_bound - busy) << STALLED_BIT |
	       negative(-draining - (__s64)drain) << DRAINING_BIT |
	       negative(DRAINING_WSD - draining) << ABSENT_BIT;
}

static ALWAYS_INLINE __s64 distance(const struct moment *m, __u64 shard)
{
	return (shard - m->start) & DISTANCE_MASK;
}

/* The rank of a shard that nothing speaks against. */
static ALWAYS_INLINE __s64 rank_of(__s64 load, const struct moment *m, __u64 shard)
{
	return load << DISTANCE_BITS | distance(m, shard);
}

/* A load may be below 0 for a moment, while figures are written; a rank with blemishes may not. */
static ALWAYS_INLINE __s64 not_negative(__s64 load)
{
	return load & ~if_negative(load);
}

static ALWAYS_INLINE const struct slot_table *slot_table(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&slots_v2, &zero);
}

/* The first shard of a block of that size, whatever number the block has. */
static ALWAYS_INLINE __u64 first_of(__u64 block, __u64 size)
{
	return block % (SHARDS_MAX / size) * size;
}

/* The entry of drain or weight for a shard, or for the last shard when there is no such. */
static ALWAYS_INLINE __u32 *entry(void *map, __u64 shard)
{
	__s64 beyond = (__s64)shard_count - 1 - (__s64)shard;
	__u32 key = shard + (beyond & if_negative(beyond));

	return bpf_map_lookup_elem(map, &key);
}

/* Counts a shard by what speaks against it, and returns that. */
static ALWAYS_INLINE __s64 judged(struct moment *m, __s64 blemishes)
{
	m->healthy += negative(blemishes - 1);
	m->ramping += negative((blemishes ^ 1LL << RAMPING_BIT) - 1);
	return blemishes;
}

/*
 * Each compare function looks at one block and keeps the best in m. It returns 0, or 1 when a map
 * gave no entry, which cannot be. What speaks against a shard takes longer to find out than its
 * load, and mostly nothing does: so there is a function that judges that, and one that does not.
 */
static ALWAYS_INLINE int compare_by_load(struct moment *m, __u64 block, int judge)
{
	const struct slot_table *s = slot_table();
	__u64 size = judge ? JUDGED_BLOCK : BLOCK, first = first_of(block, size);
	const struct slot *slot;
	const struct tally *tally;
	__s64 best;

	if (!s || !m)
		return 1;
	tally = &s->tally[first];
	slot = &s->shard[first];
	best = m->best;
#pragma clang loop unroll(full)
	for (__u64 i = 0; i < size; i++) {
		__s64 rank = rank_of(tally[i].load, m, first + i);

		if (judge) {
			__u32 *drains = entry(&drain, first + i);

			if (!drains)
				return 1;
			rank = judged(m,
				      blemishes_of(&slot[i], tally[i].load, m, READ_ONCE(*drains)));
			rank |= rank_of(not_negative(tally[i].load), m, first + i);
		}
		best = lesser(best, rank);
	}
	m->best = best;
	return 0;
}

NOINLINE int compare_loads(struct moment *m, __u64 block)
{
	return compare_by_load(m, block, 0);
}

NOINLINE int compare_judged_loads(struct moment *m, __u64 block)
{
	return compare_by_load(m, block, 1);
}

/*
 * By (load + 1) / weight: what a shard would have with this connection, so that from empty the
 * shares are right from the first connection on. A shard of weight 0 drains. Loads have at most 31
 * bits, and 14 more keep apart what differs by one connection at the largest weight.
 */
#define WEIGHT_BITS 14

static ALWAYS_INLINE int compare_by_weight(struct moment *m, __u64 block, int judge)
{
	__u64 size = judge ? JUDGED_BLOCK : BLOCK, first = first_of(block, size);
	const struct slot_table *s = slot_table();
	const struct tally *tally;
	const struct slot *slot;
	__s64 best;

	if (!s || !m)
		return 1;
	tally = &s->tally[first];
	slot = &s->shard[first];
	best = m->best;
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
			rank |= blemishes_of(&slot[i], tally[i].load, m, READ_ONCE(*drains));
			judged(m, rank);
		}
		rank |= rank_of((share << WEIGHT_BITS) / w, m, first + i);
		best = lesser(best, rank);
	}
	m->best = best;
	return 0;
}

NOINLINE int compare_weights(struct moment *m, __u64 block)
{
	return compare_by_weight(m, block, 0);
}

NOINLINE int compare_judged_weights(struct moment *m, __u64 block)
{
	return compare_by_weight(m, block, 1);
}

/* By load, of all shards and of the CPU's own. */
NOINLINE int compare_local(struct moment *m, __u64 block)
{
	const struct slot_table *s = slot_table();
	__s64 best, best_local, class;
	__u64 first = first_of(block, BLOCK);
	const struct tally *tally;

	if (!s || !m)
		return 1;
	tally = &s->tally[first];
	best = m->best;
	best_local = m->best_local;
	class = first % m->local_classes;
#pragma clang loop unroll(full)
	for (__u64 i = 0; i < BLOCK; i++) {
		__s64 rank = rank_of(tally[i].load, m, first + i);
		__s64 foreign = class ^ (__s64)m->local_class;

		best = lesser(best, rank);
		best_local = lesser(best_local, rank + (negative(-foreign) << ABSENT_BIT));
		class += 1;
		class &= if_negative(class - (__s64)m->local_classes);
	}
	m->best = best;
	m->best_local = best_local;
	return 0;
}

/* By load, two shards drawn by lot. */
NOINLINE int compare_drawn(struct moment *m)
{
	const struct slot_table *s = slot_table();
	__u64 a, b;

	if (!s || !m)
		return 1;
	a = (m->random & 0xffff) % shard_count;
	b = (a + 1 + (m->random >> 16 & 0xffff) % other_count) % shard_count; /* any but a */
	a &= DISTANCE_MASK;
	b &= DISTANCE_MASK;
	m->best = lesser(rank_of(s->tally[a].load, m, a), rank_of(s->tally[b].load, m, b));
	return 0;
}
