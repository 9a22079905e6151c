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

// The reasons for a loss. After each of them, except LossTooLarge, the subscribers of the channels concerned must
// resubscribe.
const (
	LossRetention  LossReason = iota // Kafka deleted them, by retention or by hand, before they were read.
	LossMissing                      // A hole in a log that is not compacted.
	LossUnreadable                   // In a batch that cannot be read.
	LossTruncated                    // They were delivered, but a new leader does not have them.
	LossRecreated                    // They were not read before the topic was deleted and created again.
	LossTooLarge                     // Records above Options.RecordBytesMax.
	LossSkipped                      // Skipped by an operator, see Skip.
	lossCount
)

// String returns the reason as metrics and logs name it.
func (r LossReason) String() string {
	return [lossCount]string{"retention", "missing", "unreadable", "truncated", "recreated", "too_large", "skipped"}[r]
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

// loseLocked deals with the loss of the offsets [from, to). It counts and logs the loss, and publishes a break for
// every channel that the partition's records may go to, at once or later (see breakPace). The partition's position must
// already be after the loss, so that later subscribers have not missed anything. The error is a *publishError.
func (s *Source) loseLocked(p *partition, why LossReason, from, to int64, attrs ...any) error {
	p.topic.stats.Lost[why].Add(uint64(to - from))
	s.losses.add(s, p, why, from, to, attrs...)
	s.router.touchLocked(p)
	p.breaks.due++
	return s.payBreakLocked(p, time.Now())
}

// breakLocked publishes a break for all channels that the partitions' records may go to, after everything that was
// routed. Notified reports that one of the channels has subscribers. The error is a *publishError.
func (s *Source) breakLocked(parts ...*partition) (notified bool, err error) {
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
			return notified, err
		}
		if err := s.router.publishLocked(bus.NewBreak(*br, shards)); err != nil {
			return notified, err
		}
		notified = true
		p.topic.stats.Breaks.Add(1)
	}
	return notified, nil
}

// concerned returns the shards that have a subscriber of a channel whose stream is broken.
func (s *Source) concerned(br *bus.Break) routing.ShardSet {
	if br.Match != nil {
		return s.o.Interest.Shards(br.Match)
	}
	ch, _ := s.o.Interest.Lookup([]byte(br.Channel))
	return ch.Shards
}

// brokenChannels returns a break for the channels that p's records may go to, and a name that is the same for the same
// break. It returns nil if the records go nowhere. If the channel depends on the record, nobody can know which channels
// the lost records were for, so the break is for all that the topic may name. If p is not alone, the break covers the
// topic's other partitions, too.
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

// lossesPerInterval is how many losses are logged one by one in one Options.LogInterval.
const lossesPerInterval = 10

// lossLog logs a line for each loss, or one line for many if there are many: a broker that loses its disk, or retention
// that overtakes, may hit every partition. Source.mu guards it.
type lossLog struct {
	since    time.Time // When the interval began.
	lines    int       // The lines logged in the interval.
	waiting  int       // The losses that wait for the next line.
	offsets  int64     // The offsets in the losses that wait.
	from, to int64     // The range of the losses that wait, if they are one partition's.
	parts    map[*partition]bool
	names    []string // Of the first of these partitions.
}

func (l *lossLog) add(s *Source, p *partition, why LossReason, from, to int64, attrs ...any) {
	now := time.Now()
	if now.Sub(l.since) >= s.o.LogInterval {
		l.flush(s)
		l.since, l.lines = now, 0
	}
	if l.lines >= lossesPerInterval {
		if l.waiting == 0 {
			l.from, l.parts = from, make(map[*partition]bool)
		}
		l.waiting++
		l.offsets += to - from
		l.from, l.to = min(l.from, from), to
		if !l.parts[p] && len(l.parts) < digestNames {
			l.names = append(l.names, p.name())
		}
		l.parts[p] = true
		return
	}
	l.lines++
	s.log.Warn("records are lost; subscribers of their channels must resubscribe", append([]any{
		"topic", p.topic.name, "partition", p.id, "reason", why, "from", from, "to", to - 1, "offsets", to - from,
	}, attrs...)...)
}

// flush logs the line for the losses that wait.
func (l *lossLog) flush(s *Source) {
	if l.waiting == 0 {
		return
	}
	attrs := []any{"partitions", len(l.parts), "first", l.names, "losses", l.waiting}
	if len(l.parts) == 1 {
		for p := range l.parts {
			attrs = append(p.attrs(), "losses", l.waiting, "between", l.from, "and", l.to-1)
		}
	}
	s.log.Warn("more records are lost; subscribers of their channels must resubscribe",
		append(attrs, "offsets", l.offsets)...)
	l.waiting, l.offsets, l.parts, l.names = 0, 0, nil, nil
}

// flushLosses logs the line that is due. The watcher calls it after each refresh.
func (s *Source) flushLosses() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.losses.waiting > 0 && time.Since(s.losses.since) >= s.o.LogInterval {
		s.losses.flush(s)
	}
}

// holeLocked decides what a hole [from, to) in front of a batch means. Offsets before the start of the log have been
// deleted. Later ones are explained by compaction, or lost: see topic.holesAreLosses. ReadFrom is where what is read
// now follows what was read before: from, unless records in between are lost. The error is a *publishError.
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
		s.notePartition(eventGap, p, "from", from, "to", to-1)
	}
	return readFrom, nil
}
