/* SPDX-License-Identifier: MIT */
/*
 * What an operator sets while wsd runs: each setting is a map of its own with one u32 per entry,
 * because `bpftool map update` writes a whole value and would set counters beside it back. A change
 * counts from the next SYN.
 *
 * Every map here is an array that begins with what the configuration says; wsd writes it at start
 * and afterwards only when an operator tells it to (`wsd steer`). A value out of range counts as
 * what its comment says, and wsd reports it. No entry can be missing; the verifier wants it handled
 * all the same, and then the setting is as if out of range.
 */
#pragma once

#include "uapi.h"
#include "maps.h"

#define SETTING(name, entries)                                                                     \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, entries);                                                      \
		__type(key, __u32);                                                                \
		__type(value, __u32);                                                              \
	} name SEC(".maps")

/*
 * What settings are at most, and what counts instead of a value above. ABSENT_LOAD is more than any
 * shard has, so that who looks at loads alone passes over shards that there are not. Go takes all
 * of them from here.
 */
enum limit {
	ABSENT_LOAD = 0x7fffffff,
	PENDING_MAX_MAX = 0x7fffffff,
	CPU_LOCAL_BOUND_MAX = 0x7fffffff,
	WEIGHT_MAX = 10000,
	WEIGHT_DEFAULT = 100,
	STALL_BOUND_MAX = 60000,
	RAMP_MAX = 600000,
	ADMISSION_MAX = 100,
	SOURCE_RATE_MAX = 1000000,
	SOURCE_BURST_MAX = 1000000,
	SOURCE_PREFIX4_MAX = 32,
	SOURCE_PREFIX4_DEFAULT = 32,
	SOURCE_PREFIX6_MAX = 128,
	SOURCE_PREFIX6_DEFAULT = 64,
};

/* Values of policy. */
enum policy_kind {
	POLICY_LEAST_LOADED, /* the shard with the fewest connections */
	POLICY_WEIGHTED,     /* the shard with the fewest for its weight */
	POLICY_P2C,	  /* of two shards drawn by lot the one with fewer (power of two choices) */
	POLICY_CPU_LOCAL, /* of the shards of this CPU, unless they have cpu_local_bound more */
	POLICY_HASH,	  /* the kernel's own choice by addresses and ports */
	POLICIES,
};

/* policy: how a shard is chosen, by enum policy_kind. Out of range: least-loaded. */
SETTING(policy, 1);

/*
 * weight: the shard's share of connections under the policy weighted, relative to the others', 0 to
 * WEIGHT_MAX; 0 is as draining. Key: shard. Out of range: WEIGHT_DEFAULT.
 */
SETTING(weight, SHARDS_MAX);

/* drain: not 0, and the shard gets no new connections while there is another. Key: shard. */
SETTING(drain, SHARDS_MAX);

/*
 * stall_bound: a shard whose turn lasts longer than this gets no new connections, in ms; 0: however
 * long. Out of range: 0.
 */
SETTING(stall_bound, 1);

/* ramp: for how long after a stall a shard gets only part of what it would, in ms. Out of range: 0.
 */
SETTING(ramp, 1);

/*
 * pending_max: a shard with more connections picked but not accepted gets no new ones; 0: however
 * many. Out of range: 0.
 */
SETTING(pending_max, 1);

/* cpu_local_bound: how many connections more a CPU's own shard may have. Out of range: 0. */
SETTING(cpu_local_bound, 1);

/*
 * admission: how many of 100 new connections are refused, by lot: 0 none, 100 all. Out of range: 0.
 * Key: 0 is the operator's, 1 is wsd's own; the larger one holds.
 * admission_dry_run: not 0, and what would be refused is only counted.
 */
#define ADMISSION_OPERATOR 0
#define ADMISSION_WSD 1
SETTING(admission, 2);
SETTING(admission_dry_run, 1);

/*
 * source_rate: new connections per second from one source address; 0: any number. Out of range: 0.
 * source_burst: so many may come at once; 0: as many as source_rate. Out of range: 0.
 * source_prefix4, source_prefix6: how many bits of an IPv4 or IPv6 address tell sources apart. Out
 * of range: 32 and 64.
 * source_dry_run: not 0, and what would be refused is only counted.
 */
SETTING(source_rate, 1);
SETTING(source_burst, 1);
SETTING(source_prefix4, 1);
SETTING(source_prefix6, 1);
SETTING(source_dry_run, 1);

/*
 * source_exempt answers: is this source free from source_rate?
 * Key:     struct address_prefix.
 * Value:   not 0: yes. The longest prefix that fits counts, so a 0 makes an exception of one.
 * Writers: wsd at start, from the configuration; then the operator.
 * Readers: the program at each SYN while source_rate is not 0.
 * Missing: the source is limited.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct address_prefix);
	__type(value, __u32);
} source_exempt SEC(".maps");

/* An entry of a setting, or what counts instead when it is above most. */
static ALWAYS_INLINE __u32 setting_at(void *map, __u32 key, __u32 most, __u32 instead)
{
	__u32 *value = bpf_map_lookup_elem(map, &key), read;

	if (!value)
		return instead;
	read = READ_ONCE(*value);
	return read > most ? instead : read;
}

/* The same of a setting that has one entry for all shards. */
static ALWAYS_INLINE __u32 setting(void *map, __u32 most, __u32 instead)
{
	return setting_at(map, 0, most, instead);
}
