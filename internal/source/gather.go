package source

import "time"

// gatherRate is how many records per second a broker must deliver before a fetch waits for more. At lower rates,
// gathering saves less than the wait is worth.
const gatherRate = 4000

// gatherWindow is the shortest time over which the rate is measured, so that a short burst does not count.
const gatherWindow = 50 * time.Millisecond

// gatherer decides whether the broker responds to a fetch as soon as it has one record, or waits until there are enough
// for a batch (Kafka's fetch.min.bytes and fetch.max.wait.ms). Records that come one by one do not wait, except during
// a gatherWindow after a fast stretch. If records come so fast that each response holds a few, waiting spreads the cost
// of a response over more records: asking, waking, sealing a batch and waking shards.
//
// The broker does the waiting. It knows when there is enough, and needs no timer here. And the records wait in Kafka
// and not in a batch of ours, so nothing must be sealed when the source stops. One goroutine uses it.
type gatherer struct {
	age      time.Duration // The longest wait. Zero means never to wait.
	fill     int           // How many records fill a batch.
	bytesMax int           // How many bytes a fetch may wait for.

	since   time.Time // When the measurement began.
	records int
	bytes   int
	need    int // How many bytes the next fetch waits for. One byte means the first record.
}

func newGatherer(o *Options) gatherer {
	return gatherer{age: o.BatchAge, fill: o.Builder.RecordsMax, bytesMax: min(o.Builder.BytesMax, o.FetchMaxBytes/2),
		need: 1}
}

// took counts what a response has brought.
func (g *gatherer) took(records, bytes int) {
	g.records += records
	g.bytes += bytes
}

// next returns how many bytes a fetch that is made now waits for, and how long it waits at most. Longest is the limit
// for a fetch that waits for one record only.
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
