package source

import (
	"log/slog"
	"time"

	"wsd/internal/bus"
	"wsd/internal/route"
	"wsd/internal/routing"
)

// LossReason is why offsets of a partition are never delivered.
type LossReason uint8

// The reasons for a loss. After each but LossTooLarge the subscribers of the channels concerned are told to come back.
const (
	LossRetention  LossReason = iota // Deleted, by retention or by hand, before they were read.
	LossMissing                      // A hole in a log that is not compacted.
	LossUnreadable                   // In a batch that cannot be read.
	LossTruncated                    // Delivered, and gone since: a new leader did not have what the old one had.
	LossRecreated                    // Not read yet when the topic was deleted and created again.
	LossTooLarge                     // Records above Options.RecordBytesMax.
	lossCount
)

// String returns the reason as metrics and logs name it.
func (r LossReason) String() string {
	return [lossCount]string{"retention", "missing", "unreadable", "truncated", "recreated", "too_large"}[r]
}

// LogValue implements slog.LogValuer.
func (r LossReason) LogValue() slog.Value { return slog.StringValue(r.String()) }

// AllLossReasons returns every reason, for a metric that starts at zero.
func AllLossReasons() []LossReason {
	all := make([]LossReason, lossCount)
	for i := range all {
		all[i] = LossReason(i)
	}
	return all
}

// loseLocked deals with the loss of the offsets from from to before to: it is counted, logged, and told to the subscribers of every
// channel that the partition's records may go to. The partition's position must have been moved past it: who subscribes from now on
// has not missed it. The error is a *publishError.
func (s *Source) loseLocked(p *partition, why LossReason, from, to int64, attrs ...any) error {
	p.topic.stats.Lost[why].Add(uint64(to - from))
	p.losses.add(s, p, why, from, to, attrs...)
	s.router.touchLocked(p)
	_, err := s.breakLocked(p)
	return err
}

// breakLocked puts a break of all channels that the partitions' records may go to on the bus, behind everything that was routed.
// told: some of them has subscribers. The error is a *publishError.
func (s *Source) breakLocked(parts ...*partition) (told bool, err error) {
	done := make(map[string]bool)
	for _, p := range parts {
		br, name := p.brokenChannels(len(parts) == 1)
		if done[name] {
			continue
		}
		done[name] = true
		shards := s.concerned(br)
		if shards.Empty() {
			continue
		}
		if err := s.router.sealLocked(); err != nil {
			return told, err
		}
		if err := s.router.publishLocked(bus.NewBreak(*br, shards)); err != nil {
			return told, err
		}
		told = true
		p.topic.stats.Breaks.Add(1)
	}
	return told, nil
}

// concerned returns the shards that have a subscriber of a channel whose stream is broken.
func (s *Source) concerned(br *bus.Break) routing.ShardSet {
	if br.Match != nil {
		return s.o.Interest.Shards(br.Match)
	}
	ch, _ := s.o.Interest.Lookup([]byte(br.Channel))
	return ch.Shards
}

// brokenChannels returns a break of the channels that p's records may go to, and a name that tells different breaks apart; nil when
// they go nowhere. When what a record holds decides, whose channels the lost records were for cannot be known: all of them. Not alone: those
// of the topic's other partitions, too, which one break then tells as well.
func (p *partition) brokenChannels(alone bool) (br *bus.Break, name string) {
	t, partition := p.topic.route, p.id
	if !alone {
		partition = route.AnyPartition
	}
	switch {
	case p.channel != nil:
		return &bus.Break{Channel: string(p.channel)}, "=" + string(p.channel)
	case !t.Open() && len(t.Fixed(p.id)) == 0:
		return nil, ""
	}
	return &bus.Break{Match: func(channel string) bool { return t.CanName(partition, channel) }}, "*" + p.topic.name
}

// lossesPerInterval is how many losses of a partition are logged one by one in Options.LogInterval.
const lossesPerInterval = 10

// lossLog writes a line for each loss of a partition, and when they come in numbers one for many. It belongs to Source.mu.
type lossLog struct {
	since    time.Time // When the interval began.
	lines    int       // Written in it.
	held     int       // Losses that wait for the next line,
	offsets  int64     // the offsets in them,
	from, to int64     // and what they lie between.
}

func (l *lossLog) add(s *Source, p *partition, why LossReason, from, to int64, attrs ...any) {
	now := time.Now()
	if now.Sub(l.since) >= s.o.LogInterval {
		l.flush(s, p)
		l.since, l.lines = now, 0
	}
	if l.lines >= lossesPerInterval {
		if l.held == 0 {
			l.from = from
		}
		l.held++
		l.offsets += to - from
		l.from, l.to = min(l.from, from), to
		return
	}
	l.lines++
	s.log.Warn("records are lost; subscribers of their channels are told to come back", append([]any{
		"topic", p.topic.name, "partition", p.id, "reason", why, "from", from, "to", to - 1, "offsets", to - from,
	}, attrs...)...)
}

// flush writes the line for what was held back.
func (l *lossLog) flush(s *Source, p *partition) {
	if l.held == 0 {
		return
	}
	s.log.Warn("more records are lost; subscribers of their channels are told to come back", "topic", p.topic.name, "partition", p.id,
		"losses", l.held, "between", l.from, "and", l.to-1, "offsets", l.offsets)
	l.held, l.offsets = 0, 0
}

// flushLosses writes the lines that are due. The watcher calls it after each look.
func (s *Source) flushLosses() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.topics {
		for _, p := range t.parts {
			if p.losses.held > 0 && time.Since(p.losses.since) >= s.o.LogInterval {
				p.losses.flush(s, p)
			}
		}
	}
}

// holeLocked decides what the offsets from from to before to are that are missing in front of a batch. What lies below the start of
// the log has been deleted. Above it a compacted topic explains them; transactions do not, as markers and aborted records are
// there to be read. In any other topic records do not vanish: they are lost.
// readFrom is where what is read now joins on to what was read before: at from, unless records between are lost.
func (s *Source) holeLocked(p *partition, from, to, logStart int64) (readFrom int64, err error) {
	p.routed.Store(to)
	readFrom = from
	if deleted := min(logStart, to); deleted > from {
		if err := s.loseLocked(p, LossRetention, from, deleted); err != nil {
			return to, err
		}
		if from, readFrom = deleted, deleted; from == to {
			return to, nil
		}
	}
	switch cleanup(p.topic.cleanup.Load()) {
	case cleanupCompact:
		s.router.counts.compacted += uint64(to - from)
	case cleanupDelete:
		return to, s.loseLocked(p, LossMissing, from, to)
	case cleanupUnknown:
		p.topic.stats.Gaps.Add(uint64(to - from))
		p.gapNote.fail(s.log, "offsets are missing between two batches: removed by compaction, or lost; which one cannot be told without the topic's cleanup.policy",
			"topic", p.topic.name, "partition", p.id, "from", from, "to", to-1)
	}
	return readFrom, nil
}
