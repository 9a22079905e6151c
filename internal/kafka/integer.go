package kafka

import "encoding/binary"

// int16At, int32At and int64At return the integer at an index of b in the form that Kafka's protocol gives it: big
// endian and signed. b must be long enough.

func int16At(b []byte, i int) int16 { return int16(binary.BigEndian.Uint16(b[i:])) } //nolint:gosec // Signed.

func int32At(b []byte, i int) int32 { return int32(binary.BigEndian.Uint32(b[i:])) } //nolint:gosec // Signed.

func int64At(b []byte, i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) } //nolint:gosec // Signed.
