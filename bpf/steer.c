// SPDX-License-Identifier: MIT
/*
 * Chooses, for every new connection, the shard whose listener gets it: the least loaded one.
 *
 * `steer` is attached to the SO_REUSEPORT group of each listen address. The kernel runs it for a
 * packet to the address that belongs to no connection, and for each connection that loses its
 * listener before it was accepted. Whatever it finds, it passes: a pass without a choice leaves
 * the choice to the kernel's hash, so that a fault here costs balance and never a client.
 */
#include "uapi.h"
#include "maps.h"
#include "choose.h"

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

SEC("sk_reuseport/migrate")
int steer(struct sk_reuseport_md *ctx)
{
	struct outcome_counts *count;
	struct slot_table *s;
	struct choice c;
	__u32 zero = 0;

	count = bpf_map_lookup_elem(&outcomes, &zero);
	if (!count)
		return SK_PASS; /* cannot be (maps.h): the kernel's hash chooses */
	COUNT(count, runs);

	s = bpf_map_lookup_elem(&slots, &zero);
	if (!s) {
		COUNT(count, lookup_failed);
		return SK_PASS; /* cannot be (maps.h): the kernel's hash chooses */
	}
	c = choose(s, count->runs % shard_count);
	if (c.failed || c.shard >= SHARDS_MAX) {
		COUNT(count, lookup_failed);
		return SK_PASS; /* drain is shorter than shard_count: the kernel's hash chooses */
	}
	if (bpf_sk_select_reuseport(ctx, &sockets, &c.shard, 0)) {
		COUNT(count, select_failed);
		return SK_PASS; /* no such listener, or of another group: the kernel's hash chooses
				 */
	}

	if (ctx->migrating_sk) {
		/* Its old shard will not close it, so here it is load from now on. */
		__sync_fetch_and_add(&s->shard[c.shard].migrated, 1);
		COUNT(count, migrated);
		return SK_PASS; /* it moves to the chosen listener; a drop would reset it */
	}
	if (!opens(ctx)) {
		COUNT(count, placed);
		return SK_PASS; /* the chosen listener answers: a cookie is accepted, a stray reset
				 */
	}
	__sync_fetch_and_add(&s->shard[c.shard].picked, 1);
	if (c.draining) {
		COUNT(count, picked_draining);
		return SK_PASS; /* the chosen listener takes it, as it must be somewhere */
	}
	COUNT(count, picked);
	return SK_PASS; /* the chosen listener takes it */
}

/* What a test gives to choose_test and gets from it. */
struct choose_args {
	__u32 start;
	__u32 shard;
	__u32 draining;
	__u32 failed;
};

/*
 * The choice alone, in a program that BPF_PROG_TEST_RUN can run, on the same maps. wsd does not
 * load it; the tests of internal/steering do.
 */
SEC("syscall")
int choose_test(struct choose_args *args)
{
	struct choice c;
	struct slot_table *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&slots, &zero);
	if (!s)
		return 1; /* no verdict: tells the test that the map is missing */
	c = choose(s, args->start);
	args->shard = c.shard;
	args->draining = c.draining;
	args->failed = c.failed;
	return 0; /* no verdict: the choice is in args */
}

char _license[] SEC("license") = "MIT";
