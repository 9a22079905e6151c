/* SPDX-License-Identifier: MIT */
/*
 * What steer.c needs of the kernel's interface: types, numbers and helpers with
 * the values that the kernel promises to keep (linux/bpf.h). Written out here so
 * that the object does not depend on the headers of the machine that builds it.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef long long __s64;

#define SEC(name) __attribute__((section(name), used))
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* How a map's definition reaches the loader: as types in BTF. */
#define __uint(name, value) int(*name)[value]
#define __type(name, type) type *name

/* enum bpf_map_type */
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_REUSEPORT_SOCKARRAY 20

/* Flag of a map: user space may map its memory. */
#define BPF_F_MMAPABLE (1U << 10)

/* enum sk_action: the verdict. */
#define SK_PASS 1

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
	KERNEL_POINTER(void *, data_end); /* behind the last byte that may be read directly */
	__u32 len;
	__u32 eth_protocol;
	__u32 ip_protocol;
	__u32 bind_inany;
	__u32 hash;
	KERNEL_POINTER(struct bpf_sock *, sk);
	KERNEL_POINTER(struct bpf_sock *, migrating_sk);
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_sk_select_reuseport)(struct sk_reuseport_md *ctx, void *sockets, void *key,
				       __u64 flags) = (void *)82;
