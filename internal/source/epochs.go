package source

import (
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// A new leader that was not in sync may lack the end of the log that the old leader had and that we have delivered.
// What it writes instead has the same offsets. To notice that, we ask each new leader where our last record's leader
// epoch ends in its log (KIP-320).

// epochsVersion is the first version of OffsetForLeaderEpoch that consumers may use.
const epochsVersion = 3

// isStaleLocked reports whether a metadata response that names this epoch of the partition's leader is older than what
// is known. A broker that lags behind sends such a response. But an epoch may also go back for good: a topic was
// created again on brokers without topic ids, or the metadata named a higher epoch by mistake. So a lower epoch counts
// when it has been named for some time and reading does not work with the known one.
func (s *Source) isStaleLocked(p *partition, epoch int32) bool {
	if epoch < 0 || epoch >= p.leaderEpoch {
		p.lowerSince = time.Time{}
		return false
	}
	now := time.Now()
	if p.lowerSince.IsZero() {
		p.lowerSince = now
	}
	f := p.owner
	works := f != nil && f.connected.Load() && f.lastError.Load() == nil && p.lastError.Load() == nil
	if works || now.Sub(p.lowerSince) < 2*s.o.MetadataInterval {
		return true
	}
	s.notePartition(eventEpochBack, p, "from", p.leaderEpoch, "to", epoch)
	p.lowerSince = time.Time{}
	return false
}

// newEpochLocked notes the epoch of the partition's leader. A new leader may not have everything that was read. An
// unknown epoch (-1) says nothing: some brokers send it while a partition has no leader.
func (p *partition) newEpochLocked(epoch int32) {
	before := p.leaderEpoch
	if epoch < 0 && before >= 0 {
		return
	}
	p.leaderEpoch = epoch
	if epoch != before {
		p.replica = -1 // The new leader says which replica is the nearest.
	}
	switch {
	case before < 0, epoch == before, p.resolve == resolveStart:
	case p.otherLog:
		p.resolve = resolveRange
	case epoch < p.lastEpoch: // No log has records of an epoch to come, so this is not the one that was read.
		p.resolve, p.otherLog = resolveRange, true
	case p.lastEpoch >= 0:
		p.resolve = resolveEpoch
	case epoch < before:
		p.resolve = resolveRange
	}
	p.vouchLocked()
}

// checkEpochs asks the leader where, in its log, the epochs end in which the partitions were last read.
func (f *fetcher) checkEpochs(c *kafka.Conn, lookups []offsetLookup) error {
	req := kmsg.NewOffsetForLeaderEpochRequest()
	highest := c.Version(req.Key())
	if highest < epochsVersion {
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		for _, q := range lookups {
			if q.p.owner == f && q.p.resolve == resolveEpoch {
				q.p.resolve = resolveNothing
				q.p.vouchLocked()
			}
		}
		return nil
	}
	req.Version = min(highest, req.MaxVersion())
	req.ReplicaID = -1
	byName := make(map[partKey]offsetLookup, len(lookups))
	topics := make(map[string]int)
	for _, q := range lookups {
		i, ok := topics[q.p.topic.name]
		if !ok {
			i = len(req.Topics)
			topics[q.p.topic.name] = i
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = q.p.topic.name
			req.Topics = append(req.Topics, rt)
		}
		rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = q.p.id, q.epoch, int32(q.time)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
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
				f.s.failLocked(q.p, kafka.Code(rp.ErrorCode),
					kafka.KindOfCode(kafka.Code(rp.ErrorCode)) != kafka.ErrorAuth)
				continue
			}
			q.p.resolve, q.p.progressAt = resolveNothing, time.Now()
			// If the leader does not know the epoch, it sends no end. Then only the range of offsets can show a
			// truncation.
			if position := q.p.routed.Load(); rp.EndOffset >= 0 && rp.EndOffset < position {
				if err := f.s.truncateLocked(q.p, rp.EndOffset, position); err != nil {
					return err
				}
			}
			q.p.vouchLocked()
		}
	}
	return nil
}

// truncateLocked moves p back from its position to the offset to, because the log no longer holds what was delivered in
// between. The stream gets a new epoch, because its offsets now name other records. The error is a *publishError.
func (s *Source) truncateLocked(p *partition, to, position int64) error {
	p.topic.stats.Truncations.Add(1)
	suffix := "." + strconv.Itoa(int(p.leaderEpoch))
	p.routed.Store(-1) // See Stream.Position.
	p.epochSuffix.Store(&suffix)
	p.routed.Store(to)
	s.recent.forget(&p.window)
	p.lastEpoch = -1
	return s.loseLocked(p, LossTruncated, to, position, "why", "a new leader did not have what the old one had")
}
