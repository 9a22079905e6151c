// SPDX-License-Identifier: MIT
/*
 * Chooses, for every new connection, the shard whose listener gets it, or refuses it when an
 * operator or wsd has asked for that.
 *
 * `steer` is attached to the SO_REUSEPORT group of each listen address. The kernel runs it for a
 * packet to the address that belongs to no connection, and for each connection that loses its
 * listener before it was accepted. But for a refusal that was asked for it passes, whatever it
 * finds: a pass without a choice leaves the choice to the kernel's hash, so that a fault here costs
 * balance and never a client.
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
 * Tells whether the packet opens a connection. A listener also gets the ACK that answers a SYN
 * cookie, and whatever strays or is forged; anyone could move the load figures if those counted.
 * The kernel drops a SYN with RST or FIN.
 */
static ALWAYS_INLINE int opens(const struct sk_reuseport_md *ctx)
{
	const __u8 *header = ctx->data;

	if ((void *)(header + TCP_FLAGS + 1) > ctx->data_end)
		return 0;
	return (header[TCP_FLAGS] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN;
}

/*
 * Counts an outcome. The asm, of another text for each, keeps the compiler from making one
 * addition with a variable offset of all of them: of a process that has CAP_BPF alone, without
 * CAP_PERFMON, the verifier takes no pointer that differs from path to path.
 */
#define COUNT(count, outcome)                                                                      \
	do {                                                                                       \
		(count)->outcome++;                                                                \
		asm volatile("# " #outcome);                                                       \
	} while (0)

/* Tells whether the SYN is refused, and counts it if so. */
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
	struct moment m = {};

	count = bpf_map_lookup_elem(&outcomes_v2, &zero);
	if (!count)
		return SK_PASS; /* cannot be (maps.h): the kernel's hash chooses */
	COUNT(count, runs);
	m.now = bpf_ktime_get_ns();

	/* What migrates is established: a drop would reset it. */
	is_syn = !ctx->migrating_sk && opens(ctx);
	if (is_syn && refused(ctx, count, m.now))
		return SK_DROP; /* the client gets a reset: ECONNREFUSED */

	m.policy = setting(&policy, POLICIES - 1, POLICY_LEAST_LOADED);
	if (m.policy == POLICY_HASH) {
		if (is_syn)
			COUNT(count, picked_hash);
		else
			COUNT(count, placed);
		return SK_PASS; /* as the policy says, the kernel's hash chooses */
	}
	m.start = count->runs % shard_count;
	m.cpu = bpf_get_smp_processor_id();
	m.random = bpf_get_prandom_u32();
	choice = choose(&m);
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
		return SK_PASS; /* no such listener, or of another group: the hash chooses */
	}

	if (ctx->migrating_sk) {
		/* Its old shard will not close it, so here it is load from now on. */
		__sync_fetch_and_add(&s->shard[choice & DISTANCE_MASK].migrated, 1);
		__sync_fetch_and_add(&s->tally[choice & DISTANCE_MASK].load, 1);
		COUNT(count, migrated);
		return SK_PASS; /* it moves to the chosen listener */
	}
	if (!is_syn) {
		COUNT(count, placed);
		return SK_PASS; /* the chosen listener answers: a cookie is accepted, a stray reset
				 */
	}
	__sync_fetch_and_add(&s->tally[choice & DISTANCE_MASK].load, 1);
	__sync_fetch_and_add(&s->tally[choice & DISTANCE_MASK].picked, 1);
	count_pick(count, choice, m.policy);
	return SK_PASS; /* the chosen listener takes it */
}

/* What a test gives to choose_test and gets from it. */
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
 * The choice alone, in a program that BPF_PROG_TEST_RUN can run, on the same maps. wsd does not
 * load it; the tests of internal/steering do.
 */
SEC("syscall")
int choose_test(struct choose_args *args)
{
	struct moment m = {
		.now = args->now,
		.policy = args->policy,
		.start = args->start,
		.random = args->random,
		.cpu = args->cpu,
	};

	args->choice = choose(&m);
	return 0; /* no verdict: the choice is in args */
}

char _license[] SEC("license") = "MIT";
