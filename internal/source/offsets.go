package source

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// Timestamps that mean something else in ListOffsets.
const (
	timeLatest   = -1
	timeEarliest = -2
)

// Isolation levels of Fetch and ListOffsets.
const (
	readUncommitted = 0
	readCommitted   = 1
)

// isolation returns the isolation level at which records are read.
func (o *Options) isolation() int8 {
	if o.ReadUncommitted {
		return readUncommitted
	}
	return readCommitted
}

// endOf returns the end of what a partition's part of a response lets us read.
func (o *Options) endOf(rp *kmsg.FetchResponseTopicPartition) int64 {
	if o.ReadUncommitted || rp.LastStableOffset < 0 {
		return rp.HighWatermark
	}
	return rp.LastStableOffset
}

// listOffsetsVersionMax is the highest version of ListOffsets that is used. Later ones add nothing that is needed here.
const listOffsetsVersionMax = 5

func newListOffsetsRequest(c *kafka.Conn, isolation int8) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = min(listOffsetsVersionMax, c.Version(req.Key()))
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	return req
}

// offsetLookup is what is looked up about a partition: the offset at a time, or where an epoch ends.
type offsetLookup struct {
	p     *partition
	epoch int32 // The epoch of its leader, as known at the time of the request.
	time  int64 // Milliseconds, or one of the constants above. For checkEpochs it is the epoch asked about.
}

// lookUpOffsets resolves what is unresolved about the partitions: where to begin, what offsets the log has, or whether
// a new leader's log is the one that was read.
func (f *fetcher) lookUpOffsets(c *kafka.Conn, parts []*partition) error {
	var starts, ranges, epochs []offsetLookup
	f.s.mu.Lock()
	for _, p := range parts {
		switch p.resolve {
		case resolveStart:
			starts = append(starts, offsetLookup{p, p.leaderEpoch, p.from.timestamp()})
		case resolveNothing:
		case resolveRange:
			ranges = append(ranges, offsetLookup{p, p.leaderEpoch, timeEarliest})
		case resolveEpoch:
			epochs = append(epochs, offsetLookup{p, p.leaderEpoch, int64(p.lastEpoch)})
		}
	}
	f.s.mu.Unlock()
	defer f.s.holdUnresolved(f, parts)

	if len(starts) > 0 {
		found, err := f.listOffsets(c, starts, f.s.o.isolation())
		if err != nil {
			return err
		}
		// If there is no record at that time or later, begin at the end.
		var late []offsetLookup
		for _, q := range starts {
			if o, ok := found[q.p]; ok && o < 0 && q.time >= 0 {
				late = append(late, offsetLookup{q.p, q.epoch, timeLatest})
			}
		}
		if len(late) > 0 {
			ends, err := f.listOffsets(c, late, f.s.o.isolation())
			if err != nil {
				return err
			}
			for _, q := range late {
				delete(found, q.p)
			}
			for p, o := range ends {
				found[p] = o
			}
		}
		if err := f.s.begin(f, found); err != nil {
			return err
		}
	}
	if len(ranges) > 0 {
		first, err := f.listOffsets(c, ranges, readUncommitted)
		if err != nil {
			return err
		}
		for i := range ranges {
			ranges[i].time = timeLatest
		}
		last, err := f.listOffsets(c, ranges, readUncommitted)
		if err != nil {
			return err
		}
		for p, lo := range first {
			if hi, ok := last[p]; ok {
				if err := f.s.rejoin(f, p, lo, hi); err != nil {
					return err
				}
			}
		}
	}
	if len(epochs) > 0 {
		return f.checkEpochs(c, epochs)
	}
	return nil
}

// listOffsets asks the broker for offsets. Partitions for which it sends an error are held back, and are not in found.
func (f *fetcher) listOffsets(
	c *kafka.Conn, lookups []offsetLookup, isolation int8,
) (found map[*partition]int64, err error) {
	req := newListOffsetsRequest(c, isolation)
	byName := make(map[partKey]*partition, len(lookups))
	topics := make(map[string]int)
	for _, q := range lookups {
		i, ok := topics[q.p.topic.name]
		if !ok {
			i = len(req.Topics)
			topics[q.p.topic.name] = i
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = q.p.topic.name
			req.Topics = append(req.Topics, rt)
		}
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = q.p.id, q.epoch, q.time
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
		byName[partKey{topic: q.p.topic.name, id: q.p.id}] = q.p
	}
	var resp kmsg.ListOffsetsResponse
	if _, err := c.Request(req, &resp, 0); err != nil {
		return nil, err
	}
	found = make(map[*partition]int64, len(lookups))
	for i := range resp.Topics {
		for _, rp := range resp.Topics[i].Partitions {
			p := byName[partKey{topic: resp.Topics[i].Topic, id: rp.Partition}]
			switch {
			case p == nil:
			case rp.ErrorCode != 0:
				f.s.mu.Lock()
				if p.owner == f {
					f.s.failLocked(p, kafka.Code(rp.ErrorCode),
						kafka.KindOfCode(kafka.Code(rp.ErrorCode)) != kafka.ErrorAuth)
				}
				f.s.mu.Unlock()
			default:
				found[p] = rp.Offset
			}
		}
	}
	return found, nil
}

// begin sets the first positions of partitions. The error is a *publishError.
func (s *Source) begin(f *fetcher, found map[*partition]int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var late []*partition
	for p, offset := range found {
		if p.owner != f || p.resolve != resolveStart || offset < 0 {
			continue
		}
		p.routed.Store(offset)
		p.resolve = resolveNothing
		p.progressAt = time.Now()
		p.goodLocked(s)
		s.router.touchLocked(p)
		if p.late || s.begun.Load() {
			late = append(late, p)
		}
	}
	return s.announceLocked(late)
}

var errNoOffset = kafka.NewError(kafka.ErrorBroker, errors.New("the broker did not send the partition's offsets"))

// holdUnresolved holds back the partitions that are still unresolved, so that the broker is not asked again
// immediately.
func (s *Source) holdUnresolved(f *fetcher, parts []*partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, p := range parts {
		if p.owner == f && p.resolve != resolveNothing && p.heldUntil.Before(now) {
			s.failLocked(p, errNoOffset, false)
		}
	}
}

// rejoin decides where to continue after the broker said that our position is outside the log, which now covers [first,
// last). What Kafka deleted before we read it is lost, and so is what a new leader does not have. Both are counted,
// logged and followed by a break.
func (s *Source) rejoin(f *fetcher, p *partition, first, last int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.owner != f || p.resolve != resolveRange || first < 0 || last < first {
		return nil
	}
	p.resolve, p.progressAt = resolveNothing, time.Now()
	defer p.vouchLocked()
	otherLog := p.otherLog
	p.otherLog = false
	switch position := p.routed.Load(); {
	case otherLog:
		return s.truncateLocked(p, first, max(position, first))
	case position < first:
		p.routed.Store(first)
		return s.loseLocked(p, LossRetention, position, first)
	case position > last:
		return s.truncateLocked(p, last, position)
	}
	return nil
}

// timestamp returns the timestamp to look up for a start.
func (st Start) timestamp() int64 {
	switch st.Mode {
	case StartEarliest:
		return timeEarliest
	case StartTime:
		return st.Time.UnixMilli()
	default:
		return timeLatest
	}
}
