/* SPDX-License-Identifier: MIT */
/* Decides which SYNs are refused. */
#pragma once

#include "maps.h"
#include "settings.h"

/* Returns the admission level that applies: the higher of the operator's and wsd's own. */
static ALWAYS_INLINE __u32 admission_level(void)
{
	__u32 operator_level = setting_entry(&admission, ADMISSION_OPERATOR, ADMISSION_MAX, 0);
	__u32 own_level = setting_entry(&admission, ADMISSION_WSD, ADMISSION_MAX, 0);

	return operator_level > own_level ? operator_level : own_level;
}

/* Returns the mask of the first `bits` bits of a word of an address, for any number of bits. */
static ALWAYS_INLINE __u32 word_mask(__s64 bits)
{
	if (bits < 0)
		bits = 0;
	if (bits > 32)
		bits = 32;
	return htonl((__u32)(0xffffffff00000000ULL >> bits));
}

/*
 * scratch is the memory in which a client address is assembled. On the stack, the verifier would
 * refuse to write half of eight bytes, for a process that has CAP_BPF but not CAP_PERFMON. Nothing
 * else runs on the CPU meanwhile.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct address_prefix);
} scratch SEC(".maps");

/* Reads the client address of the packet. Returns 0, or another number if there is none. */
static ALWAYS_INLINE long read_source(const struct sk_reuseport_md *ctx, struct address *source)
{
	if (ctx->eth_protocol == htons(ETH_P_IP)) {
		source->word[0] = 0;
		source->word[1] = 0;
		source->word[2] = htonl(0xffff);
		return bpf_skb_load_bytes_relative(ctx, 12, &source->word[3], 4, BPF_HDR_START_NET);
	}
	if (ctx->eth_protocol == htons(ETH_P_IPV6))
		return bpf_skb_load_bytes_relative(ctx, 8, source, 16, BPF_HDR_START_NET);
	return -1;
}

/* Clears the bits of a client address that do not count. */
static ALWAYS_INLINE void cut(struct address *source, int is_ipv4)
{
	__s64 bits =
		is_ipv4 ? 96 + setting(&source_prefix4, SOURCE_PREFIX4_MAX, SOURCE_PREFIX4_DEFAULT)
			: setting(&source_prefix6, SOURCE_PREFIX6_MAX, SOURCE_PREFIX6_DEFAULT);

	source->word[0] &= word_mask(bits);
	source->word[1] &= word_mask(bits - 32);
	source->word[2] &= word_mask(bits - 64);
	source->word[3] &= word_mask(bits - 96);
}

enum source_verdict {
	SOURCE_PASSES,
	SOURCE_REFUSED,
	SOURCE_UNTRACKED, /* the address could not be stored, so the SYN passes */
};

/*
 * Charges a SYN to the bucket of its client address, with rate SYNs per second. It is a function of
 * its own, so that its code is not between the instructions that every SYN needs.
 */
NOINLINE int charge_source(struct sk_reuseport_md *ctx, __u64 now, __u64 rate)
{
	__u64 interval, tolerance, *arrival, due, first;
	__u32 burst, zero = 0, *exempt;
	struct address_prefix *source;

	if (!rate)
		return SOURCE_PASSES;
	source = bpf_map_lookup_elem(&scratch, &zero);
	if (!source || read_source(ctx, &source->address))
		return SOURCE_PASSES; /* does not happen: every packet has an address */
	source->length = 128;
	exempt = bpf_map_lookup_elem(&source_exempt, source);
	if (exempt && READ_ONCE(*exempt))
		return SOURCE_PASSES;
	cut(&source->address, ctx->eth_protocol == htons(ETH_P_IP));
	burst = setting(&source_burst, SOURCE_BURST_MAX, 0);
	interval = 1000000000 / rate;
	tolerance = interval * ((burst ? burst : rate) - 1);

	arrival = bpf_map_lookup_elem(&sources, &source->address);
	if (!arrival) {
		first = now + interval;
		if (bpf_map_update_elem(&sources, &source->address, &first, BPF_NOEXIST))
			return SOURCE_UNTRACKED; /* no room, or another CPU has just added it */
		return SOURCE_PASSES;
	}
	due = READ_ONCE(*arrival);
	if (due > now + tolerance + interval)
		due = now; /* Only other settings can cause such a value, so start again. */
	if (due > now + tolerance)
		return SOURCE_REFUSED;
	/* If two CPUs write at the same time, one SYN may not be charged. */
	if (due > now)
		__sync_fetch_and_add(arrival, interval);
	else
		WRITE_ONCE(*arrival, now + interval);
	return SOURCE_PASSES;
}
