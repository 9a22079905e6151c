package produce

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// entry is a record under way. The client owns record from run to settle; all else is fixed, or of entryList.
type entry struct {
	record kgo.Record
	done   func(Ack, error)
	late   func(Ack, error)
	size   int
	began  time.Time
	raw    *Record // What Prepare completes. Nil without Prepare, and afterwards.

	listed     bool // In the list of those that are not answered.
	prev, next *entry
}

func newEntry(r *Record, size int, done func(Ack, error)) *entry {
	e := &entry{done: done, late: r.Late, size: size, began: time.Now()}
	if r.Prepare != nil {
		e.raw = r
		return e
	}
	e.set(r)
	return e
}

// complete has the record prepared. Its error is that of Prepare.
func (e *entry) complete() error {
	if e.raw == nil {
		return nil
	}
	r := e.raw
	e.raw = nil
	if err := r.Prepare(r); err != nil {
		return &preparedError{err}
	}
	e.set(r)
	return nil
}

// preparedError is an error of Prepare, which goes to the callback as it is.
type preparedError struct{ err error }

func (e *preparedError) Error() string { return e.err.Error() }
func (e *preparedError) Unwrap() error { return e.err }

func (e *entry) set(r *Record) {
	e.record = kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
	if r.Partition < 0 && r.Key == nil && len(r.Order) > 0 {
		e.record.Context = context.WithValue(context.Background(), orderKey{}, r.Order)
	}
	if len(r.Headers) == 0 {
		return
	}
	e.record.Headers = make([]kgo.RecordHeader, len(r.Headers))
	for i, h := range r.Headers {
		e.record.Headers[i] = kgo.RecordHeader{Key: h.Name, Value: h.Value}
	}
}

// orderKey is the key under which a record's context has Record.Order: kgo passes nothing else to the partitioner.
type orderKey struct{}

func orderOf(r *kgo.Record) []byte {
	if r.Context == nil {
		return nil
	}
	order, _ := r.Context.Value(orderKey{}).([]byte)
	return order
}

// entryList has the records that are not answered, oldest first. Whoever removes one answers it.
type entryList struct{ head, tail *entry }

func (l *entryList) push(e *entry) {
	e.listed, e.prev, e.next = true, l.tail, nil
	if l.tail == nil {
		l.head = e
	} else {
		l.tail.next = e
	}
	l.tail = e
}

// remove reports whether e was in the list.
func (l *entryList) remove(e *entry) bool {
	if !e.listed {
		return false
	}
	if e.prev == nil {
		l.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.listed, e.prev, e.next = false, nil, nil
	return true
}

// noSuchPartition marks a record for a partition that its topic does not have. kgo fails it with an error of no type.
const noSuchPartition = -2

// partitioner is kgo's view of Options.Partition.
type partitioner struct {
	byKey func(key []byte, n int32) int32
}

// ForTopic implements kgo.Partitioner.
func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return &topicPartitioner{byKey: p.byKey, rest: kgo.StickyKeyPartitioner(nil).ForTopic(topic)}
}

// topicPartitioner chooses partitions of one topic: the record's own, or by its key, or else the library's choice.
type topicPartitioner struct {
	byKey func(key []byte, n int32) int32
	rest  kgo.TopicPartitioner
}

// RequiresConsistency implements kgo.TopicPartitioner.
func (p *topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || r.Key != nil || orderOf(r) != nil
}

// Partition implements kgo.TopicPartitioner. A partition that the topic does not have fails the record.
func (p *topicPartitioner) Partition(r *kgo.Record, n int) int {
	switch {
	case r.Partition >= int32(n): //nolint:gosec // Kafka counts partitions in 32 bits.
		r.Partition = noSuchPartition
		return noSuchPartition
	case r.Partition >= 0:
		return int(r.Partition)
	case r.Key != nil && p.byKey != nil:
		return int(p.byKey(r.Key, int32(n))) //nolint:gosec // Kafka counts partitions in 32 bits.
	}
	if order := orderOf(r); order != nil && r.Key == nil {
		return p.rest.Partition(&kgo.Record{Key: order}, n)
	}
	return p.rest.Partition(r, n)
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch.
func (p *topicPartitioner) OnNewBatch() {
	if rest, ok := p.rest.(kgo.TopicPartitionerOnNewBatch); ok {
		rest.OnNewBatch()
	}
}

// jitter returns d less up to half of it: many clients of a broker must not all come back at the same time.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // It only spreads retries.
}
