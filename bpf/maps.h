/* SPDX-License-Identifier: MIT */
/*
 * The maps in which the program counts and from which it chooses. settings.h has the maps that an
 * operator writes. The pinned name and the value of a map are an interface: a map whose value
 * changes gets a new name with a suffix (slots_v3), so that a tool of another version does not
 * misread it.
 */
#pragma once

#include "uapi.h"

/* Maximum number of shards. Go takes it from the generated type of the slots. */
#define SHARDS_MAX 256

/* Values of draining. */
enum draining {
	DRAINING_NOT,
	DRAINING_WSD,	 /* the shard does not listen yet, or not any more */
	DRAINING_ABSENT, /* the shard does not exist; its load is ABSENT_LOAD */
};

/* What the program compares and counts of one shard. It has several writers, which use atomics. */
struct tally {
	__s64 load;   /* open and pending connections */
	__u64 picked; /* SYNs for which this shard was chosen; the program adds */
};

/*
 * Other figures of one shard, in one cache line.
 *
 *   load    = picked + migrated + uncounted - lost - closed
 *   pending = load + closed - accepted: picked connections that are not accepted yet
 */
struct slot {
	__u64 accepted;	     /* connections taken from the accept queues; the shard adds */
	__u64 closed;	     /* accepted connections that have ended; the shard adds */
	__u64 busy_since;    /* CLOCK_MONOTONIC ns at which the shard's turn began; 0: it waits */
	__u64 stalled_until; /* CLOCK_MONOTONIC ns at which the last turn over stall_bound ended */
	__u64 migrated;	 /* connections moved here when another listener closed; the program adds */
	__u64 uncounted; /* accepted without a pick: SYN cookie or kernel's hash; wsd adds */
	__u64 lost;	 /* picks written off because they were not accepted; wsd adds */
	enum draining draining; /* whether wsd itself wants no new connections here */
	__u32 reserved;
} __attribute__((aligned(64)));

/* The tallies are adjacent, because the program reads those of all shards. */
struct slot_table {
	struct tally tally[SHARDS_MAX];
	struct slot shard[SHARDS_MAX];
};

/*
 * Value of outcomes_v2. The first cache line has the counters for nearly every connection. Each run
 * ends in exactly one outcome; notes are counted in addition.
 */
struct outcome_counts {
	__u64 runs;		   /* runs of the program: the sum of all outcomes */
	__u64 picked_least_loaded; /* SYN, to the least loaded shard */
	__u64 picked_weighted;	   /* SYN, to the shard least loaded for its weight */
	__u64 picked_p2c;	   /* SYN, to the less loaded of two random shards */
	__u64 picked_cpu_local;	   /* SYN, to a shard of the CPU that it came in on */
	__u64 picked_remote;	   /* SYN, cpu-local, but chosen among all shards, because those of
				      the CPU have too many connections or a blemish */
	__u64 picked_hash;	   /* SYN, left to the kernel's hash by policy hash */
	__u64 placed;		   /* not a SYN: placed in the same way, but not counted as load */

	__u64 picked_fallback;	 /* SYN, to the best shard when every shard stalls, drains, ramps
				    or is full */
	__u64 migrated;		 /* connection of a closed listener, placed and counted as load */
	__u64 refused_admission; /* SYN, refused by an admission level */
	__u64 refused_source;	 /* SYN, refused because its client address opens too many */
	__u64 select_failed; /* the chosen shard has no listener here, so the kernel's hash chose */
	__u64 lookup_failed; /* a map lookup failed, so the kernel's hash chose */

	__u64 skipped_stalled;	 /* note: a stalled shard was skipped */
	__u64 dry_run_admission; /* note: admission would have refused, but for its dry run */
	__u64 dry_run_source;	 /* note: source_rate would have refused, but for its dry run */
	__u64 source_untracked;	 /* note: sources was full, or two CPUs added the address at
				    once, so it was not limited */
};

/* Value of owner. */
struct owner_record {
	__u32 pid;    /* in the owner's own pid namespace */
	__u32 shards; /* number of entries of slots_v2 in use */
	__u64 netns;  /* inode of the owner's network namespace */
};

/* Key of sources, and part of the key of source_exempt. IPv4 is ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
 */
struct address {
	__u32 word[4]; /* network byte order */
};

/* Key of source_exempt. */
struct address_prefix {
	__u32 length; /* leading bits of address that count, 0 to 128; 96 more for IPv4 */
	struct address address;
};

/*
 * slots_v2 answers: how loaded is each shard, and can it take connections?
 * Key:     0. All shards are in one value, so that the program needs one lookup.
 * Value:   struct slot_table.
 * Writers: see struct slot; the shards and wsd through mapped memory, without a system call.
 * Readers: the program at each SYN; wsd's metrics; bpftool.
 * Missing: does not happen in an array. Shards beyond the number in use are absent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot_table);
} slots_v2 SEC(".maps");

/*
 * sockets answers: which listener of this address is the shard's?
 * Key:     shard.
 * Value:   socket; user space writes a descriptor and reads the socket's cookie.
 * Writers: wsd at start. The kernel removes a socket that is closed.
 * Readers: the program, through bpf_sk_select_reuseport. One map per listen address, pinned as
 *          sockets_0, sockets_1, ... in the order of the addresses; the next process takes it over.
 * Missing: the shard does not listen here. The kernel's hash chooses, counted as select_failed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, SHARDS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

/*
 * outcomes_v2 answers: how often did runs of the program end in which way?
 * Key:     0.
 * Value:   struct outcome_counts, one for each CPU.
 * Writers: the program, on its CPU, so without atomics.
 * Readers: wsd's metrics and bpftool, which add up the CPUs; the program (runs rotates ties).
 * Missing: does not happen. The verifier requires a check: the kernel's hash chooses, not counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct outcome_counts);
} outcomes_v2 SEC(".maps");

/*
 * sources answers: when may this client address open its next connection?
 * Key:     struct address, cut to source_prefix4 or source_prefix6 bits.
 * Value:   the theoretical arrival time of the generic cell rate algorithm, which is a token bucket
 *          in one number (ITU-T I.371, annex A), in CLOCK_MONOTONIC ns. A SYN is refused if the
 *          value is later than now by more than the time of a burst.
 * Writers: the program, while source_rate is not 0.
 * Readers: the program; bpftool.
 * Missing: the bucket is full. New addresses replace the least recently used ones.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, __u64);
} sources SEC(".maps");

/*
 * owner answers: whose pins are these?
 * Key:     0.
 * Value:   struct owner_record. It is for information only. A lock on the directory shows whether
 *          the owner lives, because a pid means nothing in another pid namespace.
 * Writers: wsd, once, before the pins appear.
 * Readers: another wsd that finds the pins, for its messages; bpftool. Not the program.
 * Missing: does not happen.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner_record);
} owner SEC(".maps");
