package source

import (
	"fmt"
	"hash/crc32"

	kafka "github.com/segmentio/kafka-go"
)

// Partitioner is how the producers of a topic choose a record's partition by its key.
type Partitioner string

// The partitioners. PartitionerNone says that it is not known.
const (
	PartitionerNone    Partitioner = ""
	PartitionerMurmur2 Partitioner = "murmur2" // Of the Java clients, by default; also murmur2 of librdkafka.
	PartitionerCRC32   Partitioner = "crc32"   // Of librdkafka, by default ("consistent").
)

// parsePartitioner returns the partitioner with the name, or an error that lists those that there are.
func parsePartitioner(name Partitioner) (Partitioner, error) {
	switch name {
	case PartitionerNone, PartitionerMurmur2, PartitionerCRC32:
		return name, nil
	}
	return "", fmt.Errorf("partitioner %q is not known: murmur2 and crc32 are", name)
}

// partition returns the partition, of n, that records with the key go to. The key has at least one byte.
func (k Partitioner) partition(key []byte, n int) int {
	if k == PartitionerCRC32 {
		return int(crc32.ChecksumIEEE(key) % uint32(n))
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
