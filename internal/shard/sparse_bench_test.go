package shard

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkSparse reports the CPU of a delivery when each client has a channel of its own, and a batch has a record for
// each: what is done for a segment is done for one client. The clients' sockets are emptied between rounds, which is not
// counted.
func BenchmarkSparse(b *testing.B) {
	const clients = 1000
	r := newRigStalling(b, waitMax, nil)
	var fds []int
	for i := range clients {
		fds = append(fds, rawFD(b, r.dial(fmt.Sprintf("/ws?channel=c%d", i)).conn))
	}
	buf, stats := make([]byte, 1<<16), r.shard.Stats()
	var ours time.Duration
	for b.Loop() {
		target := stats.Deliveries.Load() + clients
		for i := range clients {
			r.add(fmt.Sprintf("c%d", i), `{"n":1,"text":"0123456789012345678901234567890123456789"}`)
		}
		before := cpu(b)
		r.seal()
		for stats.Deliveries.Load() < target {
			time.Sleep(100 * time.Microsecond)
		}
		ours += cpu(b) - before
		drainAll(fds, buf)
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N*clients), "cpu-ns/delivery")
}
