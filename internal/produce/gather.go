package produce

import (
	"context"
	"time"
)

// A hand-over of records to the client becomes about one request to each broker that is concerned. A request costs the
// broker and this process as much as dozens of records do, and so does the fetch that brings them back. So records that
// come faster than gatherAfter in gatherFor are handed over together, once gatherFor is over. A record
// goes at once while nothing waits for an acknowledgement (like RFC 896 has it for TCP), and while few come: gathering
// would then add latency and save nothing.
const (
	gatherFor   = 2 * time.Millisecond
	gatherAfter = 4
)

// gathering decides when records are handed over to the client. It is of the Producer's goroutine.
type gathering struct {
	period time.Duration // gatherFor, but for tests.
	began  time.Time     // Of the period that is counted.
	count  int           // Records handed over since.
}

// wait returns how long to wait before records are handed over, of which unacknowledged were and have no outcome. 0
// means now.
func (g *gathering) wait(now time.Time, unacknowledged int) time.Duration {
	if unacknowledged == 0 || g.count < gatherAfter {
		return 0
	}
	return max(g.began.Add(g.period).Sub(now), 0)
}

// handOver notes that records are handed over.
func (g *gathering) handOver(now time.Time, records int) {
	if now.Sub(g.began) >= g.period {
		g.began, g.count = now, 0
	}
	g.count += records
}

// flush has the client send what it was given. It does not wait for that. Without it the client would, once gatherFor
// is over.
func (p *Producer) flush() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // Flush then returns as soon as sending has begun.
	_ = p.cl.Flush(ctx)
}
