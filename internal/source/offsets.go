package source

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// Timestamps with a meaning of their own in ListOffsets.
const (
	timeLatest   = -1
	timeEarliest = -2
)

// Isolation levels of Fetch and ListOffsets.
const (
	readUncommitted = 0
	readCommitted   = 1
)

// listOffsetsVersionMax is the highest version of ListOffsets that is used. Later ones add nothing that is needed here.
const listOffsetsVersionMax = 5

func newListOffsetsRequest(c *kafka.Conn, isolation int8) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = min(listOffsetsVersionMax, c.Version(req.Key()))
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	return req
}

// question asks for the offset of a partition at a time.
type question struct {
	p     *partition
	epoch int32 // Of its leader, as known when it was asked.
	time  int64 // Milliseconds, or one of the constants above; for checkEpochs the epoch asked about.
}

// answer finds out where the partitions begin, or what has become of the range of offsets of those that fell out of it.
func (f *fetcher) answer(c *kafka.Conn, parts []*partition) error {
	var starts, ranges, epochs []question
	f.s.mu.Lock()
	for _, p := range parts {
		switch p.resolve {
		case resolveStart:
			starts = append(starts, question{p, p.leaderEpoch, p.from.timestamp()})
		case resolveNothing:
		case resolveRange:
			ranges = append(ranges, question{p, p.leaderEpoch, timeEarliest})
		case resolveEpoch:
			epochs = append(epochs, question{p, p.leaderEpoch, int64(p.lastEpoch)})
		}
	}
	f.s.mu.Unlock()
	defer f.s.holdUnanswered(f, parts)

	if len(starts) > 0 {
		found, err := f.listOffsets(c, starts, readCommitted)
		if err != nil {
			return err
		}
		// No record at that time or later: begin at the end.
		var late []question
		for _, q := range starts {
			if o, ok := found[q.p]; ok && o < 0 && q.time >= 0 {
				late = append(late, question{q.p, q.epoch, timeLatest})
			}
		}
		if len(late) > 0 {
			ends, err := f.listOffsets(c, late, readCommitted)
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
		f.s.begin(f, found)
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

// listOffsets asks one broker. Partitions for which it answers with an error are held back and missing in found.
func (f *fetcher) listOffsets(c *kafka.Conn, questions []question, isolation int8) (found map[*partition]int64, err error) {
	req := newListOffsetsRequest(c, isolation)
	byName := make(map[partKey]*partition, len(questions))
	topics := make(map[string]int)
	for _, q := range questions {
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
	found = make(map[*partition]int64, len(questions))
	for i := range resp.Topics {
		for _, rp := range resp.Topics[i].Partitions {
			p := byName[partKey{topic: resp.Topics[i].Topic, id: rp.Partition}]
			switch {
			case p == nil:
			case rp.ErrorCode != 0:
				f.s.mu.Lock()
				if p.owner == f {
					f.s.failLocked(p, kafka.Code(rp.ErrorCode), kafka.KindOfCode(kafka.Code(rp.ErrorCode)) != kafka.ErrorAuth)
				}
				f.s.mu.Unlock()
			default:
				found[p] = rp.Offset
			}
		}
	}
	return found, nil
}

// begin sets the first position of partitions.
func (s *Source) begin(f *fetcher, found map[*partition]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, offset := range found {
		if p.owner != f || p.resolve != resolveStart || offset < 0 {
			continue
		}
		p.routed.Store(offset)
		p.resolve = resolveNothing
		p.progressAt = time.Now()
		p.goodLocked(s)
		s.router.touchLocked(p)
	}
}

var errNoOffset = kafka.NewError(kafka.ErrorBroker, errors.New("the broker gave no usable answer about the partition's offsets"))

// holdUnanswered holds back the partitions that a broker said nothing usable about, so that it is not asked again at once.
func (s *Source) holdUnanswered(f *fetcher, parts []*partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, p := range parts {
		if p.owner == f && p.resolve != resolveNothing && p.heldUntil.Before(now) {
			s.failLocked(p, errNoOffset, false)
		}
	}
}

// rejoin decides where to go on after the broker said that our position is outside the log, which now reaches from first to
// last. What was deleted before we read it is lost; so is what a new leader did not have. Neither happens silently.
func (s *Source) rejoin(f *fetcher, p *partition, first, last int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.owner != f || p.resolve != resolveRange || first < 0 || last < first {
		return nil
	}
	p.resolve, p.progressAt = resolveNothing, time.Now()
	defer p.vouchLocked()
	switch at := p.routed.Load(); {
	case at < first:
		p.routed.Store(first)
		return s.loseLocked(p, LossRetention, at, first)
	case at > last:
		return s.truncateLocked(p, last, at)
	}
	return nil
}

// timestamp is what ListOffsets is asked for a start.
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
