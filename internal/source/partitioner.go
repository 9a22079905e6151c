package source

import (
	"hash/crc32"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"wsd/internal/route"
	"wsd/internal/stats"
)

// partitionOf returns which of n partitions a producer with this partitioner chooses for the key. The key must have at
// least one byte.
func partitionOf(by route.Partitioner, key []byte, n int) int {
	if by == route.PartitionerCRC32 {
		return int(crc32.ChecksumIEEE(key) % uint32(n)) // Partitions are few.
	}
	return kafkago.Murmur2Balancer{}.Balance(kafkago.Message{Key: key}, countTo(n)...)
}

// PartitionOf returns which of n partitions a producer with this partitioner, or with murmur2 if it is not known,
// chooses for the key. The key must have at least one byte.
func PartitionOf(by route.Partitioner, key []byte, n int32) int32 {
	return int32(partitionOf(by, key, int(n)))
}

// counting is 0, 1, 2 and so on.
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

// strays notes records that are in another partition than the partitioner chooses for their key. If there are some, one
// partition does not hold all of a channel, so the topic's keys have no streams. Producers that do not know of new
// partitions yet write some for a while.
type strays struct {
	last stats.Moment // When one was seen last.
}

// straysLast is how long keys have no streams after a stray.
const straysLast = 10 * time.Minute

func (s *strays) recent() bool {
	last := s.last.Get()
	return !last.IsZero() && time.Since(last) < straysLast
}

// Of the wanted records of a partition, the first straysFirst are checked, and after that one in straysEvery.
const (
	straysFirst = 64
	straysEvery = 64
)

// checkLocked checks whether a wanted record is in the partition of its channel's stream.
func (r *router) checkLocked(p *partition, channel []byte, offset int64) {
	if p.wanted++; p.wanted > straysFirst && p.wanted%straysEvery != 0 {
		return
	}
	// Ignore known strays: the ten minutes begin anew with each.
	st, ok := r.s.streams.Load().find(string(channel), true)
	if !ok || st.p == p || st.p.topicID != p.topicID {
		return
	}
	p.topic.stats.Strays.Add(1)
	if !p.topic.strayNoted {
		p.topic.strayNoted = true
		r.s.noteRecord(eventStray, "", p, offset, nil, "expected", st.p.id)
	}
	p.topic.strays.last.Set(time.Now())
}
