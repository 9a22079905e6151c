// Package wsd is the root of the module and holds no code: it says how the
// committed eBPF object and its Go types are made from bpf/. The program is in
// cmd/wsd.
package wsd

// -mcpu=v3 has the 32-bit instructions and atomics of every kernel that wsd
// steers on (5.14 and newer). Little-endian alone: amd64, arm64 and riscv64 are.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -output-dir internal/steering -go-package steering -no-global-types -type slot -type slot_table -type outcome_counts -type owner_record -type choose_args steer bpf/steer.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -nostdinc
