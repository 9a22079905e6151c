/* SPDX-License-Identifier: MIT */
/*
 * Settings that an operator can change while wsd runs. Each setting is a map of its own with one
 * u32 per entry, because `bpftool map update` writes a whole value and would reset counters in it.
 * A change applies from the next SYN on.
 *
 * Every map here is an array. wsd writes the configured values at start, and later only changes
 * that an operator requests (`wsd steer`). The comment of a map says what applies if its value is
 * out of range; wsd reports that. An entry cannot be missing, but the verifier requires a check,
 * and the setting then counts as out of range.
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
 * Maximum values of settings, and the values that apply instead of larger ones. ABSENT_LOAD is a
 * larger load than any shard has, so that code which compares only loads skips absent shards. Go
 * uses these constants, too.
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
	POLICY_P2C,	     /* the one with fewer of two random shards (power of two choices) */
	POLICY_CPU_LOCAL,    /* a shard of this CPU, unless they have cpu_local_bound more */
	POLICY_HASH,	     /* the kernel's own choice, by a hash of addresses and ports */
	POLICIES,
};

/* policy: how a shard is chosen, by enum policy_kind. Out of range: least-loaded. */
SETTING(policy, 1);

/*
 * weight: the shard's share of connections under the policy weighted, relative to the other shards,
 * 0 to WEIGHT_MAX. 0 is like drain. Key: shard. Out of range: WEIGHT_DEFAULT.
 */
SETTING(weight, SHARDS_MAX);

/* drain: if not 0, the shard gets no new connections while another can take them. Key: shard. */
SETTING(drain, SHARDS_MAX);

/*
 * stall_bound: a shard whose loop turn takes longer than this gets no new connections, in ms; 0: no
 * bound. Out of range: 0.
 */
SETTING(stall_bound, 1);

/* ramp: time after a stall during which a shard gets fewer connections, in ms. Out of range: 0. */
SETTING(ramp, 1);

/*
 * pending_max: a shard with more pending connections (picked, not accepted) gets no new ones; 0: no
 * limit. Out of range: 0.
 */
SETTING(pending_max, 1);

/* cpu_local_bound: how many more connections a CPU's own shard may have. Out of range: 0. */
SETTING(cpu_local_bound, 1);

/*
 * admission: percentage of new connections to refuse, chosen at random. Out of range: 0. Key: 0 is
 * the operator's, 1 is wsd's own; the higher one applies.
 * admission_dry_run: if not 0, connections are not refused but only counted.
 */
#define ADMISSION_OPERATOR 0
#define ADMISSION_WSD 1
SETTING(admission, 2);
SETTING(admission_dry_run, 1);

/*
 * source_rate: maximum new connections per second from one client address; 0: no limit. Out of
 * range: 0.
 * source_burst: maximum new connections at once from one client address; 0: as many as source_rate.
 * Out of range: 0.
 * source_prefix4, source_prefix6: leading bits of an IPv4 or IPv6 address that count as one client
 * address. Out of range: 32 and 64.
 * source_dry_run: if not 0, connections are not refused but only counted.
 */
SETTING(source_rate, 1);
SETTING(source_burst, 1);
SETTING(source_prefix4, 1);
SETTING(source_prefix6, 1);
SETTING(source_dry_run, 1);

/*
 * source_exempt answers: is this client address exempt from source_rate?
 * Key:     struct address_prefix.
 * Value:   not 0: yes. The longest matching prefix counts, so 0 limits a part of a larger prefix.
 * Writers: wsd at start, from the configuration; then the operator.
 * Readers: the program at each SYN while source_rate is not 0.
 * Missing: the client address is limited.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct address_prefix);
	__type(value, __u32);
} source_exempt SEC(".maps");

/* Returns an entry of a setting, or instead if it is larger than max. */
static ALWAYS_INLINE __u32 setting_entry(void *map, __u32 key, __u32 max, __u32 instead)
{
	__u32 *value = bpf_map_lookup_elem(map, &key), read;

	if (!value)
		return instead;
	read = READ_ONCE(*value);
	return read > max ? instead : read;
}

/* The same for a setting with one entry. */
static ALWAYS_INLINE __u32 setting(void *map, __u32 max, __u32 instead)
{
	return setting_entry(map, 0, max, instead);
}
