package source

import "time"

// gatherRate is how many records a second must come from a broker for a fetch to wait for more. Fewer save less by coming together than
// the wait is worth.
const gatherRate = 4000

// gatherWindow is the least time over which the rate is taken: a short burst is none.
const gatherWindow = 50 * time.Millisecond

// gatherer decides whether a fetch is answered by the first record that is there, or waits for a batch to fill (Kafka's
// fetch.min.bytes and fetch.max.wait.ms). Records that come one by one are not held, but for gatherWindow behind a fast stretch; where they
// come so fast that each response holds a few, the costs of a response (asking, waking, sealing a batch, waking shards) are shared by
// as many as come in BatchAge.
//
// Waiting is left to the broker, which knows when there is enough, and costs no timer here. Records wait in Kafka, not in a batch of
// ours: nothing is to be sealed when the source stops. One goroutine uses it.
type gatherer struct {
	age      time.Duration // 0: never wait.
	fill     int           // Records of a full batch.
	bytesMax int           // That may be waited for.

	since   time.Time // When the count below began.
	records int
	bytes   int
	need    int // Bytes to wait for; 1: the first record.
}

func newGatherer(o *Options) gatherer {
	return gatherer{age: o.BatchAge, fill: o.Builder.RecordsMax, bytesMax: min(o.Builder.BytesMax, o.FetchMaxBytes/2), need: 1}
}

// took notes what a response has brought.
func (g *gatherer) took(records, bytes int) {
	g.records += records
	g.bytes += bytes
}

// next says what the next fetch, made now, waits for: so many bytes, for so long at most. longest is how long one may wait that needs
// only one record.
func (g *gatherer) next(now time.Time, longest time.Duration) (bytes int, wait time.Duration) {
	if g.age <= 0 {
		return 1, longest
	}
	if passed := now.Sub(g.since); passed >= max(g.age, gatherWindow) {
		g.need = 1
		if g.records > 0 && float64(g.records) >= gatherRate*passed.Seconds() {
			g.need = max(1, min(g.bytes*g.fill/g.records, g.bytesMax))
		}
		g.since, g.records, g.bytes = now, 0, 0
	}
	if g.need > 1 {
		longest = min(longest, g.age)
	}
	return g.need, longest
}
