/* SPDX-License-Identifier: MIT */
/*
 * The maps, and what they hold. A map's pinned name and layout are an interface: a changed layout
 * gets a new name with a suffix (slots_v2), so that a tool of another version never misreads it.
 *
 * What an operator writes is one u32 per entry in a map of its own, never a field beside one that
 * the kernel or a shard counts in: `bpftool map update` writes a whole value, and would set those
 * back. drain is such a map. The names weight (per shard), policy, admission and stall_bound (one
 * entry each) are kept for the settings that are meant to come; wsd's own drain and admission
 * level will be fields of struct slot and of a map owned by wsd, so that it never writes what an
 * operator has written.
 */
#pragma once

#include "uapi.h"

/* The most shards; Go takes it from the generated type of the slots. */
#define SHARDS_MAX 256

/* Value of slots: one per shard, a cache line each, because each shard writes its own. */
struct slot {
	__u64 picked;	/* SYNs for which this shard was chosen; the program adds, atomically */
	__u64 migrated; /* connections moved here when another listener closed; the program, too */
	__u64 closed;	/* connections that have ended; the shard adds */
	__u64 correction; /* picked SYNs that never came, minus connections never picked; wsd adds
			   */
	__u64 busy_since; /* CLOCK_MONOTONIC ns at which the shard's turn began, 0: it waits */
} __attribute__((aligned(64)));

struct slot_table {
	struct slot shard[SHARDS_MAX];
};

/* Value of outcomes. runs is the sum of the others; each of them is one exit of the program. */
struct outcome_counts {
	__u64 runs;
	__u64 picked;	       /* SYN, to the least loaded shard that does not drain */
	__u64 picked_draining; /* SYN, to the least loaded of all, because every shard drains */
	__u64 placed;	       /* no SYN: placed likewise, but not counted as load */
	__u64 migrated;	       /* connection of a closed listener, placed and counted as load */
	__u64 select_failed;   /* the chosen shard has no listener here: the kernel's hash chose */
	__u64 lookup_failed;   /* a map gave no entry: the kernel's hash chose */
};

/* Value of owner. */
struct owner_record {
	__u32 pid;    /* in the owner's own pid namespace */
	__u32 shards; /* how many entries of slots are in use */
	__u64 netns;  /* inode of the owner's network namespace */
};

/*
 * slots answers: how loaded is each shard?
 * Key:     0; all shards are one value, so that the program looks up once and then only adds.
 * Value:   struct slot_table; load = picked + migrated - closed - correction, as a signed number.
 * Writers: the program (picked, migrated), each shard (closed, busy_since) and wsd's correction,
 *          the latter two through mapped memory, without a system call.
 * Readers: the program at each SYN; wsd's metrics; bpftool.
 * Missing: cannot be, the entries of an array exist. Shards beyond the number in use stay 0.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot_table);
} slots SEC(".maps");

/*
 * drain answers: does the operator want no new connections on this shard?
 * Key:     shard.
 * Value:   0 no, anything else yes. When every shard drains, none does: clients are served.
 * Writers: the operator (bpftool map update ... key 3 0 0 0 value 1 0 0 0); wsd only creates it.
 * Readers: the program at each SYN and each migration.
 * Missing: cannot be, the entries of an array exist. They begin as 0. wsd cuts max_entries to its
 *          number of shards, so a shard that is not there cannot be set.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHARDS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} drain SEC(".maps");

/*
 * sockets answers: which listener of this address is the shard's?
 * Key:     shard.
 * Value:   socket; user space writes a descriptor and reads the socket's cookie.
 * Writers: wsd at start. The kernel removes a socket that is closed.
 * Readers: the program, through bpf_sk_select_reuseport. One map per listen address, pinned as
 *          sockets_0, sockets_1, ... in the order of the addresses.
 * Missing: the shard does not listen here: the kernel's hash chooses, counted as select_failed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, SHARDS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

/*
 * outcomes answers: how often did the program end in which way?
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
} outcomes SEC(".maps");

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
