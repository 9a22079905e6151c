package source

import (
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// A new leader that was not in sync may lack the end of the log that the old one had and that we have delivered; what it writes in its
// place has the same offsets. The end of our last record's leader epoch in the new leader's log tells (KIP-320), so it is asked for
// whenever a partition gets a new leader.

// epochsVersion is the version of OffsetForLeaderEpoch from which consumers may use it.
const epochsVersion = 3

// checkEpochs asks the leader where the epochs end that the partitions were read in last.
func (f *fetcher) checkEpochs(c *kafka.Conn, questions []question) error {
	req := kmsg.NewOffsetForLeaderEpochRequest()
	highest := c.Version(req.Key())
	if highest < epochsVersion {
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		for _, q := range questions {
			if q.p.owner == f && q.p.resolve == resolveEpoch {
				q.p.resolve = resolveNothing
				q.p.vouchLocked()
			}
		}
		return nil
	}
	req.Version = min(highest, req.MaxVersion())
	req.ReplicaID = -1
	byName := make(map[partKey]question, len(questions))
	topics := make(map[string]int)
	for _, q := range questions {
		at, ok := topics[q.p.topic.name]
		if !ok {
			at = len(req.Topics)
			topics[q.p.topic.name] = at
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = q.p.topic.name
			req.Topics = append(req.Topics, rt)
		}
		rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = q.p.id, q.epoch, int32(q.time)
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, rp)
		byName[partKey{topic: q.p.topic.name, id: q.p.id}] = q
	}
	var resp kmsg.OffsetForLeaderEpochResponse
	if _, err := c.Request(&req, &resp, 0); err != nil {
		return err
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for i := range resp.Topics {
		for _, rp := range resp.Topics[i].Partitions {
			q, ok := byName[partKey{topic: resp.Topics[i].Topic, id: rp.Partition}]
			if !ok || q.p.owner != f || q.p.resolve != resolveEpoch {
				continue
			}
			if rp.ErrorCode != 0 {
				f.s.failLocked(q.p, kafka.Code(rp.ErrorCode), kafka.KindOfCode(kafka.Code(rp.ErrorCode)) != kafka.ErrorAuth)
				continue
			}
			q.p.resolve, q.p.progressAt = resolveNothing, time.Now()
			// Without an end the leader does not know the epoch: then the offset alone must tell.
			if at := q.p.routed.Load(); rp.EndOffset >= 0 && rp.EndOffset < at {
				if err := f.s.truncateLocked(q.p, rp.EndOffset, at); err != nil {
					return err
				}
			}
			q.p.vouchLocked()
		}
	}
	return nil
}

// truncateLocked goes back to offset to, since the log does not hold any more what was delivered from there on up to at. The stream gets
// a new epoch, as its offsets name other records now.
func (s *Source) truncateLocked(p *partition, to, at int64) error {
	p.topic.stats.Truncations.Add(1)
	cut := "." + strconv.Itoa(int(p.leaderEpoch))
	p.routed.Store(-1) // See Position.
	p.cut.Store(&cut)
	p.routed.Store(to)
	s.recent.forget(&p.window) // From now on its offsets name other records.
	p.lastEpoch = -1
	return s.loseLocked(p, LossTruncated, to, at, "why", "a new leader did not have what the old one had")
}
