package source

import (
	"hash/crc32"

	kafka "github.com/segmentio/kafka-go"

	"wsd/internal/route"
)

// partitionOf returns the partition, of n, that producers with the partitioner choose for the key, which has at least one byte.
func partitionOf(by route.Partitioner, key []byte, n int) int {
	if by == route.PartitionerCRC32 {
		return int(crc32.ChecksumIEEE(key) % uint32(n)) //nolint:gosec // Partitions are few.
	}
	return kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: key}, countTo(n)...)
}

// counting holds 0, 1, 2 and so on.
var counting = func() []int {
	list := make([]int, 1024)
	for i := range list {
		list[i] = i
	}
	return list
}()

func countTo(n int) []int {
	if n <= len(counting) {
		return counting[:n]
	}
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
