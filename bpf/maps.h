/* SPDX-License-Identifier: MIT */
/*
 * The maps that the program counts in and chooses from; settings.h has those that an operator
 * writes. A map's pinned name and layout are an interface: a changed layout gets a new name with a
 * suffix (slots_v3), so that a tool of another version never misreads it.
 */
#pragma once

#include "uapi.h"

/* The most shards; Go takes it from the generated type of the slots. */
#define SHARDS_MAX 256

/* Values of draining. */
enum draining {
	DRAINING_NOT,
	DRAINING_WSD,	 /* it does not listen yet, or will no more */
	DRAINING_ABSENT, /* there is no such shard; its load is ABSENT_LOAD */
};

/* What the program compares and counts, of one shard; by atomics, as several write it. */
struct tally {
	__s64 load;   /* connections, and those on their way to the shard */
	__u64 picked; /* SYNs for which it was chosen; the program adds */
};

/*
 * What else is known of one shard, in one cache line.
 *
 *   load    = picked + migrated + uncounted - lost - closed
 *   pending = load + closed - accepted: connections on their way alone
 */
struct slot {
	__u64 accepted;	     /* connections taken from the accept queues; the shard adds */
	__u64 closed;	     /* accepted connections that have ended; the shard adds */
	__u64 busy_since;    /* CLOCK_MONOTONIC ns at which the shard's turn began, 0: it waits */
	__u64 stalled_until; /* CLOCK_MONOTONIC ns at which its last turn over stall_bound ended */
	__u64 migrated;	 /* connections moved here when another listener closed; the program adds */
	__u64 uncounted; /* accepted though never picked, by a SYN cookie or the kernel's hash; wsd
			  */
	__u64 lost;	 /* picked but not accepted for some seconds, so written off; wsd */
	enum draining draining; /* whether wsd itself wants no new connections here */
	__u32 reserved;
} __attribute__((aligned(64)));

/* Tallies stand side by side, because the program reads those of all shards. */
struct slot_table {
	struct tally tally[SHARDS_MAX];
	struct slot shard[SHARDS_MAX];
};

/*
 * Value of outcomes. The first cache line has what is counted for nearly every connection. Each run
 * ends in one of those that are no note.
 */
struct outcome_counts {
	__u64 runs;		   /* the sum of all that are no note */
	__u64 picked_least_loaded; /* SYN, to the least loaded shard */
	__u64 picked_weighted;	   /* SYN, to the shard least loaded for its weight */
	__u64 picked_p2c;	   /* SYN, to the less loaded of two shards drawn by lot */
	__u64 picked_cpu_local;	   /* SYN, to a shard of the CPU that it came in on */
	__u64 picked_remote; /* SYN, cpu-local, but among all shards: those of the CPU have too
				much, or worse */
	__u64 picked_hash;   /* SYN, left to the kernel's hash, as the policy says */
	__u64 placed;	     /* no SYN: placed likewise, but not counted as load */

	__u64 picked_fallback;	 /* SYN, to the least bad: every shard stalls, drains, ramps or is
				    full */
	__u64 migrated;		 /* connection of a closed listener, placed and counted as load */
	__u64 refused_admission; /* SYN, refused by an admission level */
	__u64 refused_source;	 /* SYN, refused because its source opens too many */
	__u64 select_failed; /* the chosen shard has no listener here: the kernel's hash chose */
	__u64 lookup_failed; /* a map gave no entry: the kernel's hash chose */

	__u64 skipped_stalled;	 /* note: passed over a shard because it stalls */
	__u64 dry_run_admission; /* note: admission would have refused, but runs dry */
	__u64 dry_run_source;	 /* note: the source's rate would have refused, but runs dry */
	__u64 source_untracked;	 /* note: sources had no room for it, or two CPUs put it in: not
				    limited */
};

/* Value of owner. */
struct owner_record {
	__u32 pid;    /* in the owner's own pid namespace */
	__u32 shards; /* how many entries of slots_v2 are in use */
	__u64 netns;  /* inode of the owner's network namespace */
};

/* Key of sources and part of the key of source_exempt: IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
 */
struct address {
	__u32 word[4]; /* network byte order */
};

/* Key of source_exempt. */
struct address_prefix {
	__u32 length; /* bits of address that count, 0 to 128; of an IPv4 prefix 96 more */
	struct address address;
};

/*
 * slots_v2 answers: how loaded is each shard, and can it take connections?
 * Key:     0; all shards are one value, so that the program looks up once and then only adds.
 * Value:   struct slot_table.
 * Writers: see struct slot; the shards and wsd through mapped memory, without a system call.
 * Readers: the program at each SYN; wsd's metrics; bpftool.
 * Missing: cannot be, the entries of an array exist. Shards beyond the number in use are absent.
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
 *          sockets_0, sockets_1, ... in the order of the addresses; the next process goes on with
 * it. Missing: the shard does not listen here: the kernel's hash chooses, counted as select_failed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, SHARDS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

/*
 * outcomes_v2 answers: how often did the program end in which way?
 * Key:     0.
 * Value:   struct outcome_counts, one for each CPU.
 * Writers: the program, on its CPU, so without atomics.
 * Readers: wsd's metrics and bpftool, which add up the CPUs; the program (runs rotates ties).
 * Missing: cannot be. The verifier wants it handled: the kernel's hash chooses, not counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct outcome_counts);
} outcomes_v2 SEC(".maps");

/*
 * sources answers: when may this source open its next connection?
 * Key:     struct address, cut to source_prefix4 or source_prefix6 bits.
 * Value:   the theoretical arrival time of the generic cell rate algorithm, which is a token bucket
 * in one number (ITU-T I.371, annex A), in CLOCK_MONOTONIC ns: before it plus the burst's time, a
 * SYN is refused. Writers: the program. Used only while source_rate is not 0.
 * Readers: the program; bpftool.
 * Missing: a source with a full bucket. The least recently seen give way to new ones.
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
 * Value:   struct owner_record. It informs; a lock on the directory tells whether the owner lives,
 * because a pid says nothing across pid namespaces. Writers: wsd, once, before the pins are to be
 * seen. Readers: another wsd that finds the pins, for its message; bpftool. Not the program.
 * Missing: cannot be.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner_record);
} owner SEC(".maps");
