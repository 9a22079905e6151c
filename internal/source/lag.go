package source

import "time"

// How far the source lags behind in time is told by the newest record that it has read while there is more: after each
// slice of a walk partition.readUpTo is the timestamp of the batch read last, or one of these values.
const (
	readNothing = -1 // Nothing has been read, or the records have no timestamps, which Kafka writes as -1.
	readAll     = -2 // The walk reached the end of what could be read.
)

// lagTime returns how old the newest record is that was read, if there is more to read. It is -1 if it is not known. At
// the end of the log it is 0, or how long records have waited for room on the bus. Any goroutine may call it.
func (p *partition) lagTime(now time.Time) time.Duration {
	switch millis := p.readUpTo.Load(); {
	case millis == readAll && p.waiting.Get().IsZero():
		return 0
	case millis == readAll:
		return p.behind(now)
	case millis < 0:
		return -1
	default:
		return max(0, now.Sub(time.UnixMilli(millis)))
	}
}

// Times says what the timestamps of a topic's records are.
type Times uint32

// The values of Times.
const (
	TimesUnknown Times = iota // No record has been read.
	TimesCreate               // The producers' clocks (CreateTime).
	TimesAppend               // The brokers' clocks (LogAppendTime).
)

// String returns the name that metrics use.
func (t Times) String() string { return [...]string{"unknown", "create", "append"}[t] }

// noteTimes notes what the timestamps of a batch are.
func (t *TopicStats) noteTimes(appended bool) {
	times := TimesCreate
	if appended {
		times = TimesAppend
	}
	if Times(t.Times.Load()) != times {
		t.Times.Store(uint32(times))
	}
}
