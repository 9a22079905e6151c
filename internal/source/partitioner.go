package source

import (
	"hash/crc32"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"wsd/internal/route"
)

// partitionOf returns the partition, of n, that producers with the partitioner choose for the key, which has at least one byte.
func partitionOf(by route.Partitioner, key []byte, n int) int {
	if by == route.PartitionerCRC32 {
		return int(crc32.ChecksumIEEE(key) % uint32(n)) //nolint:gosec // Partitions are few.
	}
	return kafkago.Murmur2Balancer{}.Balance(kafkago.Message{Key: key}, countTo(n)...)
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

// strays are records that lie in another partition than their key and the partitioner say. Where there are some, what one partition
// holds is not all of a channel: then the topic's keys have no streams. Producers that do not know of new partitions yet make some for a while.
type strays struct {
	last atomic.Int64 // When one was seen last, in nanoseconds of Unix time; 0: never.
}

// straysLast is for how long keys have no streams after a stray.
const straysLast = 10 * time.Minute

func (s *strays) recent() bool {
	at := s.last.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < straysLast
}

// Of the wanted records of a partition the first straysFirst are checked, and then one in straysOf.
const (
	straysFirst = 64
	straysOf    = 64
)

// checkLocked sees whether a record that is wanted lies in its channel's partition.
func (r *router) checkLocked(p *partition, channel []byte, offset int64) {
	if p.wanted++; p.wanted > straysFirst && p.wanted%straysOf != 0 {
		return
	}
	st, ok := r.s.streams.Load().find(string(channel), true) // Also while strays are known: the ten minutes begin anew with each.
	if !ok || st.p == p || st.p.topicID != p.topicID {
		return
	}
	p.topic.stats.Strays.Add(1)
	if !p.topic.strayNoted {
		p.topic.strayNoted = true
		r.s.log.Warn("a record is not in the partition that kafka.partitioner says: channels named by keys of the topic cannot be recovered; set the partitioner that its producers use, or none",
			"topic", p.topic.name, "partition", p.id, "offset", offset, "expected", st.p.id)
	}
	p.topic.strays.last.Store(time.Now().UnixNano())
}
