/* SPDX-License-Identifier: MIT */
/*
 * Which shard takes the next connection. Only arithmetic on maps.h's values, in a header of its
 * own, because a program of type sk_reuseport cannot be run by a test: steer.c includes it in the
 * program that steers and in one that a test can run.
 */
#pragma once

#include "maps.h"

/* Number of shards, 1 to SHARDS_MAX. Set by wsd before load; the verifier then knows every bound.
 */
const volatile __u32 shard_count = 1;

/*
 * A candidate is load and place in one signed number, so that the least of them is the choice:
 * the load in the bits above 8, below it the shard's distance from `start`, which differs for
 * every shard and so decides between equal loads. DRAINING stands above every real load, and NONE
 * above the draining ones, yet below the top of the range: a load may be below 0, and the
 * difference of any two of these must not wrap.
 */
#define DISTANCE_BITS 8
#define DISTANCE_MASK (SHARDS_MAX - 1)
#define DRAINING (1LL << 62)
#define NONE (DRAINING + DRAINING / 2)

_Static_assert(SHARDS_MAX == 1 << DISTANCE_BITS, "a distance must hold every shard");

/* shard < SHARDS_MAX */
static ALWAYS_INLINE __s64 candidate(const struct slot *slot, __u32 shard, __u32 start)
{
	__u64 load = slot->picked + slot->migrated - slot->closed - slot->correction;

	return (__s64)(load << DISTANCE_BITS | ((shard - start) & DISTANCE_MASK));
}

/*
 * The lesser of two candidates, without a branch: the verifier walks a loop once for every
 * combination of branches in its body. The empty asm hides the sign from the compiler, which
 * would make a branch of it again.
 */
static ALWAYS_INLINE __s64 lesser(__s64 a, __s64 b)
{
	__s64 difference = b - a;
	__s64 negative = difference >> 63;

	asm volatile("" : "+r"(negative));
	return a + (difference & negative);
}

/*
 * The slot after this one, which must not be the last. The empty asm keeps the compiler from
 * stepping ahead of the loop: of a process that has CAP_BPF alone, without CAP_PERFMON, the
 * verifier takes no pointer beyond the value, also not one that is never followed.
 */
static ALWAYS_INLINE const struct slot *next(const struct slot *slot)
{
	slot++;
	asm volatile("" : "+r"(slot));
	return slot;
}

static ALWAYS_INLINE __u32 shard_of(__s64 chosen, __u32 start)
{
	return (__u32)(chosen + start) & DISTANCE_MASK;
}

/* The least loaded shard; among equals the first from `start` on, which is < shard_count. */
static ALWAYS_INLINE __u32 choose_any(const struct slot_table *s, __u32 start)
{
	const struct slot *slot = s->shard;
	__s64 best = candidate(slot, 0, start);
	__u32 shards = shard_count;

#pragma clang loop unroll(disable)
	for (__u32 i = 1; i < shards; i++) {
		slot = next(slot);
		best = lesser(best, candidate(slot, i, start));
	}
	return shard_of(best, start);
}

/* What choose tells. */
struct choice {
	__u32 shard;
	__u32 draining; /* 1: the shard drains, as all of them do */
	__u32 failed;	/* 1: an entry of drain is missing; shard means nothing */
};

/*
 * The least loaded shard that does not drain; of all, when all drain. Draining is rare, and one
 * more lookup for each shard would double the cost: so choose as if nobody drained, then look at
 * the one chosen, and only if it drains compare all again, with their settings.
 */
static ALWAYS_INLINE struct choice choose(const struct slot_table *s, __u32 start)
{
	struct choice c = {.shard = choose_any(s, start)};
	__u32 *draining = bpf_map_lookup_elem(&drain, &c.shard);
	const struct slot *slot = s->shard;
	__s64 best = NONE;
	__u32 shards = shard_count;

	if (!draining) {
		c.failed = 1;
		return c;
	}
	if (!*draining)
		return c;
#pragma clang loop unroll(disable)
	for (__u32 i = 0;; slot = next(slot)) {
		__u32 key = i;
		__s64 drains;

		draining = bpf_map_lookup_elem(&drain, &key);
		if (!draining) {
			c.failed = 1;
			return c;
		}
		drains = (__s64)(0 - (__u64)*draining) >> 63; /* 0 or -1 */
		best = lesser(best, candidate(slot, i, start) + (drains & DRAINING));
		if (++i >= shards)
			break;
	}
	c.shard = shard_of(best, start);
	c.draining = best > DRAINING / 2;
	return c;
}
