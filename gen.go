// Package wsd is the root of the module and holds no code: it says how the
// committed eBPF object and its Go types are made from bpf/. The program is in
// cmd/wsd.
package wsd

// -mcpu=v2, although every kernel that wsd steers on knows v3: its 32-bit
// instructions make the compiler spill halves of registers, of which the verifier
// loses track, and which it refuses without CAP_PERFMON. Little-endian alone:
// amd64, arm64 and riscv64 are.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -output-dir internal/steering -go-package steering -no-global-types -type slot -type slot_table -type tally -type outcome_counts -type owner_record -type choose_args -type address -type address_prefix -type policy_kind -type limit -type draining steer bpf/steer.c -- -O2 -mcpu=v2 -Wall -Wextra -Werror -nostdinc
