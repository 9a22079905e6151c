/* SPDX-License-Identifier: MIT */
/*
 * The part of the kernel's interface that steer.c needs: types, numbers and helpers, with values
 * that the kernel does not change (linux/bpf.h). They are written out here, so that the object does
 * not depend on the headers of the machine that builds it.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef long long __s64;

#define SEC(name) __attribute__((section(name), used))
#define ALWAYS_INLINE inline __attribute__((always_inline))

/*
 * For a function that is not static: the verifier checks it once, on its own and for all arguments,
 * and not again on every path of its callers.
 */
#define NOINLINE __attribute__((noinline))

/* A map's definition reaches the loader as types in BTF. */
#define __uint(name, value) int(*name)[value]
#define __type(name, type) type *name

/* enum bpf_map_type */
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_LPM_TRIE 11
#define BPF_MAP_TYPE_REUSEPORT_SOCKARRAY 20

/* Flags of a map: allocate entries when they are added; let user space map the memory. */
#define BPF_F_NO_PREALLOC (1U << 0)
#define BPF_F_MMAPABLE (1U << 10)

/* Flag of an update: the entry must not exist. */
#define BPF_NOEXIST 1

/* enum sk_action: the verdict. */
#define SK_DROP 0
#define SK_PASS 1

/* enum bpf_hdr_start_off: offsets count from the network header. */
#define BPF_HDR_START_NET 1

/* linux/if_ether.h */
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD

#define htons(x) __builtin_bswap16(x)
#define htonl(x) __builtin_bswap32(x)

/* Read or write a value once that others may read or write at the same time. */
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

/* Declared for bpf_sk_select_reuseport's context and for migrating_sk. */
struct bpf_sock;

/* A field that the kernel reads as a pointer of its own, 64 bits on every machine. */
#define KERNEL_POINTER(type, name)                                                                 \
	union {                                                                                    \
		type name;                                                                         \
		__u64 name##_bits;                                                                 \
	} __attribute__((aligned(8)))

/* Context of a program of type sk_reuseport. */
struct sk_reuseport_md {
	KERNEL_POINTER(void *, data);	  /* first byte of the TCP header */
	KERNEL_POINTER(void *, data_end); /* end of the bytes that may be read directly */
	__u32 len;
	__u32 eth_protocol; /* network byte order */
	__u32 ip_protocol;
	__u32 bind_inany;
	__u32 hash;
	KERNEL_POINTER(struct bpf_sock *, sk);
	KERNEL_POINTER(struct bpf_sock *, migrating_sk);
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				   __u64 flags) = (void *)2;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static long (*bpf_skb_load_bytes_relative)(const void *ctx, __u32 offset, void *to, __u32 len,
					   __u32 start) = (void *)68;
static long (*bpf_sk_select_reuseport)(struct sk_reuseport_md *ctx, void *sockets, void *key,
				       __u64 flags) = (void *)82;
