// SPDX-License-Identifier: MIT
/*
 * Chooses the shard whose listener gets a new connection, or refuses the connection if an operator
 * or wsd has requested that.
 *
 * `steer` is attached to the SO_REUSEPORT group of each listen address. The kernel runs it for each
 * packet to the address that does not belong to a connection, and for each connection whose
 * listener is closed before it has been accepted. Except for requested refusals it passes every
 * packet: a pass without a choice leaves the choice to the kernel's hash. So a fault here can
 * disturb the balance, but never costs a client (invariant 3).
 */
#include "uapi.h"
#include "maps.h"
#include "settings.h"
#include "choose.h"
#include "refuse.h"

/* Byte 13 of a TCP header (RFC 9293, 3.1). */
#define TCP_FLAGS 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/*
 * Reports whether the packet opens a connection. A listener also gets ACKs that answer a SYN
 * cookie, and stray and forged packets. These must not count, or anyone could change the load
 * figures. The kernel drops a SYN with RST or FIN.
 */
static ALWAYS_INLINE int opens(const struct sk_reuseport_md *ctx)
{
	const __u8 *header = ctx->data;

	if ((void *)(header + TCP_FLAGS + 1) > ctx->data_end)
		return 0;
	return (header[TCP_FLAGS] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN;
}

/*
 * Counts an outcome. The asm, which has a different text for each outcome, keeps the compiler from
 * merging all of them into one addition with a variable offset. For a process that has CAP_BPF but
 * not CAP_PERFMON, the verifier refuses a pointer that differs from path to path.
 */
#define COUNT(count, outcome)                                                                      \
	do {                                                                                       \
		(count)->outcome++;                                                                \
		asm volatile("# " #outcome);                                                       \
	} while (0)

/* Reports whether the SYN is refused, and counts that. */
static ALWAYS_INLINE int refused(struct sk_reuseport_md *ctx, struct outcome_counts *count,
				 __u64 now)
{
	__u32 level = admission_level(), rate = setting(&source_rate, SOURCE_RATE_MAX, 0);

	if (level && bpf_get_prandom_u32() % ADMISSION_MAX < level) {
		if (!setting(&admission_dry_run, ~0U, 0)) {
			COUNT(count, refused_admission);
			return 1;
		}
		COUNT(count, dry_run_admission);
	}
	if (!rate)
		return 0;
	switch (charge_source(ctx, now, rate)) {
	case SOURCE_UNTRACKED:
		COUNT(count, source_untracked);
		break;
	case SOURCE_REFUSED:
		if (!setting(&source_dry_run, ~0U, 0)) {
			COUNT(count, refused_source);
			return 1;
		}
		COUNT(count, dry_run_source);
		break;
	}
	return 0;
}

/* Counts a SYN whose shard was chosen. */
static ALWAYS_INLINE void count_pick(struct outcome_counts *count, __u32 choice, __u32 by)
{
	if (choice & CHOICE_BLEMISHED)
		COUNT(count, picked_fallback);
	else if (by == POLICY_LEAST_LOADED)
		COUNT(count, picked_least_loaded);
	else if (by == POLICY_WEIGHTED)
		COUNT(count, picked_weighted);
	else if (by == POLICY_P2C)
		COUNT(count, picked_p2c);
	else if (choice & CHOICE_REMOTE)
		COUNT(count, picked_remote);
	else
		COUNT(count, picked_cpu_local);
}

SEC("sk_reuseport/migrate")
int steer(struct sk_reuseport_md *ctx)
{
	__u32 zero = 0, choice, shard, is_syn;
	struct outcome_counts *count;
	struct slot_table *s;
	struct choice_state cs = {};

	count = bpf_map_lookup_elem(&outcomes_v2, &zero);
	if (!count)
		return SK_PASS; /* does not happen (maps.h): the kernel's hash chooses */
	COUNT(count, runs);
	cs.now = bpf_ktime_get_ns();

	/* A migrating connection is established, and a drop would reset it. */
	is_syn = !ctx->migrating_sk && opens(ctx);
	if (is_syn && refused(ctx, count, cs.now))
		return SK_DROP; /* the client gets a reset: ECONNREFUSED */

	cs.policy = setting(&policy, POLICIES - 1, POLICY_LEAST_LOADED);
	if (cs.policy == POLICY_HASH) {
		if (is_syn)
			COUNT(count, picked_hash);
		else
			COUNT(count, placed);
		return SK_PASS; /* the policy leaves the choice to the kernel's hash */
	}
	cs.start = count->runs % shard_count;
	cs.cpu = bpf_get_smp_processor_id();
	cs.random = bpf_get_prandom_u32();
	choice = choose(&cs);
	s = bpf_map_lookup_elem(&slots_v2, &zero);
	if (!s || choice & CHOICE_FAILED) {
		COUNT(count, lookup_failed);
		return SK_PASS; /* drain or weight is shorter than shard_count: the hash chooses */
	}
	if (choice & CHOICE_SKIPPED)
		COUNT(count, skipped_stalled);
	shard = choice & DISTANCE_MASK;
	if (bpf_sk_select_reuseport(ctx, &sockets, &shard, 0)) {
		COUNT(count, select_failed);
		return SK_PASS; /* no listener, or one of another group: the hash chooses */
	}

	if (ctx->migrating_sk) {
		/* Its old shard will not close it, so it counts as load of the new one. */
		__sync_fetch_and_add(&s->shard[choice & DISTANCE_MASK].migrated, 1);
		__sync_fetch_and_add(&s->tally[choice & DISTANCE_MASK].load, 1);
		COUNT(count, migrated);
		return SK_PASS; /* the connection moves to the chosen listener */
	}
	if (!is_syn) {
		COUNT(count, placed);
		return SK_PASS; /* the chosen listener handles the ACK: it may answer a cookie */
	}
	__sync_fetch_and_add(&s->tally[choice & DISTANCE_MASK].load, 1);
	__sync_fetch_and_add(&s->tally[choice & DISTANCE_MASK].picked, 1);
	count_pick(count, choice, cs.policy);
	return SK_PASS; /* the chosen listener takes it */
}

/* Input and output of choose_test. */
struct choose_args {
	__u64 now;
	enum policy_kind policy;
	__u32 start;
	__u32 random;
	__u32 cpu;
	__u32 choice;
	enum limit unused; /* keeps the limits among the types that Go is made from */
};

/*
 * The choice alone, on the same maps, in a program that BPF_PROG_TEST_RUN can run. The tests of
 * internal/steering load it; wsd does not.
 */
SEC("syscall")
int choose_test(struct choose_args *args)
{
	struct choice_state cs = {
		.now = args->now,
		.policy = args->policy,
		.start = args->start,
		.random = args->random,
		.cpu = args->cpu,
	};

	args->choice = choose(&cs);
	return 0; /* not a verdict: the choice is in args */
}

char _license[] SEC("license") = "MIT";
